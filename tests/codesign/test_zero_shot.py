"""Zero-shot scores against the whole model, one request at a time, and by hand."""

import math

import numpy as np
import pytest
import torch

from codesign.blocks import BlockModel
from codesign.models import resolve_model
from codesign.tasks import Question, Task, TaskKind
from codesign.zero_shot import Request, ZeroShotResult, encode_request, score_requests, zero_shot


class Letters:
    """One token a letter, its code point; what a byte tokenizer does to ASCII."""

    def __call__(self, text, add_special_tokens=False):
        return {"input_ids": [ord(letter) for letter in text]}


def task(kind, *questions):
    return Task("letters", kind, questions, "test", "own", "this test")


def whole_log_probabilities(folder, tokens):
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].to(torch.float64).log_softmax(-1)


@pytest.mark.parametrize("fixture", ["tiny_gqa_dir", "tiny_gpt2_dir"])
def test_scores_are_those_of_single_requests(fixture, request):
    folder = request.getfixturevalue(fixture)
    generator = torch.Generator().manual_seed(0)
    requests = []
    for length, scored in [(9, 2), (5, 1), (9, 4), (12, 11), (5, 3), (9, 2)]:
        tokens = torch.randint(0, 320, (length,), generator=generator).tolist()
        requests.append(Request(tuple(tokens), scored))
    scores, greedy = score_requests(BlockModel(resolve_model(folder)), requests, {})
    for made, written, one in zip(scores, greedy, requests, strict=True):
        log_p = whole_log_probabilities(folder, one.tokens)
        places = range(len(one.tokens) - one.scored, len(one.tokens))
        assert made == pytest.approx(sum(float(log_p[i - 1, one.tokens[i]]) for i in places), rel=1e-5)
        assert written == all(int(log_p[i - 1].argmax()) == one.tokens[i] for i in places)


def test_what_the_model_would_write_is_greedy(tiny_gqa_dir):
    tokens = [5, 6, 7]
    for _ in range(3):
        tokens.append(int(whole_log_probabilities(tiny_gqa_dir, tokens)[-1].argmax()))
    model = BlockModel(resolve_model(tiny_gqa_dir))
    right, wrong = Request(tuple(tokens), 3), Request((*tokens[:-1], (tokens[-1] + 1) % 320), 3)
    assert score_requests(model, [right, wrong], {})[1].tolist() == [True, False]


def test_choices_are_judged_by_sum_and_by_length(tiny_gqa_dir):
    question = Question(("Once", "Once"), (" upon a time", " a"), 0)
    model = BlockModel(resolve_model(tiny_gqa_dir))
    long, short = (
        sum(float(whole_log_probabilities(tiny_gqa_dir, tokens)[i - 1, tokens[i]]) for i in range(4, len(tokens)))
        for tokens in ([ord(c) for c in "Once upon a time"], [ord(c) for c in "Once a"])
    )
    result = zero_shot(model, task(TaskKind.CHOICE, question, question), Letters(), {})
    assert result.questions == 2
    assert result.correct.tolist() == [long > short] * 2  # a random model: every letter costs about log 320
    assert result.correct_norm.tolist() == [long / 12 > short / 2] * 2
    assert long < short


def test_greedy_questions(tiny_gqa_dir):
    start = [ord(c) for c in "ab"]
    following = int(whole_log_probabilities(tiny_gqa_dir, start)[-1].argmax())
    model = BlockModel(resolve_model(tiny_gqa_dir))
    questions = [Question(("ab",), (chr(following),), 0), Question(("ab",), (chr((following + 1) % 320),), 0)]
    result = zero_shot(model, task(TaskKind.GREEDY, *questions), Letters(), {})
    assert result.correct.tolist() == [True, False]
    assert result.accuracy == result.accuracy_norm == 0.5


def test_standard_error_is_binomial():
    result = ZeroShotResult("t", np.array([True, True, False, True]), np.array([True] * 4))
    assert result.accuracy == 0.75
    assert result.accuracy_standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 3))
    assert result.accuracy_norm_standard_error == 0
    assert ZeroShotResult("t", np.array([True]), np.array([True])).accuracy_standard_error is None


def test_space_after_the_context_belongs_to_the_continuation():
    assert encode_request(Letters(), "ab ", "cd") == Request(tuple(map(ord, "ab cd")), 3)


def test_a_beginning_token_and_the_longest_context():
    assert encode_request(Letters(), "", "cd", bos_token_id=1) == Request((1, ord("c"), ord("d")), 2)
    assert encode_request(Letters(), "abcdef", "gh", longest=4) == Request(tuple(map(ord, "efgh")), 2)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="a continuation must have at least one token, not ''"):
        encode_request(Letters(), "ab", "")
    with pytest.raises(ValueError, match="a context must have at least one token or bos_token_id, not ''"):
        encode_request(Letters(), "", "cd")
