"""Measured GPU kernels beside what the cost model says of them: ``comparison``, one row for each record.

Records are files of ``Measurement`` as ``codesign bench`` and the benchmarks of ``kernels_gpu`` write them; those of
the project lie in ``kernels_gpu/measurements``. ``codesign.gpu_rows`` predicts each. ``python -m codesign.gpu_truth
--fit`` fits the constants of ``gpu_gemv``, ``gpu_tiles`` and ``gpu_branches`` again, to all records that are there.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from codesign.gpu_layers import layer_case_of
from codesign.gpu_records import (
    condition,
    gpu_of,
    read_measurements,
    recorded_files,
    sheet_name,
    start_share_s,
)
from codesign.gpu_rows import OWN, OWN_LAYER, OWN_TILES, Predicted, case_of, cut_of, predicted_of, tile_case_of
from hwmodel import gpu_branches_fit, gpu_gemv_fit, gpu_tiles_fit
from hwmodel.gpu import Gpu
from hwmodel.gpu_branches_fit import BranchCase
from hwmodel.gpu_constants import write_constants
from hwmodel.gpu_gemv import CONSTANTS, gemv_constants
from hwmodel.gpu_gemv_cut import GemvCut
from hwmodel.gpu_gemv_fit import GemvCase
from hwmodel.gpu_kernel_fit import FITTED_GPU
from hwmodel.gpu_tiles import CONSTANTS as TILE_CONSTANTS
from hwmodel.gpu_tiles import tile_constants
from hwmodel.gpu_tiles_fit import TileCase
from hwmodel.gpu_turns import CONSTANTS as BRANCH_CONSTANTS
from hwmodel.gpu_turns import turn_constants
from hwmodel.report import Measurement

BAND = 0.15  # errors within it are counted, and drawn as good
COLUMNS = (
    "kernel", "format", "gpu", "m", "n", "k", "use", "model", "measured_us", "predicted_us", "error", "roofline_us",
    "roofline_error", "bound", "spread", "device",
)  # fmt: skip
_US = 1e-6
AGAIN = "measured again"
OWN_EXPLORED, _EXPLORED = f"{OWN_TILES}, other cuts", "_cuts_"  # that the launcher does not take; in a file's name
_STATED_BOUNDS = ("tiles", "dequantizer")  # models whose rows are bound by bytes or by operations, as recorded
_Key = tuple[str, tuple[int, int, int], GemvCut]
Case = TypeVar("Case", GemvCase, TileCase, BranchCase)


@dataclass(frozen=True)
class Comparison:
    """Rows, and why some records have none."""

    rows: pd.DataFrame
    left_out: tuple[str, ...]


def comparison(files: Sequence[Path] = (), sheet: Gpu | None = None) -> Comparison:
    """The project's records and those of ``files`` against the model.

    Args:
        files: of records.
        sheet: data sheet of the GPU of ``files``; ``None`` for the presets that their devices' names mean.

    Returns:
        Rows of ``COLUMNS``: errors are predicted over measured less one; the roofline is the bytes at the copy rate
        (of prefill, the larger of these and the operations at the library's best rate); ``use`` says whether the row
        had a part in the fit; a decode GEMV of the fitted GPU that an earlier file has in the same cut has none. Of a
        decode step m, n and k are sequences, context and layers. Records of encodings that the model does not know, and
        those taken without overlap of consecutive kernels, are left out and named.

    Raises:
        ValueError: a file that holds no measurements, or a record that lacks something.
    """
    rows, left_out, seen = [], Counter[str](), set[_Key]()
    for path in recorded_files():
        for record in read_measurements(path):
            try:
                made = predicted_of(record)
                if made.kernel == OWN_TILES and _EXPLORED in path.name:
                    made = replace(made, kernel=OWN_EXPLORED)
                use = AGAIN if _again(record, made, seen) else made.use
                rows.append(_row(record, made, use, gpu_of(record.device)))
            except NotImplementedError as error:
                left_out[f"{record.name}: {error}"] += 1
    for path in files:
        for place, record in enumerate(read_measurements(path), 1):
            try:
                gpu = gpu_of(record.device) if sheet is None else sheet
                rows.append(_row(record, predicted_of(record, gpu), "not fitted", gpu))
            except NotImplementedError as error:
                left_out[f"{record.name}: {error}"] += 1
            except ValueError as error:
                raise ValueError(f"{path}, entry {place}: {error}") from None
    sentences = tuple(f"{count} records of {reason}" for reason, count in left_out.items())
    return Comparison(pd.DataFrame(rows, columns=list(COLUMNS)), sentences)


def _again(record: Measurement, made: Predicted, seen: set[_Key]) -> bool:
    """Whether a kernel of the fitted GPU was seen before, in the same cut; remembers it."""
    if made.kernel != OWN or sheet_name(gpu_of(record.device)) != FITTED_GPU:
        return False
    key, count = (record.name, record.shape, cut_of(record)), len(seen)
    seen.add(key)
    return len(seen) == count


def _row(record: Measurement, made: Predicted, use: str, gpu: Gpu) -> dict[str, object]:
    m, k, n = record.shape
    if made.model == "step":
        n, k = k, n
    roofline_s = condition(record, "bytes") / condition(record, "copy_bytes_per_s")
    if made.model in _STATED_BOUNDS:
        roofline_s = condition(record, "bound_us") * _US
    return {
        "kernel": made.kernel, "format": record.name, "gpu": sheet_name(gpu), "m": m, "n": n, "k": k,
        "use": use, "model": made.model, "measured_us": record.seconds / _US,
        "predicted_us": made.seconds / _US, "error": made.seconds / record.seconds - 1,
        "roofline_us": roofline_s / _US, "roofline_error": roofline_s / record.seconds - 1, "bound": made.bound,
        "spread": _spread(record), "device": record.device,
    }  # fmt: skip


def _spread(record: Measurement) -> float:
    """Quartiles over the median, NaN where the record does not say."""
    stated = record.conditions.get("quartiles_over_median", "nan")
    try:
        return float(stated)
    except ValueError:
        raise ValueError(
            f"quartiles_over_median of measurement {record.name} must be a number, not {stated!r}"
        ) from None


def summary(rows: pd.DataFrame, by: Sequence[str] = ("kernel", "gpu", "use")) -> pd.DataFrame:
    """Mean and worst absolute error and bias of each group of rows, the model's and the roofline's."""
    made = []
    for key, part in rows.groupby(list(by), sort=False):
        error, roofline = part["error"], part["roofline_error"]
        made.append({
            **dict(zip(by, key, strict=True)), "rows": len(part), "mean_error": error.abs().mean(),
            "worst_error": error.abs().max(), "bias": error.mean(), "within_15_percent": (error.abs() <= BAND).mean(),
            "roofline_mean_error": roofline.abs().mean(), "roofline_worst_error": roofline.abs().max(),
        })  # fmt: skip
    return pd.DataFrame(made)


def fitted_cases(files: Sequence[Path] | None = None) -> Iterator[GemvCase]:
    """The rows that the constants of the decode GEMV are fitted to."""
    return _fitted(OWN, case_of, files)


def fitted_tiles(files: Sequence[Path] | None = None) -> Iterator[TileCase]:
    """The rows that the constants of the tile kernel are fitted to."""
    return _fitted(OWN_TILES, tile_case_of, files)


def fitted_layers(files: Sequence[Path] | None = None) -> Iterator[BranchCase]:
    """The rows that the constants of branches and outliers are fitted to."""
    return _fitted(OWN_LAYER, layer_case_of, files)


def _fitted(kernel: str, case: Callable[[Measurement], Case], files: Sequence[Path] | None) -> Iterator[Case]:
    seen = set[_Key]()
    for path in recorded_files() if files is None else files:
        for record in read_measurements(path):
            try:
                made = predicted_of(record)
            except NotImplementedError:
                continue
            if made.kernel == kernel and made.use == "fitted" and not _again(record, made, seen):
                found = case(record)
                yield replace(found, seconds=found.seconds - start_share_s(record, found.gpu))


def fit_again(gemv: Path = CONSTANTS, tiles: Path = TILE_CONSTANTS, branches: Path = BRANCH_CONSTANTS) -> None:
    """Fit all constants to the records and write them: the GEMV's first, since the others' models take its launch."""
    places = ((gemv, gpu_gemv_fit, fitted_cases), (tiles, gpu_tiles_fit, fitted_tiles),
              (branches, gpu_branches_fit, fitted_layers))  # fmt: skip
    for path, model, rows in places:
        cases = list(rows())
        write_constants(model.fit(cases), path, f"fitted to {len(cases)} rows of kernels_gpu/measurements")
        for table in (gemv_constants, tile_constants, turn_constants):
            table.cache_clear()


def main() -> int:
    """Print the errors; with ``--fit`` fit the constants and write them first."""
    parser = argparse.ArgumentParser(prog="python -m codesign.gpu_truth", description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true")
    if parser.parse_args().fit:
        fit_again()
        for path in (CONSTANTS, TILE_CONSTANTS, BRANCH_CONSTANTS):
            print(path.read_text(encoding="utf-8"))
    found = summary(comparison().rows)
    number = found.select_dtypes(np.floating).columns
    print(found.assign(**{name: found[name].round(3) for name in number}).to_string(index=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
