"""References of a decode step: of each stage from what it read, and of the whole step in float64.

``compare`` puts a stage that has run beside its reference on the very inputs that it had, so that every stage has the
tolerance of its own kernel; since a stage reads what the one before wrote, a step whose stages are all within
theirs is right. ``logits_in_float64`` is the step without any rounding but the cache's, with a zero added after each
stage: gradients with respect to these say how far the stages' tolerances may move the logits (to first order).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datatypes.packing import pack_tensor, unpack
from datatypes.planes import row_words
from datatypes.quantize import quantize_tensor
from datatypes.rounding import decode
from kernels_gpu import gate, norm
from kernels_gpu.attention_launch import CacheSide
from kernels_gpu.attention_reference import attend
from kernels_gpu.attention_reference import tolerance as attention_tolerance
from kernels_gpu.attention_spec import STEP_TOKENS, cache_format
from kernels_gpu.decode_model import LAYER_MATRICES, Decoder, DecoderLayer, Matrix
from kernels_gpu.decode_step import Stage, StageKind, State, stages
from kernels_gpu.gemv_reference import FLOAT_STEP, HALF_STEP, SMALLEST
from kernels_gpu.gemv_reference import tolerance as product_tolerance
from kernels_gpu.rotary import turned

Arrays = Mapping[str, Tensor]
POISON_WORD = 0x7FFFFFFF
COMPARED_ELEMENTS = 1 << 25  # of keys, as attention sees them, in a reference


def poison(stage: Stage) -> Arrays:
    """Spoil what a stage only writes; return copies of what it reads."""
    kept = {name: tensor.clone() for name, tensor in stage.reads.items()}
    read = {tensor.data_ptr() for tensor in stage.reads.values()}
    for tensor in stage.writes.values():
        if tensor.data_ptr() not in read:
            tensor.fill_(float("nan") if tensor.is_floating_point() else POISON_WORD)
    return kept


@dataclass(frozen=True, eq=False)
class Comparison:
    """A stage that has run beside its reference.

    Args:
        worst: largest error over its tolerance; infinity where results that must be equal differ; ``None`` where there
            is nothing to compare with (kernels that others wrote, without their values).
        allowed: float64, for each rounded result in order, how far it may be from exact arithmetic on the same inputs.
    """

    worst: float | None
    allowed: tuple[np.ndarray, ...]


def compare(stage: Stage, before: Arrays, decoder: Decoder, state: State) -> Comparison:
    """A stage that has run, compared; ``before`` is what it read."""
    return _CHECKS[stage.kind](stage, before, decoder, state)


def verify(decoder: Decoder, state: State, *, advance: bool, wanted: Callable[[Stage], bool]) -> dict[str, float]:
    """Run a step stage by stage, those that are ``wanted`` on poisoned results; the worst error of each kind.

    Raises:
        AssertionError: a stage beyond its tolerance.
    """
    worst: dict[str, float] = {}
    for stage in stages(decoder, state, advance=advance):
        chosen = wanted(stage)
        before = poison(stage) if chosen and stage.calls else {}
        for call in stage.calls:
            call()
        if before:
            found = compare(stage, before, decoder, state).worst
            name = stage.kind.value if stage.matrix is None else stage.matrix.value
            assert found is None or found <= 1, (
                f"{name} of layer {stage.layer} must be within its tolerance, not {found:.3g} times it"
            )
            if found is not None:
                worst[name] = max(found, worst.get(name, 0.0))
    return worst


def _equal(*pairs: tuple[Tensor, Tensor]) -> float:
    return 0.0 if all(torch.equal(a, b) for a, b in pairs) else float("inf")


def _within(made: Tensor, expected: np.ndarray, allowed: np.ndarray) -> float:
    error = np.abs(made.double().numpy(force=True).reshape(expected.shape) - expected)
    return float(np.nan_to_num(error / allowed, nan=np.inf).max())


def _rounding(values: Tensor) -> np.ndarray:
    """Half a step of a result's type."""
    return values.double().abs().numpy(force=True) * HALF_STEP[values.dtype] + SMALLEST[values.dtype]


def _embedding(stage: Stage, before: Arrays, decoder: Decoder, state: State) -> Comparison:
    position = (stage.writes["lengths"] - 1).clamp(min=0).long()
    grown = set((stage.writes["lengths"] - before["lengths"]).tolist())
    same = _equal(
        (stage.writes["out"], decoder.embedding[before["tokens"].long()]),
        (stage.writes["turns"], state.turns[position]),
    )
    return Comparison(same if grown in ({0}, {1}) else float("inf"), (np.zeros(stage.writes["out"].shape),))


