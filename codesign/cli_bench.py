"""The command that times the project's GPU kernels and writes what it measured as records.

The kernels are loaded when the command runs, so that what they need (extra ``gpu``) is not needed elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from codesign.cache import whole_file
from codesign.console import show_json, show_table
from codesign.extras import require
from codesign.messages import say
from codesign.outputs import check_output_file
from kernels_gpu.gemv_recipes import RECIPES

_COPY_BYTES = 2 << 32  # both buffers of kernels_gpu.timing.copy_bytes_per_s
# of the weight and its decoded, doubled and rotated copies while a kernel is compared with float64: bytes a weight
_CHECK_BYTES = 32
_L2_COPIES = 5  # kernels_gpu.timing.rotation takes four times the L2, and one more in part
_SHOWN = ("kernel", "m", "n", "k", "median_us", "bound_us", "of_bound", "spread", "worst_error")


def bench(
    out: Path, recipe: list[str] | None, shape: Sequence[str], tokens: list[int], *, others: bool, as_json: bool
) -> None:
    """Time the GPU kernels and write records of it."""
    recipes = chosen_recipes(recipe)
    shapes = [parse_shape(text) for text in shape]
    check_output_file(out)
    bench_gemv = load_benchmark()
    shapes = shapes or list(bench_gemv.SHAPES)
    rows, conditions, device = measure(bench_gemv, recipes, shapes, tokens, others=others)
    records = [asdict(bench_gemv.measurement(row, conditions, device)) for row in rows]
    with whole_file(out) as temporary:
        temporary.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    say(f"{len(records)} records: {out.resolve()}")
    if as_json:
        show_json(records)
        return
    frame = pd.DataFrame([{**asdict(row), "of_bound": row.of_bound} for row in rows])
    show_table(frame, title=f"Decode GEMV on {device}", as_json=False, columns=_SHOWN)


def chosen_recipes(names: list[str] | None) -> list[str]:
    """The recipes asked for, all by default.

    Raises:
        ValueError: one without a kernel.
    """
    for name in names or ():
        if name not in RECIPES:
            raise ValueError(f"recipe of a GPU kernel must be one of {', '.join(RECIPES)}, not {name!r}")
    return names or list(RECIPES)


def parse_shape(text: str) -> tuple[int, int]:
    """Outputs and inputs of ``NxK``.

    >>> parse_shape("11008x4096")
    (11008, 4096)
    """
    n, _, k = text.partition("x")
    if not (n.isdecimal() and k.isdecimal() and int(n) and int(k)):
        raise ValueError(f"shape must be NxK, as 4096x4096, not {text!r}")
    return int(n), int(k)


def load_benchmark() -> Any:
    """The benchmark's module, on a machine that can run it.

    Raises:
        ValueError: no CUDA device, its driver or the device is too old, or a package is missing.
    """
    if not torch.cuda.is_available():
        raise ValueError(f"codesign bench must find a CUDA GPU and its driver; torch {torch.__version__} finds none")
    for module in ("cuda.bindings", "numba_cuda"):
        require(module, "gpu")
    try:
        importlib.import_module("kernels_gpu.launch").require_cuda()
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    return importlib.import_module("kernels_gpu.bench_gemv")


def memory_needed(shapes: list[tuple[int, int]], l2_bytes: int) -> int:
    """Bytes of device memory that the copy and the largest weight take."""
    return max(_COPY_BYTES, _CHECK_BYTES * max(n * k for n, k in shapes) + _L2_COPIES * l2_bytes)


def measure(
    bench_gemv: Any, recipes: list[str], shapes: list[tuple[int, int]], tokens: list[int], *, others: bool
) -> tuple[list[Any], dict[str, str], str]:
    """Timed rows, what they depend on, and the device.

    Raises:
        ValueError: too little memory, or no kernel that could be timed.
    """
    facts = bench_gemv.device_facts()
    needed, free = memory_needed(shapes, facts.l2_bytes), torch.cuda.mem_get_info()[0]
    if free < needed:
        raise ValueError(
            f"free memory of {facts.name} must be at least {needed / 1e9:.1f} GB for these shapes, not {free / 1e9:.1f}"
        )
    asked = argparse.Namespace(recipes=recipes, shapes=shapes, tokens=tokens, alone=False, no_public=not others)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # why a kernel was left out
            rate = bench_gemv.copy_bytes_per_s()
            rows = bench_gemv.run(asked, [None], rate)
    except torch.OutOfMemoryError:
        raise ValueError(
            f"free memory of {facts.name} must be larger than {free / 1e9:.1f} GB for these shapes"
        ) from None
    if not rows:
        raise ValueError("at least one kernel must run and be right, but none was; the lines above say why")
    return rows, bench_gemv.conditions(rate), facts.name
