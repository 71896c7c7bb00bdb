"""The checks that all algorithms share (the contract suite runs them through each)."""

from __future__ import annotations

import pytest
import torch

from codesign.algorithms.base import checked_weight, tensor_config
from datatypes.catalog import UINTS
from datatypes.format import LearnedFormat
from datatypes.granularity import PerChannel
from datatypes.layer_config import CodebookConfig, LayerConfig, TensorConfig


def test_float32_weight_is_not_copied() -> None:
    weight = torch.ones(2, 3)
    assert checked_weight(weight, "layer").data_ptr() == weight.data_ptr()


def test_weight_that_is_no_tensor() -> None:
    with pytest.raises(TypeError, match="weight of layer must be a floating-point tensor, not list"):
        checked_weight([[1.0]], "layer")  # type: ignore[arg-type]


def test_supported_fields_pass() -> None:
    config = LayerConfig(weight=TensorConfig((UINTS[4],)), permuted=True)
    assert tensor_config(config, "gptq", supports=frozenset({"permuted"})) is config.weight
    with pytest.raises(NotImplementedError, match="rtn does not support permuted of the layer config"):
        tensor_config(config, "rtn")


def test_all_refused_fields_are_named() -> None:
    learned = TensorConfig((LearnedFormat("lut4", 4, ""),), PerChannel(), None, codebook=CodebookConfig(), hadamard=8)
    with pytest.raises(NotImplementedError, match="rtn does not support learned formats, hadamard of the layer config"):
        tensor_config(LayerConfig(weight=learned), "rtn")
