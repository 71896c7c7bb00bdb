"""Bit statistics of the layers of a model, as a recipe encodes them or as they lie in a quantized folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from codesign.blocks import BlockModel
from codesign.cache import whole_file
from codesign.models import resolve_model
from codesign.quantize_blocks import CalibrationPlan, quantize_blocks
from codesign.quantize_recipe import layer_jobs
from codesign.quantized_folder import check_own_recipe, is_quantized, load_quantized
from codesign.recipes import check_quantizes, recipe
from codesign.steps import NO_STEPS, Steps
from datatypes.bit_stats import BitStats, bit_stats
from datatypes.quantized_layer import QuantizedLayer
from datatypes.recoding import Recoding

COUNTED_RECIPE = "int8_channel"  # where none is named
LANES, BITLET_GROUP, BBS_GROUP = 16, 64, 8  # what the table shows; the statistics hold more


def layer_bits(model: str, recipe_name: str | None, *, steps: Steps = NO_STEPS) -> Iterator[tuple[str, BitStats]]:
    """Statistics of each encoded weight, layer by layer; parts of a partitioned weight are named ``layer[0]``.

    Args:
        model: a model, which ``recipe_name`` encodes (by default ``int8_channel``); or a quantized folder, whose own
            encoding is counted.

    Raises:
        ValueError: the recipe needs calibration, encodes no weights, or is not the folder's own.
        NotImplementedError: a layer's format has no fixed-point values.
    """
    for name, layer in _layers(model, recipe_name, steps):
        parts = layer.weight if isinstance(layer.weight, tuple) else (layer.weight,)
        for index, part in enumerate(parts):
            try:
                yield name if len(parts) == 1 else f"{name}[{index}]", bit_stats(part.to("cpu"))
            except NotImplementedError as error:
                raise NotImplementedError(f"layer {name}: {error}") from None


def _layers(model: str, recipe_name: str | None, steps: Steps) -> Iterator[tuple[str, QuantizedLayer]]:
    if is_quantized(model):
        quantized = load_quantized(model)
        check_own_recipe(quantized, recipe_name)
        layers = quantized.layers
        for index, name in enumerate(layers):
            yield name, layers[name]
            steps("count", index + 1, len(layers))
        return
    made = recipe(recipe_name or COUNTED_RECIPE)
    check_quantizes(made)
    if made.algorithm is None:
        raise ValueError(f"recipe must encode weights for their bits to be counted, which {made.name} does not")
    if made.needs:
        raise ValueError(
            f"recipe must need no calibration here, not {made.name}; run codesign quantize and give its folder instead"
        )
    walked = BlockModel(resolve_model(model))
    yield from quantize_blocks(walked, layer_jobs(walked, made), CalibrationPlan(), steps=steps)


def summed(stats: Mapping[str, BitStats]) -> dict[str, BitStats]:
    """Layers that differ in their block alone, together: ``model.layers.*.mlp.up_proj``; and ``all`` where they add."""
    found: dict[str, BitStats] = {}
    for name, one in stats.items():
        key = re.sub(r"\.\d+(?=\.|$)", ".*", name)
        if key in found and found[key].formats != one.formats:
            key = name
        found[key] = found[key] + one if key in found else one
    if len(found) > 1 and len({one.formats for one in found.values()}) == 1:
        parts = list(found.values())
        found["all"] = sum(parts[1:], start=parts[0])
    return found


def bits_table(stats: Mapping[str, BitStats]) -> pd.DataFrame:
    """One row for each of ``stats``: terms of a weight by recoding, and cycles of machines that skip.

    Columns ``wait_*`` are mean cycles of a step of 16 weights that wait for one another; ``bitlet_64`` cycles of a
    group of 64 under bit interleaving, for each weight; ``bbs_8`` additions left under bidirectional sparsity, as a
    share of all bits; ``empty_8`` empty bit planes of the magnitudes in groups of 8, the sign's among them.
    """
    rows: list[dict[str, Any]] = []
    for name, one in stats.items():
        terms = {recoding.value: one.mean_terms(recoding) for recoding in Recoding}
        waits = {f"wait_{recoding.value}": one.step_cycles(recoding, LANES) for recoding in Recoding}
        rows.append(
            {
                "layer": name,
                "formats": ", ".join(one.formats),
                "weights": one.weights,
                "planes": one.planes,
                **terms,
                **waits,
                "bitlet_64": one.interleaved_cycles(BITLET_GROUP) / BITLET_GROUP,
                "bbs_8": one.smaller_share(BBS_GROUP),
                "empty_8": one.empty_planes(BBS_GROUP),
            }
        )
    return pd.DataFrame(rows)


def write_bits(stats: Mapping[str, BitStats], out: Path) -> None:
    """The statistics as JSON, by layer; ``read_bits`` reads them."""
    with whole_file(out) as temporary:
        temporary.write_text(json.dumps({name: one.to_dict() for name, one in stats.items()}), encoding="utf-8")


def read_bits(path: Path) -> dict[str, BitStats]:
    """What ``write_bits`` wrote.

    Raises:
        ValueError: it is not that.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {name: BitStats.from_dict(one) for name, one in data.items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} must hold bit statistics as codesign bits --out writes them: {error}") from None
