"""Tiles of several blocks: in whatever order blocks are summed up, outputs are the reference's, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from datatypes.catalog import FP16, FP32, INTS, UINTS  # noqa: E402
from datatypes.granularity import PerChannel, PerGroup  # noqa: E402
from datatypes.layer_config import LayerConfig, ScaleConfig, ScaleRule, TensorConfig  # noqa: E402
from datatypes.quantize import quantize_tensor  # noqa: E402
from datatypes.quantized_layer import QuantizedLayer  # noqa: E402
from hls.ap_types import WARNINGS  # noqa: E402
from hls.layer_csim import compile_plans, simulate_plan  # noqa: E402
from hls.layer_options import LayerOptions  # noqa: E402
from hls.layer_planning import plan_layer  # noqa: E402
from hls.layer_reference import layer_reference  # noqa: E402
from hwmodel.unit_cost_design import Arithmetic  # noqa: E402

N, K, TOKENS = 21, 150, 3  # six blocks of four rows, the last of one; the last group of 32 has 22 columns
OPTIONS = LayerOptions(tokens=TOKENS, lanes=8, tile_rows=4)
INT8 = TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP32), dynamic=True)
INT4 = TensorConfig((INTS[4],), PerGroup(32))
# groups of 50 start between two words of activations and between two blocks of codes
REAL_ZEROS = TensorConfig((UINTS[3],), PerGroup(50), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=FP16)
CASES = {
    "int4_in_blocks": (INT4, INT8, OPTIONS),
    "floats_in_turns": (INT4, None, OPTIONS),  # each product rounded: steps go from block to block
    "zeros_between_words": (REAL_ZEROS, INT8, OPTIONS),
    "serial": (INT4, INT8, replace(OPTIONS, arithmetic=Arithmetic.WEIGHT_SERIAL)),
}


@pytest.mark.parametrize("blocks", [4, pytest.param(6, marks=pytest.mark.slow)], ids=["ragged", "all_rows"])
def test_outputs_do_not_depend_on_blocks(needs_compiler, blocks, tmp_path):
    layers, plans = {}, {}
    for name, (weight, activation, options) in CASES.items():
        values = torch.randn(N, K, generator=torch.Generator().manual_seed(0))
        config = LayerConfig(weight=weight, activation=activation)
        layers[name] = QuantizedLayer(config, quantize_tensor(values, weight), (N, K))
        plans[name] = plan_layer(layers[name], options=replace(options, tile_blocks=blocks))
        assert plans[name].blocks == blocks
    compile_plans(plans, tmp_path / "program", flags=("-O0", *WARNINGS))
    x = np.random.default_rng(0).standard_normal((TOKENS + 1, K)).astype(np.float16)
    for name, plan in plans.items():
        made = simulate_plan(tmp_path / "program", name, plan, x).values
        np.testing.assert_array_equal(made, layer_reference(layers[name], x, None, plan.options).values, err_msg=name)
