"""Work beside attention products, by hand: scales, encodings, new keys and values, bubbles under a causal mask."""

import math
from dataclasses import replace

import pytest

from datatypes.block_formats import MXFP4, integer_asymmetric
from datatypes.catalog import E4M3, FP16, INTS_SYMMETRIC, UINT8
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import LayerConfig, ScaleConfig, SecondLevel, TensorConfig
from hwmodel.accelerator import Accelerator
from hwmodel.attention_side import written
from hwmodel.evaluate import evaluate
from hwmodel.operands import products_of
from hwmodel.options import HONEST, ModelOptions
from hwmodel.presets import ACCELERATORS, BITMOD, FP16_BASELINE
from hwmodel.traffic import Product
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

BITFUSION, LUT, MX, TENDER = (ACCELERATORS[name] for name in ("bitfusion", "table_lookup", "mx_dot", "tender"))
INT8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)
INT4 = replace(INT8, formats=(INTS_SYMMETRIC[4],))
QK = LayerSpec("qk", LayerKind.ATTENTION_QK, 8, 128, 256, 4, written=1)  # 8 rows, 256 keys of 128 numbers, 4 times
PV = LayerSpec("pv", LayerKind.ATTENTION_PV, 8, 256, 128, 4, written=1)


def _product(spec: LayerSpec, config: LayerConfig, accelerator: Accelerator, options: ModelOptions = HONEST) -> Product:
    (product,) = products_of(spec, config, accelerator, accelerator.prefill_array, options)
    return product


def test_scales_of_keys_are_free_where_pes_scale_groups() -> None:
    """As a weight's; those of values change along the sum, so that each probability is multiplied by its value's."""
    new = 4 * 128 * 2  # one key or value a copy: largest magnitude and code
    assert _product(QK, LayerConfig(key=INT8), BITMOD).vector_operations == new
    assert _product(QK, LayerConfig(key=replace(INT8, granularity=PerGroup(32))), BITMOD).vector_operations == new
    assert _product(QK, LayerConfig(key=INT8), LUT).vector_operations == new + 4 * 8 * 256
    for machine in (BITMOD, LUT):
        assert _product(PV, LayerConfig(value=INT8), machine).vector_operations == new + 4 * 8 * 256
    block = replace(MXFP4, dynamic=True)
    scores = 4 * 8 * 256  # the operation of each output that encoded activations take
    encoded = 4 * 8 * 128 * 2
    assert _product(QK, LayerConfig(key=block, activation=block), MX).vector_operations == new + scores + encoded


def test_zero_points_of_keys_and_values() -> None:
    kv = replace(integer_asymmetric(4, 1), granularity=PerGroup(64), dynamic=True)
    new, scores, rows = 4 * 128 * 2, 4 * 8 * 256, 4 * 8 * 128
    # bit-serial, scales free: sums of the queries, and two groups of each score
    assert _product(QK, LayerConfig(key=kv), BITMOD).vector_operations == new + rows + 2 * scores
    # scales into the probabilities, their sum with the zero points (both for two groups), subtracted from each output
    assert _product(PV, LayerConfig(value=kv), BITMOD).vector_operations == new + 2 * scores + 2 * scores + rows


def test_a_cache_of_bare_fp8_is_encoded_and_decoded() -> None:
    """No scale to seek or apply, but every number is converted."""
    fp8 = TensorConfig((E4M3,), scale=None)
    block = replace(MXFP4, dynamic=True, formats=(E4M3,))
    product = _product(QK, LayerConfig(key=fp8, activation=block), MX)
    # one new key a copy; queries: largest magnitude and code; their scale for each score
    assert product.vector_operations == 4 * 128 + 2 * 4 * 8 * 128 + 4 * 8 * 256
    bare = _product(QK, LayerConfig(key=fp8, activation=fp8), MX)
    assert bare.vector_operations == 4 * 128 + 4 * 8 * 128
    decoded = _product(QK, LayerConfig(key=fp8), FP16_BASELINE)
    assert decoded.load_operations == 4 * 256 * 128 and decoded.vector_operations == 4 * 128
    assert _product(QK, LayerConfig(), FP16_BASELINE).load_operations == 0
    wide = _product(QK, LayerConfig(), FP16_BASELINE)
    assert wide.vector_operations == 0, "16-bit floats are stored as they are"


