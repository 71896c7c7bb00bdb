"""Zero-shot accuracy: which continuation a model finds most probable, or whether it writes the right one greedily.

The protocol of EleutherAI's lm-evaluation-harness (github.com/EleutherAI/lm-evaluation-harness, ``loglikelihood``
requests): context and continuation are tokenized together, white space at the end of the context counting to the
continuation; the score is the summed log probability of the continuation's tokens. Accuracy takes the largest score,
normalised accuracy the largest score over the number of characters of the continuation, and a greedy question is right
where every token of its continuation is the most likely one.

Requests of equal length run together without padding, so a score does not depend on its neighbours but for the
rounding of matrix products. Contexts longer than the model's are cut at the left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codesign.accuracy import run_blocks
from codesign.apply import KVFormats
from codesign.blocks import BlockModel, Stream
from codesign.calibrate_model import BATCH_TOKENS
from codesign.outer_layers import OuterLayers
from codesign.quantize_blocks import NO_KV
from codesign.steps import NO_STEPS, Steps
from codesign.tasks import Task, TaskKind
from datatypes.quantized_layer import QuantizedLayer

TOKENS_AT_ONCE = 1 << 15  # of requests whose hidden states exist at one time


@dataclass(frozen=True, eq=False)
class ZeroShotResult:
    """How many questions of a task were answered right.

    Args:
        task: its name.
        correct: bool ``[questions]``: right by the summed log probability (or greedily).
        correct_norm: bool ``[questions]``: right by the log probability over the continuation's characters; the same as
            ``correct`` for greedy questions.
    """

    task: str
    correct: np.ndarray
    correct_norm: np.ndarray

    @property
    def questions(self) -> int:
        """Number of questions."""
        return len(self.correct)

    @property
    def accuracy(self) -> float:
        """Share answered right."""
        return float(self.correct.mean())

    @property
    def accuracy_norm(self) -> float:
        """Share answered right by normalised score."""
        return float(self.correct_norm.mean())

    @property
    def accuracy_standard_error(self) -> float | None:
        """Standard error of ``accuracy``; ``None`` for fewer than two questions."""
        return _standard_error(self.correct)

    @property
    def accuracy_norm_standard_error(self) -> float | None:
        """Standard error of ``accuracy_norm``; ``None`` for fewer than two questions."""
        return _standard_error(self.correct_norm)


@dataclass(frozen=True)
class Request:
    """One continuation to be scored.

    Args:
        tokens: of context and continuation.
        scored: how many at the end belong to the continuation.
    """

    tokens: tuple[int, ...]
    scored: int


def zero_shot(
    model: BlockModel,
    task: Task,
    tokenizer: Any,
    layers: Mapping[str, QuantizedLayer],
    *,
    kv: KVFormats = NO_KV,
    bos_token_id: int | None = None,
    steps: Steps = NO_STEPS,
) -> ZeroShotResult:
    """Answer the questions of ``task`` with ``layers`` in place of the model's own.

    Args:
        model: the walked model.
        tokenizer: of the model.
        layers: quantized layers by name; empty for the original model.
        kv: formats of the KV cache.
        bos_token_id: put before every context, for models that need it (Gemma).

    Raises:
        ValueError: a continuation without tokens, or an empty context without ``bos_token_id``.
        NotImplementedError: the model does not predict the next token.
    """
    model.check_next_token()
    longest = getattr(getattr(model.model, "config", None), "max_position_embeddings", None)
    requests: list[Request] = []
    for question in task.questions:
        for context, continuation in zip(question.contexts, question.continuations, strict=True):
            requests.append(encode_request(tokenizer, context, continuation, bos_token_id, longest))
    scores, greedy = score_requests(model, requests, layers, kv=kv, steps=steps)
    correct: list[bool] = []
    correct_norm: list[bool] = []
    at = 0
    for question in task.questions:
        count = len(question.continuations)
        mine, at = slice(at, at + count), at + count
        if task.kind is TaskKind.GREEDY:
            correct.append(bool(greedy[mine][question.label]))
            correct_norm.append(correct[-1])
            continue
        lengths = np.array([max(1, len(continuation)) for continuation in question.continuations])
        correct.append(int(scores[mine].argmax()) == question.label)
        correct_norm.append(int((scores[mine] / lengths).argmax()) == question.label)
    return ZeroShotResult(task.name, np.array(correct), np.array(correct_norm))


def encode_request(
    tokenizer: Any, context: str, continuation: str, bos_token_id: int | None = None, longest: int | None = None
) -> Request:
    """Tokens of a context and its continuation, split where the context's own tokens end."""
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    both = tokenizer(stripped + continuation, add_special_tokens=False)["input_ids"]
    before = len(tokenizer(stripped, add_special_tokens=False)["input_ids"]) if stripped else 0
    scored = len(both) - before
    if scored < 1:
        raise ValueError(f"a continuation must have at least one token, not {continuation!r}")
    if bos_token_id is not None:
        both = [bos_token_id, *both]
    if longest is not None and len(both) > longest:
        both = both[len(both) - longest :]
    if len(both) <= scored:
        raise ValueError(f"a context must have at least one token or bos_token_id, not {context!r}")
    return Request(tuple(both), scored)


