"""The tiles that a layer is cut into, and the operands that are held: the choice of a tile schedule.

A tile as large as the array is not always best: where it finds no room in the buffers it comes again, and large tiles
take longer to come first and to drain last. So a layer may leave rows and columns of the array idle. Tried are tiles
with as many rows as the array, with any number of rows that divides its own, and with any that has at most four binary
digits before its zeros; likewise columns; and for each product of the layer either operand held; the largest first,
until one takes at most ``tile_slack`` (``ModelOptions``) longer than array, DRAM or vector unit in any case. Of the
schedules that take at most ``tile_slack`` longer than the fastest, the one that moves the fewest bits is taken; of
those, the one with the fewest cycles of the array. Layers that the vector unit computes instead have tiles of as many
outputs and tokens as it has lanes, of half as many, a quarter and so on.

A larger array can be used as a smaller one, so it takes no longer: exactly so with ``tile_slack`` 0, if its rows (and
columns) are a multiple of the smaller array's, or the smaller one's have four binary digits and zeros. Left out: a
reduced dimension that is split between tiles, with partial sums kept; blocks smaller than the buffer.

Rows that idle burn as much as if they worked, columns nothing (``column_gating``). Of a smaller tile no more than its
rows and columns is read from the buffers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from hwmodel.accelerator import Accelerator, Array
from hwmodel.options import ModelOptions
from hwmodel.tile_plan import TilePlan, filled_cycles, plans_of, product_bits
from hwmodel.tile_time import most_cycles
from hwmodel.traffic import Product, dram_cycles
from hwmodel.units import ceil_div
from hwmodel.workload import ATTENTION_KINDS, LayerSpec

_MOST_SIGNIFICANT = 1 << 4
Products = Callable[[Array], Sequence[Product]]


@cache
def tile_sizes(size: int) -> tuple[int, ...]:
    """Rows, or columns, of tiles on an array of ``size``, largest first.

    >>> tile_sizes(24), tile_sizes(51)[:7]
    ((24, 22, 20, 18, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1), (51, 48, 44, 40, 36, 32, 30))
    """
    return tuple(s for s in range(size, 0, -1) if size % s == 0 or s // (s & -s) < _MOST_SIGNIFICANT)


def vector_tiles(lanes: int, outputs: int, tokens: int) -> Iterator[Array]:
    """Tiles of a product of the vector unit, largest first."""
    halves = [lanes >> i for i in range(lanes.bit_length())]
    for columns in halves:
        for rows in halves:
            if not (tokens <= columns < lanes or outputs <= rows < lanes):
                yield Array(rows, columns)


@dataclass(frozen=True)
class LayerSchedule:
    """How a layer runs.

    Args:
        plans: its products and how their tiles take turns.
        cycles: that it takes.
        ports: bits of the ports of the weight and of the activation buffer, as wide as the array.
    """

    plans: tuple[TilePlan, ...]
    cycles: int
    ports: tuple[float, float]

    @property
    def moved_bits(self) -> int:
        """Over the DRAM bus."""
        return sum(product_bits(plan) for plan in self.plans)

    @property
    def compute_cycles(self) -> int:
        """Of the array."""
        return _compute([plan.product for plan in self.plans])


def schedule_layer(
    spec: LayerSpec, products: Products, accelerator: Accelerator, array: Array, options: ModelOptions, passes: int
) -> LayerSchedule:
    """The schedule of a layer of products.

    Args:
        spec: the layer.
        products: its products on an array as large as a tile (``hwmodel.operands.products_of``).
        accelerator, array: on what.
        options: which effects count.
        passes: as in ``hwmodel.tile_plan.tile_plan``.
    """
    whole = list(products(array))
    ports = whole[-1].weight_port_bits, whole[-1].input_port_bits
    slack = options.tile_slack
    masked = spec.kind in ATTENTION_KINDS and spec.causal and options.causal_mask
    unit = _compute(products(Array(1, min(array.columns, 2)))) if masked else 0
    least = least_cycles(whole, least_compute(unit, array) if masked else _compute(whole), accelerator, options)
    made: list[LayerSchedule] = []
    fastest = 0

    def take(tile: Array, parts: Sequence[Product]) -> int:
        """Add the schedules of a tile; returns cycles of the fastest so far."""
        if tile.columns < array.columns and parts is not whole:
            parts = [replace(part, busy=part.busy * tile.columns / array.columns) for part in parts]
        for plans in itertools.product(*plans_of(spec, parts, accelerator, tile, options, passes)):
            made.append(LayerSchedule(plans, scheduled_cycles(plans, accelerator, options), ports))
        return min(each.cycles for each in made)

    over = not _compute(whole)
    if over:
        lanes = accelerator.vector.lanes
        for tile in vector_tiles(lanes, spec.n, spec.m):
            fastest = take(tile, whole)
            if fastest <= most_cycles(least, slack):
                break
    for columns in tile_sizes(array.columns):
        if over:
            break
        if spec.m <= columns < array.columns:
            continue  # as on the whole array
        for rows in tile_sizes(array.rows):
            if spec.n <= rows < array.rows:
                continue
            tile = Array(rows, columns)
            if masked and made and least_compute(unit, tile) > most_cycles(fastest, slack):
                over = rows == array.rows
                break
            parts = whole if tile == array else list(products(tile))
            if made and _compute(parts) > most_cycles(fastest, slack):
                if masked:
                    continue  # smaller tiles may waste less above the diagonal
                over = rows == array.rows
                break  # smaller tiles take longer still
            fastest = take(tile, parts)
            if fastest <= most_cycles(least, slack):
                over = True
                break
    most = most_cycles(least if fastest <= most_cycles(least, slack) else fastest, slack)
    near = [each for each in made if each.cycles <= most]
    return min(near, key=lambda each: (each.moved_bits, each.compute_cycles))


def _compute(products: Sequence[Product]) -> int:
    return sum(product.compute_cycles for product in products)


def least_cycles(
    products: Sequence[Product], compute: int, accelerator: Accelerator, options: ModelOptions
) -> int:  # fmt: skip
    """Cycles that no schedule goes below of products of which the array takes at least ``compute``."""
    vector = sum(ceil_div(product.vector_operations, accelerator.vector.lanes) for product in products)
    once = [p.weight.dram_bits + p.input.dram_bits + p.output.dram_bits for p in products]
    return max(compute, vector, sum(dram_cycles(bits, accelerator, options) for bits in once))


def least_compute(unit: int, tile: Array) -> int:
    """Cycles that the array takes at least in tiles of this size under a causal mask, where it takes ``unit`` in tiles
    of one row and two columns: a tile holds no more of these than rows times half its columns."""
    return unit // (tile.rows * ceil_div(tile.columns, 2))


def scheduled_cycles(plans: Sequence[TilePlan], accelerator: Accelerator, options: ModelOptions) -> int:
    """Cycles of a layer: of its slowest resource, and with ``fill_and_drain`` of waiting for one another."""
    compute = _compute([plan.product for plan in plans])
    moving = sum(dram_cycles(product_bits(plan), accelerator, options) for plan in plans)
    vector = sum(ceil_div(plan.product.vector_operations, accelerator.vector.lanes) for plan in plans)
    filled = filled_cycles(plans, accelerator, options) if options.fill_and_drain else 0
    return max(compute, moving, vector, filled)
