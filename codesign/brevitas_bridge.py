"""Brevitas's post-training quantization of an image classifier, driven by formats of our catalogue.

The one place where Brevitas is used: its graph passes fold batch norm and equalize, its quantizers encode inputs and
weights of convolutions and linear layers, its GPTQ and bias correction mend them. A format goes over as widths; that
its values on every code are ours is what ``tests/codesign/test_brevitas_bridge.py`` shows. First and last layer stay at
INT8 (Brevitas's own ImageNet benchmark, ``layerwise_first_last_bit_width``, does the same).

Brevitas 0.12 to 0.13; traps of it: float formats need ``bias_bit_width=None``; GPTQ wants one forward pass before.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from codesign.extras import require
from datatypes.catalog import INTS, UINTS
from datatypes.format import FloatFormat, FloatVariant, Format, IntFormat

_FOUND_ONCE = {"scaling_impl_type": "parameter_from_stats"}  # else every forward pass searches each scale again
EQUALIZE_ITERATIONS = 20  # Brevitas 0.13, ptq_evaluate.py: default of --graph-eq-iterations
OUTER = INTS[8]  # of the first and the last layer


@dataclass(frozen=True)
class PostTraining:
    """How a classifier is quantized.

    Args:
        weight: signed integer or minifloat whose codes are all finite; one scale for each output channel.
        activation: the same, or an unsigned integer, which has a zero point; one scale for each layer's input.
        gptq: whether GPTQ rounds the weights (with quantized inputs), instead of round-to-nearest.
        bias_correction: whether mean errors are taken off the biases.
    """

    weight: Format
    activation: Format
    gptq: bool = False
    bias_correction: bool = True

    def __post_init__(self) -> None:
        for what, fmt in (("weight", self.weight), ("activation", self.activation)):
            integer = isinstance(fmt, IntFormat) and (fmt.signed or what == "activation")
            minifloat = isinstance(fmt, FloatFormat) and fmt.variant is FloatVariant.FINITE
            if not (integer or minifloat):
                raise NotImplementedError(
                    f"{what} must be an integer or a minifloat with finite codes alone, not {fmt.name}"
                )

    @property
    def name(self) -> str:
        """``weight.activation``, and how the weights were rounded."""
        return f"{self.weight.name}.{self.activation.name}.{'gptq' if self.gptq else 'nearest'}"


def prepared(model: nn.Module) -> nn.Module:
    """A copy of ``model`` with batch norm folded in and ranges equalized across layers.

    Raises:
        ValueError: Brevitas is not installed.
    """
    with _brevitas() as brevitas:
        passes = brevitas.graph.quantize.preprocess_for_quantize
        # ReLU6 stays: Brevitas would make it a ReLU to equalize across it, which changes this network's answers
        return passes(copy.deepcopy(model), relu6_to_relu=False, equalize_iters=EQUALIZE_ITERATIONS)


def quantized(model: nn.Module, how: PostTraining, batches: Sequence[Tensor]) -> nn.Module:
    """A quantized copy of a ``prepared`` model.

    Args:
        model: as ``prepared`` gives it.
        how: formats and passes.
        batches: calibration images, ``[b, 3, h, w]`` each, on the device of the model.

    Raises:
        ValueError: Brevitas is not installed, or there are no images or no layers to quantize.
    """
    if not batches:
        raise ValueError("calibration must have at least one batch of images, not none")
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    if len(layers) < 3:
        raise ValueError(f"model must have a first, a last and other layers, not only {layers!r}")
    outer = [layers[0], layers[-1]]
    with _brevitas() as brevitas, torch.no_grad():
        made = copy.deepcopy(model)
        made = _with_quantizers(brevitas, made, how.weight, how.activation, outer)
        made = _with_quantizers(brevitas, made, OUTER, OUTER, ())
        made = made.to(batches[0].device).eval()
        made(batches[0])
        with brevitas.graph.calibrate.calibration_mode(made):
            _pass(made, batches)
        if how.gptq:
            with brevitas.graph.gptq.gptq_mode(made, use_quant_activations=True, create_weight_orig=False) as gptq:
                for _ in range(gptq.num_layers):
                    _pass(gptq.model, batches)
                    gptq.update()
        if how.bias_correction:
            with brevitas.graph.calibrate.bias_correction_mode(made):
                _pass(made, batches)
        return made


def _pass(model: nn.Module, batches: Iterable[Tensor]) -> None:
    for batch in batches:
        model(batch)


def _with_quantizers(
    brevitas: Any, model: nn.Module, weight: Format, activation: Format, skip: Sequence[str]
) -> nn.Module:
    """Every ``Conv2d`` and ``Linear`` that is not yet quantized and not in ``skip``, with quantizers."""
    shared = {"weight_quant": weight_quantizer(weight), "input_quant": input_quantizer(activation),
              "bias_quant": None, "output_quant": None, "return_quant_tensor": False}  # fmt: skip
    layer_map = {
        nn.Conv2d: (brevitas.nn.QuantConv2d, shared),
        nn.Linear: (brevitas.nn.QuantLinear, shared),
    }
    return brevitas.graph.quantize.layerwise_quantize(model, compute_layer_map=layer_map, name_blacklist=list(skip))


def weight_quantizer(fmt: Format) -> Any:
    """Brevitas's quantizer of a weight: one scale for each output channel, of least squared error."""
    with _brevitas() as brevitas:
        if isinstance(fmt, FloatFormat):
            return brevitas.quant.float.Fp8e4m3WeightPerChannelFloatMSE.let(**_float_fields(fmt), **_FOUND_ONCE)
        return brevitas.quant.scaled_int.Int8WeightPerChannelFloatMSE.let(bit_width=fmt.bits, **_FOUND_ONCE)


def input_quantizer(fmt: Format) -> Any:
    """Quantizer of a layer's input: one scale of least squared error; unsigned integers have a zero point."""
    with _brevitas() as brevitas:
        if isinstance(fmt, FloatFormat):
            return brevitas.quant.float.Fp8e4m3ActPerTensorFloatMSE.let(**_float_fields(fmt))
        if fmt.name == UINTS[fmt.bits].name:
            return brevitas.quant.shifted_scaled_int.ShiftedUint8ActPerTensorFloatMSE.let(bit_width=fmt.bits)
        return brevitas.quant.scaled_int.Int8ActPerTensorFloatMSE.let(bit_width=fmt.bits)


def _float_fields(fmt: FloatFormat) -> dict[str, Any]:
    return {
        "bit_width": fmt.bits, "exponent_bit_width": fmt.exponent_bits, "mantissa_bit_width": fmt.mantissa_bits,
        "bias_bit_width": None,
    }  # fmt: skip


@contextmanager
def _brevitas() -> Iterator[Any]:
    """The package with the parts that are used, quiet about its own deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        brevitas = require("brevitas", "brevitas")
        for part in ("nn", "graph.quantize", "graph.calibrate", "graph.gptq", "quant.float", "quant.scaled_int",
                     "quant.shifted_scaled_int"):  # fmt: skip
            require(f"brevitas.{part}", "brevitas")
        yield brevitas