def test_scales_of_encoded_operands_are_applied_to_outputs() -> None:
    """INT8 queries and probabilities on integers: one operation for each score, one for each output."""
    new, written_and_coded = 4 * 128 * 2, 4 * 8 * 128 * 2
    assert (
        _product(QK, LayerConfig(key=INT8, activation=INT8), BITFUSION).vector_operations
        == new + written_and_coded + 4 * 8 * 256 + 4 * 8 * 256
    )
    assert (
        _product(PV, LayerConfig(value=INT8, activation=INT8), BITFUSION).vector_operations
        == new + 2 * 4 * 8 * 256 + 4 * 8 * 256 + 4 * 8 * 128
    )
    # queries in groups of 32 against keys of one: four products of both scales, and the operation of the output
    grouped = replace(INT8, granularity=PerGroup(32))
    assert (
        _product(QK, LayerConfig(key=INT8, activation=grouped), BITFUSION).vector_operations
        == new + written_and_coded + 4 * (4 * 8 * 256) + 4 * 8 * 256
    )


@pytest.mark.parametrize(
    ("spec", "keys"),
    [
        pytest.param(replace(QK, written=None), 1, id="a decode step of 8 heads on one key head"),
        pytest.param(replace(QK, n=4), 1, id="the same with 4 keys so far"),
        pytest.param(replace(QK, m=8 * 5, written=5), 5, id="a verification of 5 tokens"),
        pytest.param(replace(QK, m=1024, n=256, written=1024), 1024, id="a prompt with a window of 256"),
        pytest.param(replace(QK, m=512, written=None, causal=True), 256, id="a prompt of 256, two heads on a key head"),
        pytest.param(replace(QK, m=200, written=None, causal=True, past=56), 200, id="its chunk from 56 on"),
        pytest.param(replace(PV, k=4), 1, id="values of a short cache"),
    ],
)
def test_new_keys_are_encoded(spec: LayerSpec, keys: int) -> None:
    assert written(spec) == keys
    config = LayerConfig(key=INT8, value=INT8)
    static = LayerConfig(key=replace(INT8, dynamic=False), value=replace(INT8, dynamic=False))
    sought, given = (_product(spec, c, BITMOD).vector_operations for c in (config, static))
    assert sought - given == keys * 128 * 4  # the largest magnitude
    unsought = _product(spec, config, BITMOD, replace(HONEST, dynamic_quantization=False))
    assert unsought.vector_operations == given
    none = _product(replace(spec, written=0), config, BITMOD).vector_operations
    assert sought - none == 2 * keys * 128 * 4


