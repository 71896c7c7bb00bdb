"""Requests: moments of what is drawn, traces that are read, and mistakes."""

import numpy as np
import pytest

from hwmodel.serving_requests import Lengths, Request, poisson_requests, read_requests


def test_arrivals_and_lengths_have_the_moments_asked_for():
    made = poisson_requests(4.0, 20_000, Lengths(300, 0.5), Lengths(100), seed=5)
    gaps = np.diff([one.arrival_s for one in made])
    prompts = np.array([one.prompt for one in made])
    assert abs(gaps.mean() - 0.25) < 4 * 0.25 / np.sqrt(len(gaps))  # exponential: as large a deviation as the mean
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05
    assert abs(prompts.mean() - 300) < 4 * 150 / np.sqrt(len(prompts)) + 0.5  # rounded to tokens
    assert abs(prompts.std() / 150 - 1) < 0.05
    assert {one.generate for one in made} == {100}


def test_a_seed_is_a_run():
    draw = [poisson_requests(2.0, 50, Lengths(64, 1.0, 8, 128), Lengths(9), seed=seed) for seed in (1, 1, 2)]
    assert draw[0] == draw[1] != draw[2]
    assert all(8 <= one.prompt <= 128 for one in draw[0])


def test_a_trace_is_read_in_order_of_arrival(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,prompt,generate,user\n2.5,10,3,a\n0.5,20,4,b\n")
    assert read_requests(path) == (Request(0.5, 20, 4), Request(2.5, 10, 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arrival_s,prompt\n1,2\n", "must have the columns arrival_s, prompt, generate, not lack generate"),
        ("arrival_s,prompt,generate\n", "must have at least one request, not none"),
        ("arrival_s,prompt,generate\n1,2,3\n1,x,3\n", "line 3 of trace .* must be a request .*'x'"),
        ("arrival_s,prompt,generate\n1,0,3\n", "line 2 of trace .* must be at least 1, not 0 and 3"),
        ("arrival_s,prompt,generate\nnan,1,3\n", "arrival_s of a request must be at least 0 and finite, not nan"),
    ],
)
def test_bad_traces_are_named(tmp_path, text, message):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_requests(path)


def test_bad_distributions_are_named():
    with pytest.raises(ValueError, match="rate_per_s must be above 0 and finite and count at least 1, not 0 and 3"):
        poisson_requests(0, 3, Lengths(1), Lengths(1))
    with pytest.raises(ValueError, match="rate_per_s must be above 0 and finite .*, not inf and 3"):
        poisson_requests(float("inf"), 3, Lengths(1), Lengths(1))
    for wrong in ((0.5, 0.0), (64, float("inf")), (float("nan"), 0.0)):
        with pytest.raises(ValueError, match="lengths must have a finite mean >= 1, a finite variation >= 0"):
            Lengths(*wrong)


def test_a_trace_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xff\xfea")
    with pytest.raises(ValueError, match="trace .*trace.csv must be text in UTF-8"):
        read_requests(path)
