"""The table look-up machine on each family of codebooks, a layer of one token counted by hand."""

import pytest

from datatypes.catalog import FORMATS, FP16
from datatypes.format import LearnedFormat
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import CodebookConfig, LayerConfig, ScaleConfig, TensorConfig
from hwmodel.evaluate import evaluate
from hwmodel.presets import ACCELERATORS
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

K, N = 1024, 510
STEPS = 16 * K  # 510 outputs on 32 rows: 16 tiles, a weight of each row in a cycle
NF4 = TensorConfig((FORMATS["nf4"],), PerGroup(64), ScaleConfig(FP16))
SQUEEZELLM = TensorConfig(
    (LearnedFormat("squeezellm", 4, "arXiv 2306.07629"),), scale=None, codebook=CodebookConfig(granularity=PerChannel())
)
VPTQ = TensorConfig(
    (LearnedFormat("vptq", 12, "arXiv 2409.17066", dimension=6),), scale=None,
    codebook=CodebookConfig(granularity=PerTensor()), vectors_along_output=True,
)  # fmt: skip
HIGGS = TensorConfig(
    (LearnedFormat("higgs", 8, "arXiv 2411.17525", dimension=2),), PerGroup(1024), ScaleConfig(FP16),
    codebook=CodebookConfig(granularity=PerTensor()), hadamard=1024,
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "compute_cycles", "vector_cycles"),
    [
        # 16 entries loaded once; 16 groups to scale for each output on 64 lanes
        pytest.param(NF4, STEPS + 16, -(-N * 16 // 64), id="NF4"),
        # 16 entries for each row, again in each of 16 tiles
        pytest.param(SQUEEZELLM, STEPS + 16 * 16, 0, id="SqueezeLLM"),
        # 4096 x 6 values lie in the buffer: 510 x 1024 / 6 vectors, eight a cycle, hidden behind the array
        pytest.param(VPTQ, max(STEPS, N * K // 6 // 8), 0, id="VPTQ"),
        # 256 x 2 values of 16 bits exceed a row's 4096 bits; 10 additions an input to rotate, one group to scale
        pytest.param(HIGGS, N * K // 2 // 8, 10 * K // 64 + -(-N // 64), id="HIGGS"),
    ],
)
def test_a_layer_by_hand(config: TensorConfig, compute_cycles: int, vector_cycles: int) -> None:
    spec = LayerSpec("x", LayerKind.LINEAR, 1, K, N)
    price = evaluate(Workload("one", Phase.PREFILL, (spec,)), LayerConfig(config), ACCELERATORS["table_lookup"]).total
    assert (price.compute_cycles, price.vector_cycles) == (compute_cycles, vector_cycles)
    assert price.weight_bits == config.storage_bits((N, K)).total