def _norm(stage: Stage, before: Arrays, decoder: Decoder, state: State) -> Comparison:
    assert stage.gain is not None
    epsilon, residual, adds = decoder.shape.epsilon, before["residual"], "delta" in before
    total, expected = norm.add_and_normalise(residual, before.get("delta"), stage.gain, epsilon)
    bfloat = residual.dtype == torch.bfloat16
    allowed = norm.tolerance(expected, norm.spec_of(residual.shape[1], epsilon=epsilon, adds=adds, bfloat=bfloat))
    worst = max(_equal((stage.writes["residual"], total)), _within(stage.writes["out"], expected, allowed))
    return Comparison(worst, (_rounding(total), allowed) if adds else (allowed,))


def _product(stage: Stage, before: Arrays, decoder: Decoder, state: State) -> Comparison:
    assert stage.weight is not None
    dense, x = stage.weight.dense(), before["x"]
    if dense is None:
        return Comparison(None, ())
    expected = x.double() @ dense.double().T
    if stage.weight.plan is not None:
        bound = product_tolerance(x, dense, stage.weight.plan, expected)
    else:
        # cuBLAS may cut k into parts and round their sums to 16 bits: torch's notes on reduced-precision reduction
        step, absolute = HALF_STEP[x.dtype], x.double().abs() @ dense.double().abs().T
        of_sums = x.shape[1] * FLOAT_STEP + (2 * step if x.is_cuda else 0)
        bound = absolute * of_sums + expected.abs() * step + SMALLEST[x.dtype]
    allowed = bound.numpy(force=True)
    return Comparison(_within(stage.writes["out"], expected.numpy(force=True), allowed), (allowed,))


def _rotary(stage: Stage, before: Arrays, decoder: Decoder, state: State) -> Comparison:
    assert stage.cache is not None
    shape, m = decoder.shape, state.batch
    heads = before["qkv"].cpu().view(m, -1, shape.head_dim)
    rotated = turned(heads[:, : shape.heads + shape.key_heads], before["turns"].cpu())
    queries = rotated[:, : shape.heads]
    pairs = [(stage.writes["queries"].cpu(), queries.to(heads.dtype))]
    new = {"keys": rotated[:, shape.heads :], "values": heads[:, shape.heads + shape.key_heads :].float()}
    for (name, rows), side, scales in zip(new.items(), stage.cache, ("key_scales", "value_scales"), strict=True):
        pairs += _appended(side, rows, (before[name], before[scales]), before["lengths"].tolist())
    # cosine and sine, two products, a sum: each rounded once, of at most twice the largest magnitude
    lost = 8 * FLOAT_STEP * heads[:, : shape.heads].double().abs().amax(2, keepdim=True).numpy()
    return Comparison(_equal(*pairs), (_rounding(queries.to(heads.dtype)) + lost,))


