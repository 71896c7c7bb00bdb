"""What the commands on a model's shapes give to their work: options in a record's fields, lists of a design space."""

from dataclasses import replace
from pathlib import Path

import pytest

from codesign.cli_serving import Users
from codesign.cli_simulate import Machine
from hwmodel.event_options import Arbiter, Refill
from hwmodel.options import HONEST
from hwmodel.pe import WIDE_BITS

MODEL = {"model": "model", "accelerator": "stripes", "recipe_name": "int8_channel", "batch": 2, "prompt": 3,
         "generate": 4, "every_layer": True, "as_json": True}  # fmt: skip
GIVEN = ("model", "-a", "stripes", "-r", "int8_channel", "--batch", 2, "--prompt", 3, "--generate", 4, "--layers",
         "--json")  # fmt: skip


def test_a_price_is_honest_and_by_the_options(given):
    found = given("cli_work.estimate", "estimate", *GIVEN, "--bits", "counts.json")
    assert found == {**MODEL, "options": HONEST, "bits": Path("counts.json")}
    tiles = given("cli_work.estimate", "estimate", *GIVEN, "--whole-tiles")["options"]
    assert tiles == replace(HONEST, whole_tiles=True)
    both = given("cli_work.estimate", "estimate", *GIVEN, "--whole-tiles", "--fill-and-drain")["options"]
    assert both == replace(HONEST, whole_tiles=True, fill_and_drain=True)


@pytest.mark.parametrize(
    ("options", "machine"),
    [
        ((), Machine(dram_timing=False, prefetch=False, systolic=False)),
        (("--dram-timing",), Machine(dram_timing=True, prefetch=False, systolic=False)),
        (("--prefetch",), Machine(dram_timing=False, prefetch=True, systolic=False)),
        (("--systolic",), Machine(dram_timing=False, prefetch=False, systolic=True)),
        (("--whole-tiles",), Machine(False, False, False, whole_tiles=True)),
        (("--fill-and-drain",), Machine(False, False, False, fill_and_drain=True)),
        (("--arbiter", "round_robin"), Machine(False, False, False, arbiter=Arbiter.ROUND_ROBIN)),
        (("--refill", "halves"), Machine(False, False, False, refill=Refill.HALVES)),
        (("--bank-conflicts", "4"), Machine(False, False, False, bank_conflicts=4)),
    ],
    ids=lambda value: " ".join(value) or "plain" if isinstance(value, tuple) else "",
)
def test_a_simulated_machine_is_what_was_switched_on(given, options, machine):
    assert given("cli_simulate.simulate_model", "simulate", *GIVEN, *options) == {**MODEL, "machine": machine}


def test_users_and_chips_of_serving(given):
    found = given(
        "cli_serving.serving", "serving", "model", "-a", "a100", "-r", "int8_channel", "--rate", 2.5, "--prompt", 3,
        "--generate", 4, "--variation", 0.5, "--requests", 6, "--seed", 7, "--trace", "asked.csv",
        "--max-sequences", 8, "--token-budget", 9, "--tensor-parallel", 10, "--pipeline-parallel", 11,
        "--expert-parallel", 12, "--dispatch-bits", 4, "--link", "nvlink3", "--memory-gb", 13, "--draft", "small",
        "--acceptance", 0.25, "--json",
    )  # fmt: skip
    users = Users(
        rate_per_s=2.5, prompt=3, generate=4, variation=0.5, requests=6, seed=7, trace=Path("asked.csv")
    )  # fmt: skip
    assert found == {
        "model": "model", "users": users, "accelerator": "a100", "recipe_name": "int8_channel", "max_sequences": 8,
        "token_budget": 9, "parallel": (10, 11, 12), "dispatch_bits": 4.0, "link": "nvlink3", "memory_gb": 13.0,
        "draft": "small", "acceptance": 0.25, "as_json": True,
    }  # fmt: skip
    alone = given("cli_serving.serving", "serving", "model")
    assert (alone["parallel"], alone["dispatch_bits"], alone["users"].trace) == ((1, 1, 1), WIDE_BITS, None)


def test_effects_are_of_a_published_model(given):
    found = given("cli_effects.effects", "effects", "phi-2", "-a", "stripes", "-r", "int8_channel", "--json")
    assert found == {"model": "phi-2", "accelerator": "stripes", "recipe_name": "int8_channel", "as_json": True}


LISTS = {  # option of a list, and the key of a space's file
    "--recipes": "recipes", "--accelerators": "accelerators", "--arrays": "arrays",
    "--weight-buffers": "weight_buffers_kib", "--activation-buffers": "activation_buffers_kib",
    "--memories": "memories", "--bandwidths": "bandwidths_gb_s", "--frequencies": "frequencies_ghz",
    "--batches": "batches", "--prompts": "prompts", "--generate": "tokens", "--objectives": "objectives",
    "--losses": "losses",
}  # fmt: skip
SWITCHES = {"--whole-tiles": "whole_tiles", "--fill-and-drain": "fill_and_drain"}


def space(given, *arguments):
    return given("cli_explore.explore_space", "explore", "model", *arguments)


def test_every_list_of_a_space_arrives_as_it_was_written(given):
    texts = {option: f"list of {key}" for option, key in LISTS.items()}
    found = space(given, *(word for pair in texts.items() for word in pair), *SWITCHES)
    lists = {key: texts[option] for option, key in LISTS.items()}
    assert found["given"] == {**lists, **dict.fromkeys(SWITCHES.values(), True)}
    # what is not said is left to the file
    assert space(given)["given"] == dict.fromkeys((*LISTS.values(), *SWITCHES.values()))


def test_buffers_are_both_where_one_is_not_said_by_itself(given):
    found = space(given, "--buffers", "64,128")["given"]
    assert (found["weight_buffers_kib"], found["activation_buffers_kib"]) == ("64,128", "64,128")
    found = space(given, "--buffers", "64,128", "--activation-buffers", "32")["given"]
    assert (found["weight_buffers_kib"], found["activation_buffers_kib"]) == ("64,128", "32")
    found = space(given, "--buffers", "64,128", "--weight-buffers", "32")["given"]
    assert (found["weight_buffers_kib"], found["activation_buffers_kib"]) == ("32", "64,128")


def test_a_space_has_a_file_and_its_fronts_another(given):
    found = space(given, "--space", "space.yaml", "-o", "fronts.csv", "--threads", 3, "--json")
    assert (found["model"], found["file"], found["out"]) == ("model", Path("space.yaml"), Path("fronts.csv"))
    assert found["threads"] == 3 and found["as_json"] is True
