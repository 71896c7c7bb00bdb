"""The command that times the project's GPU kernels and writes what it measured as records.

The kernels are loaded when the command runs, so that what they need (extra ``gpu``) is not needed elsewhere.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from codesign.cache import whole_file
from codesign.console import show_json, show_table
from codesign.extras import require
from codesign.gpu_records import read_measurements
from codesign.messages import say
from codesign.outputs import check_output_file
from hwmodel.report import Measurement
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.shape_text import parse_shape
from kernels_gpu.timing import COPY_BYTES

# of the weight and its decoded, doubled and rotated copies while a kernel is compared with float64: bytes a weight
_CHECK_BYTES = 32
_L2_COPIES = 5  # kernels_gpu.timing.rotation takes four times the L2, and one more in part
_SHOWN = ("kernel", "m", "n", "k", "median_us", "bound_us", "of_bound", "spread", "worst_error")


def bench(
    out: Path, recipe: list[str] | None, shape: Sequence[str], tokens: list[int], *, others: bool, as_json: bool
) -> None:
    """Time the GPU kernels and write records of it.

    Each record is kept in ``partial(out)`` as it comes, which becomes ``out`` at the end; the same command goes on from
    there.
    """
    recipes = chosen_recipes(recipe)
    shapes = [parse_shape(text) for text in shape]
    check_output_file(out)
    bench_gemv = load_benchmark()
    asked = argparse.Namespace(
        recipes=recipes, shapes=shapes or list(bench_gemv.SHAPES), tokens=tokens, alone=False, no_public=not others
    )
    made = list(kept_records(partial(out), bench_gemv, asked))
    if made:
        say(f"{len(made)} records of an interrupted run are kept: {partial(out)}")
    for record in measure(bench_gemv, asked, made):
        made.append(record)
        say(f"{record.name}, {record.shape[0]} tokens, {record.shape[2]}x{record.shape[1]}: "
            f"{record.seconds * 1e6:.2f} us")  # fmt: skip
        write_records(partial(out), made)
    if not made:
        raise ValueError("at least one kernel must run and be right, but none was; the lines above say why")
    write_records(out, made)
    partial(out).unlink(missing_ok=True)
    say(f"{len(made)} records: {out.resolve()}")
    if as_json:
        show_json([asdict(record) for record in made])
        return
    show_table(pd.DataFrame(map(shown, made)), title=f"Decode GEMV on {made[0].device}", as_json=False, columns=_SHOWN)


def partial(out: Path) -> Path:
    """Where the records of a run lie until it has ended.

    >>> partial(Path("mine.json")).name
    'mine.json.partial'
    """
    return out.with_name(f"{out.name}.partial")


def kept_records(path: Path, bench_gemv: Any, asked: argparse.Namespace) -> Iterator[Measurement]:
    """Records of an interrupted run that this one need not take again: same device, versions and kernels.

    Raises:
        ValueError: the file holds no records.
    """
    if not path.exists():
        return
    now, device = bench_gemv.versions(), bench_gemv.device_facts().name
    for record in read_measurements(path):
        m, k, n = record.shape
        wanted = record.name in asked.recipes or (not asked.no_public and record.name not in RECIPES)
        same = record.device == device and {name: record.conditions.get(name) for name in now} == now
        if wanted and same and (n, k) in asked.shapes and m in asked.tokens:
            yield record


def write_records(path: Path, records: Sequence[Measurement]) -> None:
    """A file of records, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps([asdict(record) for record in records], indent=1) + "\n", encoding="utf-8")


def shown(record: Measurement) -> dict[str, Any]:
    """A record as a row of the table."""
    (m, k, n), stated, us = record.shape, record.conditions, record.seconds * 1e6
    bound = float(stated["bound_us"])
    return {
        "kernel": record.name, "m": m, "n": n, "k": k, "median_us": us, "bound_us": bound, "of_bound": bound / us,
        "spread": float(stated["quartiles_over_median"]),
        "worst_error": float(stated["worst_error_over_tolerance"]),
    }  # fmt: skip


def chosen_recipes(names: list[str] | None) -> list[str]:
    """The recipes asked for, all by default.

    Raises:
        ValueError: one without a kernel.
    """
    for name in names or ():
        if name not in RECIPES:
            raise ValueError(f"recipe of a GPU kernel must be one of {', '.join(RECIPES)}, not {name!r}")
    return names or list(RECIPES)


def load_benchmark() -> Any:
    """The benchmark's module, on a machine that can run it.

    Raises:
        ValueError: no CUDA device, its driver or the device is too old, or a package is missing.
    """
    if not torch.cuda.is_available():
        raise ValueError(f"codesign bench must find a CUDA GPU and its driver; torch {torch.__version__} finds none")
    for module in ("cuda.bindings", "numba_cuda"):
        require(module, "gpu")
    _launch("require_cuda")
    return importlib.import_module("kernels_gpu.bench_gemv")


def _launch(name: str, *arguments: Any) -> None:
    """A function of ``kernels_gpu.launch``, whose refusal is a mistake of the command line."""
    try:
        getattr(importlib.import_module("kernels_gpu.launch"), name)(*arguments)
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def memory_needed(shapes: list[tuple[int, int]], l2_bytes: int) -> int:
    """Bytes of device memory that the copy and the largest weight take."""
    return max(2 * COPY_BYTES, _CHECK_BYTES * max(n * k for n, k in shapes) + _L2_COPIES * l2_bytes)


def measure(bench_gemv: Any, asked: argparse.Namespace, kept: Sequence[Measurement]) -> Iterator[Measurement]:
    """Records of the kernels that are asked for and not among ``kept``, as they come.

    Raises:
        ValueError: too little memory.
    """
    facts = bench_gemv.device_facts()
    free = torch.cuda.mem_get_info()[0]
    _launch("require_free_memory", memory_needed(asked.shapes, facts.l2_bytes), "these shapes")
    done = {(record.name, record.shape[0], record.shape[2], record.shape[1]) for record in kept}
    try:
        rate = bench_gemv.copy_bytes_per_s()
        for row in bench_gemv.run(asked, [None], rate, done):  # why a kernel is left out goes to standard error
            yield bench_gemv.measurement(row, bench_gemv.conditions(rate), facts.name)
    except torch.OutOfMemoryError:
        raise ValueError(
            f"free memory of {facts.name} must be larger than {free / 1e9:.1f} GB for these shapes"
        ) from None
