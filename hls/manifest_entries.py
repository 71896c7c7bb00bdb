"""What a manifest says of an exported layer: its encoding in words, options, weight image, formats of its register."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.format import Format
from datatypes.layer_config import LayerConfig, PartitionedConfig
from hls.golden_runs import GoldenLayer
from hls.layer_options import LayerOptions
from hls.layer_plan import LayerPlan, PlacedArray

_FORMAT_NAME = re.compile(r"[A-Za-z0-9_.]{1,60}")


def describe(config: LayerConfig) -> str:
    """An encoding in a few words, which may stand in a comment of C++.

    >>> from datatypes.block_formats import MXFP4
    >>> describe(LayerConfig(weight=MXFP4))
    'weight e2m1 with scale e8m0, activation fp16'

    Raises:
        ValueError: a format's name is not of letters, digits and underscores.
    """
    weight = config.weight
    parts = [part.config for part in weight.parts] if isinstance(weight, PartitionedConfig) else [weight]
    said = []
    for part in parts:
        formats = "fp16" if part is None else "/".join(_plain_name(fmt) for fmt in part.formats)
        scale = "" if part is None or part.scale is None else f" with scale {_plain_name(part.scale.format)}"
        said.append(f"weight {formats}{scale}")
    activation = "fp16" if config.activation is None else _plain_name(config.activation.formats[0])
    if isinstance(config.activation, ChannelGroupsConfig):
        activation += f" in {config.activation.groups} channel groups"
    branches = {
        "low-rank branch": config.low_rank,
        "outliers": config.outliers,
        "smoothing": config.smoothing,
    }
    return ", ".join([*said, f"activation {activation}", *(name for name, there in branches.items() if there)])


def _plain_name(fmt: Format) -> str:
    if not _FORMAT_NAME.fullmatch(fmt.name):
        raise ValueError(f"a format's name must be up to 60 letters, digits and underscores, not {fmt.name!r}")
    return fmt.name


def image_entry(beats: int, arrays: Iterable[PlacedArray]) -> dict[str, Any]:
    """A weight image in the manifest."""
    return {"beats": beats, "arrays": [{"name": a.name, "beat": a.beat, "words": a.words} for a in arrays]}


def options_entry(options: LayerOptions) -> dict[str, Any]:
    """Options in the manifest but the tokens of a call."""
    return {
        "lanes": options.lanes,
        "tile_rows": options.tile_rows,
        "arithmetic": options.arithmetic.value,
        "accumulator": list(options.accumulator),
        "mapping": options.mapping.value,
        "runtime_formats": options.runtime_formats,
    }


def format_entries(golden: GoldenLayer, estimated: Callable[[LayerPlan], dict[str, Any]]) -> list[dict[str, Any]]:
    """Formats of a register in the manifest: its word, files, image, and how long a call lasts."""
    entries = []
    for run in golden.runs:
        made = estimated(golden.plans[run.format])
        entries.append(
            {
                "name": run.format, "register": run.word, "weights": run.weights, "output": run.output,
                "image": image_entry(run.beats, golden.plans[run.format].arrays),
                "cycles": made["cycles"]["latency"], "bytes": made["bytes"],
            }
        )  # fmt: skip
    return entries
