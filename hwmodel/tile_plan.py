"""Products with the shape of their tiles, how these take turns (``hwmodel.tile_schedule``) and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hwmodel.accelerator import Accelerator, Array
from hwmodel.options import ModelOptions
from hwmodel.tile_schedule import choose_fetches
from hwmodel.tile_time import LATENCY_S, layer_cycles, product_cycles
from hwmodel.traffic import Product, causal_positions
from hwmodel.units import ceil_div
from hwmodel.workload import ATTENTION_KINDS, LayerKind, LayerSpec

DENSE, CAUSAL_SCORES, CAUSAL_VALUES = range(3)  # masks


@dataclass(frozen=True)
class TileShape:
    """The shape of a product as a tile schedule sees it.

    Args:
        outputs, tokens: of one copy.
        steps: of the array over the reduced dimension, in a tile that is not cut by a mask.
        turns: copies one after another with operands of their own.
        shared: copies that multiply one weight.
        rows, columns: of the array.
        mask: ``DENSE``, or which causal product.
        keys, heads, past: of a causal product: positions attended to, query rows of one position, keys before the first
            query.
        lanes: weights in a step.
    """

    outputs: int
    tokens: int
    steps: int
    turns: int
    shared: int
    rows: int
    columns: int
    mask: int = DENSE
    keys: int = 1
    heads: int = 1
    past: int = 0
    lanes: int = 1

    @property
    def output_tiles(self) -> int:
        """Over the outputs."""
        return ceil_div(self.outputs, self.rows)

    @property
    def token_tiles(self) -> int:
        """Over the tokens of all copies that share a weight."""
        return ceil_div(self.tokens, self.columns) * self.shared


def dense_shape(n: int, m: int, k: int, array: Array, *, lanes: int, copies: int, shared: bool) -> TileShape:
    """The shape of ``copies`` products ``[m, k] x [k, n]``.

    Args:
        n, m, k: shape of one copy.
        array: the PEs.
        lanes: weights in a step.
        copies: how many.
        shared: copies multiply one and the same weight.
    """
    turns, together = (1, copies) if shared else (copies, 1)
    return TileShape(n, m, ceil_div(k, lanes), turns, together, array.rows, array.columns, lanes=lanes)


def causal_shape(
    keys: int, rows: int, width: int, array: Array, *, lanes: int, copies: int, reduced: bool, past: int | None = None
) -> TileShape:  # fmt: skip
    """The shape of a causal attention product, tiles above the diagonal left out; arguments as in
    ``hwmodel.traffic.causal_tile_steps``, of ``copies``."""
    heads, _, before = causal_positions(keys, rows, past)
    n, k, mask = (width, keys, CAUSAL_VALUES) if reduced else (keys, width, CAUSAL_SCORES)
    return TileShape(
        n, rows, ceil_div(k, lanes), copies, 1, array.rows, array.columns, mask, keys, heads, before, lanes
    )


def shape_of(
    spec: LayerSpec, product: Product, index: int, accelerator: Accelerator, array: Array, options: ModelOptions
) -> TileShape:
    """The shape of a layer's product: itself (``index`` 0), or the two of a low-rank branch after it."""
    lanes = accelerator.pe.lanes
    if spec.kind in ATTENTION_KINDS and spec.causal and options.causal_mask:
        scores = spec.kind is LayerKind.ATTENTION_QK
        keys, width = (spec.n, spec.k) if scores else (spec.k, spec.n)
        return causal_shape(
            keys, spec.m, width, array, lanes=lanes, copies=spec.copies, reduced=not scores, past=spec.past
        )
    n, k = spec.n, spec.k
    if index == 1:
        n = max(1, product.macs // (spec.m * spec.k * spec.copies))
    elif index == 2:
        k = max(1, product.macs // (spec.m * spec.n * spec.copies))
    return dense_shape(n, spec.m, k, array, lanes=lanes, copies=spec.copies, shared=spec.shared_weight)


@dataclass(frozen=True)
class TilePlan:
    """A product, its shape, and how its tiles take turns.

    Args:
        product, shape: what and how large.
        fetches: what ``choose_fetches`` returns.
    """

    product: Product
    shape: TileShape
    fetches: tuple[int, int, int, int, int, int]

    @property
    def held_weights(self) -> bool:
        """Which operand is held."""
        return bool(self.fetches[0])

    @property
    def blocks(self) -> int:
        """Buffer-fulls of it, in one turn."""
        return self.fetches[1]

    @property
    def times(self) -> tuple[int, int]:
        """How often all weights and all inputs come."""
        return self.fetches[2], self.fetches[3]

    @property
    def again(self) -> tuple[bool, bool]:
        """Whether weights and inputs come at every visit."""
        return bool(self.fetches[4]), bool(self.fetches[5])


def tile_plan(
    product: Product, shape: TileShape, accelerator: Accelerator, *, whole: bool, passes: int, hold: int = -1
) -> TilePlan:
    """How the tiles of a product take turns.

    Args:
        product, shape: what and how large.
        accelerator: whose buffers.
        whole: whole tiles must fit.
        passes: copies one after another by the rule that counts bytes (``hwmodel.traffic.fetches``); whole tiles go by
            ``shape.turns``.
        hold: what is held: 1 weights, 0 inputs, -1 what moves fewer bits.
    """
    turns = shape.turns if whole else passes
    fetches = choose_fetches(
        whole,
        hold,
        product.weight.dram_bits,
        product.input.dram_bits,
        ceil_div(product.weight.buffer_bytes, turns),
        ceil_div(product.input.buffer_bytes, turns),
        accelerator.weight_buffer.capacity_bytes,
        accelerator.activation_buffer.capacity_bytes,
        numbers_of(shape),
    )
    return TilePlan(product, shape, fetches)


def plans_of(
    spec: LayerSpec,
    products: Sequence[Product],
    accelerator: Accelerator,
    array: Array,
    options: ModelOptions,
    passes: int,
    *,
    holds: Sequence[int] = (0, 1),
) -> list[tuple[TilePlan, ...]]:
    """How the products of a layer may take turns, each way to hold an operand that differs; ``holds`` and other
    arguments as in ``shape_of`` and ``tile_plan``."""
    made = []
    for index, product in enumerate(products):
        shape = shape_of(spec, product, index, accelerator, array, options)
        plans = [
            tile_plan(product, shape, accelerator, whole=options.whole_tiles, passes=passes, hold=hold)
            for hold in holds
        ]
        made.append(tuple(plan for at, plan in enumerate(plans) if plan not in plans[:at]))
    return made


def product_bits(plan: TilePlan) -> int:
    """Over the DRAM bus, everything that comes again included."""
    product, (weights, inputs) = plan.product, plan.times
    return product.weight.dram_bits * weights + product.input.dram_bits * inputs + product.output.dram_bits


def look_up_cycles(bits: int, accelerator: Accelerator, options: ModelOptions) -> int:
    """Cycles of a look-up: reading and writing share the bus, after the first read's latency."""
    if bits == 0:
        return 0
    clock = accelerator.frequency_hz
    bandwidth = accelerator.dram.bits_per_cycle(clock, sustained=options.dram_efficiency)
    return math.ceil(bits / bandwidth + LATENCY_S * clock)


def numbers_of(shape: TileShape) -> tuple[int, ...]:
    """As ``choose_fetches`` and its like take it."""
    return (
        shape.outputs, shape.tokens, shape.steps, shape.turns, shape.shared, shape.rows, shape.columns, shape.mask,
        shape.keys, shape.heads, shape.past, shape.lanes,
    )  # fmt: skip


def filled_cycles(plans: Sequence[TilePlan], accelerator: Accelerator, options: ModelOptions) -> int:
    """Cycles of a layer by the form above, rounded up.

    Args:
        plans: its products.
        accelerator: on what.
        options: peak or sustained bandwidth.
    """
    clock = accelerator.frequency_hz
    bandwidth = accelerator.dram.bits_per_cycle(clock, sustained=options.dram_efficiency)
    dram = vector = work = behind = ready = last = 0.0
    for index, plan in enumerate(plans):
        product, turns = plan.product, plan.shape.turns
        taken, behind, moving, operating, first_ready, last = product_cycles(
            product.compute_cycles, ceil_div(product.vector_operations, accelerator.vector.lanes),
            product.weight.dram_bits, product.input.dram_bits, product.output.dram_bits, bandwidth,
            ceil_div(product.weight.buffer_bytes, turns), ceil_div(product.input.buffer_bytes, turns),
            accelerator.weight_buffer.capacity_bytes, accelerator.activation_buffer.capacity_bytes, plan.fetches,
            numbers_of(plan.shape), index == 0,
        )  # fmt: skip
        work, dram, vector, ready = work + taken, dram + moving, vector + operating, ready + first_ready
    first = plans[0].product
    latency = LATENCY_S * clock if first.weight.dram_bits + first.input.dram_bits > 0 else 0.0
    return int(layer_cycles(work, dram, vector, behind, latency, ready, last))
