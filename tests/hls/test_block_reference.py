"""Golden numbers of a decoder block: by hand, against mathematics, and stage by stage against codesign's forward."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from codesign.algorithms.rtn import RoundToNearest
from codesign.apply import RoundingCache, install
from codesign.blocks import BlockModel
from codesign.export_block import MODULES, NORMS, block_of_model
from codesign.models import resolve_model
from codesign.quantize_blocks import LayerJob
from codesign.quantize_recipe import kv_of
from codesign.quantized_folder import QuantizedModel, load_quantized
from codesign.quantized_model import QuantizationJob, quantize_model
from codesign.recipes import recipe
from datatypes.catalog import FP16, INTS, INTS_SYMMETRIC, UINTS
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import LayerConfig, ScaleConfig, ScaleRule, TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from hls.block_reference import (
    EXP_ERROR,
    BlockOutput,
    attention,
    block_reference,
    cache_records,
    exp_of_negative,
    halves,
    interleaved_sum,
    rms_norm,
    rotate,
    silu,
)
from hls.decoder_block import LAYERS, DecoderBlock
from hls.input_reference import stage_input

UNIT = 2.0**-24  # relative error of one float32 rounding
HALF_UNIT, HALF_STEP = 2.0**-11, 2.0**-25  # of FP16: relative error, and half of its smallest step
HIDDEN, HEADS, KV_HEADS, MLP, POSITIONS = 24, 4, 2, 20, 6
TOKEN_INT8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16), dynamic=True)
INT4_INT8 = LayerConfig(weight=TensorConfig((INTS[4],), PerGroup(8)), activation=TOKEN_INT8)


def block(seed: int = 0, **changes: object) -> DecoderBlock:
    """A block with random weights: 24 wide, four heads of six over two."""
    generator = torch.Generator().manual_seed(seed)
    q, kv = HIDDEN, HIDDEN // 2
    sizes = ((q, HIDDEN), (kv, HIDDEN), (kv, HIDDEN), (HIDDEN, q), (MLP, HIDDEN), (MLP, HIDDEN), (HIDDEN, MLP))
    layers = {
        name: QuantizedLayer(
            INT4_INT8, quantize_tensor(torch.randn(shape, generator=generator) * 0.3, INT4_INT8.weight), shape
        )
        for name, shape in zip(LAYERS, sizes, strict=True)
    }
    angle = np.arange(POSITIONS)[:, None] * np.array([1.0, 0.1, 0.01])
    rng = np.random.default_rng(seed)
    norms = rng.uniform(0.5, 1.5, (2, HIDDEN)).astype(np.float32)
    made = DecoderBlock(
        "block", layers, {}, norms[0], norms[1], 1e-5, HEADS, KV_HEADS, np.cos(angle).astype(np.float32),
        np.sin(angle).astype(np.float32), 6**-0.5, TOKEN_INT8, TOKEN_INT8,
    )  # fmt: skip
    return replace(made, **changes)


def tokens(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, HIDDEN)).astype(np.float32)


# --- functions -------------------------------------------------------------------------------------------------------


def every_so_often(lowest: float, highest: float, stride: int) -> np.ndarray:
    """Every ``stride``-th float32 between two positive ones."""
    first, last = (int(np.float32(x).view(np.int32)) for x in (lowest, highest))
    return np.arange(first, last, stride, dtype=np.int32).view(np.float32)


def test_exp_is_as_near_as_it_says() -> None:
    x = -every_so_often(2.0**-40, 87.0, 499)
    relative = exp_of_negative(x) / np.exp(x.astype(np.float64)) - 1
    assert np.abs(relative).max() < EXP_ERROR
    assert np.abs(relative).max() < 1.1e-7  # what docs/hls.md states: under one unit in the last place above 1


def test_exp_at_its_ends() -> None:
    x = np.array([0.0, -0.0, -87.0, -86.99999, -1000.0, -np.inf], np.float32)
    made = exp_of_negative(x)
    assert made[:3].tolist() == [1.0, 1.0, 0.0] and made[4:].tolist() == [0.0, 0.0]
    assert made[3] >= np.finfo(np.float32).tiny  # no subnormal number


@pytest.mark.parametrize("sign", [1, -1])
def test_silu_is_as_near_as_exp(sign: int) -> None:
    x = sign * every_so_often(2.0**-30, 80.0, 997)
    wide = x.astype(np.float64)
    exact = wide / (1 + np.exp(-wide))
    # the power's error counts at most once in numerator and denominator; then a product, a sum and a quotient
    assert (np.abs(silu(x) - exact) <= np.abs(exact) * (2 * EXP_ERROR + 4 * UNIT)).all()


def test_sums_are_interleaved() -> None:
    big = np.float32(2.0**24)
    terms = np.array([big, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], np.float32)
    # term 9 joins term 1 before both join term 0; one at a time, each would be rounded away
    assert interleaved_sum(terms) == big + 2 and (big + np.float32(1)) + np.float32(1) == big


def test_norm_by_hand() -> None:
    x = np.array([[3.0, 4.0, 0.0, 0.0]], np.float32)  # mean of squares 25 / 4, root 5 / 2
    made = rms_norm(x, np.array([1.0, 2.0, 1.0, 1.0], np.float32), 0.0)
    np.testing.assert_array_equal(made, np.float32([[3.0 * 0.4, 8.0 * 0.4, 0, 0]]).astype(np.float32))


def test_a_quarter_turn() -> None:
    x = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 4)
    made = rotate(x, np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))
    assert made.tolist() == [[[-3.0, -4.0, 1.0, 2.0]]]


def test_halves_saturate_and_refuse() -> None:
    assert halves(np.array([1e6, -1e6], np.float32), "x").tolist() == [65504.0, -65504.0]
    with pytest.raises(ValueError, match="products must be finite, not hold NaN or infinity"):
        halves(np.array([np.inf], np.float32), "products")


# --- the cache -------------------------------------------------------------------------------------------------------


def test_records_by_hand() -> None:
    rows = quantize_tensor(torch.tensor([[127.0, -127.0], [254.0, 2.0]]), TOKEN_INT8)  # two heads of one position
    (record,) = cache_records(rows, 2)
    # a block of 32 codes of 8 bits is 8 words; code 0 of a plane of width 8 lies in bits 7 to 0
    assert len(record) == 32 and record[0] == 0x817F and record[8] == 0x017F
    assert (record[16], record[17]) == (0x3C00, 0x4000)  # FP16's 1 and 2
    assert not record[18:].any() and not record[1:8].any()


def test_zero_points_stand_above_scales() -> None:
    config = TensorConfig((UINTS[4],), PerChannel(), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINTS[4])
    rows = quantize_tensor(torch.tensor([[-5.0, 10.0]]), config)  # scale 1, zero point 5: codes 0 and 15
    (record,) = cache_records(rows, 1)
    assert record[0] == 0xF0 and record[4] == 0x53C00 and len(record) == 16


def test_half_records_are_plain() -> None:
    rows = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float16)
    plain = quantize_tensor(rows.float(), TensorConfig((FP16,), scale=None))
    (record,) = cache_records(plain, 1)
    assert record[:2].tolist() == [0x40003C00, 0xBC00] and len(record) == 16


# --- laws of the block -----------------------------------------------------------------------------------------------


def test_a_token_sees_only_what_came_before() -> None:
    x, made = tokens(5), block()
    whole, start = block_reference(made, x), block_reference(made, x[:3])
    np.testing.assert_array_equal(whole.output[:3], start.output)
    np.testing.assert_array_equal(whole.cache[:3], start.cache)
    x[4] += 1.0
    np.testing.assert_array_equal(block_reference(made, x).output[:4], whole.output[:4])


def test_shared_heads_are_repeated_heads() -> None:
    """Two key heads for four queries give what four do, each pair alike."""
    made, rng = block(), np.random.default_rng(2)
    queries, keys, values = (rng.normal(size=(4, n, 6)).astype(np.float32) for n in (HEADS, KV_HEADS, KV_HEADS))
    twice = {**made.layers}
    for name in ("k", "v"):
        twice[name] = made.layers["q"]
    every = replace(made, layers=twice, kv_heads=HEADS)
    np.testing.assert_array_equal(
        attention(made, queries, keys, values).result,
        attention(every, queries, keys.repeat(2, axis=1), values.repeat(2, axis=1)).result,
    )


def test_equal_values_come_out_of_attention() -> None:
    """Whatever the scores, a weighted mean of equal values is that value: one rounding of sum and quotient each."""
    queries, keys = np.random.default_rng(3).normal(size=(2, 4, HEADS, 6)).astype(np.float32)
    values = np.broadcast_to(np.float32(0.5), (4, KV_HEADS, 6)).copy()
    made = attention(block(key=None, value=None), queries, keys[:, :KV_HEADS], values).result
    np.testing.assert_allclose(made, 0.5, rtol=2 * (4 + 2) * UNIT)


def test_grouped_scales_of_a_cache() -> None:
    """A scale for every two elements of a head: against float64 on the decoded numbers."""
    config = TensorConfig((INTS_SYMMETRIC[8],), PerGroup(4), ScaleConfig(FP16), dynamic=True)
    made = block(key=config, value=config)
    rng = np.random.default_rng(4)
    queries, keys, values = (rng.normal(size=(5, n, 6)).astype(np.float32) for n in (HEADS, KV_HEADS, KV_HEADS))
    found = attention(made, queries, keys, values)
    exact, bound = exact_attention(made, queries, found.keys.numbers, found.values.numbers)
    assert (np.abs(found.result - exact) <= bound).all()


# --- against codesign's forward --------------------------------------------------------------------------------------


def exact_attention(
    made: DecoderBlock, queries: np.ndarray, keys: np.ndarray, values: np.ndarray, cache_unit: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Attention of decoded keys and values in float64, and how far any float32 forward may lie from it.

    Args:
        cache_unit: relative error of keys and values that the other forward does not make.
    """
    m, heads, dim = queries.shape
    group = heads // made.kv_heads
    k, v = (part.reshape(m, -1, dim).repeat(group, axis=1).astype(np.float64) for part in (keys, values))
    wide = queries.astype(np.float64)
    result, bound = np.zeros(queries.shape), np.zeros(queries.shape)
    for t in range(m):
        scores = np.einsum("hd,shd->sh", wide[t], k[: t + 1]) * made.scaling
        size = np.einsum("hd,shd->sh", np.abs(wide[t]), np.abs(k[: t + 1])) * made.scaling
        share = np.exp(scores - scores.max(0))
        share /= share.sum(0)
        result[t] = np.einsum("sh,shd->hd", share, v[: t + 1])
        # products, their sum, scale, scaling, difference from the largest; then shares move by what their own score
        # moves and, at most, by what the others do
        moved = size * ((dim + 6) * UNIT + cache_unit) + np.abs(scores) * UNIT
        relative = np.expm1(moved + moved.max(0)) + 2 * EXP_ERROR + (2 * t + 12) * UNIT + 2 * cache_unit
        bound[t] = np.einsum("sh,shd->hd", share * relative, np.abs(v[: t + 1]))
    return result, bound


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory, tiny_gqa_dir: object) -> Callable[[str], QuantizedModel]:
    """The tiny model with two query heads a key head, quantized by a recipe; each once."""
    made: dict[str, QuantizedModel] = {}

    def by(name: str) -> QuantizedModel:
        if name not in made:
            source, chosen = resolve_model(tiny_gqa_dir), recipe(name)
            jobs = {layer: LayerJob(RoundToNearest(), chosen.linear) for layer in BlockModel(source).layer_names()}
            job = QuantizationJob(name, jobs, kv=kv_of(chosen))
            folder = tmp_path_factory.mktemp("quantized") / "model"
            made[name] = load_quantized(quantize_model(source, job, folder).folder)
        return made[name]

    return by


