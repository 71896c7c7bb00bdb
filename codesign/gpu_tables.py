"""Tables of errors for the docs: ``python -m codesign.gpu_tables`` prints them, ``--write`` puts them into the docs.

A table stands in ``docs/gpu_kernels.md`` between ``<!-- table: name -->`` and ``<!-- end -->``. Errors are those of
``codesign.gpu_truth.comparison`` over the project's own records, constants those of the recorded fits.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from codesign.cache import whole_file
from codesign.gpu_rows import (
    OWN,
    OWN_ATTENTION,
    OWN_DEQUANTIZER,
    OWN_LAYER,
    OWN_LIBRARY,
    OWN_STEP,
    OWN_TILES,
    OWNS,
)
from codesign.gpu_truth import AGAIN, BAND, comparison
from datatypes.layer_config import LayerConfig
from hwmodel.gpu import Gpu
from hwmodel.gpu_gemv import gemv_constants
from hwmodel.gpu_gemv_fit import LATER_FORMATS
from hwmodel.gpu_kernel_fit import EARLIER, FITTED_GPU
from hwmodel.gpu_presets import GPUS
from hwmodel.gpu_price import gpu_price
from hwmodel.gpu_tiles import tile_constants
from hwmodel.gpu_turns import turn_constants
from hwmodel.options import HONEST
from hwmodel.units import cycles_to_s
from hwmodel.workload import LayerKind, LayerSpec
from kernels_gpu.gemv_recipes import RECIPES

DOCS = Path(__file__).parents[1] / "docs" / "gpu_kernels.md"
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_HELD, _FITTED, _OTHER = "held out", "fitted", "other GPU"
_ERRORS = ("rows", "count", "mean", "worst", "within 15 %", "roofline, mean", "worst")


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    return "\n".join([_line(heads), "|" + "---|" * len(heads), *(_line(line) for line in lines)]) + "\n"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if value < 0.0995 else f"{100 * value:.0f} %"


def _errors(label: str, part: pd.DataFrame) -> list[object]:
    error, roofline = part["error"].abs(), part["roofline_error"].abs()
    figures = [error.mean(), error.max(), (error <= BAND).mean(), roofline.mean(), roofline.max()]
    return [label, len(part), *(_percent(float(figure)) for figure in figures)]


def _error_table(parts: Sequence[tuple[str, pd.DataFrame]]) -> str:
    return _table(_ERRORS, [_errors(label, part) for label, part in parts if len(part)])


def _kernel(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[(rows["kernel"] == name) & (rows["use"] != AGAIN)]


def _held(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["use"].str.contains(_HELD)]


def _by_use(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Fitted rows, each kind that was held out, all of these, and other GPUs."""
    kinds = [use for use in rows["use"].unique() if _HELD in use]
    name = FITTED_GPU.upper()
    made = [(f"{name}, fitted", rows[rows["use"] == _FITTED])]
    made += [(f"{name}, {use}", rows[rows["use"] == use]) for use in sorted(kinds, key=lambda use: (len(use), use))]
    made.append((f"**{name}, all that was held out**", _held(rows)))
    others = rows[rows["use"] == _OTHER]
    return made + [(f"**{gpu.upper()}, without refit**", part) for gpu, part in others.groupby("gpu")]


def gemv(rows: pd.DataFrame) -> str:
    """Errors of the decode GEMV."""
    own = _kernel(rows, OWN)
    later = own[own["use"].str.contains(_HELD) & own["format"].isin(_later(own))]
    return _error_table([*_by_use(own), ("of the held ones, later formats (5 to 7 bits, wide floats, learned)", later)])


def _later(own: pd.DataFrame) -> set[str]:
    """Formats that the second step of the fit is for: of odd numbers of bits, floats above four bits, learned ones."""
    names = set(own["format"])
    kinds = ("int5", "uint5", "int6", "uint6", "int7", "uint7", "e2m3", "e3m2", "mxfp6", "e4m3", "e5m2", "mxfp8",
             "learned")  # fmt: skip
    return {name for name in names if name.startswith(kinds)} | set(LATER_FORMATS)


