"""``codesign.trace_coverage``: every causal language model of transformers."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers", reason="transformers is an optional dependency")

from codesign.trace_coverage import cover, main, model_types


def test_a_model_type_that_traces(capsys):
    assert main(["gpt2"]) == 0
    printed = capsys.readouterr().out
    assert "ok    gpt2" in printed
    assert "prefill: 1 of 1 model types trace" in printed


@pytest.mark.slow
def test_every_causal_language_model_traces():
    results = [cover(model_type) for model_type in model_types()]
    assert not [result.model_type for result in results if result.prefill or result.decode]
    # text alone does not reach vision towers and cross-attention; everything else must be there
    assert not [result.model_type for result in results if result.share < 0.4]