IDS = torch.from_numpy(np.random.default_rng(0).integers(0, 320, (1, 12)))


@pytest.mark.parametrize("name", ["int4_g32_fp16_a8_kv8", "int4_asym_g32_kv4", "int8_channel"])
def test_every_stage_is_codesigns(quantized: Callable[[str], QuantizedModel], name: str) -> None:
    """The golden stages against torch's, each torch module fed with the golden numbers before it.

    So no error is carried on, codes are made of equal numbers, and what is left is FP16 and the order of sums.
    """
    source = quantized(name)
    made, x = block_of_model(source, 1, IDS, tokens=IDS.shape[1])
    golden = block_reference(made, x)
    taken, given = forced_forward(source, made, golden, x)
    wide = {role: np.abs(stage_input(made.layers[role], golden_input(golden, role)).numbers) for role in LAYERS}
    for role in LAYERS:
        half = golden_input(golden, role).astype(np.float64)
        rounding = np.abs(half) * HALF_UNIT * (1 + 2 * HALF_UNIT) + HALF_STEP
        if role in ("q", "k", "v", "gate", "up"):  # behind a norm: both sides add the squares, half of that counts
            bound = rounding + np.abs(half) * (made.hidden + 16) * UNIT
        elif role == "down":
            bound = rounding + np.abs(half) * (4 * EXP_ERROR + 16 * UNIT)
        else:
            staged = golden.attention.keys.numbers, golden.attention.values.numbers
            exact, error = exact_attention(made, golden.queries, *staged)
            assert (np.abs(golden.attention.result - exact) <= error).all()
            # torch keeps a cache without a format in float32, the block in FP16
            _, other = exact_attention(made, golden.queries, *staged, 0.0 if source.kv else HALF_UNIT)
            bound = rounding + (error + other).reshape(half.shape)
        assert (np.abs(taken[role] - half) <= bound).all(), role
        weight = np.abs(made.layers[role].dequantize_weight().numpy()).astype(np.float64)
        sums = (wide[role].shape[1] + 4) * UNIT * (wide[role].astype(np.float64) @ weight.T)
        assert (np.abs(given[role] - outputs(golden, role)) <= golden.layer_bounds[role] + sums).all(), role
        # the bound is about one rounding to FP16, or a few where the cache is FP16 as well
        assert bound.max() < (2 if source.kv else 8) * HALF_UNIT * np.abs(half).max(), role
    np.testing.assert_array_equal(given["block"], golden.output)