def gemv_groups(rows: pd.DataFrame) -> str:
    """Mean errors of the decode GEMV by shape, tokens and format."""
    own = _kernel(rows, OWN)
    own = own[own["use"] != EARLIER]
    gpus = sorted(own["gpu"].unique())
    lines: list[list[object]] = []
    shape = own["n"].astype(str) + "x" + own["k"].astype(str)
    for label, key in (("shape", shape), ("tokens", own["m"]), ("format", own["format"])):
        for value in sorted(key.unique()):
            part = own[key == value]
            means = [part["error"][part["gpu"] == gpu].abs().mean() for gpu in gpus]
            lines.append([f"{label} {value}", *("" if pd.isna(mean) else _percent(mean) for mean in means)])
    return _table(["mean error", *(gpu.upper() for gpu in gpus)], lines)


def layers(rows: pd.DataFrame) -> str:
    """Errors of layers with branches and outliers."""
    own = _kernel(rows, OWN_LAYER)
    beside = own[own["format"].str.contains("lqer|columns|rows")]
    kinds = {"low-rank branches": "lqer", "outlier columns": "columns", "outlier rows": "rows"}
    parts = [(f"of all, {label}", beside[beside["format"].str.startswith(name)]) for label, name in kinds.items()]
    parts += [(f"of all, {m} tokens", beside[beside["m"] == m]) for m in sorted(beside["m"].unique())]
    return _error_table([*_by_use(beside), *parts, ("the same chains of a product alone", own.drop(beside.index))])


def prefill(rows: pd.DataFrame) -> str:
    """Errors of the tile kernel, the dequantizer and the product after it."""
    tiles, dequantizer = _kernel(rows, OWN_TILES), _kernel(rows, OWN_DEQUANTIZER)
    parts = [(f"tile kernel: {label}", part) for label, part in _by_use(tiles)]
    parts += [(f"dequantizer: {label}", part) for label, part in _by_use(dequantizer) if part is not None]
    library = _kernel(rows, OWN_LIBRARY)
    parts += [(f"dequantizer and cuBLAS: {gpu.upper()}, not fitted", part) for gpu, part in library.groupby("gpu")]
    return _error_table(parts)


def attention(rows: pd.DataFrame) -> str:
    """Errors of decode attention."""
    own = _kernel(rows, OWN_ATTENTION)
    parts = [(f"{gpu.upper()}, {use}", part) for (gpu, use), part in own.groupby(["gpu", "use"])]
    others = rows[rows["format"].str.startswith("torch ")]
    return _error_table(
        [*parts, *((f"{name}, {gpu.upper()}", part) for (name, gpu), part in others.groupby(["format", "gpu"]))]
    )


def step(rows: pd.DataFrame) -> str:
    """Errors of the decode step by encoding and context."""
    found = rows[rows["kernel"].str.startswith(OWN_STEP)]
    gpus = sorted(found["gpu"].unique())
    lines: list[list[object]] = []
    for name in found["format"].unique():
        cells: list[object] = [name.removeprefix("decode step ")]
        for gpu in gpus:
            part = found[(found["format"] == name) & (found["gpu"] == gpu)].sort_values("n")
            cells.append(
                ", ".join(f"{row.measured_us / 1e3:.2f} ms {100 * row.error:+.1f} %" for row in part.itertuples())
            )
        lines.append(cells)
    for label, part in (("**mean of this project's**", found[found["kernel"] == OWN_STEP]), ("mean of all", found)):
        means = [part["error"][part["gpu"] == gpu].abs().mean() for gpu in gpus]
        lines.append([label, *(_percent(mean) for mean in means)])
    return _table(["step, by context", *(gpu.upper() for gpu in gpus)], lines)


