"""Pieces against cutting by hand: order, what each needs and frees, and the sums of the closed form."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwmodel.accelerator import Array
from hwmodel.event_tiles import Pieces, Tiling, cut, share, tiling_of
from hwmodel.memory import Sram
from hwmodel.presets import BITMOD
from hwmodel.tile_plan import TilePlan, TileShape, causal_shape, dense_shape, tile_plan
from hwmodel.traffic import Product, Stream, causal_tile_steps, fetches, tile_count

ARRAY = Array(3, 2)
SMALL = replace(
    BITMOD, weight_buffer=Sram(64 * 1024, "test"), activation_buffer=Sram(64 * 1024, "test"), prefill_array=Array(3, 2),
    decode_array=Array(6, 1),
)  # fmt: skip


def _product(weight_bytes: int, input_bytes: int, cycles: int, output_bits: int = 999, vector: int = 0) -> Product:
    return Product(
        7777, 1, cycles, Stream(weight_bytes * 8, 0, weight_bytes), Stream(input_bytes * 8, 0, input_bytes),
        Stream(output_bits, 0, 0), 64, 64, vector_operations=vector,
    )  # fmt: skip


def _plan(product: Product, shape: TileShape, *, whole: bool = False) -> TilePlan:
    return tile_plan(product, shape, SMALL, whole=whole, passes=1)


def _cut(product: Product, shape: TileShape, slice_bytes: int = 4096, *, whole: bool = False) -> Pieces:
    return cut(_plan(product, shape, whole=whole), SMALL, slice_bytes=slice_bytes, piece_limit=10**6)


def test_tiles_are_those_of_the_closed_form() -> None:
    shape = dense_shape(10, 5, 9, ARRAY, lanes=4, copies=6, shared=False)
    pieces = _cut(_product(100, 100, 1), shape, slice_bytes=10**9)
    assert len(pieces.output_bits) == tile_count(10, 5, ARRAY) * 6
    assert pieces.steps.sum() == tile_count(10, 5, ARRAY) * 6 * 3  # ceil(9 / 4)


@given(
    keys=st.integers(1, 30), group=st.integers(1, 3), width=st.integers(1, 20), reduced=st.booleans(),
    queries=st.integers(1, 30),
)  # fmt: skip
def test_causal_tiles_are_those_of_the_closed_form(
    keys: int, group: int, width: int, reduced: bool, queries: int
) -> None:
    rows = min(queries, keys) * group
    shape = causal_shape(keys, rows, width, ARRAY, lanes=4, copies=2, reduced=reduced)
    pieces = _cut(_product(100, 100, 1), shape, slice_bytes=20)
    wanted = causal_tile_steps(keys, rows, ARRAY, width=width, lanes=4, reduced=reduced)
    assert pieces.steps.sum() == 2 * wanted


def test_small_product_by_hand() -> None:
    # 5 outputs in tiles of 3 and 2, 3 tokens in tiles of 2 and 1, one step; weights 50 bytes, inputs 30: the smaller
    # operand, inputs, is held: (n0, m0), (n0, m1), (n1, m0), (n1, m1)
    pieces = _cut(_product(50, 30, 40, output_bits=150), dense_shape(5, 3, 4, ARRAY, lanes=4, copies=1, shared=False))
    assert not pieces.held_weights
    assert pieces.blocks == 1
    assert pieces.tile.tolist() == [0, 1, 2, 3]
    assert pieces.cycles.tolist() == [10] * 4
    assert (pieces.weight_bits // 8).tolist() == [30, 30, 50, 50]  # 3 rows of 10 bytes, then 2
    assert (pieces.input_bits // 8).tolist() == [20, 30, 30, 30]  # 2 tokens of 10 bytes, then 1
    assert pieces.weight_freed.tolist() == [0, 30, 30, 50]  # after the last token tile
    assert pieces.input_freed.tolist() == [0, 0, 20, 30]  # during the last output tile
    assert pieces.output_bits.tolist() == [60, 90, 130, 150]  # 6, 3, 4 and 2 results of 10 bits


def test_weights_are_held_where_inputs_come_again() -> None:
    # 128 KiB of weights are two buffer-fulls of 64 KiB, 256 KiB of inputs four: inputs twice (512 + 128 KiB) against
    # weights four times (512 + 256 KiB)
    kib = 1024
    product = _product(128 * kib, 256 * kib, 1200)
    assert fetches(product.weight, product.input, SMALL, 1) == (1, 2)
    pieces = _cut(product, dense_shape(12, 6, 4, ARRAY, lanes=4, copies=1, shared=False), slice_bytes=10**9)
    assert (pieces.held_weights, pieces.blocks) == (True, 2)
    assert pieces.input_bits[-1] == 2 * 256 * kib * 8
    assert pieces.weight_bits[-1] == 128 * kib * 8
    # first block: output tiles 0 and 1 past token tiles 0, 1 and 2
    assert (pieces.weight_bits[:6] // 8 // kib).tolist() == [32, 64, 64, 64, 64, 64]
    assert (pieces.weight_freed[:6] // kib).tolist() == [0, 0, 0, 0, 32, 64]


def _by_hand(tiling: Tiling, edges: list[int], slices: int, plan: TilePlan) -> Iterator[tuple[int, ...]]:
    """Pieces in order with what must be fetched and what is then used up, by keeping what lies in the buffers."""
    blocks, held_weights, (weights_again, inputs_again) = plan.blocks, plan.held_weights, plan.again
    count = len(tiling.tokens)
    units = len(edges) if held_weights else count
    for _ in range(tiling.copies):
        visits = []
        for block in range(blocks):
            chosen = range(block * units // blocks, (block + 1) * units // blocks)
            outer, inner = (range(count), chosen) if held_weights else (range(len(edges)), chosen)
            order = [(b, a) if held_weights else (a, b) for a in outer for b in inner]
            for n, m in order:
                if n < tiling.visible[m]:
                    visits += [
                        (block, n, m, at, min(slices, tiling.steps[m] - at)) for at in range(0, tiling.steps[m], slices)
                    ]
        there: set[tuple[object, ...]] = set()
        last: dict[tuple[object, ...], int] = {}
        cells = []
        for index, (block, n, m, at, size) in enumerate(visits):
            weights = {("w", block, n, at + i, index * weights_again) for i in range(size)}
            inputs = {("i", block, m, at + i, index * inputs_again) for i in range(size)}
            for cell in weights | inputs:
                last[cell] = index
            cells.append((weights, inputs))
        for index, (_, n, m, _, size) in enumerate(visits):
            weights, inputs = cells[index]
            yield (
                size,
                edges[n] * len(weights - there),
                tiling.tokens[m] * len(inputs - there),
                edges[n] * sum(last[cell] == index for cell in weights),
                tiling.tokens[m] * sum(last[cell] == index for cell in inputs),
            )
            there |= weights | inputs


@settings(max_examples=150, deadline=None)
@given(
    outputs=st.integers(1, 20), m=st.integers(1, 12), steps=st.integers(1, 9), copies=st.integers(1, 3),
    kind=st.sampled_from(["dense", "shared", "scores", "values"]),
    kib=st.tuples(st.integers(1, 600), st.integers(1, 600)), slice_bytes=st.sampled_from([1, 5000, 10**9]),
    whole=st.booleans(),
)  # fmt: skip
def test_pieces_need_and_free_what_lies_in_the_buffers(
    outputs: int, m: int, steps: int, copies: int, kind: str, kib: tuple[int, int], slice_bytes: int, whole: bool
) -> None:
    if kind in ("scores", "values"):
        reduced = kind == "values"
        shape = causal_shape(outputs, min(m, outputs), steps * 4, ARRAY, lanes=4, copies=copies, reduced=reduced)
    else:
        shape = dense_shape(outputs, m, steps * 4, ARRAY, lanes=4, copies=copies, shared=kind == "shared")
    product = _product(kib[0] * 1024, kib[1] * 1024, 10**6 + 1)
    plan, tiling = _plan(product, shape, whole=whole), tiling_of(shape)
    pieces = _cut(product, shape, slice_bytes, whole=whole)
    rows = max(tiling.visible)
    edges = [min(3, tiling.outputs - 3 * i) for i in range(rows)]
    wanted = np.array(list(_by_hand(tiling, edges, int(pieces.steps.max()), plan)))
    assert pieces.steps.tolist() == wanted[:, 0].tolist()
    assert (pieces.held_weights, pieces.blocks) == (plan.held_weights, plan.blocks)
    weight_times, input_times = plan.times
    if not whole:
        assert plan.times == fetches(product.weight, product.input, SMALL, 1)
    loads = (pieces.weight_bits, product.weight.dram_bits * weight_times), (
        pieces.input_bits, product.input.dram_bits * input_times,
    )  # fmt: skip
    for column, (ours, bits) in enumerate(loads, start=1):
        elements = np.cumsum(wanted[:, column])
        assert ours.tolist() == [bits * int(x) // int(elements[-1]) for x in elements]
        assert ours[-1] == bits
    for column, (ours, held) in enumerate(
        ((pieces.weight_freed, pieces.weight_bytes), (pieces.input_freed, pieces.input_bytes)), start=3
    ):
        elements = np.cumsum(wanted[:, column])
        assert elements[-1] == wanted[:, column - 2].sum()  # what comes goes
        assert ours.tolist() == [int(held[-1]) * int(x) // int(elements[-1]) for x in elements]
    assert pieces.cycles.sum() == product.compute_cycles
    assert pieces.output_bits[-1] == product.output.dram_bits
    assert pieces.macs[-1] == product.macs


def test_pieces_are_made_longer_where_there_would_be_too_many() -> None:
    shape = dense_shape(30, 20, 400, ARRAY, lanes=4, copies=1, shared=False)
    plan = _plan(_product(10**4, 10**4, 1), shape)
    fine = cut(plan, SMALL, slice_bytes=1, piece_limit=10**6)
    coarse = cut(plan, SMALL, slice_bytes=1, piece_limit=1000)
    assert len(fine.cycles) == 100 * 100
    assert len(coarse.cycles) == 100 * 7  # slices of 16 steps: 7 of them
    least = cut(plan, SMALL, slice_bytes=1, piece_limit=1)
    assert len(least.cycles) == 100  # whole tiles


@given(
    elements=st.lists(st.integers(0, 2**40), min_size=1, max_size=40).filter(any),
    total=st.integers(0, 2**61),
)
def test_bits_are_shared_exactly_where_products_overflow(elements: list[int], total: int) -> None:
    whole, so_far, wanted = sum(elements), 0, []
    for element in elements:
        so_far += element
        wanted.append(total * so_far // whole)
    assert share(total, np.array(elements, np.int64)).tolist() == wanted


def test_slices_stay_within_a_quarter_of_their_buffer() -> None:
    """100 tiles of 100 steps of 4,195 bytes of weights: a quarter of 64 KiB is 3.9 steps."""
    shape = dense_shape(30, 20, 400, ARRAY, lanes=4, copies=1, shared=False)
    plan = _plan(_product(2**22, 10**4, 1), shape)
    # 2 steps a slice; 4 where these are more than four times as many pieces
    for limit, pieces in ((1300, 100 * 50), (1000, 100 * 25), (700, 100 * 25), (600, 100 * 13)):
        assert len(cut(plan, SMALL, slice_bytes=1, piece_limit=limit).cycles) == pieces


def test_work_of_the_vector_unit_takes_the_arrays_place() -> None:
    shape = dense_shape(6, 4, 4, ARRAY, lanes=4, copies=1, shared=False)
    pieces = _cut(_product(10, 10, 0, vector=64 * 100), shape)
    assert pieces.on_vector
    assert (pieces.cycles.sum(), pieces.vector_cycles.sum()) == (100, 0)
    beside = _cut(_product(10, 10, 8, vector=64 * 100), shape)
    assert (beside.cycles.sum(), beside.vector_cycles.sum()) == (8, 100)


@pytest.mark.parametrize("huge", [2**50])
def test_large_totals_are_shared_out_exactly(huge: int) -> None:
    shape = dense_shape(3000, 2000, 4, ARRAY, lanes=4, copies=1, shared=False)
    pieces = _cut(replace(_product(10, 10, 1), output=Stream(huge, 0, 0)), shape)
    assert pieces.output_bits[-1] == huge
    assert int(pieces.output_bits[0]) == huge * 6 // (3000 * 2000)


def test_more_pieces_than_memory_holds_are_refused() -> None:
    """3,000 x 40,000 tiles of 3 x 2: 120 million, of one piece each at least."""
    shape = dense_shape(9_000, 80_000, 9, ARRAY, lanes=4, copies=1, shared=False)
    with pytest.raises(ValueError, match="simulated at once must be at most 32,000,000, not 120,000,000: ask for a sh"):
        _cut(_product(100, 100, 1), shape, slice_bytes=10**9)
