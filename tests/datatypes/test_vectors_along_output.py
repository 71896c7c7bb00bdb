"""Vectors of codes that run down a column (VPTQ): counted, decoded, written and found again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datatypes.catalog import FP16
from datatypes.config_json import config_from_dict, config_to_dict
from datatypes.format import LearnedFormat, VectorFormat
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerInputChannel, PerTensor
from datatypes.layer_config import CodebookConfig, LayerConfig, ScaleConfig, SparsityConfig, TensorConfig
from datatypes.layer_packing import pack_layer, unpack_layer
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor

POINTS = tuple((float(a), float(b), float(c)) for a in (-1, 1) for b in (-1, 0.5) for c in (-0.25, 1))
TRIPLES = VectorFormat("triples", 3, "by hand", dimension=3, points=POINTS)
OTHERS = VectorFormat("others", 3, "by hand", dimension=3, points=tuple((b, a, c) for a, b, c in POINTS))
SHAPES = pytest.mark.parametrize("shape", [(12, 40), (7, 33), (2, 1)], ids=str)
ALONG = TensorConfig((TRIPLES,), PerInputChannel(), ScaleConfig(FP16), vectors_along_output=True)


def matrix(shape: tuple[int, int]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


WHOLE = PerTensor()


def vptq(dimension: int, bits: int, granularity=WHOLE, residual: TensorConfig | None = None) -> TensorConfig:
    fmt = LearnedFormat(f"v{dimension}k{1 << bits}", bits, "Liu et al., VPTQ, arXiv 2409.17066", dimension=dimension)
    book = CodebookConfig(FP16, granularity)
    return TensorConfig((fmt,), scale=None, codebook=book, residual=residual, vectors_along_output=True)


def learned(shape: tuple[int, int], config: TensorConfig) -> QuantizedTensor:
    """Random codes and books."""
    fmt, generator = config.formats[0], torch.Generator().manual_seed(4)
    assert config.codebook is not None
    codes = torch.randint(1 << fmt.bits, config.code_shape(shape), generator=generator)
    size = (config.codebook.granularity.count(shape), 1 << fmt.bits, fmt.dim)
    book = torch.randn(size, generator=generator).half()
    residual = None if config.residual is None else learned(shape, config.residual)
    return QuantizedTensor(
        config, shape, codes.to(torch.uint8 if fmt.bits <= 8 else torch.int32), codebook=book, residual=residual
    )


def check_bytes_and_return(tensor: QuantizedTensor) -> None:
    layer = QuantizedLayer(LayerConfig(tensor.config), tensor, tensor.shape)
    arrays = pack_layer(layer)
    stored = sum(a.numel() * a.element_size() for a in arrays.values()) * 8
    assert stored == layer.config.storage_bits(tensor.shape).total
    assert torch.equal(unpack_layer(arrays, layer.config, tensor.shape).dequantize_weight(), tensor.dequantize())


@SHAPES
def test_a_fixed_grid_down_columns_is_the_grid_along_rows_of_the_transpose(shape):
    x = matrix(shape)
    down = quantize_tensor(x, ALONG)
    along = quantize_tensor(x.T.contiguous(), TensorConfig((TRIPLES,), PerChannel(), ScaleConfig(FP16)))
    assert down.codes.shape == (-(-shape[0] // 3), shape[1])
    assert torch.equal(down.codes, along.codes.T) and torch.equal(down.dequantize(), along.dequantize().T)
    check_bytes_and_return(down)


@SHAPES
def test_a_choice_of_grids_down_columns(shape):
    config = TensorConfig((TRIPLES, OTHERS), PerInputChannel(), ScaleConfig(FP16), vectors_along_output=True)
    x = matrix(shape)
    down = quantize_tensor(x, config)
    along = quantize_tensor(x.T.contiguous(), replace(config, granularity=PerChannel(), vectors_along_output=False))
    assert torch.equal(down.selector, along.selector.T) and torch.equal(down.dequantize(), along.dequantize().T)
    check_bytes_and_return(down)


@SHAPES
@pytest.mark.parametrize("granularity", [PerTensor(), PerInputChannel(), PerBlock(24, 16)], ids=repr)
def test_learned_books_by_hand(shape, granularity):
    config = vptq(6, 12, granularity, residual=vptq(4, 5))
    made = learned(shape, config)
    decoded = made.dequantize().numpy()
    book, rest = made.codebook.float().numpy(), made.residual.codebook.float().numpy()
    columns = granularity.tile(shape)[1]
    for row in range(shape[0]):
        for column in range(shape[1]):
            first = book[column // columns, int(made.codes[row // 6, column]), row % 6]
            second = rest[0, int(made.residual.codes[row // 4, column]), row % 4]
            assert decoded[row, column] == np.float32(first + second)
    check_bytes_and_return(made)


def test_bits_of_vptq():
    # reference sheet, VPTQ, Storage: Llama-2-7B with v = 6, k = 4096: 2.014 bits, index log2(k) / v and a book of
    # v k FP16 numbers for each matrix
    shapes = 4 * [(4096, 4096)] + 2 * [(11008, 4096)] + [(4096, 11008)]
    config = vptq(6, 12)
    counted = [config.storage_bits(shape) for shape in shapes]
    assert all(bits.codebooks == 6 * 4096 * 16 for bits in counted)
    weights = sum(n * k for n, k in shapes)
    assert sum(bits.total for bits in counted) / weights == pytest.approx(2.014, abs=1e-3)  # 4096 is no multiple of 6
    along_rows = replace(config, vectors_along_output=False)
    assert config.code_shape((11008, 4096)) == (1835, 4096) and along_rows.code_shape((11008, 4096)) == (11008, 683)
    # Llama-3-8B's two books of v8-k65536-256: 16 / 8 + 8 / 8 = 3 index bits
    double = vptq(8, 16, residual=vptq(8, 8))
    bits = double.storage_bits((4096, 4096))
    assert bits.codes == 3 * 4096**2 and bits.codebooks == 8 * (65536 + 256) * 16


def test_vptqs_normalised_columns():
    """A scale and a real offset for each input column: (w - min) / (max - min) over the outputs."""
    config = replace(vptq(6, 12), granularity=PerInputChannel(), scale=ScaleConfig(FP16), zero_point=FP16)
    shape = (12, 5)
    generator = torch.Generator().manual_seed(1)
    scale, zero = (torch.rand((1, 5), generator=generator).half() for _ in range(2))
    plain = learned(shape, vptq(6, 12))
    made = replace(plain, config=config, scale=scale, zero_point=zero)
    assert torch.equal(made.dequantize(), plain.dequantize() * scale.float() + zero.float())
    assert config.storage_bits(shape).scales == config.storage_bits(shape).zero_points == 3 * 32
    check_bytes_and_return(made)


def test_json_and_what_is_refused():
    config = LayerConfig(vptq(6, 12, PerBlock(4096, 1024), residual=vptq(8, 8)))
    assert config_from_dict(config_to_dict(config)) == config
    assert (
        "vectors_along_output" not in config_to_dict(LayerConfig(replace(ALONG, vectors_along_output=False)))["weight"]
    )
    for wrong in ({"formats": (FP16,)}, {"sparsity": SparsityConfig()}):
        with pytest.raises(ValueError, match="vectors_along_output needs a format of several elements"):
            replace(ALONG, **wrong)
    with pytest.raises(ValueError, match="tiles of .* must hold whole vectors of 6 outputs"):
        vptq(6, 12, PerGroup(64, along_output=True)).code_shape((128, 4))
    assert vptq(6, 12, PerGroup(64, along_output=True)).code_shape((64, 4)) == (11, 4)  # one tile: nothing is cut