def misses(rows: pd.DataFrame) -> str:
    """Rows of this project's kernels that are off by more than the goal."""
    own = rows[rows["kernel"].isin(OWNS) & (rows["error"].abs() > BAND) & (rows["use"] != AGAIN)]
    own = own.sort_values(["kernel", "gpu", "format", "n", "m"], kind="stable")
    lines = [
        [row.kernel, row.gpu.upper(), row.format, f"{row.m} x {row.n} x {row.k}", f"{row.measured_us:.1f}",
         f"{row.predicted_us:.1f}", f"{100 * row.error:+.0f} %", row.use]
        for row in own.itertuples()
    ]  # fmt: skip
    return _table(["kernel", "GPU", "format", "m x n x k", "µs", "predicted", "error", "use"], lines)


def charged(rows: pd.DataFrame) -> str:
    """What the presets charge for a layer at one token, beside what the H100 took."""
    own = _kernel(rows, OWN)
    own = own[(own["gpu"] == FITTED_GPU) & (own["m"] == 1)].set_index(["format", "n", "k"])["measured_us"]
    lines: list[list[object]] = []
    for n, k in _CHARGED_SHAPES:
        cells: list[object] = [f"{n}x{k}"]
        for recipe in _CHARGED:
            ours, public = (_price_us(recipe, n, k, GPUS[name]) for name in (FITTED_GPU, f"{FITTED_GPU}_public"))
            measured = f"{own[recipe, n, k]:.1f}" if (recipe, n, k) in own.index else "–"
            cells.append(f"{ours:.1f}, {measured}, {public:.1f}")
        lines.append(cells)
    first, *others = _CHARGED.values()
    return _table(["layer", f"{first}: `{FITTED_GPU}`, measured, `{FITTED_GPU}_public`", *others], lines)


# Encodings by their names in the docs; shapes of Llama-2-7B and its vocabulary (Touvron et al., arXiv 2307.09288)
_CHARGED = {"int4_g128": "INT4 g128", "bitmod4_g128": "BitMoD-4", "bitmod3_g128": "BitMoD-3", "int8": "INT8"}
_CHARGED_SHAPES = ((4096, 4096), (11008, 4096), (12288, 4096), (22016, 4096), (4096, 11008), (32000, 4096))


def _price_us(recipe: str, n: int, k: int, gpu: Gpu) -> float:
    spec = LayerSpec("x", LayerKind.LINEAR, 1, k, n)
    cycles = gpu_price(spec, LayerConfig(weight=RECIPES[recipe]), gpu, HONEST).cycles
    return cycles_to_s(cycles, gpu.frequency_hz) * 1e6


def constants(rows: pd.DataFrame) -> str:
    """Fitted constants of the kernels' models."""
    fitted = (
        ("GEMV", asdict(gemv_constants())),
        ("tile", asdict(tile_constants())),
        ("branches", asdict(turn_constants())),
    )
    lines = [[model, name, f"{value:.4g}"] for model, made in fitted for name, value in made.items()]
    return _table(["model", "constant", "value"], lines)


TABLES: Mapping[str, Callable[[pd.DataFrame], str]] = {
    "constants": constants,
    "gemv": gemv, "gemv_groups": gemv_groups, "layers": layers, "prefill": prefill, "attention": attention,
    "step": step, "misses": misses, "charged": charged,
}  # fmt: skip


def with_tables(text: str, rows: pd.DataFrame) -> str:
    """``text`` with today's tables between its marks.

    Raises:
        ValueError: a mark of a table that is not among ``TABLES``.
    """

    def made(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        if name not in TABLES:
            raise ValueError(f"name of a table must be one of {', '.join(TABLES)}, not {name!r}")
        return begin + TABLES[name](rows) + end

    return _TABLE.sub(made, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write them into the docs."""
    parser = argparse.ArgumentParser(prog="python -m codesign.gpu_tables", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/gpu_kernels.md")
    write, rows = parser.parse_args(arguments).write, comparison().rows
    if write:
        text = with_tables(DOCS.read_text(encoding="utf-8"), rows)
        with whole_file(DOCS) as path:
            path.write_text(text, encoding="utf-8")
        return 0
    for name, table in TABLES.items():
        print(f"{name}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
