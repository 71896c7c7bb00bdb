"""How far is a bit-serial PE's product from the exact one on real activations, and what would its other designs do?

``python -m studies.pe_functional`` takes inputs of some layers of SmolLM2-135M off its grid (calibration text LAMBADA),
encodes their weights with 8-bit group scales under an FP16 scale for each row (BitMoD, HPCA 2025, section III-C), and
runs ``hwmodel.pe_functional`` in several designs. Errors are against the exact product of the *same* encoded weight and
FP16 activation, so that nothing of them is the quantizer's. Results: ``studies/pe_functional.csv`` and
``docs/pe_functional.md``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from codesign.blocks import BlockModel
from codesign.calibration import Statistic
from codesign.console import show_table
from codesign.models import resolve_model
from codesign.quantize_recipe import gather
from codesign.text import load_text
from codesign.tokens import tokenize, windows
from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FP16, INTS_SYMMETRIC, UINT8
from datatypes.format import Format
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, TensorConfig
from datatypes.quantize import quantize_tensor
from hwmodel.pe_functional import BITMOD_DATAPATH, Alignment, SerialDatapath, gemm
from hwmodel.pe_functional_bound import error_bounds
from hwmodel.pe_functional_weight import SerialWeight, serial_weight

MODEL = "smollm2-135m-offgrid"
BLOCKS = (0, 14, 29)
SLOTS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
CALIBRATION_TOKENS, CONTEXT = 512, 256
GROUP = 128  # HPCA 2025, section III
FORMATS: Mapping[str, tuple[Format, ...]] = {
    "bitmod_fp3": BITMOD_FP3,
    "bitmod_fp4": BITMOD_FP4,
    "int6": (INTS_SYMMETRIC[6],),
    "int8": (INTS_SYMMETRIC[8],),
}
DATAPATHS: Mapping[str, SerialDatapath] = {
    "lanes": BITMOD_DATAPATH,
    "accumulator": SerialDatapath(alignment=Alignment.ACCUMULATOR),
    "lanes, rounded": SerialDatapath(rounded=True),
    "lanes, 17-bit accumulator": SerialDatapath(accumulator_bits=17, group_bits=23),
    "lanes, no guard bits": SerialDatapath(guard_bits=0),
    "lanes, 6 guard bits": SerialDatapath(guard_bits=6),
}


def half_precision_chain(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What a chain of FP16 multiply-adds makes of weights decoded to FP16, float64 ``[m, n]``: the FP16 baseline's PE.

    Each product and each sum is rounded to FP16, column after column.
    """
    inputs, half = x.astype(np.float16), weight.astype(np.float16)
    total: np.ndarray = np.zeros((len(x), len(half)), np.float16)
    for column in range(x.shape[1]):
        total = total + inputs[:, column, None] * half[None, :, column]
    return total.astype(np.float64)


def layer_rows(name: str, weight: torch.Tensor, x: np.ndarray) -> Iterator[dict[str, Any]]:
    """One row for each format and design of one layer, ``x`` float16 ``[m, k]``."""
    for format_name, formats in FORMATS.items():
        config = TensorConfig(formats, PerGroup(GROUP), ScaleConfig(UINT8, outer=FP16))
        serial = serial_weight(quantize_tensor(weight.to(torch.float32), config))
        values = serial.values()
        exact = x.astype(np.float64) @ values.T
        size = np.abs(x.astype(np.float64)) @ np.abs(values).T
        for design, datapath in DATAPATHS.items():
            yield {"layer": name, "format": format_name, "design": design, **_errors(x, serial, exact, size, datapath)}
        for design, made in (
            ("FP16 multiply-add", half_precision_chain(x, values)),
            ("exact, stored as FP16", exact.astype(np.float16).astype(np.float64)),
        ):
            yield {"layer": name, "format": format_name, "design": design, **_distance(made - exact, exact, size)}


def _errors(
    x: np.ndarray, weight: SerialWeight, exact: np.ndarray, size: np.ndarray, datapath: SerialDatapath
) -> dict[str, float]:
    start = time.thread_time()
    result = gemm(x, weight, datapath=datapath)
    seconds = time.thread_time() - start
    error = result.values.astype(np.float64) - exact
    bound = error_bounds(x, weight, datapath=datapath)
    assert (np.abs(error) <= bound).all(), "the bound must hold"
    return {
        **_distance(error, exact, size),
        "largest_over_bound": float((np.abs(error) / bound).max()),
        "bound_over_size": float((bound / size).mean()),
        "cycles": result.cycles,
        "macs_per_cpu_s": x.shape[0] * weight.shape[0] * weight.shape[1] / seconds,
    }


def _distance(error: np.ndarray, exact: np.ndarray, size: np.ndarray) -> dict[str, float]:
    """Root mean square over that of the outputs; largest over the sum of |x w|; mean over that sum (the bias)."""
    return {
        "rms": float(np.sqrt((error**2).mean() / (exact**2).mean())),
        "largest_over_size": float((np.abs(error) / size).max()),
        "bias_over_size": float((error / size).mean()),
    }


def real_layers(rows: int) -> Iterator[tuple[str, torch.Tensor, np.ndarray]]:
    """Name, weight ``[n, k]`` and ``rows`` inputs float16 ``[rows, k]`` of the chosen layers."""
    source = resolve_model(MODEL)
    walked = BlockModel(source)
    tokens = windows(tokenize(load_text("lambada"), source.tokenizer(), CALIBRATION_TOKENS), CONTEXT)
    gathered = gather(walked, source.hash, tokens, frozenset({Statistic.INPUTS}))
    for block in BLOCKS:
        for slot in SLOTS:
            name = f"model.layers.{block}.{slot}"
            inputs = gathered[name][Statistic.INPUTS][:rows].to(torch.float16).numpy()
            yield name, source.tensor(f"{name}.weight"), inputs


def main() -> None:
    """Measure, write the CSV, print the means over layers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=8, help="inputs of each layer")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    first_name, first_weight, first_inputs = next(iter(real_layers(1)))
    list(layer_rows(first_name, first_weight[:4], first_inputs))  # compile
    table = pd.DataFrame([row for layer in real_layers(arguments.rows) for row in layer_rows(*layer)])
    table.to_csv(arguments.out, index=False, float_format="%.6g")
    measures = [name for name in table.columns if name not in ("layer", "format", "design", "cycles")]
    means = table.groupby(["format", "design"], sort=False)[measures].mean().reset_index()
    worst = table.groupby(["format", "design"], sort=False)["rms"].max().rename("worst_rms").reset_index()
    show_table(means.merge(worst), title=f"Means over {table['layer'].nunique()} layers", as_json=False)


if __name__ == "__main__":
    main()
