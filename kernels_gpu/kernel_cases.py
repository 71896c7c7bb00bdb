"""One kernel of every encoding, as its launcher would compile it: for tools that look at code, not at results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from kernels_gpu import (
    argmax,
    attention,
    dequantize,
    embedding,
    gate,
    gemm,
    gemv,
    layer_inputs,
    low_rank,
    norm,
    outliers,
    outliers_launch,
    rotary,
)
from kernels_gpu.attention_spec import STEP_TOKENS, AttentionSpec
from kernels_gpu.dequantize_launch import THREADS as DEQUANTIZE_THREADS
from kernels_gpu.gemm_decode import tile_kernel_obstacle
from kernels_gpu.gemm_launch import choose_cut
from kernels_gpu.gemm_launch import spec_of as gemm_spec_of
from kernels_gpu.gemm_spec import RUNS
from kernels_gpu.gemv_branch_spec import BranchSpec
from kernels_gpu.gemv_launch import E4M3_CAPABILITY, choose_shape, spec_of
from kernels_gpu.gemv_plan import RUN, TILE_ROWS, plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.gemv_spec import WARP
from kernels_gpu.layer_recipes import FACTORS, RANK, SHARE
from kernels_gpu.low_rank_launch import spec_of_a, spec_of_b, spec_of_columns
from kernels_gpu.low_rank_spec import Factor, FactorKind, ThinSpec, factor_of
from kernels_gpu.native import MAX_SHARED_BYTES, SHARED_BYTES
from kernels_gpu.pairs import CHUNK

MATRIX = (28672, 8192)  # the largest shape that is timed
TOKENS = (1, 8)
PREFILL_TOKENS = (32, 128)
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

    Then what stands between the products of a step, what a layer has beside its dense product, and prefill.

    They are cut as for a device of that compute capability with an H100's memory, as nobody is asked for the device's;
    encodings that it has no instructions for are left out.
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
                1 if spec.gathered else spec.runs // 2,  # two runs at a time
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
    yield from _beside_products()
    yield from _prefill(capability, limit)


def _beside_products() -> Iterator[Case]:
    """Low-rank branches, outliers and inputs of layers with one token and with eight."""
    k = MATRIX[1]
    for tokens in TOKENS:
        suffix = "" if tokens == 1 else f"_m{tokens}"
        thin: dict[str, ThinSpec] = {}
        for name, config in FACTORS.items():
            first = thin[f"low_rank_a_{name}"] = spec_of_a(factor_of(config, k), tokens, k)
            thin[f"low_rank_b_{name}"] = spec_of_b(factor_of(config, RANK), tokens, first.splits)
        thin["outlier_columns"] = spec_of_columns(Factor(FactorKind.FP16, round(SHARE * k)), tokens, k)
        for name, spec in thin.items():
            weights = spec.rounds * spec.loads * spec.factor.unit
            yield Case(name + suffix, partial(low_rank.make_body, spec), low_rank.ARGUMENTS, repr(spec), weights)
        plan = plan_of(RECIPES["int4_g128"])
        for name, config in FACTORS.items():
            branch = BranchSpec(factor_of(config, k), factor_of(config, RANK))
            fused = spec_of(plan, tokens, MATRIX, choose_shape(plan, tokens, *MATRIX, branch=branch), branch=branch)
            body, weights = partial(gemv.make_body, fused), fused.runs * RUN * TILE_ROWS // WARP
            yield Case(f"int4_branch_{name}{suffix}", body, gemv.ARGUMENTS, repr(fused), weights, fused.runs // 2)
        rows = outliers_launch.spec_of(k, tokens)
        body, weights = partial(outliers.make_body, rows), rows.elements // rows.threads
        yield Case(f"outlier_rows{suffix}", body, outliers.ARGUMENTS, repr(rows), weights)
    taken = layer_inputs.InputsSpec(k, k, True, True)
    yield Case("layer_inputs", partial(layer_inputs.make_body, taken), layer_inputs.ARGUMENTS, repr(taken), 1)


def _prefill(capability: tuple[int, int], limit: int) -> Iterator[Case]:
    """The dequantizer and the tile kernel in every encoding that they have."""
    k = MATRIX[1]
    for name, config in RECIPES.items():
        whole = dequantize.DequantizeSpec(config, k, DEQUANTIZE_THREADS)
        body = partial(dequantize.make_body, whole)
        yield Case(f"dequantize_{name}", body, dequantize.ARGUMENTS, repr(whole), dequantize.UNIT)
        plan = plan_of(config)
        if tile_kernel_obstacle(plan) is not None or (plan.one_nan and capability < E4M3_CAPABILITY):
            continue
        for tokens in PREFILL_TOKENS:
            spec = gemm_spec_of(plan, MATRIX, choose_cut(config, tokens, MATRIX, limit))
            body, weights = partial(gemm.make_body, spec), RUNS * RUN * TILE_ROWS // WARP
            yield Case(f"gemm_{name}_m{tokens}", body, gemm.ARGUMENTS, repr(spec), weights, RUNS)


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