def _appended(
    side: CacheSide, rows: Tensor, before: tuple[Tensor, Tensor], lengths: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    """The cache after the append, and as ``quantize_tensor`` makes it of ``rows`` ``[m, heads, d]``."""
    m, heads, capacity, d = side.shape
    arrays = pack_tensor(quantize_tensor(rows.reshape(-1, d), side.config))
    codes, scale = before[0].clone(), before[1].clone()
    new_codes = arrays["codes"].view(m, heads, -1).to(codes.device)
    new_scale = arrays["scale"].view(-1)[: m * heads].view(m, heads).to(scale.device)
    for b, n in enumerate(lengths):
        if n:
            codes.view(m, heads, capacity, -1)[b, :, n - 1] = new_codes[b]
            scale.view(-1)[: m * heads * capacity].view(m, heads, capacity)[b, :, n - 1] = new_scale[b]
    return [(side.codes, codes), (side.scale, scale)]


def decoded(side: CacheSide, sequences: int | None = None) -> Tensor:
    """Values of the first ``sequences`` of a side, or of all, float32 ``[sequences, heads, capacity, d]``."""
    b, heads, capacity, d = side.shape
    kept = b if sequences is None else sequences
    rows, fmt = kept * heads * capacity, cache_format(side.config)
    codes = unpack(side.codes.view(-1, row_words(d, fmt.bits))[:rows], fmt.bits, d)
    return (decode(codes, fmt) * side.scale.view(-1)[:rows, None].float()).view(kept, heads, capacity, d)


def _attention(stage: Stage, before: Arrays, decoder: Decoder, state: State) -> Comparison:
    """Of as many sequences as a reference in float64 reaches in seconds."""
    assert stage.cache is not None
    queries, value = before["queries"], stage.cache[1]
    m, heads, capacity, d = value.shape
    kept = min(m, max(1, COMPARED_ELEMENTS // (queries.shape[1] * capacity * d)))
    scales = value.scale.view(-1)[: kept * heads * capacity].view(kept, heads, capacity).float().numpy(force=True)
    keys, values = (decoded(side, kept).numpy(force=True) for side in stage.cache)
    wide, lengths = queries[:kept].float().numpy(force=True), np.array(before["lengths"].tolist()[:kept])
    expected, _ = attend(wide, keys, values, lengths=lengths, scale=d**-0.5)
    parts = 8 + capacity // STEP_TOKENS  # warps, those of further blocks no more than there are steps
    allowed = attention_tolerance(
        wide, keys, values, scales, lengths=lengths, scale=d**-0.5, parts=parts, half_step=HALF_STEP[queries.dtype]
    )
    return Comparison(_within(stage.writes["out"][:kept], expected, allowed), (allowed,))


def _gate(stage: Stage, before: Arrays, decoder: Decoder, state: State) -> Comparison:
    both = before["both"].double().numpy(force=True)
    expected = gate.gated(both)
    allowed = gate.tolerance(both, expected, before["both"].dtype)
    return Comparison(_within(stage.writes["out"], expected, allowed), (allowed,))


def _argmax(stage: Stage, before: Arrays, decoder: Decoder, state: State) -> Comparison:
    expected = np.argmax(before["logits"].float().numpy(force=True), axis=1)
    return Comparison(0.0 if stage.writes["tokens"].tolist() == expected.tolist() else float("inf"), ())


_CHECKS: Mapping[StageKind, Callable[[Stage, Arrays, Decoder, State], Comparison]] = {
    StageKind.EMBEDDING: _embedding,
    StageKind.NORM: _norm,
    StageKind.PRODUCT: _product,
    StageKind.ROTARY: _rotary,
    StageKind.ATTENTION: _attention,
    StageKind.GATE: _gate,
    StageKind.ARGMAX: _argmax,
}


def logits_in_float64(
    decoder: Decoder, tokens: Sequence[int], positions: Sequence[int], state: State, moved: Callable[[Tensor], Tensor]
) -> Tensor:
    """Logits of a step in float64 ``[m, vocabulary]``, given the cache after it (the new rows as they were stored).

    Args:
        decoder: its weights, decoded.
        tokens, positions: of each sequence, in this step.
        state: whose caches hold ``positions + 1`` tokens.
        moved: called with the result of every stage that rounds, in order, to return it moved.
    """
    shape = decoder.shape
    residual = moved(decoder.embedding[list(tokens)].double())
    turn = state.turns[list(positions)].double()

    def dense(layer: DecoderLayer, which: Matrix) -> Tensor:
        found = layer.weights[which].dense()
        assert found is not None
        return found.double()

    def normed(x: Tensor, gain: Tensor) -> Tensor:
        return moved(torch.nn.functional.rms_norm(x, (shape.hidden,), gain.double(), shape.epsilon))

    for layer, cache in zip(decoder.layers, state.caches, strict=True):
        qkv, out, gate_up, down = (dense(layer, which) for which in LAYER_MATRICES)
        x = normed(residual, layer.attention_gain)
        heads = moved(x @ qkv.T).view(state.batch, -1, shape.head_dim)[:, : shape.heads]
        first, second = heads.chunk(2, dim=2)
        cos, sin = turn[:, None, :, 0], turn[:, None, :, 1]
        queries = moved(torch.cat([first * cos - second * sin, second * cos + first * sin], dim=2))
        keys, values = (decoded(side).double() for side in cache)
        attended = []
        for b, position in enumerate(positions):
            seen = slice(0, position + 1)
            attended.append(
                torch.nn.functional.scaled_dot_product_attention(
                    queries[b][:, None], keys[b, :, seen], values[b, :, seen], enable_gqa=True
                )[:, 0]
            )
        given = moved(torch.stack(attended).view(state.batch, -1))
        residual = moved(residual + moved(given @ out.T))
        both = moved(normed(residual, layer.feed_forward_gain) @ gate_up.T)
        gates, ups = both.chunk(2, dim=1)
        residual = moved(residual + moved(moved(torch.nn.functional.silu(gates) * ups) @ down.T))
    head = decoder.head.dense()
    assert head is not None
    return moved(normed(residual, decoder.final_gain) @ head.double().T)
