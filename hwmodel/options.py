"""What a price includes: every omission of the published BitMoD model is one named option.

``PAPER`` leaves all of them out (the published simulator, version 2 of July 2025); ``HONEST``, the default everywhere,
switches all of them on. ``hwmodel.effects.option_effects`` shows what each one does.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum


class Fallback(Enum):
    """What happens to a wide float (FP16, BF16) that the PE array cannot multiply."""

    ERROR = "error"  # NotImplementedError
    VECTOR_UNIT = "vector_unit"  # the product runs on the FP16 lanes of the vector unit
    ARRAY = "array"  # runs on the array as if it were an integer of that width; only to repeat published figures


class Buffering(Enum):
    """Against what the buffer capacity is compared before operands are fetched again."""

    ALL_COPIES = "all_copies"  # the operands of all heads together (published model)
    PER_COPY = "per_copy"  # one head at a time: heads run one after another


@dataclass(frozen=True)
class ModelOptions:
    """Which effects are priced. All defaults are the honest ones.

    Args:
        exact_storage: weights, KV and activations move with all their stored bits (scales, zero points, selectors,
            masks, padding to words), not with code bits + 8-bit scale only.
        encoder_energy: the bit-serial term encoders burn energy.
        causal_mask: tiles of attention above the diagonal are skipped, and their scores not moved.
        fused_attention: scores stay on chip between the two attention products.
        last_token_head: prefill computes the vocabulary projection for the last token of each sequence only.
        growing_context: each generated token sees one more token of KV cache (``generate_cost``).
        column_gating: PE columns without work (decode at batch 1 uses one) burn no energy.
        dram_efficiency: the DRAM delivers its sustained, not its peak, bandwidth.
        leakage: logic and SRAM leak during every cycle.
        vector_unit: norms, softmax, activation functions, and the scale, outlier and quantization work that the PE
            array cannot do, take time and energy on a vector unit.
        embedding: rows of the embedding are read from DRAM.
        dequantization_stalls: a bit-serial PE waits where a group is too short to hide its scale multiplication.
        buffering: what refetching is decided on.
        fallback: what happens to wide floats on an array of integer PEs.
    """

    exact_storage: bool = True
    encoder_energy: bool = True
    causal_mask: bool = True
    fused_attention: bool = True
    last_token_head: bool = True
    growing_context: bool = True
    column_gating: bool = True
    dram_efficiency: bool = True
    leakage: bool = True
    vector_unit: bool = True
    embedding: bool = True
    dequantization_stalls: bool = True
    buffering: Buffering = Buffering.PER_COPY
    fallback: Fallback = Fallback.VECTOR_UNIT


HONEST = ModelOptions()
PAPER = ModelOptions(
    **{field.name: False for field in fields(ModelOptions) if field.type == "bool"},
    buffering=Buffering.ALL_COPIES,
    fallback=Fallback.ARRAY,
)
