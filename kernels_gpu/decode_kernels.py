"""The kernels of a decode step, known before any buffer is there, so that they can be compiled in parallel.

One takes a second or more to compile and a step has about a dozen; compiled in processes of their own, they are found
by the launchers in the folder that ``native.PTX_FOLDER`` names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from kernels_gpu import argmax, attention, attention_merge, embedding, gate, norm, rotary
from kernels_gpu.attention_launch import WARPS
from kernels_gpu.attention_spec import AttentionSpec, cache_format
from kernels_gpu.compile_ahead import Ahead
from kernels_gpu.decode_floor import StepCase
from kernels_gpu.decode_model import CACHES, LAYER_MATRICES, Matrix
from kernels_gpu.gemv_launch import choose_shape, kernel_ahead, spec_of, tokens_at_once
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_spec import GemvSpec

Spec = (
    GemvSpec
    | AttentionSpec
    | norm.NormSpec
    | gate.GateSpec
    | rotary.RotarySpec
    | embedding.EmbeddingSpec
    | argmax.ArgmaxSpec
)
_MAKERS: dict[type, tuple[Callable[[Any], Callable[..., None]], str]] = {
    AttentionSpec: (attention.make_body, attention.ARGUMENTS),
    norm.NormSpec: (norm.make_body, norm.ARGUMENTS),
    gate.GateSpec: (gate.make_body, gate.ARGUMENTS),
    rotary.RotarySpec: (rotary.make_body, rotary.ARGUMENTS),
    embedding.EmbeddingSpec: (embedding.make_body, embedding.ARGUMENTS),
    argmax.ArgmaxSpec: (argmax.make_body, argmax.ARGUMENTS),
}


def kernels_of(case: StepCase, dtype: torch.dtype, memory_bytes_per_s: float | None = None) -> set[Spec]:
    """The kernels that a step launches, as its launchers will ask for them; attention for one part and for several.

    ``memory_bytes_per_s`` is the device's, as in ``gemv_launch.choose_shape``.
    """
    shape, bfloat = case.shape, dtype == torch.bfloat16
    fmt, bits = cache_format(CACHES[case.cache_bits]), (case.cache_bits,) * 2
    group, scale = shape.heads // shape.key_heads, shape.head_dim**-0.5
    made: set[Spec] = {
        AttentionSpec(shape.head_dim, shape.key_heads, group, *bits, fmt.step, fmt.step, scale, WARPS, split, bfloat)
        for split in (True, False)
    }
    made |= {norm.spec_of(shape.hidden, epsilon=shape.epsilon, adds=adds, bfloat=bfloat) for adds in (True, False)}
    made.add(gate.GateSpec(shape.intermediate, True, bfloat))
    made.add(rotary.RotarySpec(shape.head_dim, shape.heads, shape.key_heads, *bits, bfloat=bfloat))
    made |= {embedding.spec_of(shape.hidden, shape.head_dim), argmax.spec_of(shape.vocabulary, bfloat=bfloat)}
    configs = dict.fromkeys(LAYER_MATRICES, None if case.tinygemm else case.weights) | {Matrix.HEAD: case.head}
    for which, config in configs.items():
        if config is not None:
            plan, size = plan_of(config), shape.matrix(which)
            most = tokens_at_once(plan, case.batch, size)
            for tokens in {most, case.batch - (case.batch - 1) // most * most}:  # the last launch may have fewer
                cut = choose_shape(plan, tokens, *size, memory_bytes_per_s=memory_bytes_per_s)
                made.add(spec_of(plan, tokens, size, cut, bfloat=bfloat))
    return made


def ahead(specs: Iterable[Spec]) -> Iterator[Ahead]:
    """What is to be compiled for them; attention in several parts with its merge."""
    for spec in specs:
        if isinstance(spec, GemvSpec):
            yield kernel_ahead(spec)
            continue
        make, arguments = _MAKERS[type(spec)]
        yield Ahead(make, arguments, spec)
        if isinstance(spec, AttentionSpec) and spec.split:
            yield Ahead(attention_merge.make_merge, attention_merge.MERGE_ARGUMENTS, spec, "merge")