def test_bubbles_of_skipped_tiles_are_skipped() -> None:
    """Tender's array of 32 x 32, a prompt of 96 tokens: 1 + 2 + 3 of 3 x 3 tiles of scores, 7 shifts in each."""
    config = LayerConfig(key=INT4, value=INT4, activation=INT4)
    scores = LayerSpec("qk", LayerKind.ATTENTION_QK, 96, 128, 96, 2, causal=True)
    values = LayerSpec("pv", LayerKind.ATTENTION_PV, 96, 96, 128, 2, causal=True)
    lanes = 4  # products of 4 x 4 bits of a slot
    assert _product(scores, config, TENDER).compute_cycles == 2 * 6 * (128 // lanes + 7)
    # four tiles of outputs for each tile of tokens, which sum over 32, 64 and 96 values: none is skipped
    assert _product(values, config, TENDER).compute_cycles == 2 * 4 * ((32 + 64 + 96) // lanes + 3 * 7)
    whole = _product(scores, config, TENDER, replace(HONEST, causal_mask=False))
    assert whole.compute_cycles == 2 * 9 * (128 // lanes + 7)


def test_attention_without_an_activation_config_runs_on_the_vector_unit() -> None:
    kv = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)
    qk = LayerSpec("qk", LayerKind.ATTENTION_QK, 1, 128, 256, 4)
    workload = Workload("x", Phase.DECODE, (qk,))
    price = evaluate(workload, LayerConfig(key=kv), BITFUSION).total
    # products, decoding every key once, and quantizing one new key
    assert price.vector_cycles == math.ceil((4 * 128 * 256 + 4 * 128 * 256 + 2 * 4 * 128) / 64)
    assert price.compute_cycles == 0 and price.weight_bits == 4 * (256 * 128 * 8 + 256 * 16)
    coded = evaluate(workload, LayerConfig(key=kv, activation=kv), BITFUSION).total
    assert coded.compute_cycles == 4 * 128 * (256 // 64)
    # two scales for each score (its key's and its query's), the largest magnitude and the codes of each query, and of
    # one new key
    assert coded.vector_cycles == math.ceil((2 * 4 * 256 + 2 * 4 * 128 + 2 * 4 * 128) / 64)


def test_softmax_is_encoded_below_the_diagonal() -> None:
    kv = TensorConfig((INTS_SYMMETRIC[8],), PerChannel())
    causal = LayerSpec("pv", LayerKind.ATTENTION_PV, 64, 64, 128, causal=True)
    (masked,), (whole,) = (
        products_of(spec, LayerConfig(value=kv, activation=kv), BITFUSION, BITFUSION.prefill_array, HONEST)
        for spec in (causal, replace(causal, causal=False))
    )
    # a value's scale, and the code, of each probability; its scale once for each output; 64 new values are encoded
    assert whole.vector_operations == 2 * 64 * 64 + 64 * 128 + 64 * 128
    assert masked.vector_operations == 2 * (64 * 65 // 2) + 64 * 128 + 64 * 128


@pytest.mark.parametrize("accelerator", [BITMOD, FP16_BASELINE], ids=lambda a: a.name)
def test_values_that_are_a_part_of_the_keys_are_written_and_decoded_with_them(accelerator: Accelerator) -> None:
    kv = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)
    own = LayerSpec("pv", LayerKind.ATTENTION_PV, 16, 256, 128)
    (apart,), (shared,) = (
        products_of(spec, LayerConfig(value=kv), accelerator, accelerator.decode_array, HONEST)
        for spec in (own, replace(own, weight_of="qk"))
    )
    assert apart.vector_operations - shared.vector_operations == 2 * 128  # one new value is quantized
    assert shared.load_operations == 0
    assert apart.load_operations == (256 * 128 if accelerator is FP16_BASELINE else 0)


def test_second_level_scales_of_a_cache() -> None:
    new, scores = 4 * 128 * 2, 4 * 8 * 256
    nested = replace(INT4, granularity=PerGroup(32), scale=ScaleConfig(UINT8, outer=FP16))
    codes = 4 * 4 * 2  # four new scales a copy: largest magnitude and code
    # keys, scales free: the second level is one of a key's, so one operation for each score
    assert _product(QK, LayerConfig(key=nested), BITMOD).vector_operations == new + codes + scores
    # values: four groups into the probabilities, and the second level
    assert _product(PV, LayerConfig(value=nested), BITMOD).vector_operations == new + codes + 4 * scores + scores
    whole = replace(nested, scale=ScaleConfig(UINT8, outer=FP16, outer_granularity=PerTensor()))
    # one for all values waits for the outputs
    assert _product(PV, LayerConfig(value=whole), BITMOD).vector_operations == new + codes + 4 * scores + 4 * 8 * 128
    offset = replace(nested, scale=ScaleConfig(UINT8, outer=FP16, outer_offset=FP16))
    # every cached scale is a multiply-add: four of each of 256 keys
    assert _product(QK, LayerConfig(key=offset), BITMOD).vector_operations == new + codes + 4 * 4 * 256
    # decoded on load: nothing but the new ones
    assert _product(QK, LayerConfig(key=nested), FP16_BASELINE).vector_operations == new + codes


def test_second_levels_of_zero_points_take_an_operation_for_each_stored_one() -> None:
    plain = replace(integer_asymmetric(4, 1), granularity=PerGroup(64), dynamic=True)
    nested = replace(plain, zero_point_level=SecondLevel())
    operations = [_product(QK, LayerConfig(key=kv), BITMOD).vector_operations for kv in (plain, nested)]
    assert operations[1] - operations[0] == 4 * 256 * 2
