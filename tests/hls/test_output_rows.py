"""Golden outputs as beats, read back with struct and datatypes.packing."""

import struct

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from datatypes.catalog import E8M0, FP16, INTS, UINTS  # noqa: E402
from datatypes.granularity import PerChannel, PerGroup, PerTensor  # noqa: E402
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig  # noqa: E402
from datatypes.packing import unpack  # noqa: E402
from datatypes.planes import row_words  # noqa: E402
from datatypes.quantize import quantize_tensor  # noqa: E402
from hls.layer_reference import LayerOutput  # noqa: E402
from hls.output_rows import output_rows  # noqa: E402

M, N = 3, 70
VALUES = np.random.default_rng(2).standard_normal((M, N)).astype(np.float32)


def output(config):
    coded = None if config is None else quantize_tensor(torch.from_numpy(VALUES), config)
    return LayerOutput(VALUES, coded, None, np.zeros((M, N)))


def test_float32_rows_start_a_beat():
    made = output_rows(output(None))
    # 70 floats are 280 bytes, five beats of 64
    assert (made.kind, made.beats, made.rows, made.row_bits) == ("fp32", 5, N, 32)
    for token in range(M):
        assert struct.unpack_from(f"<{N}f", made.data, 320 * token) == tuple(VALUES[token].tolist())


def test_float16_rows():
    made = output_rows(output(TensorConfig((FP16,), scale=None)))
    assert (made.kind, made.beats, made.rows, made.row_bits) == ("fp16", 3, N, 16)
    assert struct.unpack_from(f"<{N}e", made.data, 192) == tuple(VALUES[1].astype(np.float16).tolist())


@pytest.mark.parametrize(
    ("granularity", "tiles"), [(PerChannel(), 1), (PerGroup(32), 3), (PerTensor(), 1)], ids=["token", "group", "tensor"]
)
@pytest.mark.parametrize("bits", [4, 6])
def test_codes_then_scales_of_each_token(granularity, tiles, bits):
    config = TensorConfig((INTS[bits],), granularity, ScaleConfig(E8M0, ScaleRule.POW2_FLOOR), dynamic=True)
    given = output(config)
    made = output_rows(given)
    words = row_words(N, bits)
    code_beats = -(-words // 16)
    assert (made.kind, made.beats, made.row_bits) == ("codes", code_beats + 1, 32)
    assert made.rows == 16 * made.beats
    scale = given.coded.effective_scale().numpy()
    for token in range(M):
        start = 64 * made.beats * token
        packed = np.frombuffer(made.data, "<u4", words, start)[None].astype(np.uint32)
        assert np.array_equal(unpack(packed, bits, N)[0], given.coded.codes[token].numpy())
        found = struct.unpack_from(f"<{tiles}f", made.data, start + 64 * code_beats)
        assert found == tuple(scale[min(token, len(scale) - 1)].tolist())


def test_codes_with_a_zero_point_have_no_rows():
    config = TensorConfig(
        (UINTS[4],), PerChannel(), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINTS[4], dynamic=True
    )
    with pytest.raises(NotImplementedError, match="outputs are FP32, FP16 or codes of up to 8 bits without zero point"):
        output_rows(output(config))
