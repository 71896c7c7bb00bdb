"""One kernel of every encoding, as its launcher would compile it: for tools that look at code, not at results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from kernels_gpu import argmax, attention, embedding, gate, gemv, norm, rotary
from kernels_gpu.attention_spec import STEP_TOKENS, AttentionSpec
from kernels_gpu.gemv_launch import E4M3_CAPABILITY, choose_shape, spec_of
from kernels_gpu.gemv_plan import RUN, TILE_ROWS, plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.gemv_spec import WARP
from kernels_gpu.native import MAX_SHARED_BYTES, SHARED_BYTES
from kernels_gpu.pairs import CHUNK

MATRIX = (28672, 8192)  # the largest shape that is timed
TOKENS = (1, 8)
# hidden and intermediate size, heads and vocabulary of Llama-2-7B: Touvron et al., arXiv 2307.09288
HIDDEN, INTERMEDIATE, QUERY_HEADS, HEAD_DIM, VOCABULARY = 4096, 11008, 32, 128, 32000
HEADS = {"": 1, "_gqa8": 8}  # queries of a key head


@dataclass(frozen=True)
class Case:
    """A kernel to compile.

    Args:
        name: of the table and of files.
        body: makes the function to compile.
        arguments: their kinds (``native.compile_ptx``).
        key: what tells it from others of its kind.
        weights_per_lane: stored elements that a lane multiplies in a stage.
        product_turns: how often a stage runs its loop of products, where the compiler keeps one.
    """

    name: str
    body: Callable[[], Callable[..., None]]
    arguments: str
    key: str
    weights_per_lane: int
    product_turns: int = 1


def all_cases(capability: tuple[int, int] = (9, 0)) -> Iterator[Case]:
    """Decode GEMVs of 1 and 8 tokens in every encoding that is timed, and decode attention over both caches.

    They are cut as for a device of that compute capability; encodings that it has no instructions for are left out.
    """
    limit = SHARED_BYTES.get(capability, MAX_SHARED_BYTES)
    for tokens in TOKENS:
        for name, config in RECIPES.items():
            plan = plan_of(config)
            if plan.one_nan and capability < E4M3_CAPABILITY:
                continue
            spec = spec_of(plan, tokens, MATRIX, choose_shape(plan, tokens, *MATRIX, limit))
            yield Case(
                name if tokens == 1 else f"{name}_m{tokens}",
                partial(gemv.make_body, spec),
                gemv.ARGUMENTS,
                repr(spec),
                spec.runs * RUN * TILE_ROWS // WARP,
                spec.runs // 2,  # two runs at a time
            )
    for bits in (8, 4):
        for suffix, group in HEADS.items():
            one = AttentionSpec(128, 8, group, bits, bits, 1.0, 1.0, 128**-0.5, warps=8, split=True)
            yield Case(
                f"attention{bits}{suffix}",
                partial(attention.make_body, one),
                attention.ARGUMENTS,
                repr(one),
                2 * STEP_TOKENS * one.head_dim // WARP,
            )
    yield from _between_products()


def _between_products() -> Iterator[Case]:
    """The kernels of a decode step between its products, float16 and bfloat16."""
    for suffix, bfloat in (("", False), ("_bfloat16", True)):
        for name, adds in (("norm", False), ("norm_residual", True)):
            normed = norm.spec_of(HIDDEN, epsilon=1e-5, adds=adds, bfloat=bfloat)
            body = partial(norm.make_body, normed)
            yield Case(name + suffix, body, norm.ARGUMENTS, repr(normed), normed.rounds * CHUNK)
        gated = gate.GateSpec(INTERMEDIATE, True, bfloat)
        yield Case(f"gate{suffix}", partial(gate.make_body, gated), gate.ARGUMENTS, repr(gated), CHUNK)
        for bits in (8, 4):
            turned = rotary.RotarySpec(HEAD_DIM, QUERY_HEADS, QUERY_HEADS, bits, bits, 4, bfloat)
            body = partial(rotary.make_body, turned)
            yield Case(f"rotary{bits}{suffix}", body, rotary.ARGUMENTS, repr(turned), HEAD_DIM // WARP)
        largest = argmax.ArgmaxSpec(VOCABULARY, 1024, True, bfloat)
        body = partial(argmax.make_body, largest)
        yield Case(f"argmax{suffix}", body, argmax.ARGUMENTS, repr(largest), CHUNK * 4)  # of 3.9 chunks a thread
    looked_up = embedding.EmbeddingSpec(HIDDEN, HEAD_DIM, 512, True)
    yield Case("embedding", partial(embedding.make_body, looked_up), embedding.ARGUMENTS, repr(looked_up), CHUNK)
