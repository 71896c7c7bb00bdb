"""How wrong a quantized model is: perplexity, divergence from the original, and agreement with it.

Protocol of perplexity (that of GPTQ, arXiv 2210.17323, section 4, and most after it): the text is joined, tokenized
once and cut into windows of ``context`` tokens that do not overlap; in each window every token but the first is
predicted from those before it; the loss is the mean over all predicted tokens. The context is part of the result.
Where windows start with a token of the tokenizer's (``codesign.tokens.first_token``), the first of the text is
predicted.

The Kullback-Leibler divergence and the agreement of the most likely token compare with the original model's
distribution at every predicted position. Of the original its last hidden states are kept, not its logits
(``Reference``); logits of both exist for ``BlockModel.logit_tokens`` tokens at a time.

A walk that is given a ``StreamFile`` keeps its hidden states after every block and goes on from there if it was killed.

Windows are independent samples, so standard errors come from the spread of the windows' mean losses; two models on the
same windows are compared by the paired difference (``loss_difference``), whose error is far smaller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codesign.apply import KVFormats, RoundingCache, install
from codesign.blocks import BlockModel, Stream
from codesign.calibrate_model import batches_of
from codesign.outer_layers import OuterLayers
from codesign.quantize_blocks import NO_KV
from codesign.steps import NO_STEPS, Steps
from codesign.stream_file import StreamFile
from datatypes.quantized_layer import QuantizedLayer


@dataclass(frozen=True, eq=False)
class AccuracyResult:
    """Accuracy on one text.

    Args:
        losses: float32 ``[windows, context - 1]``: minus log probability of each predicted token, nats.
        context: tokens of a window.
        kl_nats: mean over predicted tokens of KL(original || this), nats; ``None`` without a reference.
        top1_agreement: share of predicted positions at which both models' most likely token is the same.
        text_bytes: UTF-8 bytes of the predicted tokens' text; ``None`` where unknown.
    """

    losses: np.ndarray
    context: int
    kl_nats: float | None = None
    top1_agreement: float | None = None
    text_bytes: int | None = None

    @property
    def tokens(self) -> int:
        """Predicted tokens."""
        return int(self.losses.size)

    @property
    def loss_nats(self) -> float:
        """Mean loss of a predicted token, nats."""
        return float(self.losses.mean(dtype=np.float64))

    @property
    def perplexity(self) -> float:
        """exp(loss); infinity where that overflows."""
        return math.exp(self.loss_nats) if self.loss_nats < 709 else math.inf  # largest exponent of a double

    @property
    def bits_per_byte(self) -> float | None:
        """Loss in bits over bytes of text; independent of the tokenizer."""
        if self.text_bytes is None:
            return None
        return float(self.losses.sum(dtype=np.float64)) / math.log(2) / self.text_bytes

    @property
    def loss_standard_error(self) -> float | None:
        """Standard error of ``loss_nats`` over windows; ``None`` for fewer than two."""
        return _standard_error(self.losses.mean(axis=1, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Reference:
    """The original model on some windows: what quantized models are compared with.

    Args:
        windows: the tokens ``[w, t]``.
        hidden: the last block's output, ``[b, t, d]`` of each batch.
        result: its accuracy.
    """

    windows: Tensor
    hidden: tuple[Tensor, ...]
    result: AccuracyResult


def loss_difference(result: AccuracyResult, base: AccuracyResult) -> tuple[float, float | None]:
    """Mean loss of ``result`` minus that of ``base``, nats, and the standard error of that over windows.

    Raises:
        ValueError: the two are not of the same windows.
    """
    if result.losses.shape != base.losses.shape:
        raise ValueError(f"results must be of the same windows, not {result.losses.shape} and {base.losses.shape}")
    difference = (result.losses.astype(np.float64) - base.losses.astype(np.float64)).mean(axis=1)
    return float(difference.mean()), _standard_error(difference)


def reference(
    model: BlockModel,
    windows: Tensor,
    *,
    text_bytes: int | None = None,
    steps: Steps = NO_STEPS,
    kept: StreamFile | None = None,
) -> Reference:
    """The original model on ``windows`` ``[w, t]``.

    Args:
        kept: where its hidden states and losses are kept, for this run or one that goes on after it.
    """

    def said(_what: str, done: int, total: int) -> None:
        steps("evaluate the original", done, total)

    model.check_next_token()
    stream = run_blocks(model, batches_of(_checked(windows)), steps=said, kept=kept)
    losses = None if kept is None else kept.load_losses()
    if losses is None:
        losses = torch.cat([_losses(model, h, t) for h, t in zip(stream.hidden, stream.tokens, strict=True)])
        if kept is not None:
            kept.save_losses(losses)
    result = AccuracyResult(losses.numpy(), windows.shape[1], text_bytes=text_bytes)
    return Reference(windows, tuple(stream.hidden), result)


def perplexity(
    model: BlockModel,
    windows: Tensor,
    layers: Mapping[str, QuantizedLayer],
    *,
    kv: KVFormats = NO_KV,
    base: Reference | None = None,
    text_bytes: int | None = None,
    steps: Steps = NO_STEPS,
    kept: StreamFile | None = None,
) -> AccuracyResult:
    """Accuracy of the model with ``layers`` in place of its own, one block at a time.

    Args:
        model: the walked model.
        windows: tokens ``[w, t]``.
        layers: quantized layers by name; a mapping that reads them when asked needs only one block's at a time.
        kv: formats of the KV cache.
        base: the original on the same windows, for divergence and agreement.
        text_bytes: bytes of the predicted tokens' text.
        kept: where hidden states are kept between blocks; its key must name model, windows, layers and ``kv``.

    Raises:
        ValueError: windows of fewer than two tokens, other windows than the reference's, NaN in the model's output, or
            a layer that the model has not.
        NotImplementedError: the model does not predict the next token (an encoder, a classifier).
    """
    windows = _checked(windows)
    model.check_next_token()
    if base is not None and not torch.equal(base.windows.cpu(), windows.cpu()):
        raise ValueError(f"windows must be those of the reference {tuple(base.windows.shape)}, not others")
    outer = OuterLayers(model, layers)
    stream = run_blocks(model, batches_of(windows), layers, kv=kv, outer=outer, steps=steps, kept=kept)
    losses: list[Tensor] = []
    divergence = agreed = 0.0
    for i, (hidden, tokens) in enumerate(zip(stream.hidden, stream.tokens, strict=True)):
        if base is None:
            with outer.in_place():
                losses.append(_losses(model, hidden, tokens))
            continue
        loss, kl, same = _compare(model, outer, hidden, base.hidden[i], tokens)
        losses.append(loss)
        divergence, agreed = divergence + kl, agreed + same
    joined = torch.cat(losses).numpy()
    if not np.isfinite(joined).all():
        raise ValueError(
            f"losses of {model.source.name} must be finite, not NaN or infinite: the quantized model broke"
        )
    return AccuracyResult(
        joined,
        windows.shape[1],
        None if base is None else divergence / joined.size,
        None if base is None else agreed / joined.size,
        text_bytes,
    )


def run_blocks(
    model: BlockModel,
    batches: list[Tensor],
    layers: Mapping[str, QuantizedLayer] | None = None,
    *,
    kv: KVFormats = NO_KV,
    outer: OuterLayers | None = None,
    steps: Steps = NO_STEPS,
    kept: StreamFile | None = None,
) -> Stream:
    """The last block's outputs for ``batches`` of tokens ``[b, t]``, with ``layers`` in place of the model's own.

    Args:
        outer: those of ``layers`` that lie outside the blocks, where they are decoded already.
        kept: hidden states after the last block that an earlier run finished, and after each that this run does; of
            no use to a model walked whole.
    """
    layers = {} if layers is None else layers
    unknown = set(layers) - set(model.layer_names()) - {slot.name for slot in model.outer_slots()}
    if unknown:
        raise ValueError(f"quantized layers must be linear layers of {model.source.name}, not {min(unknown)}")
    with (OuterLayers(model, layers) if outer is None else outer).in_place():
        stream = model.embed(batches)
    kept = None if model.whole else kept
    passed = 0 if kept is None else kept.load(stream) or 0
    for index in range(passed, len(model)):
        with model.block(index, without=layers) as block:
            install(block, model.paths[index], layers, device=model.device)
            cache = RoundingCache(kv, model.paths[index]) if kv else None
            model.advance(stream, index, block, cache=cache)
            if cache is not None:
                cache.check_used()
        if kept is not None:
            kept.save(stream, index + 1)
        steps("evaluate", index + 1, len(model))
    return stream


def _checked(windows: Tensor) -> Tensor:
    if windows.dim() != 2 or windows.shape[0] < 1 or windows.shape[1] < 2:
        raise ValueError(f"windows must be at least one of at least two tokens, not {list(windows.shape)!r}")
    return windows


def _losses(model: BlockModel, hidden: Tensor, tokens: Tensor) -> Tensor:
    """Loss of each predicted token, float32 ``[b, t - 1]``, on the CPU."""
    parts = []
    with torch.no_grad():
        for start, stop in _chunks(model, tokens):
            logits = model.logits(hidden[:, start:stop])
            parts.append(-_log_probability(torch.log_softmax(logits, -1), tokens[:, start + 1 : stop + 1]).cpu())
    return torch.cat(parts, dim=1)


def _compare(
    model: BlockModel, outer: OuterLayers, hidden: Tensor, original: Tensor, tokens: Tensor
) -> tuple[Tensor, float, float]:
    """Losses, summed divergence and count of equal most likely tokens of a batch."""
    parts = []
    divergence = agreed = 0.0
    with torch.no_grad():
        for start, stop in _chunks(model, tokens):
            wanted = torch.log_softmax(model.logits(original[:, start:stop]), -1)
            with outer.in_place():
                made = torch.log_softmax(model.logits(hidden[:, start:stop]), -1)
            parts.append(-_log_probability(made, tokens[:, start + 1 : stop + 1]).cpu())
            agreed += float((wanted.argmax(-1) == made.argmax(-1)).sum())
            ratio = made.neg_().add_(wanted).flatten(0, 1)  # in place: logits are what takes the memory
            probability = wanted.exp_().flatten(0, 1)
            each = torch.bmm(probability[:, None, :], ratio[:, :, None])
            divergence += float(each.sum(dtype=torch.float64))
    return torch.cat(parts, dim=1), divergence, agreed


def _chunks(model: BlockModel, tokens: Tensor) -> list[tuple[int, int]]:
    """Runs of positions whose logits exist at one time; the last position predicts nothing."""
    step = max(1, model.logit_tokens // tokens.shape[0])
    predicted = tokens.shape[1] - 1
    return [(start, min(start + step, predicted)) for start in range(0, predicted, step)]


def _log_probability(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    return log_probabilities.gather(-1, targets[..., None])[..., 0]


def _standard_error(samples: np.ndarray) -> float | None:
    return float(samples.std(ddof=1) / math.sqrt(len(samples))) if len(samples) > 1 else None
