"""Counting bits of models from the command line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from codesign.bits import bits_table, layer_bits, read_bits, summed, write_bits
from codesign.cli import main
from codesign.cli_work import quantize
from codesign.models import resolve_model
from codesign.recipes import recipe
from datatypes.bit_stats import bit_stats
from datatypes.quantize import quantize_tensor
from datatypes.recoding import Recoding


def test_layers_of_a_model(tiny_llama_dir: Path) -> None:
    stats = dict(layer_bits(str(tiny_llama_dir), "int4_g32"))
    assert len(stats) == 2 * 7  # two blocks of q, k, v, o, gate, up, down
    config = recipe("int4_g32").linear.weight
    weight = resolve_model(str(tiny_llama_dir)).tensor("model.layers.1.mlp.up_proj.weight")
    again = bit_stats(quantize_tensor(weight.to(torch.float32), config))  # type: ignore[arg-type]
    assert stats["model.layers.1.mlp.up_proj"] == again


def test_alike_layers_are_summed(tiny_llama_dir: Path) -> None:
    stats = dict(layer_bits(str(tiny_llama_dir), "bitmod4_g32"))
    together = summed(stats)
    assert len(together) == 7 + 1
    up = [stats[f"model.layers.{block}.mlp.up_proj"] for block in (0, 1)]
    assert together["model.layers.*.mlp.up_proj"] == up[0] + up[1]
    assert together["all"].weights == sum(one.weights for one in stats.values())
    table = bits_table(together)
    row = table[table["layer"] == "all"].iloc[0]
    assert row["naf"] == together["all"].mean_terms(Recoding.NAF)
    assert row["naf"] <= 2 and row["bbs_8"] <= 0.5  # BitMoD's magnitudes have at most two ones


def test_quantized_folder_and_file(tiny_llama_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantize(str(tiny_llama_dir), "int8_channel", tmp_path / "q", calibration_text="lambada", calibration_tokens=8,
             context=8, sequential=False, device="cpu", as_json=True)  # fmt: skip
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["bits", str(tmp_path / "q"), "--out", str(tmp_path / "bits.json"), "--json"])
    assert stop.value.code == 0
    rows = json.loads(capsys.readouterr().out)
    direct = dict(layer_bits(str(tiny_llama_dir), "int8_channel"))
    assert read_bits(tmp_path / "bits.json") == direct
    assert rows[-1]["layer"] == "all" and rows[-1]["weights"] == sum(one.weights for one in direct.values())


def test_refusals(tiny_llama_dir: Path, tmp_path: Path) -> None:
    model = str(tiny_llama_dir)
    with pytest.raises(ValueError, match="recipe must need no calibration here, not gptq_int4_asym_g128; run codesign"):
        list(layer_bits(model, "gptq_int4_asym_g128"))
    with pytest.raises(ValueError, match="encode weights for their bits to be counted, which fp16 does not"):
        list(layer_bits(model, "fp16"))
    with pytest.raises(NotImplementedError, match="layer model.layers.0.* up to 24 bits, and nf4 needs"):
        list(layer_bits(model, "nf4_g64"))
    (tmp_path / "no.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold bit statistics as codesign bits --out writes them"):
        read_bits(tmp_path / "no.json")
    write_bits({}, tmp_path / "empty.json")
    assert read_bits(tmp_path / "empty.json") == {}


def test_counted_bits_price_the_machines_that_skip_zeros(
    tiny_llama_dir: Path, tmp_path: Path, run: Callable[..., tuple[Any, str, str]], refused: Callable[..., str]
) -> None:
    """BBS takes a cycle for each plane that is not empty: as many as the statistics say, in every layer and phase."""
    counts = tmp_path / "bits.json"
    status, _, err = run("bits", tiny_llama_dir, "-r", "int8_channel_a8", "--out", counts)
    assert status == 0, err
    ask = ("estimate", tiny_llama_dir, "-r", "int8_channel_a8", "--prompt", 512, "--generate", 2, "--json")
    prices = []
    for more in ((), ("--bits", counts)):
        status, out, err = run(*ask, "-a", "bitvert", *more)
        assert status == 0, err
        prices.append({(row["phase"], row["layer"]): row["compute_cycles"] for row in json.loads(out)["layers"]})
    stats = read_bits(counts)
    assert len(stats) == len([key for key in prices[0] if key[0] == "prefill" and key[1] in stats])
    for (phase, name), coins in prices[0].items():
        share = stats[name].bidirectional_cycles(16, 8) / 8 if name in stats else 1.0  # 8 planes; 16 weights, 8 adders
        assert prices[1][phase, name] == pytest.approx(coins * share, rel=1e-12, abs=1), (phase, name)
    assert "must skip the zeros of weights to be priced by their bits, not bitmod" in refused(*ask, "--bits", counts)
    wrong = dict(list(stats.items())[:1])
    (name,) = wrong
    write_bits({name: replace(wrong[name], weights=7)}, counts)
    assert f"{name} has" in refused(*ask, "-a", "bitvert", "--bits", counts)
    write_bits({"transformer.h.0.attn": wrong[name]}, counts)
    message = f"{counts} must be of this model, {tiny_llama_dir.name}, which has no layer transformer.h.0.attn"
    assert refused(*ask, "-a", "bitvert", "--bits", counts) == message
