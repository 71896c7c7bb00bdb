"""C simulation of an export: compile each layer's testbench, run it, say what differs.

A testbench (``templates/testbench.cpp``) runs in its layer's folder, reads what it needs there and prints lines that
this file reads back. Layers whose sources are alike but for their names share one program; programs are kept in the
export's ``build/`` under a hash of everything that went into them. Nothing is compiled or run that is not named in the
manifest.
"""

from __future__ import annotations

import hashlib
import re
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from datatypes.nearest import nearest
from hls.ap_types import CompileError, ap_types_folder, compile_program, compiler_version
from hls.export_folder import BUILD, MANIFEST, checked_path, digest, read_manifest

MAX_WORKERS = 2  # a compiler takes about half a gigabyte
FLAGS = ("-O2",)
_LAYER_KEYS = ("name", "identifier", "folder", "sources", "data", "output")
_LISTS = ("sources", "data")
OUTPUTS = ("fp32", "fp16", "codes")  # of hls.output_rows
# arrays of a kernel are on the stack here, where the device has memories: as much of it as the system allows
_LARGE_STACK = 'ulimit -S -s "$(ulimit -H -s)" 2>/dev/null; exec "$0" "$@"'
_MISMATCH = re.compile(r"mismatch token=(\d+) row=(\d+) expected=([0-9a-f]+) found=([0-9a-f]+)(?: format=(\w*))?")
_SUMMARY = re.compile(r"compared (\d+) mismatches (\d+)")

Finished = Callable[["LayerResult", int, int], None]


@dataclass(frozen=True)
class Mismatch:
    """One output that is not as expected.

    Args:
        layer: its name.
        token: of the golden inputs.
        row: output feature.
        expected, found: bits, as unsigned integers.
        output: how the bits are read: ``fp32``, ``fp16`` or ``codes``.
        format: of the weights, where it was chosen at run time; empty else.
    """

    layer: str
    token: int
    row: int
    expected: int
    found: int
    output: str
    format: str = ""

    def value(self, bits: int) -> float | int:
        """What ``bits`` mean.

        >>> Mismatch("a", 0, 0, 0x3F800000, 0, "fp32").value(0x3F800000)
        1.0
        """
        if self.output == "fp32":
            return float(struct.unpack("<f", struct.pack("<I", bits))[0])
        if self.output == "fp16":
            return float(struct.unpack("<e", struct.pack("<H", bits))[0])
        return bits

    def __str__(self) -> str:
        chosen = f"format {self.format}, " if self.format else ""
        return (
            f"layer {self.layer}, {chosen}row {self.row}, token {self.token}: expected {self.value(self.expected)!r} "
            f"({self.expected:#x}), found {self.value(self.found)!r} ({self.found:#x})"
        )


@dataclass(frozen=True)
class LayerResult:
    """What the simulation of one layer said.

    Args:
        layer: its name.
        compared: outputs compared.
        mismatch_count: how many differed.
        mismatches: the first of them.
        compile_s: time of the compiler; ``None`` where the program was there.
        run_s: time of the simulation.
    """

    layer: str
    compared: int
    mismatch_count: int
    mismatches: tuple[Mismatch, ...]
    compile_s: float | None
    run_s: float


@dataclass(frozen=True)
class Export:
    """An export that is about to be simulated.

    Args:
        folder: of it.
        layers: the manifest's entries of the chosen layers.
        files: the manifest's entries of all files, by path.
    """

    folder: Path
    layers: tuple[Mapping[str, Any], ...]
    files: Mapping[str, Mapping[str, Any]]


def open_export(folder: Path | str, patterns: Sequence[str] = ()) -> Export:
    """The layers of an export that match ``patterns`` (all without any), their data checked.

    Raises:
        ValueError: no export, a pattern that matches nothing, or a data file that is missing or changed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    files = {entry["file"]: entry for entry in manifest["files"]}
    for layer in manifest["layers"]:
        missing = [key for key in _LAYER_KEYS if not isinstance(layer, dict) or key not in layer]
        if missing:
            raise ValueError(f"every layer in {folder / MANIFEST} must have the keys {', '.join(missing)}")
        _check_layer(layer, folder / MANIFEST)
        unnamed = [name for name in (*layer["sources"], *layer["data"]) if name not in files]
        if unnamed:
            raise ValueError(f"{folder / MANIFEST} must list {unnamed[0]} among its files")
    named = {layer["name"]: layer for layer in manifest["layers"]}
    chosen = matching(named, patterns)
    for name in chosen:
        for data in named[name]["data"]:
            path = folder / data
            if not path.is_file() or digest(path) != files[data]["sha256"]:
                state = "changed" if path.is_file() else "missing"
                raise ValueError(f"{path} must be as it was exported, but it is {state}: export again")
    return Export(folder, tuple(named[name] for name in chosen), files)


def _check_layer(layer: Mapping[str, Any], manifest: Path) -> None:
    """Make sure that an entry holds texts and lists of texts, and names a folder inside the export."""
    for key in _LAYER_KEYS:
        value = layer[key]
        texts = value if key in _LISTS else [value]
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            kind = "a list of texts" if key in _LISTS else "a text"
            raise ValueError(f"{key} of a layer in {manifest} must be {kind}, not {value!r}")
    checked_path(layer["folder"], manifest)
    if layer["output"] not in OUTPUTS:
        raise ValueError(f"output of a layer in {manifest} must be {', '.join(OUTPUTS)}, not {layer['output']!r}")


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that match one of the shell-style ``patterns``, in their own order; all without patterns.

    >>> matching(["a.q", "a.k", "b.q"], ["*.q", "a.k"])
    ['a.q', 'a.k', 'b.q']

    Raises:
        ValueError: a pattern matches none.
    """
    names = list(names)
    if not patterns:
        return names
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"layers must match one of {len(names)} names, not {pattern!r}{nearest(pattern, names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def edited_sources(export: Export) -> list[str]:
    """Sources of the chosen layers that are not as they were exported: they are simulated as they are now."""
    names = sorted({name for layer in export.layers for name in layer["sources"]} | set(_headers(export)))
    return [
        name
        for name in names
        if not (export.folder / name).is_file() or digest(export.folder / name) != export.files[name]["sha256"]
    ]


