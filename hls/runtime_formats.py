"""A layer in every format that BitMoD's register can hold: what an exported kernel of all of them is compared with.

The formats are ``hls.bitmod_arithmetic.RUNTIME_FORMATS``. All else of the layer stays as it is, so that one kernel runs
each of them: the same groups, scales, branches and inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from datatypes.layer_config import TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor
from hls.bitmod_arithmetic import RUNTIME_FORMATS, runtime_name


def in_runtime_formats(layer: QuantizedLayer) -> Mapping[str, QuantizedLayer]:
    """The layer itself under the name of its format, and its decoded weight rounded to each of the others.

    Args:
        layer: its weight one matrix in one of ``RUNTIME_FORMATS``.

    Raises:
        NotImplementedError: another format, or a weight in parts or with a residual.
    """
    weight, config = layer.weight, layer.config.weight
    if not isinstance(weight, QuantizedTensor) or not isinstance(config, TensorConfig) or weight.residual is not None:
        raise NotImplementedError("formats chosen at run time go with one weight matrix, not with parts or a residual")
    own = runtime_name(config.formats)
    values = weight.dequantize()
    made = {}
    for name, formats in RUNTIME_FORMATS.items():
        if name == own:
            made[name] = layer
            continue
        encoding = replace(config, formats=formats)
        made[name] = replace(
            layer, config=replace(layer.config, weight=encoding), weight=quantize_tensor(values, encoding)
        )
    return made