def golden_input(golden: BlockOutput, role: str) -> np.ndarray:
    name = {"o": "o_in", "gate": "mlp_in", "up": "mlp_in", "down": "down_in"}.get(role, "attention_in")
    return np.asarray(getattr(golden, name))


def outputs(golden: BlockOutput, role: str) -> np.ndarray:
    return golden.layer_outputs[role]


def forced_forward(
    source: QuantizedModel, made: DecoderBlock, golden: BlockOutput, x: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What torch's modules take in and give; each is then handed, and hands on, the golden numbers in their place."""
    walked = BlockModel(source)
    stream = walked.embed([IDS])
    taken: dict[str, np.ndarray] = {}
    given: dict[str, np.ndarray] = {}
    with walked.block(1) as torch_block, torch.no_grad():
        install(torch_block, walked.paths[1], source.layers)
        for role, path in MODULES.items():
            module = torch_block.get_submodule(path)

            def before(module: object, args: tuple[torch.Tensor], role: str = role) -> tuple[torch.Tensor]:
                taken[role] = args[0][0].double().numpy()
                return (torch.from_numpy(golden_input(golden, role).astype(np.float32))[None],)

            def after(module: object, args: object, found: torch.Tensor, role: str = role) -> torch.Tensor:
                given[role] = found[0].double().numpy()
                return torch.from_numpy(outputs(golden, role))[None]

            module.register_forward_pre_hook(before)
            module.register_forward_hook(after)
        norms = {torch_block.get_submodule(name) for name in NORMS}
        assert len(norms) == 2
        cache = RoundingCache(source.kv, made.name) if source.kv else None
        given["block"] = walked.run(torch_block, stream.calls[0][1], torch.from_numpy(x)[None], cache=cache)[0].numpy()
    return taken, given


# --- refusals --------------------------------------------------------------------------------------------------------


def refused(error: type[Exception], message: str, **changes: object) -> None:
    with pytest.raises(error, match=message):
        block(**changes)


def test_blocks_that_do_not_fit_together() -> None:
    made = block()
    refused(ValueError, "kv_heads must divide the 4 heads, not be 3", kv_heads=3)
    refused(ValueError, "layers of a block must be q, k, v, o, gate, up, down, not q", layers={"q": made.layers["q"]})
    refused(ValueError, r"layer k must have the shape \(12, 24\), not \(24, 24\)",
            layers={**made.layers, "k": made.layers["q"]})  # fmt: skip
    refused(ValueError, "mlp_norm must be float32 of 24 values, not float32 \\[3\\]", mlp_norm=np.ones(3, np.float32))
    refused(ValueError, "cosine and sine must have the same shape", sine=made.sine[:2])
    many = np.zeros((1025, 3), np.float32)
    refused(ValueError, "positions of a block must be 1 to 1024, not 1025", cosine=many, sine=many)


def test_encodings_that_no_block_holds() -> None:
    made = block()
    shared = replace(TOKEN_INT8, granularity=PerTensor())
    refused(NotImplementedError, "key scales must be a token's own", key=shared)
    two = replace(TOKEN_INT8, scale=ScaleConfig(FP16, outer=FP16))
    refused(NotImplementedError, "value scales in a cache must have one level, not two", value=two)

    def with_q(**config: object) -> dict[str, QuantizedLayer]:
        q = made.layers["q"]
        return {**made.layers, "q": replace(q, config=replace(q.config, **config))}

    refused(NotImplementedError, "activation scales of layer q must be a token's own", layers=with_q(activation=shared))
    refused(NotImplementedError, "layer q of a block must hand on float32", layers=with_q(output=TOKEN_INT8))
    refused(NotImplementedError, "layer q of a block must hand on its product", layers=with_q(output_norm=True))


def test_inputs_that_are_none() -> None:
    made = block()
    with pytest.raises(TypeError, match="x must be float32, not float64"):
        block_reference(made, tokens(2).astype(np.float64))
    with pytest.raises(ValueError, match=r"x must have the shape \[1 to 6, 24\], not \[7, 24\]"):
        block_reference(made, tokens(7))
    with pytest.raises(ValueError, match="squares in a norm must add up within float32, not to infinity or NaN"):
        block_reference(made, np.full((1, HIDDEN), 1e30, np.float32))
    assert math.isfinite(block_reference(made, np.zeros((1, HIDDEN), np.float32)).output.sum())
