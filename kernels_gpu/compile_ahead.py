"""Kernels compiled in processes of their own before a run, where their launchers then find them.

One takes a second or more to compile, another half in the driver, and a benchmark has dozens. The launchers look for
compiled kernels in the folder that ``native.PTX_FOLDER`` names, by a kernel's key.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kernels_gpu.native import PTX_FOLDER, fill_caches


@dataclass(frozen=True)
class Ahead:
    """A kernel to compile.

    Args:
        make: the kernel of a spec; a function of a module, so that another process finds it.
        arguments: their kinds (``native.compile_ptx``).
        spec: what is fixed when it is compiled; what it prints tells kernels apart.
        what: a word before it, where several kernels have one spec.
        registers: the most of a thread; 0 for as many as the assembler likes.
    """

    make: Callable[[Any], Callable[..., None]]
    arguments: str
    spec: Any
    what: str = ""
    registers: int = 0

    @property
    def key(self) -> str:
        """What the launcher asks for."""
        return f"{self.what} {self.spec!r}".lstrip()


def compile_one(kernel: Ahead) -> None:
    """A kernel in the folder that ``native.PTX_FOLDER`` names, and in the driver's cache where there is a device."""
    fill_caches(kernel.make(kernel.spec), kernel.arguments, kernel.key, kernel.registers)


def compile_all(kernels: Iterable[Ahead], jobs: int) -> None:
    """Compile each kernel once, in ``jobs`` processes; nothing where there would be one."""
    found = sorted(set(kernels), key=lambda kernel: kernel.key)
    if jobs > 1 and found:
        with multiprocessing.get_context("spawn").Pool(min(jobs, len(found))) as pool:
            pool.map(compile_one, found, chunksize=1)


@contextmanager
def kept_ptx() -> Iterator[None]:
    """A folder for compiled kernels, so that other processes can compile them: the user's own or a temporary one."""
    if PTX_FOLDER in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ[PTX_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[PTX_FOLDER]


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Give a command the option ``--jobs``."""
    most = min(16, os.cpu_count() or 1)
    parser.add_argument("--jobs", type=int, default=most, help="compile in so many processes first (%(default)s)")
