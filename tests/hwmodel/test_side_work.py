"""Work beside the products, by hand: tables, bubbles, switches, gathers, metadata, scales of encoded operands."""

import math
from dataclasses import replace

import pytest

from datatypes.block_formats import bilevel, double_quantized
from datatypes.catalog import BITMOD_FP4, E8M0, FP4, FP16, FP32, INTS, INTS_SYMMETRIC, NF4, UE4M3, UINT8
from datatypes.format import LearnedFormat
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import (
    CodebookConfig,
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    Part,
    PartitionedConfig,
    ScaleConfig,
    TensorConfig,
)  # fmt: skip
from hwmodel.accelerator import Accelerator
from hwmodel.array_path import array_path
from hwmodel.evaluate import evaluate
from hwmodel.operands import OperandBits, products_of
from hwmodel.options import HONEST, ModelOptions
from hwmodel.presets import ACCELERATORS, BITMOD, FP16_BASELINE
from hwmodel.side_work import row_imbalance, switch_cycles
from hwmodel.traffic import Product
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

M, K, N = 64, 512, 256
SPEC = LayerSpec("x", LayerKind.LINEAR, M, K, N)
LUT, MX, TENDER, BITFUSION = (ACCELERATORS[name] for name in ("table_lookup", "mx_dot", "tender", "bitfusion"))
INT8_TOKEN = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)
INT4_ROW = TensorConfig((INTS_SYMMETRIC[4],), PerChannel())


def _products(config: LayerConfig, accelerator: Accelerator, options: ModelOptions = HONEST) -> list[Product]:
    return list(products_of(SPEC, config, accelerator, accelerator.prefill_array, options))


