"""From a model's structure to a ``Workload``: shapes without weights, by one forward pass on the meta device.

``trace`` takes a transformers config or a torch module and follows what its forward computes (``trace_record``), so a
new architecture needs nothing here. Names are module paths, the join key of the project.

Conventions (of BitMoD's simulator, version 2; ``hwmodel.workload`` has the kinds):

- LINEAR in prefill: ``m = context`` and ``copies = batch`` of one shared weight; in decode ``m = batch``.
- attention: ``copies = batch * kv_heads``, ``m = group * tokens``, the context as n (QK) or k (PV), cut to the window.
- experts: ``trace_experts``.
- decode is one new token for each sequence, with ``context`` tokens in the KV cache, its own included.

Left out: gathers, rotations of the cache and other data movement; vector operations outside norm and activation
modules are summed for each module as ``<module>.elementwise``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codesign import trace_attention
from codesign.trace_config import build_on_meta, read_config
from codesign.trace_experts import routed_experts
from codesign.trace_inputs import model_inputs, step_inputs
from codesign.trace_layers import generates, layers_of
from codesign.trace_patches import even_patches
from codesign.trace_record import LoopTooLong, Recorder
from hwmodel.workload import LayerKind, Phase, Workload

PROBE_TOKENS = (8, 16)  # contexts from which a model that loops over tokens is extrapolated


class NoDecodeSteps(ValueError):
    """A decode step was asked of a model that does not write one token after another (an encoder, a classifier)."""


@dataclass(frozen=True)
class _Request:
    """What is asked of a forward pass."""

    phase: Phase
    batch: int
    context: int
    example: Tensor | Mapping[str, Tensor] | None = None
    source: int | None = None


def trace(
    model: Any,
    *,
    phase: Phase = Phase.PREFILL,
    batch: int = 1,
    context: int = 256,
    example: Tensor | Mapping[str, Tensor] | None = None,
    source: int | None = None,
    name: str | None = None,
) -> Workload:
    """The workload of one phase of a model.

    Args:
        model: a transformers ``PretrainedConfig`` or any ``torch.nn.Module``; a module's weights are not touched.
        phase: prefill, or one decode step.
        batch: sequences (images) at once.
        context: tokens of each sequence; for decode the tokens in the KV cache, the new one included. Ignored where
            the inputs have no token dimension (images).
        example: inputs by shape, for modules whose inputs do not follow from a config; its batch must be ``batch``.
        source: tokens that the encoder of an encoder-decoder reads; by default as many as its decoder has before.
        name: of the model; by default its type.

    Returns:
        Layers in order of execution; edges form a DAG.

    Raises:
        TypeError: ``model`` is neither a config nor a module.
        NoDecodeSteps: decode of a model without a KV cache; a ValueError.
        ValueError: batch, context or source below 1, inputs that do not fit the model.
        NotImplementedError: the forward depends on data in a way that shapes do not tell; names the module.
    """
    for what, value in (("batch", batch), ("context", context), ("source", context if source is None else source)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{what} must be an integer of at least 1, not {value!r}")
    meta = build_on_meta(model)
    if phase is Phase.DECODE and (example is not None or not generates(meta)):
        raise NoDecodeSteps(f"phase must be prefill for {type(meta).__name__}, which has no KV cache, not 'decode'")
    request = _Request(phase, batch, context, example, source)
    try:
        recorder = _run(meta, request)
    except LoopTooLong:
        recorder = _extrapolate(meta, request)
    layers = layers_of(recorder.records, meta, phase=phase, batch=batch, context=context)
    edges = tuple(
        (recorder.records[source].name, record.name)
        for record in recorder.records
        for source in sorted(record.sources)
        if source < record.index
    )
    return Workload(name or _model_name(meta), phase, layers, edges, batch=batch, context=context)


def workload_from_config(
    path: str | Path, *, phase: Phase = Phase.PREFILL, batch: int = 1, context: int = 256
) -> Workload:
    """The workload of a model from its config.json alone.

    Args:
        path: the file, or the folder it is in.
        phase, batch, context: see ``trace``.

    Raises:
        ValueError: no such file, not JSON, an unknown model_type, a missing key; the message has the file.
        NotImplementedError: see ``trace``.
    """
    path = Path(path)
    config = read_config(path)
    folder = path if path.is_dir() else path.parent
    named = getattr(config, "_name_or_path", "") or ""
    name = named.rstrip("/").rpartition("/")[2] or folder.resolve().name or config.model_type
    return trace(config, phase=phase, batch=batch, context=context, name=name)


# -- running -----------------------------------------------------------------------------------------------------------


def _run(model: nn.Module, request: _Request) -> Recorder:
    """The forward pass that counts, recorded."""
    if request.phase is Phase.PREFILL or request.context == 1:
        return _forward(model, request, request.context)
    try:
        return _forward(model, request, request.context - 1, then_step=True)
    except NotImplementedError:
        return _decode_without_cache(model, request)


def _forward(model: nn.Module, request: _Request, tokens: int, *, then_step: bool = False) -> Recorder:
    """One forward pass over ``tokens``; ``then_step`` records the decode step after it instead."""
    inputs = model_inputs(model, request.batch, tokens, request.example, source=request.source)
    floats = [t for t in inputs.values() if isinstance(t, Tensor) and t.is_floating_point()]
    recorder = Recorder(model, floats)
    with ExitStack() as stack:
        stack.enter_context(_without_data())
        stack.enter_context(trace_attention.recorded_attention(recorder))
        stack.enter_context(routed_experts(recorder))
        stack.enter_context(even_patches(model, step=tokens == 1 < request.context))
        stack.enter_context(recorder)
        try:
            if then_step:
                output = _call(model, {**inputs, "use_cache": True})
                recorder.restart()
                inputs = step_inputs(model, inputs, output, request.batch)
            _call(model, inputs)
        except (LoopTooLong, KeyboardInterrupt):
            raise
        except Exception as error:
            text = " ".join(str(error).split()) or "no message"
            raise NotImplementedError(
                f"the forward of {recorder.where} in {type(model).__name__} must run on shapes alone, not stop with "
                f"{type(error).__name__}: {text[:300]}"
            ) from error
    if not recorder.records:
        raise NotImplementedError(f"the forward of {type(model).__name__} must use its weights, not run without any")
    return recorder


def _call(model: nn.Module, inputs: dict[str, Any]) -> Any:
    positional = inputs.get("")
    return model(positional) if positional is not None else model(**inputs)


def _decode_without_cache(model: nn.Module, request: _Request) -> Recorder:
    """A decode step of a model that keeps no cache outside itself: one token, with the contexts of the prefill."""
    step = _forward(model, request, 1)
    whole = {record.name: record for record in _forward(model, request, request.context).records}
    for record in step.records:
        if record.name not in whole:
            continue
        if record.kind is LayerKind.ATTENTION_QK:
            record.n = whole[record.name].n
        elif record.kind is LayerKind.ATTENTION_PV:
            record.k = whole[record.name].k
        elif record.kind is LayerKind.SOFTMAX:
            record.m, record.n = max(1, record.elements // record.n), whole[record.name].n
    return step


def _extrapolate(model: nn.Module, request: _Request) -> Recorder:
    """Records of a model that loops over tokens in Python, from two short contexts: sizes are linear in tokens."""
    near, far = PROBE_TOKENS
    first, second = (
        _run(model, _Request(request.phase, request.batch, tokens, request.example)) for tokens in PROBE_TOKENS
    )
    short = {record.name: record for record in first.records}
    for record in second.records:
        before = short.get(record.name, record)
        for what in ("m", "k", "n", "copies", "calls", "elements"):
            value = getattr(record, what)
            slope = value - getattr(before, what)
            setattr(record, what, max(1, value + slope * (request.context - far) // (far - near)))
    return second


@contextmanager
def _without_data() -> Iterator[None]:
    """Everything on meta, no gradients, no checks of values, no advice about kernels: nothing is computed."""
    logger = logging.getLogger("transformers")
    level, checks = logger.level, torch.distributions.Distribution._validate_args
    logger.setLevel(logging.CRITICAL)
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        with torch.device("meta"), torch.no_grad():
            yield
    finally:
        logger.setLevel(level)
        torch.distributions.Distribution.set_default_validate_args(checks)


def _model_name(model: nn.Module) -> str:
    return getattr(getattr(model, "config", None), "model_type", None) or type(model).__name__
