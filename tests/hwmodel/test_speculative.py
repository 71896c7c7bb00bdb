"""Speculative decoding by hand, by simulation and against Leviathan et al."""

import numpy as np
import pytest

from hwmodel.speculative import Speculation, best_speculation, least_acceptance, sampled_tokens, tokens_per_verification


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("draft_tokens", [0, 1, 5])
def test_mean_tokens_are_the_sum_of_powers(acceptance, draft_tokens):
    # the i-th extra token comes if i proposals in a row are accepted
    by_hand = sum(acceptance**i for i in range(draft_tokens + 1))
    assert tokens_per_verification(acceptance, draft_tokens) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(("acceptance", "draft_tokens"), [(0.3, 2), (0.6, 5), (0.9, 8)])
def test_mean_tokens_by_simulation(acceptance, draft_tokens):
    drawn = sampled_tokens(acceptance, draft_tokens, 20_000, np.random.default_rng(1))
    standard_error = drawn.std(ddof=1) / np.sqrt(len(drawn))
    assert abs(drawn.mean() - tokens_per_verification(acceptance, draft_tokens)) < 4 * standard_error
    assert drawn.min() >= 1
    assert drawn.max() <= draft_tokens + 1


@pytest.mark.parametrize(("acceptance", "draft_tokens"), [(0.6, 2), (0.7, 3), (0.8, 5), (0.9, 10)])
def test_speedup_is_that_of_theorem_3_8_where_verifying_takes_a_step(acceptance, draft_tokens):
    # (1 - a^(g+1)) / ((1 - a) (g c + 1)) with cost ratio c, verification as fast as one step
    ratio = 0.05
    formula = (1 - acceptance ** (draft_tokens + 1)) / ((1 - acceptance) * (draft_tokens * ratio + 1))
    ours = Speculation(acceptance, draft_tokens, step_s=1.0, draft_s=ratio, verify_s=1.0).speedup
    assert ours == pytest.approx(formula, rel=1e-12)


def test_dear_verification_does_not_pay():
    assert not Speculation(0.5, 4, step_s=1.0, draft_s=0.2, verify_s=2.0).pays  # 2.8 steps for 1.94 tokens
    assert best_speculation(0.5, 1.0, 0.5, lambda tokens: float(tokens)) is None
    assert best_speculation(0.5, 1.0, 0.1, lambda tokens: 1.0, most=0) is None


def test_best_number_of_proposals_by_search():
    found = best_speculation(0.8, 1.0, 0.05, lambda tokens: 1.0)
    assert found is not None
    times = {g: tokens_per_verification(0.8, g) / (0.05 * g + 1) for g in range(1, 17)}
    assert found.draft_tokens == max(times, key=times.__getitem__)


def test_least_acceptance_is_where_it_breaks_even():
    least = least_acceptance(4, 1.0, 0.1, 1.1)
    assert least is not None
    assert Speculation(least, 4, 1.0, 0.1, 1.1).speedup == pytest.approx(1.0, rel=1e-9)
    assert least_acceptance(1, 1.0, 1.0, 1.5) is None  # 2.5 steps for 2 tokens at best


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="acceptance must be a probability from 0 to 1, not 1.2"):
        tokens_per_verification(1.2, 3)
    with pytest.raises(ValueError, match="draft_tokens must be at least 0, not -1"):
        tokens_per_verification(0.5, -1)
    with pytest.raises(ValueError, match="verify_s of a speculation must be above 0, not 0"):
        Speculation(0.5, 1, 1.0, 1.0, 0)
