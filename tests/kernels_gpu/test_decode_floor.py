"""Bytes and launches of a decode step by hand, and laws of its predicted time."""

from dataclasses import replace

import pytest

from hwmodel.gpu_presets import GPUS
from kernels_gpu.decode_floor import StepCase, _product, data_sheet, predict
from kernels_gpu.decode_model import LAYER_MATRICES, LLAMA_2_7B, DecoderShape, Matrix
from kernels_gpu.gemv_recipes import RECIPES

H100, COPY = GPUS["h100"], 2.99e12  # kernels_gpu/NOTES.md
CASE = StepCase(LLAMA_2_7B, RECIPES["int4_g128"], 1, 4096, 8)


def test_bytes_of_llama_2_7b_by_hand():
    weights = 32 * (12288 * 4096 + 4096 * 4096 + 22016 * 4096 + 4096 * 11008)  # 6.476 G
    assert CASE.weight_bytes == weights // 2 + weights // 128 * 2 + 32000 * 4096 * 2
    # 32 layers, keys and values, 32 heads: 128 bytes and a scale of 2 for each of 4096 tokens
    assert CASE.step_bytes - CASE.weight_bytes == 32 * 2 * 32 * 4096 * 130
    assert CASE.bound_s(1e12) == CASE.step_bytes / 1e12
    assert replace(CASE, weights=None).weight_bytes == 2 * (weights + 32000 * 4096)
    # tinygemm: half a byte, and a bfloat16 scale and offset for each 128
    assert replace(CASE, tinygemm=True).matrix_bytes(Matrix.OUT) == 4096 * 4096 // 2 + 4096 * 32 * 4
    four = replace(CASE, cache_bits=4, batch=3, context=100)
    assert four.layer_cache_bytes == 3 * 2 * 32 * 100 * (64 + 2)


def test_launches_are_counted():
    # a layer: two norms, rotary, gate, four products, attention and its merge; embedding, norm, vocabulary, largest
    assert predict(CASE, H100, COPY).launches == 32 * 10 + 4
    assert predict(replace(CASE, context=256), H100, COPY).launches == 32 * 9 + 4
    # sixteen tokens of 11008 inputs take two launches (kernels_gpu/NOTES.md says so of 8192)
    many = predict(replace(CASE, batch=16, context=256), H100, COPY).launches
    assert many > 32 * 9 + 4


@pytest.mark.parametrize("name", ["int4_g128", "bitmod4_g128", "bitmod3_g128", "int8", None])
def test_a_step_takes_longer_than_its_bytes_and_grows_with_them(name):
    case = replace(CASE, weights=None if name is None else RECIPES[name])
    made = predict(case, H100, COPY)
    assert made.seconds > case.bound_s(COPY) and made.seconds == sum(made.parts.values())
    assert predict(replace(case, context=8192), H100, COPY).seconds > made.seconds
    assert predict(replace(case, batch=4), H100, COPY).seconds > made.seconds
    assert predict(case, H100, 1.4 * COPY).seconds < made.seconds


def test_kernels_that_cannot_overlap_take_longer_each():
    """The same data sheet but for programmatic launch, which begins with compute capability 9.0 (CUDA C++ guide)."""
    older = replace(H100, compute_capability=(8, 9))
    new, old = (predict(CASE, gpu, COPY) for gpu in (H100, older))
    assert old.launches == new.launches == 32 * 10 + 4
    # 2.7 us for each launch but the library's vocabulary (NOTES.md, ``alone``), and no ring fills ahead
    assert old.seconds - new.seconds > (32 * 10 + 3) * 2.7e-6
    assert old.parts["vocabulary"] == new.parts["vocabulary"]
    libraries = replace(CASE, weights=None)
    more = predict(libraries, older, COPY).seconds - predict(libraries, H100, COPY).seconds
    assert more == pytest.approx((32 * 6 + 3) * 2.7e-6)  # the four products of a layer are no kernels of this project


def test_fewer_bits_are_faster_and_every_encoding_beats_16_bits():
    seconds = {n: predict(replace(CASE, weights=RECIPES[n]), H100, COPY).seconds for n in ("int4_g128", "int8")}
    assert seconds["int4_g128"] < seconds["int8"] < predict(replace(CASE, weights=None), H100, COPY).seconds


def test_rings_that_fill_beside_the_kernels_between_hide_memory_where_it_is_the_bound():
    """What falsified the first prediction (NOTES.md): INT4 gained up to the kernels between, libraries nothing."""
    for name, least in (("int4_g128", 4e-6), ("int8", 4e-6), ("bitmod3_g128", 0.0)):
        case = replace(CASE, weights=RECIPES[name], context=256)
        made = predict(case, H100, COPY)
        products = made.parts["products"] / 32
        alone = sum(_product(case, which, H100, COPY)[0] for which in LAYER_MATRICES)
        assert least < alone - products < made.parts["between"] / 32 + made.parts["attention"] / 32
    half = replace(CASE, weights=None)
    library = sum(_product(half, which, H100, COPY)[0] for which in LAYER_MATRICES)
    assert predict(half, H100, COPY).parts["products"] == pytest.approx(32 * library)


def test_recorded_products_of_libraries_are_met():
    """The three shapes that the constants of each library were read from, within 15 %: NOTES.md, H100, one token."""
    for n, k, cublas_us, tinygemm_us in (
        (4096, 4096, 16.6, 7.1),
        (11008, 4096, 34.7, 14.8),
        (28672, 8192, 160.9, 60.4),
    ):
        shape = DecoderShape("one", k, k // 64, k // 64, 64, 8, 1, n)
        head = predict(replace(CASE, shape=shape, weights=None), H100, COPY).parts["vocabulary"]
        assert head * 1e6 == pytest.approx(cublas_us, rel=0.15)
        both = DecoderShape("one", k, 1, 1, 64, n // 2, 1, 8)
        gate_up = n * k / 2 + n * k / 128 * 4
        assert replace(CASE, shape=both, tinygemm=True).matrix_bytes(Matrix.GATE_UP) == gate_up
        assert 3.7 + gate_up / COPY / 0.735 * 1e6 == pytest.approx(tinygemm_us, rel=0.15)


def test_what_has_no_kernel_is_refused():
    wide = replace(LLAMA_2_7B, intermediate=1 << 20)
    with pytest.raises(ValueError, match="k must be so small that one token's inputs fit .* not 1048576"):
        predict(replace(CASE, shape=wide), H100, COPY)
    with pytest.raises(NotImplementedError, match="sequences of a step by tinygemm must be 1 to be predicted, not 2"):
        predict(replace(CASE, tinygemm=True, batch=2), H100, COPY)


def test_a_device_without_a_data_sheet_is_none():
    assert data_sheet("NVIDIA GeForce RTX 2080") is None