def _headers(export: Export) -> list[str]:
    return [name for name in export.files if name.startswith("include/")]


def simulate(
    export: Export,
    *,
    workers: int = MAX_WORKERS,
    most: int = 10,
    ap_types: Path | None = None,
    finished: Finished = lambda result, done, total: None,
) -> tuple[LayerResult, ...]:
    """Compile and run the layers of ``export``.

    Args:
        export: from ``open_export``.
        workers: layers at a time, 1 or 2.
        most: mismatches reported for each layer.
        ap_types: folder of ``ap_int.h``; looked up by default.
        finished: called after each layer with its result, and how many are done.

    Returns:
        One result for each layer, in order.

    Raises:
        FileNotFoundError: no compiler or no ``ap_int.h``.
        ValueError: the compiler does not run, a layer does not compile, or its testbench does not end as it should.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise ValueError(f"workers of a simulation must be 1 to {MAX_WORKERS}, not {workers!r}")
    builder = _Builder(export, ap_types_folder(ap_types))
    results: dict[str, LayerResult] = {}
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(_simulate_layer, builder, layer, most) for layer in export.layers]
        try:
            for future in as_completed(waiting):
                result = future.result()
                results[result.layer] = result
                finished(result, len(results), len(export.layers))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return tuple(results[layer["name"]] for layer in export.layers)


class _Builder:
    """Programs of an export, each compiled once, however many threads ask for it."""

    def __init__(self, export: Export, ap_types: Path) -> None:
        self.export = export
        self.ap_types = ap_types
        self.include = export.folder / "include"
        shared = hashlib.sha256(repr((compiler_version(), FLAGS, str(ap_types))).encode())
        for name in _headers(export):
            shared.update(name.encode() + b"\0" + _read(export.folder / name))
        self._shared = shared.digest()
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def program(self, layer: Mapping[str, Any]) -> tuple[Path, float | None]:
        """The layer's program, and how long it took to compile; ``None`` where it was there."""
        hashed = hashlib.sha256(self._shared)
        for name in layer["sources"]:
            for text in (name.encode(), _read(self.export.folder / name)):
                hashed.update(_without_name(text, layer) + b"\0")
        key = hashed.hexdigest()[:24]
        program = self.export.folder / BUILD / f"csim_{key}"
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if program.is_file():
                return program, None
            start = time.perf_counter()
            sources = [self.export.folder / name for name in layer["sources"] if name.endswith(".cpp")]
            folder = self.export.folder / layer["folder"]
            try:
                compile_program(sources, program, ap_types=self.ap_types, includes=(self.include, folder), flags=FLAGS)
            except CompileError as error:
                raise ValueError(f"layer {layer['name']}: {error}") from None
            return program, time.perf_counter() - start


def _without_name(text: bytes, layer: Mapping[str, Any]) -> bytes:
    """A source with the layer's own names taken out: its identifier, the guard made of it, and the first comment."""
    identifier = str(layer["identifier"])
    for word in (identifier, identifier.upper(), f"// Layer {layer['name']}:"):
        text = text.replace(word.encode(), b"LAYER")
    return text


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} must be there, as {MANIFEST} says") from None


def _simulate_layer(builder: _Builder, layer: Mapping[str, Any], most: int) -> LayerResult:
    program, compile_s = builder.program(layer)
    start = time.perf_counter()
    done = subprocess.run(
        ["sh", "-c", _LARGE_STACK, str(program.resolve()), str(most)], cwd=builder.export.folder / layer["folder"],
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    run_s = time.perf_counter() - start
    summary = _SUMMARY.search(done.stdout)
    name, output = str(layer["name"]), str(layer["output"])
    if summary is None or done.returncode not in (0, 1):
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        if done.returncode == -signal.SIGSEGV:
            said = "its arrays may want a larger stack (ulimit -s), or fewer tokens"
        raise ValueError(f"the testbench of layer {name} must end by itself, not with status {done.returncode}: {said}")
    mismatches = tuple(
        Mismatch(name, int(token), int(row), int(expected, 16), int(found, 16), output, format_name)
        for token, row, expected, found, format_name in _MISMATCH.findall(done.stdout)
    )
    return LayerResult(name, int(summary[1]), int(summary[2]), mismatches, compile_s, run_s)
