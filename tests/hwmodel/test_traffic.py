"""Tiles, refetching and the causal triangle, against counting them out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodel.accelerator import Array
from hwmodel.options import HONEST, PAPER
from hwmodel.presets import BITMOD
from hwmodel.traffic import Stream, causal_share, causal_tile_steps, dram_cycles, fetches, stream, tile_count

KIB_BITS = 8 * 1024


def _stream(kib: int) -> Stream:
    return Stream(kib * KIB_BITS, kib * 16, kib * 1024)


def test_rows_are_padded_to_bytes_and_words() -> None:
    # 100 x 3.0625 = 306.25 bits: 39 bytes, 5 words
    assert stream(7, 100, 3.0625, copies=2) == Stream(39 * 7 * 2 * 8, 5 * 7 * 2, 39 * 7 * 2)


def test_tiles_cover_ragged_edges() -> None:
    assert tile_count(33, 32, Array(32, 32)) == 2
    assert tile_count(1, 1, Array(64, 16)) == 1


@pytest.mark.parametrize(
    ("weight_kib", "input_kib", "expected"),
    [
        (512, 4000, (1, 1)),  # weights fit
        (4000, 512, (1, 1)),  # inputs fit
        (1024, 1024, (1, 2)),  # 2 x 1024 + 1024 either way: inputs again
        (4096, 1024, (2, 1)),  # weights twice: 9216; inputs 8 times: 12288
        (1024, 4096, (1, 2)),  # inputs twice: 9216; weights 8 times: 12288
        (513, 513, (1, 2)),  # a little over a buffer is two buffer-fulls
    ],
)
def test_refetching_of_the_cheaper_operand(weight_kib: int, input_kib: int, expected: tuple[int, int]) -> None:
    assert fetches(_stream(weight_kib), _stream(input_kib), BITMOD, 1) == expected


def test_copies_share_the_buffers_one_after_another() -> None:
    assert fetches(_stream(2048), _stream(2048), BITMOD, 1) != (1, 1)
    assert fetches(_stream(2048), _stream(2048), BITMOD, 4) == (1, 1)


def test_dram_cycles_are_cut_in_the_published_model_and_rounded_up_otherwise() -> None:
    assert dram_cycles(511, BITMOD, PAPER) == 1
    assert dram_cycles(512, BITMOD, PAPER) == 2
    assert dram_cycles(512, BITMOD, HONEST) == 3  # 512 / (256 x 0.92) = 2.17


@given(
    queries=st.integers(1, 40), group=st.integers(1, 5), width=st.integers(1, 40), reduced=st.booleans(),
    rows=st.integers(1, 9), columns=st.integers(1, 9), lanes=st.integers(1, 5),
)  # fmt: skip
def test_causal_tiles_counted_out(
    queries: int, group: int, width: int, reduced: bool, rows: int, columns: int, lanes: int
) -> None:
    array, total = Array(rows, columns), queries * group
    tiles = [range(start, min(start + columns, total)) for start in range(0, total, columns)]
    wanted = 0
    for tile in tiles:
        seen = {key for row in tile for key in range(row // group + 1)}  # keys at or below the diagonal
        if reduced:
            wanted += len({key // lanes for key in seen}) * -(-width // rows)
        else:
            wanted += len({key // rows for key in seen}) * -(-width // lanes)
    ours = causal_tile_steps(queries, total, array, width=width, lanes=lanes, reduced=reduced)
    assert ours == wanted


@given(queries=st.integers(1, 60), group=st.integers(1, 6))
def test_causal_share_counted_out(queries: int, group: int) -> None:
    wanted = sum(row // group + 1 for row in range(queries * group))
    assert causal_share(queries, queries * group) == pytest.approx(wanted / (queries * group * queries))


def test_chunk_of_queries_sees_all_earlier_keys() -> None:
    # two queries after six keys: 7 + 8 of 16 scores
    assert causal_share(8, 2) == pytest.approx(15 / 16)
    # one tile of two queries sees 8 keys: two key tiles of 4, one step each
    assert causal_tile_steps(8, 2, Array(4, 4), width=1, lanes=1, reduced=False) == 2