def score_requests(
    model: BlockModel,
    requests: Sequence[Request],
    layers: Mapping[str, QuantizedLayer],
    *,
    kv: KVFormats = NO_KV,
    steps: Steps = NO_STEPS,
) -> tuple[np.ndarray, np.ndarray]:
    """Log probability of each request's continuation, float64, and whether greedy decoding would write it."""
    scores = np.zeros(len(requests))
    greedy = np.zeros(len(requests), dtype=bool)
    outer = OuterLayers(model, layers)
    order = sorted(range(len(requests)), key=lambda i: (len(requests[i].tokens), i))
    for part in _parts(order, requests):
        batches = _batches(part, requests)
        tokens = [torch.tensor([requests[i].tokens for i in batch]) for batch in batches]
        stream = run_blocks(model, tokens, layers, kv=kv, outer=outer, steps=steps)
        with torch.no_grad(), outer.in_place():
            _score(model, stream, batches, requests, (scores, greedy))
    return scores, greedy


def _score(
    model: BlockModel,
    stream: Stream,
    batches: list[list[int]],
    requests: Sequence[Request],
    results: tuple[np.ndarray, np.ndarray],
) -> None:
    """Fill in the results of one walk: the positions that predict continuations are gathered, then run in chunks."""
    hidden: list[Tensor] = []
    targets: list[Tensor] = []
    owners: list[int] = []
    for states, tokens, batch in zip(stream.hidden, stream.tokens, batches, strict=True):
        for row, i in enumerate(batch):
            first = tokens.shape[1] - requests[i].scored
            hidden.append(states[row, first - 1 : -1])
            targets.append(tokens[row, first:])
            owners += [i] * requests[i].scored
    joined, wanted = torch.cat(hidden), torch.cat(targets)
    scores, greedy = results
    greedy[owners] = True
    for start in range(0, len(joined), model.logit_tokens):
        chunk = slice(start, start + model.logit_tokens)
        logits = model.logits(joined[None, chunk])[0]
        found = torch.log_softmax(logits, -1).gather(-1, wanted[chunk, None])[:, 0]
        same = logits.argmax(-1) == wanted[chunk]
        np.add.at(scores, owners[chunk], found.to(torch.float64).cpu().numpy())
        np.logical_and.at(greedy, owners[chunk], same.cpu().numpy())


def _parts(order: list[int], requests: Sequence[Request]) -> list[list[int]]:
    """Runs of requests of about ``TOKENS_AT_ONCE`` tokens."""
    parts: list[list[int]] = [[]]
    held = 0
    for i in order:
        if parts[-1] and held + len(requests[i].tokens) > TOKENS_AT_ONCE:
            parts.append([])
            held = 0
        parts[-1].append(i)
        held += len(requests[i].tokens)
    return parts


def _batches(part: list[int], requests: Sequence[Request]) -> list[list[int]]:
    """Requests of equal length together, about ``BATCH_TOKENS`` tokens a batch."""
    batches: list[list[int]] = []
    for i in part:
        length = len(requests[i].tokens)
        same = batches and len(requests[batches[-1][0]].tokens) == length
        if same and (len(batches[-1]) + 1) * length <= BATCH_TOKENS:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def _standard_error(correct: np.ndarray) -> float | None:
    n = len(correct)
    return math.sqrt(correct.mean() * (1 - correct.mean()) / (n - 1)) if n > 1 else None
