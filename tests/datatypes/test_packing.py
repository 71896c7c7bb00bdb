"""The word layout against a scalar reading of its definition, and bytes against the count of LayerConfig."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datatypes.block_formats import BLOCK_FORMATS, MXFP4
from datatypes.catalog import BF16, E4M3, E8M0, FORMATS, FP4, FP16, FP32, INT16, INTS_SYMMETRIC, NF4, UINTS
from datatypes.format import IntFormat, LearnedFormat, VectorFormat
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerTensor
from datatypes.layer_config import CodebookConfig, ScaleConfig, SparsityConfig, TensorConfig
from datatypes.packing import pack, pack_flat, pack_tensor, unpack, unpack_flat, unpack_tensor
from datatypes.planes import flat_words, plane_widths, row_words
from datatypes.quantize import quantize_tensor
from datatypes.tensor import QuantizedTensor

WIDTHS = range(1, 16)
SHAPES = ((4, 256), (3, 100), (5, 33), (1, 1), (2, 500))


def scalar_pack(row: list[int], bits: int) -> list[int]:
    """One row by the words of the definition, one code at a time."""
    words = [0] * (-(-len(row) // 32) * bits)
    for position, code in enumerate(row):
        block, j = divmod(position, 32)
        first, below = block * bits, bits
        for width in plane_widths(bits):
            below -= width
            piece = (code >> below) % 2**width
            words[first + j * width // 32] += piece << (j * width) % 32
            first += width
    return words


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("columns", [1, 31, 32, 33, 100])
def test_rows_are_packed_as_defined_and_come_back(bits, columns):
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 1 << bits, (3, columns))
    words = pack(codes, bits)
    assert words.dtype == np.uint32 and words.shape == (3, row_words(columns, bits))
    np.testing.assert_array_equal(words, [scalar_pack(row.tolist(), bits) for row in codes])
    np.testing.assert_array_equal(unpack(words, bits, columns), codes)
    tensor_words = pack(torch.from_numpy(codes), bits)
    assert tensor_words.dtype == torch.int32
    np.testing.assert_array_equal(tensor_words.numpy().view(np.uint32), words)
    np.testing.assert_array_equal(unpack(tensor_words, bits, columns).numpy(), codes)


def test_three_bit_codes_by_hand():
    codes = np.zeros((1, 32), dtype=int)
    codes[0, 0], codes[0, 16], codes[0, 31] = 0b101, 0b110, 0b011
    # high pairs: 10 at bit 0 of word 0, 11 at bit 0 and 01 at bit 30 of word 1; low bits: codes 0 and 31 of word 2
    assert pack(codes, 3).tolist() == [[0b10, 0b11 | 1 << 30, 1 | 1 << 31]]


@given(st.integers(1, 32), st.integers(0, 200), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_flat_fields_come_back_in_the_counted_words(bits, count, random):
    top = min(bits, 31)  # int32 tensors
    values = torch.tensor([random.getrandbits(top) for _ in range(count)], dtype=torch.int64).to(torch.int32)
    words = pack_flat(values, bits)
    assert words.dtype == torch.int32 and len(words) == flat_words(count, bits)
    assert torch.equal(unpack_flat(words, bits, count).to(torch.int32), values)


def test_flat_fields_by_hand():
    # 2 bits: 3, 1, 0, 2 -> 10 00 01 11; 3 bits: a plane of high pairs (0, 1, 3), then one of low bits (1, 0, 1)
    assert pack_flat(torch.tensor([3, 1, 0, 2]), 2).tolist() == [0b10_00_01_11]
    assert pack_flat(torch.tensor([0b001, 0b010, 0b111]), 3).tolist() == [0b11_01_00, 0b101]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pack(torch.tensor([[8]]), 3), "codes must be 0 to 7 to be packed in 3 bits, not 8"),
        (lambda: pack(torch.tensor([1, 2]), 3), r"codes must be a matrix \[n, c\], not of shape \[2\]"),
        (lambda: pack(torch.tensor([[1]]), 0), "bits of a packed code must be 1 to 32, not 0"),
        (
            lambda: unpack(torch.zeros((1, 3), dtype=torch.int32), 4, 32),
            r"words must be \[n, 4\] for 32 codes of 4 bits",
        ),
        (lambda: unpack_flat(torch.zeros(2, dtype=torch.int32), 4, 5), r"words must be \[1\] for 5 fields of 4 bits"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def same(a: QuantizedTensor, b: QuantizedTensor) -> None:
    """Every array equal in type and value, and the decoded matrices equal as bits."""
    for key in (
        "codes",
        "scale",
        "outer_scale",
        "zero_point",
        "selector",
        "codebook",
        "mask",
        "row_scale",
        "column_scale",
    ):
        left, right = getattr(a, key), getattr(b, key)
        assert (left is None) == (right is None), key
        if left is not None:
            assert left.dtype == right.dtype and left.shape == right.shape, key
            assert torch.equal(left, right), key
    assert torch.equal(a.dequantize().view(torch.int32), b.dequantize().view(torch.int32))


def check_bytes_and_return(tensor: QuantizedTensor) -> None:
    arrays = pack_tensor(tensor)
    assert (
        sum(a.numel() * a.element_size() for a in arrays.values()) * 8 == tensor.config.storage_bits(tensor.shape).total
    )
    same(tensor, unpack_tensor(arrays, tensor.config, tensor.shape))


PLAIN = {fmt.name: TensorConfig((fmt,), scale=None) for fmt in (FP32, FP16, BF16, INT16, E4M3, UINTS[3])}
ODD_SCALES = {
    "6_bit_scales": TensorConfig((FP4,), PerGroup(16), ScaleConfig(UINTS[6], outer=FP16)),
    "5_bit_zero_points": TensorConfig((UINTS[5],), PerGroup(8), zero_point=UINTS[5], scale=None),
    "blocks": TensorConfig((INTS_SYMMETRIC[4],), PerBlock(2, 32), ScaleConfig(FP16)),
    "bf16_scales": TensorConfig((NF4,), PerGroup(64), ScaleConfig(BF16)),
    "down_columns": TensorConfig((FP4,), PerGroup(4, along_output=True), ScaleConfig(E8M0)),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", [*BLOCK_FORMATS, *PLAIN, *(n for n in ODD_SCALES if n != "5_bit_zero_points")])
def test_bytes_written_are_the_bits_counted(name, shape):
    config = (BLOCK_FORMATS | PLAIN | ODD_SCALES)[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(6))
    if name == "int16":
        x = (x * 1000).round()
    check_bytes_and_return(quantize_tensor(x, config))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_residual_masks_codebooks_and_vectors_are_counted_and_come_back(shape):
    n, k = shape
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(shape, generator=generator)

    first = quantize_tensor(x, MXFP4)
    second = quantize_tensor(x - first.dequantize(), BLOCK_FORMATS["int3_g128_fp16"])
    config = replace(MXFP4, residual=second.config, row_scale=FP16, column_scale=FP32)
    rows, columns = torch.rand(n, generator=generator).half(), torch.rand(k, generator=generator)
    check_bytes_and_return(replace(first, config=config, residual=second, row_scale=rows, column_scale=columns))

    sparsity = SparsityConfig(2, 4)
    order = torch.rand((n, -(-k // 4), 4), generator=generator)
    order.view(n, -1)[:, k:] = -1  # the filling of a ragged block comes last
    mask = torch.zeros_like(order, dtype=torch.bool).scatter_(2, order.topk(2).indices, True).reshape(n, -1)[:, :k]
    sparse = quantize_tensor(x * mask, BLOCK_FORMATS["int4_g128_fp16"])
    sparse = replace(sparse, config=replace(sparse.config, sparsity=sparsity), mask=mask)
    check_bytes_and_return(replace(sparse, codes=torch.where(mask, sparse.codes, torch.zeros_like(sparse.codes))))

    learned = LearnedFormat("kmeans3", 3, "k-means", dimension=2)
    pairs = -(-k // 2)
    codes = torch.randint(0, 8, (n, pairs), generator=generator, dtype=torch.uint8)
    for fmt, books in ((FP16, torch.randn((n, 8, 2), generator=generator).half()), (E4M3, None)):
        if books is None:
            books = torch.from_numpy(E4M3.round(torch.randn((n, 8, 2), generator=generator).numpy()))
        config = TensorConfig((learned,), PerChannel(), None, codebook=CodebookConfig(fmt, PerChannel()))
        check_bytes_and_return(QuantizedTensor(config=config, shape=shape, codes=codes, codebook=books))


def test_twelve_bit_vectors_are_counted_and_come_back():
    rng = np.random.default_rng(8)
    points = tuple(tuple(float(v) for v in p) for p in rng.standard_normal((1 << 12, 4)).astype(np.float32))
    fmt = VectorFormat("points", 12, "random", dimension=4, points=points)
    x = torch.randn((3, 50), generator=torch.Generator().manual_seed(9))
    check_bytes_and_return(quantize_tensor(x, TensorConfig((fmt,), PerTensor(), None)))


def test_arrays_that_do_not_belong_are_refused():
    tensor = quantize_tensor(torch.randn(2, 64), MXFP4)
    arrays = pack_tensor(tensor)
    with pytest.raises(ValueError, match="arrays of a tensor must be codes, scale, not codes"):
        unpack_tensor({"codes": arrays["codes"]}, MXFP4, (2, 64))
    with pytest.raises(ValueError, match=r"words must be \[n, 8\] for 64 codes of 4 bits"):
        unpack_tensor(arrays | {"codes": arrays["codes"][:, :4]}, MXFP4, (2, 64))
    with pytest.raises(ValueError, match="scale must be there, as the config says, not None"):
        pack_tensor(replace(tensor, scale=None))
    dense = replace(tensor.config, sparsity=SparsityConfig(2, 4))
    with pytest.raises(ValueError, match="mask must keep 2 of every 4 inputs"):
        pack_tensor(replace(tensor, config=dense, mask=torch.ones((2, 64), dtype=torch.bool)))


def test_the_catalogue_has_no_width_without_a_layout():
    for fmt in FORMATS.values():
        assert sum(plane_widths(fmt.bits)) == fmt.bits
    assert isinstance(INT16, IntFormat)
