"""Speculative decoding as a ratio: tokens gained for each verification over what drafting and verifying cost.

Leviathan, Kalman and Matias, Fast Inference from Transformers via Speculative Decoding, ICML 2023: a draft model
proposes ``draft_tokens`` (their gamma), the model checks them and one more in a single step. If each proposal is
accepted with probability ``acceptance`` (their alpha) and independently, a step yields
``(1 - alpha^(gamma + 1)) / (1 - alpha)`` tokens, equation (1). The speed-up is theirs of theorem 3.8 with the prices of
the three steps in place of their assumption that verifying ``gamma + 1`` tokens takes as long as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def tokens_per_verification(acceptance: float, draft_tokens: int) -> float:
    """Mean tokens that one verification yields.

    >>> tokens_per_verification(0.5, 1), tokens_per_verification(1.0, 4), tokens_per_verification(0.0, 4)
    (1.5, 5.0, 1.0)

    Raises:
        ValueError: ``acceptance`` outside 0 to 1, or negative ``draft_tokens``.
    """
    if not 0 <= acceptance <= 1:
        raise ValueError(f"acceptance must be a probability from 0 to 1, not {acceptance!r}")
    if draft_tokens < 0:
        raise ValueError(f"draft_tokens must be at least 0, not {draft_tokens!r}")
    if acceptance == 1:
        return float(draft_tokens + 1)
    return (1 - acceptance ** (draft_tokens + 1)) / (1 - acceptance)


def sampled_tokens(acceptance: float, draft_tokens: int, trials: int, generator: np.random.Generator) -> np.ndarray:
    """Tokens that each of ``trials`` verifications yields, drawn proposal by proposal: int64 ``[trials]``."""
    accepted = generator.random((trials, draft_tokens)) < acceptance
    return np.cumprod(accepted, axis=1).sum(axis=1) + 1


@dataclass(frozen=True)
class Speculation:
    """What a draft model is worth.

    Args:
        acceptance: probability that a proposal is accepted.
        draft_tokens: proposals for each verification.
        step_s: a decode step of the model without drafts.
        draft_s: a decode step of the draft model.
        verify_s: a step of the model over ``draft_tokens + 1`` tokens.
    """

    acceptance: float
    draft_tokens: int
    step_s: float
    draft_s: float
    verify_s: float

    def __post_init__(self) -> None:
        tokens_per_verification(self.acceptance, self.draft_tokens)
        for what in ("step_s", "draft_s", "verify_s"):
            if not getattr(self, what) > 0:
                raise ValueError(f"{what} of a speculation must be above 0, not {getattr(self, what)!r}")

    @property
    def tokens(self) -> float:
        """Mean tokens of one verification."""
        return tokens_per_verification(self.acceptance, self.draft_tokens)

    @property
    def token_s(self) -> float:
        """Mean seconds for each token."""
        return (self.draft_tokens * self.draft_s + self.verify_s) / self.tokens

    @property
    def speedup(self) -> float:
        """Tokens a second, over those without drafts."""
        return self.step_s / self.token_s

    @property
    def pays(self) -> bool:
        """Whether drafting is faster."""
        return self.speedup > 1


def best_speculation(
    acceptance: float,
    step_s: float,
    draft_s: float,
    verify_s: Callable[[int], float],
    *,
    most: int = 16,
) -> Speculation | None:
    """The number of proposals, 1 to ``most``, with the largest speed-up; ``None`` where none is faster than no draft.

    Args:
        acceptance: probability that a proposal is accepted.
        step_s, draft_s: steps of the model and of the draft model.
        verify_s: seconds of a step of the model over so many tokens.
        most: largest number of proposals.
    """
    found = [Speculation(acceptance, count, step_s, draft_s, verify_s(count + 1)) for count in range(1, most + 1)]
    best = max(found, key=lambda speculation: speculation.speedup, default=None)
    return best if best is not None and best.pays else None


def least_acceptance(draft_tokens: int, step_s: float, draft_s: float, verify_s: float) -> float | None:
    """The acceptance at which drafts begin to pay; ``None`` where even accepting all of them does not.

    The mean number of tokens grows with the acceptance, so it is found by bisection to double precision.
    """
    needed = (draft_tokens * draft_s + verify_s) / step_s  # tokens for each verification
    if needed > draft_tokens + 1:
        return None
    low, high = 0.0, 1.0
    for _ in range(60):  # 2^-60 is under the spacing of doubles next to 1
        middle = (low + high) / 2
        if tokens_per_verification(middle, draft_tokens) < needed:
            low = middle
        else:
            high = middle
    return high
