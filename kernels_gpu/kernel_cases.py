"""One kernel of every encoding, as its launcher would compile it: for tools that look at code, not at results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from kernels_gpu import attention, gemv
from kernels_gpu.attention_spec import STEP_TOKENS, AttentionSpec
from kernels_gpu.gemv_launch import choose_shape, spec_of
from kernels_gpu.gemv_plan import RUN, TILE_ROWS, plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.gemv_spec import WARP

MATRIX = (28672, 8192)  # the largest shape that is timed
TOKENS = (1, 8)
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


def all_cases() -> Iterator[Case]:
    """Decode GEMVs of 1 and 8 tokens in every encoding that is timed, and decode attention over both caches."""
    for tokens in TOKENS:
        for name, config in RECIPES.items():
            plan = plan_of(config)
            spec = spec_of(plan, tokens, MATRIX, choose_shape(plan, tokens, *MATRIX))
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
