"""From a decoder block to its weight image and to the C++ config that ``decoder_block.h`` is templated on.

The image is the tables of the block (both norms, cosines and sines, each position's row from a beat on), then the image
of each layer as ``hls.layer_planning`` makes it, in the order of ``LAYERS``. Layers whose configs are alike share one
struct: where a layer's image starts is an argument of the pipeline, not part of its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from hls.decoder_block import LAYERS, DecoderBlock
from hls.layer_config_text import config_text, stage_text
from hls.layer_options import LayerOptions
from hls.layer_plan import LayerPlan, PlacedArray, StagePlan, WeightImage
from hls.layer_planning import plan_layer
from hls.names import naming
from hls.stage_planning import plan_stage
from hls.weights import BEAT_BYTES

_FP32 = "codesign::fp32_value"


@dataclass(frozen=True, eq=False)
class BlockPlan:
    """A block as it is generated.

    Args:
        block: what is planned.
        layers: plan of each layer, for one token in a call.
        beats_of: beat of the image at which each layer's own image starts.
        fields: beat of each table: ``attention_norm``, ``mlp_norm``, ``cosine``, ``sine``.
        key, value: stages that encode heads.
        arrays: of the whole image, in order.
        image: uint32 words, whole beats.
    """

    block: DecoderBlock
    layers: Mapping[str, LayerPlan]
    beats_of: Mapping[str, int]
    fields: Mapping[str, int]
    key: StagePlan
    value: StagePlan
    arrays: tuple[PlacedArray, ...]
    image: np.ndarray

    @property
    def beats(self) -> int:
        """Of the image."""
        return len(self.image) * 4 // BEAT_BYTES


def plan_block(block: DecoderBlock, options: LayerOptions | None = None) -> BlockPlan:
    """Everything about a block that is generated.

    Args:
        block: the block.
        options: of its layers; they run token by token.

    Raises:
        NotImplementedError, ValueError: something that no header holds; the message names the layer.
    """
    options = replace(options or LayerOptions(), tokens=1)
    if options.runtime_formats:
        raise NotImplementedError(
            f"formats chosen at run time go with layers exported one by one, not with the whole block {block.name}"
        )
    image = WeightImage()
    fields = {
        "attention_norm": image.add("attention_norm", torch.from_numpy(block.attention_norm)),
        "mlp_norm": image.add("mlp_norm", torch.from_numpy(block.mlp_norm)),
        "cosine": image.add("cosine", _rows_on_beats(block.cosine)),
        "sine": image.add("sine", _rows_on_beats(block.sine)),
    }
    words, arrays, beat = [image.words()], list(image.arrays), image.beat
    plans: dict[str, LayerPlan] = {}
    starts: dict[str, int] = {}
    for name in LAYERS:
        with naming(f"layer {name} of {block.name}"):
            plans[name] = plan_layer(block.layers[name], bias=block.biases.get(name), options=options)
        starts[name] = beat
        arrays += [replace(a, name=f"{name}.{a.name}", beat=beat + a.beat) for a in plans[name].arrays]
        words.append(plans[name].image)
        beat += plans[name].beats
    stages = []
    for role in ("key", "value"):
        with naming(f"the {role} cache of {block.name}"):
            stages.append(plan_stage(block.cache_config(role), block.head_dim, block.kv_heads))
    return BlockPlan(
        block, plans, starts, fields, stages[0], stages[1], tuple(arrays), np.concatenate(words).astype(np.uint32)
    )


def _rows_on_beats(rows: np.ndarray) -> torch.Tensor:
    """float32 rows, each padded with zeros to whole beats."""
    return torch.from_numpy(np.pad(rows.astype(np.float32), ((0, 0), (0, -rows.shape[1] % (BEAT_BYTES // 4)))))


# --- the config ------------------------------------------------------------------------------------------------------


def block_config_text(plan: BlockPlan, name: str) -> str:
    """The config header of a block.

    Args:
        plan: the block.
        name: an identifier; every struct's name starts with it.
    """
    block, guard = plan.block, f"{name.upper()}_BLOCK_CONFIG_H"
    structs: list[str] = []
    struct_of: dict[str, str] = {}  # by the config under a name that all layers share
    members: list[str] = []
    for role in LAYERS:
        alike = config_text(plan.layers[role], "layer")
        if alike not in struct_of:
            struct_of[alike] = f"{name}_{role}"
            structs.append(config_text(plan.layers[role], f"{name}_{role}"))
        members.append(f"using {role} = {struct_of[alike]}_config;")
    for role, stage in (("key", plan.key), ("value", plan.value)):
        structs.append(stage_text(stage, f"{name}_{role}"))
        members.append(f"using {role} = {name}_{role};")
    norm = f"codesign::field<{_FP32}, 1, 1, {block.hidden}, {{beat}}>"
    angle = f"codesign::field<{_FP32}, 1, 1, {block.head_dim // 2}, {{beat}}>"  # of one position: rows are on beats
    for field, text in (("attention_norm", norm), ("mlp_norm", norm), ("cosine", angle), ("sine", angle)):
        members.append(f"using {field} = {text.format(beat=plan.fields[field])};")
    sizes = {
        "hidden": block.hidden,
        "intermediate": block.layers["gate"].shape[0],
        "heads": block.heads,
        "kv_heads": block.kv_heads,
        "head_dim": block.head_dim,
        "positions": block.positions,
        **{f"{role}_beat": plan.beats_of[role] for role in LAYERS},
        "beats": plan.beats,
    }
    lines = [f"static constexpr int {key} = {value};" for key, value in sizes.items()]
    for key, value in (("epsilon", block.epsilon), ("scaling", block.scaling)):
        lines.append(f"static constexpr float {key} = {float(np.float32(value)).hex()}F;")
    config = f"struct {name}_config {{\n" + "".join(f"  {line}\n" for line in [*lines, *members]) + "};\n"
    body = "\n".join([*structs, config])
    return f'#ifndef {guard}\n#define {guard}\n\n#include "codesign/decoder_block.h"\n\n{body}\n#endif\n'
