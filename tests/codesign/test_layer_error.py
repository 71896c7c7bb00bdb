"""Output error of single layers."""

import math

import pytest
import torch

from codesign.algorithms.rtn import RoundToNearest
from codesign.blocks import BlockModel
from codesign.calibrate_model import gather_inputs
from codesign.calibration import Statistic
from codesign.layer_error import layer_sqnr_db, output_sqnr_db
from codesign.models import resolve_model
from codesign.quantize_blocks import CalibrationPlan, LayerJob, quantize_blocks
from datatypes.catalog import FP32, INTS_SYMMETRIC
from datatypes.granularity import PerChannel
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer


def test_output_sqnr_by_hand():
    # weight rows (1, 0), (0, 1); int quantization with scale 1 keeps them: no noise
    config = LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP32)))
    exact = QuantizedLayer(config, quantize_tensor(torch.eye(2) * 127, config.weight), (2, 2))
    inputs = torch.tensor([[3.0, 4.0]])
    assert output_sqnr_db(torch.eye(2) * 127, exact, inputs) == math.inf
    # against a weight of 1.1 times that: y = 1.1 t, yq = t, so 10 log10(1.1**2 / 0.1**2) = 20 log10(11)
    assert output_sqnr_db(torch.eye(2) * 127 * 1.1, exact, inputs) == pytest.approx(20 * math.log10(11), rel=1e-5)


def test_every_layer_loses_about_six_decibels_a_bit(tiny_gqa_dir, tmp_path):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    ids = torch.randint(0, 320, (4, 16), generator=torch.Generator().manual_seed(0))
    calibration = gather_inputs(model, ids, frozenset({Statistic.INPUTS}), tmp_path)
    found = {}
    for bits in (4, 6, 8):
        config = LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[bits],), PerChannel(), ScaleConfig(FP32)))
        jobs = {name: LayerJob(RoundToNearest(), config) for name in model.layer_names()}
        layers = dict(quantize_blocks(model, jobs, CalibrationPlan()))
        found[bits] = {name: db for block in layer_sqnr_db(model, layers, calibration) for name, db in block.items()}
    assert set(found[8]) == set(model.layer_names())
    for name in found[8]:
        # a bit halves the step: 20 log10(127 / 31) = 12.2 and 20 log10(31 / 7) = 12.9 dB, sampling noise allowed for
        assert found[8][name] - found[6][name] == pytest.approx(12.2, abs=1.5)
        assert found[6][name] - found[4][name] == pytest.approx(12.9, abs=1.5)
