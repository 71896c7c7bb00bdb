"""Exported decoder blocks compiled with g++ give the golden outputs and leave the golden KV cache, bit for bit.

One block of a model always, exported by the command line; other encodings, shapes and a block of SmolLM2-135M under
``slow``. Needs ``ap_int.h`` (extra ``hls``) and g++.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codesign.algorithms.rtn import RoundToNearest
from codesign.block_table import block_steps
from codesign.blocks import BlockModel
from codesign.cli import main
from codesign.cli_hls_report import estimated_report
from codesign.export_block import golden_inputs, write_block
from codesign.models import resolve_model
from codesign.quantize_blocks import LayerJob
from codesign.quantize_recipe import kv_of
from codesign.quantized_folder import QuantizedModel, load_quantized
from codesign.quantized_model import QuantizationJob, quantize_model
from codesign.recipes import recipe
from hls import csim
from hls.ap_types import WARNINGS
from hls.block_export import export_block
from hls.decoder_block import LAYERS
from hls.export import ExportTarget
from hls.layer_options import LayerOptions
from hwmodel.fpga import DEVICES
from tests.hls.block_cases import BLOCKS

TARGET = ExportTarget(DEVICES["u250"], 300.0, LayerOptions(4, 8, 4))


@pytest.fixture
def simulated(needs_compiler: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], int]:
    """Compiles an export without optimisation, as our own code without a warning; how many words were compared."""
    monkeypatch.setattr(csim, "FLAGS", ("-O0", *WARNINGS))

    def run(folder: Path) -> int:
        (result,) = csim.simulate(csim.open_export(folder))
        assert [str(mismatch) for mismatch in result.mismatches] == [] and result.mismatch_count == 0
        return result.compared

    return run


def quantized(model: object, folder: Path, name: str) -> QuantizedModel:
    source, chosen = resolve_model(model), recipe(name)
    jobs = {layer: LayerJob(RoundToNearest(), chosen.linear) for layer in BlockModel(source).layer_names()}
    job = QuantizationJob(name, jobs, kv=kv_of(chosen))
    return load_quantized(quantize_model(source, job, folder).folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_block_of_a_model(
    tmp_path: Path, tiny_gqa_dir: Path, simulated: Callable[[Path], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line to equal outputs: two query heads a key head, INT8 inputs, an asymmetric 4-bit cache."""
    model = quantized(tiny_gqa_dir, tmp_path / "model", "int4_asym_g32_a8_kv4")
    command = ["export", str(model.folder), "--block", "1", "--positions", "8", "--tokens", "3", "--lanes", "8",
               "--rows", "4", "--on-chip", "0", "--json"]  # fmt: skip
    for name in ("out", "again"):
        with pytest.raises(SystemExit) as stop:
            main([*command, "--out", str(tmp_path / name)])
        assert not stop.value.code
    assert files_of(tmp_path / "out") == files_of(tmp_path / "again")
    (entry,) = json.loads(capsys.readouterr().out.split("\n}\n")[0] + "\n}")["layers"]
    assert (entry["name"], entry["heads"], entry["kv_heads"], entry["head_dim"]) == ("model.layers.1", 4, 2, 16)
    # a record: 2 heads of a block of 32 codes of 4 bits and an entry each are 10 words, so a beat; keys and values
    assert (entry["cache_beats"], entry["cache_bytes"]) == (2, 2 * 8 * 64)
    layers, whole = entry["estimates"], entry["estimate"]
    assert set(layers) == set(whole["layers"]) == set(LAYERS) and layers["k"] == layers["v"]
    assert whole["cycles"]["position"] == 7 and whole["cycles"]["latency"] > whole["cycles_of_first_token"]
    # the report of its synthesis is compared with what the manifest says of the whole
    assert estimated_report(entry, "u250").latency_cycles == whole["cycles"]["interval_of_calls"]
    assert list(block_steps(entry)["process"]) == list(whole["cycles"]["ends"])
    # all tokens in one call, then one by one: 64 outputs and 32 words of the cache for each of 3 tokens
    assert simulated(tmp_path / "out") == 2 * 3 * (64 + 32)
    broken = next((tmp_path / "out").glob("layers/*/cache.bin"))
    broken.write_bytes(b"\1" + broken.read_bytes()[1:])
    with pytest.raises(ValueError, match=r"cache\.bin must be as it was exported, but it is changed"):
        csim.open_export(tmp_path / "out")


# --- other encodings -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("on_chip", [True, False], ids=["on_chip", "in_memory"])
def test_blocks_of_every_kind(tmp_path: Path, simulated: Callable[[Path], int], name: str, on_chip: bool) -> None:
    """All positions that the cache holds, from the first to the last."""
    made, options = BLOCKS[name]()
    x = (np.random.default_rng(8).normal(size=(made.positions, made.hidden)) * 3).astype(np.float32)
    target = replace(TARGET, options=options, on_chip_bytes=1 << 20 if on_chip else 0)
    (entry,) = export_block(tmp_path / "out", made, x, target, {"model": "none"})["layers"]
    assert entry["on_chip"] is on_chip
    assert simulated(tmp_path / "out") == 2 * made.positions * (made.hidden + 16 * entry["cache_beats"])


@pytest.mark.slow
def test_a_block_of_smollm2(tmp_path: Path, simulated: Callable[[Path], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine query heads over three, 576 wide, 1,536 in the MLP, 3.5 million weights: the model's own on its own text."""
    monkeypatch.setattr(csim, "FLAGS", ("-O2",))
    model = quantized("smollm2-135m-offgrid", tmp_path / "model", "int4_g64_fp16_a8_kv8")
    golden = golden_inputs(model, "seeded", positions=64, tokens=3, seed=0)
    target = replace(TARGET, options=LayerOptions())
    (entry,) = write_block(model, 1, golden, tmp_path / "out", target, accelerator=None)["layers"]
    assert (entry["heads"], entry["kv_heads"], entry["shape"], entry["intermediate"]) == (9, 3, [576, 576], 1536)
    assert simulated(tmp_path / "out") == 2 * 3 * (576 + 16 * entry["cache_beats"])
