"""What a price includes: every omission of the published BitMoD model is one named option.

``PAPER`` leaves all of them out (the published simulator, version 2 of July 2025); ``HONEST``, the default everywhere,
switches all of them on that name work and traffic. ``SCHEDULED`` adds the time that a tile schedule loses and the
traffic that it repeats (``hwmodel.tile_schedule``): what the event simulator says, in closed form.
``hwmodel.effects.option_effects`` shows what each one does.
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
    """Which effects are priced. All defaults are those of ``HONEST``.

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
        clock_idle: PEs that wait burn the part of their clock that is not gated.
        table_lookup: tables are loaded, and tables too large for the array's edge are looked up in the weight buffer.
        requantization_bubbles: the array waits for the shift between groups of channels (Tender).
        width_switches: the array waits a cycle where neighbouring slabs of columns differ in encoding.
        outlier_gather: activations of outlier weights are gathered word by word, and rows of outliers are uneven.
        dynamic_quantization: the largest magnitude is sought before activations and new keys and values are quantized.
        metadata_reads: scales, zero points and selectors are read from the weight buffer along with the codes.
        load_decode: arrays that decode weights while loading them spend an operation's energy on each.
        whole_tiles: a tile that does not fit into its buffer is fetched again at every use, and only whole tiles stay;
            heads go one by one, whatever ``buffering`` says. Otherwise parts of tiles stay, as bytes are counted.
        fill_and_drain: array, DRAM and vector unit wait for one another where blocks and tiles begin and end; otherwise
            the slowest of them is all the time a layer takes. With either, tiles may be smaller than the array.
        tile_slack: of the time of the fastest tile schedule, by which a schedule that moves fewer bits may take longer
            (``hwmodel.tile_choice``). ASSUMPTION: a compiler would not fetch everything twice to save a thousandth.
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
    clock_idle: bool = True
    table_lookup: bool = True
    requantization_bubbles: bool = True
    width_switches: bool = True
    outlier_gather: bool = True
    dynamic_quantization: bool = True
    metadata_reads: bool = True
    load_decode: bool = True
    whole_tiles: bool = False
    fill_and_drain: bool = False
    tile_slack: float = 1 / 1024
    buffering: Buffering = Buffering.PER_COPY
    fallback: Fallback = Fallback.VECTOR_UNIT

    def __post_init__(self) -> None:
        if not 0 <= self.tile_slack < 1:
            raise ValueError(f"tile_slack of model options must be at least 0 and below 1, not {self.tile_slack!r}")

    @property
    def scheduled(self) -> bool:
        """Whether layers are priced as tile schedules."""
        return self.whole_tiles or self.fill_and_drain


HONEST = ModelOptions()
SCHEDULED = ModelOptions(whole_tiles=True, fill_and_drain=True)
PAPER = ModelOptions(
    **{field.name: False for field in fields(ModelOptions) if field.type == "bool"},
    buffering=Buffering.ALL_COPIES,
    fallback=Fallback.ARRAY,
)
