"""The benchmark times the work it names: its baselines agree with the quantizer, and its table can be read."""

import torch

from datatypes import bench
from datatypes.catalog import BITMOD_FP4, FP32
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, TensorConfig
from datatypes.quantize import quantize_tensor


def test_baselines_choose_what_the_quantizer_chooses():
    weight = torch.randn((16, 512), generator=torch.Generator().manual_seed(0))
    made = quantize_tensor(weight, TensorConfig(BITMOD_FP4, PerGroup(128), ScaleConfig(FP32)))
    for baseline in (bench.plain_torch, bench.bucketized_torch):
        index, scale, candidate = baseline(weight)
        assert torch.equal(candidate, made.selector) and torch.equal(scale, made.scale)
        assert index.shape == weight.shape


def test_the_table_names_every_piece_of_work():
    timings = bench.measure((32, 256), "cpu", repetitions=1)
    text = bench.table(timings)
    assert all(timing.name in text and timing.seconds > 0 for timing in timings)
    assert {"copy", "plain torch", "bitmod4_g128_fp16"} <= {timing.name for timing in timings}
