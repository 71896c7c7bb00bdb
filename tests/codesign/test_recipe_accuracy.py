"""A recipe's result: kept and read back as it was, under a key that knows everything it depends on."""

import math
from dataclasses import replace

import pytest

from codesign.cache import cache_dir
from codesign.models import resolve_model
from codesign.recipe_accuracy import Bench, Protocol, algorithm_name, measure_all
from codesign.recipes import recipe
from codesign.store import Store

TEXT = "The quick brown fox jumps over the lazy dog. She read the whole book, and then she read it again. " * 40


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def bench(tiny_llama_dir, text, tmp_path):
    return Bench(resolve_model(tiny_llama_dir), Protocol(text, 192, 64, text, 128), store=Store(tmp_path / "store"))


def again(bench, **changes):
    """A second bench on the same model and store, with another protocol."""
    return Bench(bench.source, replace(bench.protocol, **changes), store=bench.store)


def same(a, b):
    assert (a.recipe, a.algorithm, a.configs) == (b.recipe, b.algorithm, b.configs)
    for left, right in ((a.numbers, b.numbers), (a.layer_sqnr_db, b.layer_sqnr_db)):
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert right[name] == value or (not math.isfinite(value) and math.isnan(right[name])), name


def test_a_result_is_read_back_as_it_was(bench):
    recipes = [recipe("int4_g32_fp16"), recipe("finequant4")]
    seen = []
    first = measure_all(bench, recipes, done=lambda made, _result, kept: seen.append((made.name, kept)))
    second = measure_all(again(bench), recipes, done=lambda made, _result, kept: seen.append((made.name, kept)))
    assert seen == [("int4_g32_fp16", False), ("finequant4", False), ("int4_g32_fp16", True), ("finequant4", True)]
    for name in first:
        same(first[name], second[name])


def test_equal_configs_are_one_object(bench):
    found = measure_all(bench, [recipe("finequant4")])["finequant4"]
    for result in (found, measure_all(again(bench), [recipe("finequant4")])["finequant4"]):
        distinct = set(result.configs.values())
        assert len({id(config) for config in result.configs.values()}) == len(distinct)


def test_the_reference_loses_nothing(bench):
    numbers = measure_all(bench, [recipe("fp16")])["fp16"].numbers
    assert numbers["loss_delta"] == numbers["loss_delta_se"] == 0
    assert numbers["kl"] == pytest.approx(0, abs=1e-6)
    assert numbers["top1"] == 1
    assert numbers["bits_per_weight"] == 16
    assert numbers["model_bytes"] == 2 * bench.parameters


def test_model_bytes_replace_only_the_quantized_weights(bench):
    result = measure_all(bench, [recipe("int8_channel")])["int8_channel"]
    shapes = {slot.name: slot.shape for index in range(len(bench.model)) for slot in bench.model.slots(index)}
    weights = sum(n * k for n, k in shapes.values())
    # rows of codes padded to blocks of 32; one FP16 scale a row, an even number of rows everywhere
    bits = sum(n * -(-k // 32) * 32 * 8 + 16 * n for n, k in shapes.values())
    assert result.numbers["bits_per_weight"] == bits / weights
    assert result.numbers["model_bytes"] == (16 * (bench.parameters - weights) + bits) / 8


@pytest.mark.parametrize("change", [{"tokens": 128}, {"context": 32}, {"seed": 1}])
def test_the_key_follows_the_protocol(bench, change):
    assert bench.key(recipe("bitmod4_g32")) != again(bench, **change).key(recipe("bitmod4_g32"))


def test_calibration_counts_only_where_it_is_used(bench):
    other = again(bench, calibration_tokens=64)
    assert bench.key(recipe("gptq_int4_g32_fp16")) != other.key(recipe("gptq_int4_g32_fp16"))
    assert bench.key(recipe("bitmod4_g32")) == bench.key(replace(recipe("bitmod4_g32"), note="said differently"))
    assert bench.key(recipe("bitmod4_g32")) != bench.key(recipe("bitmod3_g32"))


def test_nothing_is_left_in_work(bench):
    recipes = [recipe("gwq4_g128"), recipe("l2qer_w4a8_mxint")]
    assert {algorithm_name(made) for made in recipes} == {"gwq", "l2qer"}
    measure_all(bench, recipes)
    left = cache_dir("in_work")
    assert not left.is_dir() or not any(left.iterdir())


def test_a_text_that_is_too_short_is_named(bench):
    with pytest.raises(ValueError, match=r"text\.txt: text must be at least one window"):
        _ = again(bench, context=100_000).evaluation