def test_a_fixed_table_is_loaded_once() -> None:
    config = LayerConfig(TensorConfig((NF4,), PerGroup(64)))
    (product,) = _products(config, LUT)
    tiles = math.ceil(N / 32) * math.ceil(M / 24)
    assert product.compute_cycles == tiles * K + 16  # an entry a cycle
    (bare,) = _products(config, LUT, replace(HONEST, table_lookup=False))
    assert bare.compute_cycles == tiles * K
    # 32 tables of 16 FP16 numbers in words of 64 bits
    word_pj = LUT.weight_buffer.at(64).read_pj
    assert product.side_read_pj - bare.side_read_pj == pytest.approx(32 * 16 * 16 / 64 * word_pj)
    assert product.vector_operations == M * N * (K // 64)  # block scales


def test_a_table_for_each_row_is_loaded_for_each_tile_of_rows() -> None:
    learned = LearnedFormat("learned4", 4, "here")
    config = LayerConfig(TensorConfig((learned,), scale=None, codebook=CodebookConfig()))
    (product,) = _products(config, LUT)
    assert product.compute_cycles == 8 * 3 * K + 16 * (N // 32)


def test_tables_of_all_candidates_are_held() -> None:
    (product,) = _products(LayerConfig(TensorConfig(BITMOD_FP4, PerGroup(128))), LUT)
    assert product.compute_cycles == 8 * 3 * K + len(BITMOD_FP4) * 16
    # a row's table has room for 256 entries: one of 7-bit pairs, not two
    pairs = [LearnedFormat(name, 7, "here", dimension=2) for name in ("first", "second")]
    one, two = (array_path(formats, LUT.pe) for formats in (pairs[:1], pairs))
    assert (one.table_entries, one.buffer_lookup_bits) == (256, 0)
    assert (two.table_entries, two.buffer_lookup_bits) == (512, 16)


def test_a_residual_brings_its_codes_and_its_table() -> None:
    config = TensorConfig((NF4,), PerGroup(64))
    (plain,) = _products(LayerConfig(config), LUT)
    (product,) = _products(LayerConfig(replace(config, residual=TensorConfig((INTS_SYMMETRIC[6],), PerGroup(64)))), LUT)
    assert product.compute_cycles == 2 * (plain.compute_cycles - 16) + 16 + 64
    assert plain.weight_port_bits == 32 * 4 and product.weight_port_bits == 32 * 12  # 4 + 6 bits, in nibbles


def test_large_tables_are_looked_up_in_the_buffer() -> None:
    pairs = LearnedFormat("pairs", 12, "here", dimension=2)  # 4096 x 2 values: 16 KiB
    config = LayerConfig(TensorConfig((pairs,), scale=None, codebook=CodebookConfig(granularity=PerGroup(K))))
    (product,) = _products(config, LUT)
    lookups = N * K // 2 * 3  # again for each of 3 tiles of tokens
    assert product.compute_cycles == max(8 * 3 * K, lookups // 8)  # eight banks
    assert product.side_read_pj >= lookups * LUT.weight_buffer.at(64).read_pj
    vptq = LearnedFormat("vptq", 16, "here", dimension=8)  # 65536 x 8 values: 1 MiB
    config = LayerConfig(TensorConfig((vptq,), scale=None, codebook=CodebookConfig()))
    with pytest.raises(NotImplementedError, match="half of its weight buffer 262144 bytes, .* vptq takes 1048576"):
        _products(config, LUT)


def test_a_residual_takes_a_lookup_of_its_own() -> None:
    """VPTQ's two stages: vectors of 2 from a first table, their residual in vectors of 4 from a second one."""
    pairs = LearnedFormat("pairs", 12, "here", dimension=2)  # 4096 x 2 values: 16 KiB
    fours = LearnedFormat("fours", 8, "here", dimension=4)  # 256 x 4 values: 2 KiB
    second = TensorConfig((fours,), scale=None, codebook=CodebookConfig())
    config = LayerConfig(TensorConfig((pairs,), scale=None, codebook=CodebookConfig(), residual=second))
    (product,) = _products(config, LUT)
    (free,) = _products(config, LUT, replace(HONEST, table_lookup=False))
    # N K / 2 and N K / 4 look-ups for each of ceil(64 / 24) = 3 tiles of tokens, eight banks: 24576 + 12288 cycles; the
    # array takes 8 x 3 tiles of 512 steps of one lane, once for each stage: 24576
    lookups = N * K // 2 * 3 + N * K // 4 * 3
    assert lookups // 8 == 36864 and free.compute_cycles == 8 * 3 * 512 * 2 == 24576
    assert product.compute_cycles == 36864
    # 2 x 16 and 4 x 16 bits: a word of 64 bits each
    word_pj = LUT.weight_buffer.at(64).read_pj
    assert product.side_read_pj - free.side_read_pj == pytest.approx(lookups * word_pj)


def test_a_learned_residual_is_loaded_for_its_own_tiles() -> None:
    """A fixed first table of 16 entries, once; a learned residual of 8 for each of 8 tiles of rows and 4 of columns."""
    learned = TensorConfig(
        (LearnedFormat("three", 3, "here"),), scale=None, codebook=CodebookConfig(granularity=PerGroup(128))
    )
    config = LayerConfig(TensorConfig((NF4,), PerGroup(64), residual=learned))
    (product,), (free,) = (_products(config, LUT, o) for o in (HONEST, replace(HONEST, table_lookup=False)))
    assert product.compute_cycles - free.compute_cycles == 16 + 8 * (N // 32) * (K // 128)


def test_bubbles_between_groups_of_channels() -> None:
    config = LayerConfig(INT4_ROW, activation=replace(INT8_TOKEN, formats=(INTS_SYMMETRIC[4],)))
    (product,) = _products(config, TENDER)
    tiles = (N // 32) * (M // 32)
    assert product.compute_cycles == tiles * (K // 4 + 7)  # four products in a cycle; 8 groups, 7 shifts
    (bare,) = _products(config, TENDER, replace(HONEST, requantization_bubbles=False))
    assert bare.compute_cycles == tiles * K // 4


def test_slabs_in_place_and_sorted() -> None:
    wide, narrow = (TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(128)) for bits in (8, 4))
    parts = PartitionedConfig((Part(256, wide), Part(256, narrow)), slab=128)
    # all six orders of two and two: 1, 2 or 3 changes, on average 2
    orders = {"aabb": 1, "abab": 3, "abba": 2, "baab": 2, "baba": 3, "bbaa": 1}
    assert switch_cycles(parts, 512, 4) == pytest.approx(sum(orders.values()) / len(orders))
    assert switch_cycles(replace(parts, slab=2), 512, 4) == 1


@pytest.mark.parametrize(("mean", "lanes", "factor"), [(0, 64, 1), (4, 1, 1), (2, 64, 1 + math.sqrt(math.log(64)))])
def test_imbalance_of_rows(mean: float, lanes: int, factor: float) -> None:
    assert row_imbalance(mean, lanes) == pytest.approx(factor)
    assert row_imbalance(1e-9, 64) == 64  # all in one row


def test_gathers_read_a_word_for_each_outlier_and_token() -> None:
    plain = LayerConfig(TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128)))
    word_pj = BITMOD.activation_buffer.at(64).read_pj
    for outliers, count in (
        (OutlierConfig(fraction=0.01), round(0.01 * N * K)),
        (OutlierConfig(OutlierLayout.COLUMNS, 0.01), 5),
    ):
        config = replace(plain, outliers=outliers)
        with_gather, without = (
            _products(config, BITMOD, o)[0] for o in (HONEST, replace(HONEST, outlier_gather=False))
        )
        assert with_gather.side_read_pj - without.side_read_pj == pytest.approx(count * M * word_pj)


def test_metadata_is_read_in_every_pass() -> None:
    config = LayerConfig(TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), ScaleConfig(UINT8)))
    (product,) = _products(config, BITMOD)
    bits = N * K // 128 * 8  # scales
    port = product.weight_port_bits
    assert product.side_read_pj == pytest.approx(bits / port * (M // 32) * BITMOD.weight_buffer.at(port).read_pj)


def test_decoding_on_load_takes_energy_alone() -> None:
    config = LayerConfig(TensorConfig((NF4,), PerGroup(64)))
    workload = Workload("x", Phase.PREFILL, (SPEC,))
    on, off = (evaluate(workload, config, FP16_BASELINE, o).total for o in (HONEST, replace(HONEST, load_decode=False)))
    assert on.cycles == off.cycles
    assert on.vector_pj - off.vector_pj == pytest.approx(1.5 * 0.77 * N * K)  # layout, pJ, weights
    fp16 = evaluate(workload, LayerConfig(), FP16_BASELINE).total
    assert fp16.vector_pj == 0


def test_integer_machines_keep_codes_in_the_buffer() -> None:
    config = LayerConfig(INT4_ROW, activation=INT8_TOKEN)
    (product,) = _products(config, BITFUSION)
    assert product.compute_cycles == (N // 32) * (M // 16) * (K // 2)  # two 4 x 8-bit products in a cycle
    assert product.input.buffer_words == M * (K * 8 // 64)
    assert product.input.dram_bits == M * K * 8 + M * 16  # an FP16 scale for each token
    assert (product.weight_port_bits, product.input_port_bits) == (2 * 4 * 32, 2 * 8 * 16)
    # channel scales, token scales, and finding and applying them
    assert product.vector_operations == M * N + M * N + 2 * M * K


def test_second_levels_are_put_together() -> None:
    """On vector units: one operation for each output and run without an offset, one for each stored scale with one."""
    groups, sums = K // 64, M * N * (K // 64)  # group scales alone
    for scale, more in (
        (ScaleConfig(UINT8, outer=FP16), M * N),
        (ScaleConfig(UINT8, outer=FP16, outer_granularity=PerGroup(128)), M * N * (K // 128)),
        (double_quantized((NF4,)).scale, N * groups),
    ):
        (product,) = _products(LayerConfig(TensorConfig((NF4,), PerGroup(64), scale)), LUT)
        assert product.vector_operations == sums + more


def test_second_levels_move_and_are_read_as_metadata() -> None:
    config = LayerConfig(bilevel(4))  # 4 x 3-bit fields of 16 columns, 64 bits for each 16 x 16
    (product,) = _products(config, BITMOD)
    metadata = N * K // 16 * (3 + 3) + N * K // 256 * 64
    assert product.weight.dram_bits == N * K * 4 + metadata
    port = product.weight_port_bits
    assert product.side_read_pj == pytest.approx(metadata / port * (M // 32) * BITMOD.weight_buffer.at(port).read_pj)
    groups = K // 16  # scales are the PE's; zero points ask for sums of inputs and one operation for each output
    assert product.vector_operations == M * K + M * N * groups + N * groups + N * groups


def test_a_block_dot_product_takes_no_scales_with_offsets() -> None:
    plain = TensorConfig((FP4,), PerGroup(16), ScaleConfig(UE4M3, outer=FP32, outer_granularity=PerTensor()))
    shifted = replace(plain, scale=replace(plain.scale, outer_offset=FP32))
    block = replace(plain, dynamic=True)
    (free,), (priced,) = (_products(LayerConfig(weight, activation=block), MX) for weight in (plain, shifted))
    more = priced.vector_operations - free.vector_operations
    # the group sums are scaled outside, stored scales are put together; the operation of the outer scale falls away
    assert more == M * N * (K // 16) + N * (K // 16) - M * N


def test_finer_groups_of_activations_count() -> None:
    grouped = replace(INT8_TOKEN, granularity=PerGroup(128))
    (product,) = _products(LayerConfig(INT4_ROW, activation=grouped), BITFUSION)
    assert product.vector_operations == M * N * (K // 128) + M * N + 2 * M * K


def test_block_scales_are_free_in_a_block_dot_product() -> None:
    block = TensorConfig((FP4,), PerGroup(32), ScaleConfig(E8M0))
    config = LayerConfig(block, activation=replace(block, dynamic=True))
    (product,) = _products(config, MX)
    assert product.compute_cycles == (N // 16) * math.ceil(M / 12) * (K // 32)
    assert product.vector_operations == M * N + 2 * M * K
    short = TensorConfig((FP4,), PerGroup(16), ScaleConfig(E8M0))
    (product,) = _products(LayerConfig(short, activation=replace(short, dynamic=True)), MX)
    assert product.compute_cycles == (N // 16) * math.ceil(M / 12) * (K // 16)  # a step ends with its block
    mode_pj = MX.pe.modes[0].energy_pj_per_cycle
    assert product.energy_cycles == pytest.approx(product.compute_cycles * mode_pj / MX.pe.energy_pj_per_cycle)


def test_low_rank_branch_takes_the_activation_format() -> None:
    factor = TensorConfig((INTS_SYMMETRIC[8],), PerChannel())
    config = LayerConfig(INT4_ROW, activation=INT8_TOKEN, low_rank=LowRankConfig(16, factor, factor))
    main, down, up = _products(config, BITFUSION)
    assert down.vector_operations == M * 16  # scales of the rows; the input is encoded once
    assert up.vector_operations == M * N + M * N + 2 * M * 16
    assert main.macs == M * N * K and down.compute_cycles == 1 * (M // 16) * K


def test_bare_widths_of_activations() -> None:
    workload = Workload("x", Phase.PREFILL, (SPEC,))
    assert evaluate(workload, OperandBits(4, 4, 4), BITFUSION).total.compute_cycles == 8 * 4 * K // 4
    with pytest.raises(NotImplementedError, match="encoded activations of up to 8 bits, and these have 16"):
        evaluate(workload, OperandBits(4, 4), BITFUSION)
    with pytest.raises(ValueError, match=r"activation bits must be 1 to 32, not 0\.5"):
        OperandBits(4, 4, 0.5)


def test_integers_without_an_activation_config_are_refused_by_name() -> None:
    workload = Workload("x", Phase.PREFILL, (SPEC,))
    config = LayerConfig(TensorConfig((INTS[4],), PerChannel()))
    with pytest.raises(NotImplementedError, match="accelerator bitfusion cannot run int4 in layer x, because its PEs "):
        evaluate(workload, config, BITFUSION)
    assert evaluate(workload, LayerConfig(TensorConfig((FP16,), scale=None)), BITFUSION).total.compute_cycles == 0
