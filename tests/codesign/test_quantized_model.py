"""Quantized model folders: bit for bit, interrupted, refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file

from codesign.accuracy import perplexity
from codesign.algorithms.rtn import RoundToNearest
from codesign.blocks import BlockModel
from codesign.calibration import NO_CALIBRATION
from codesign.models import resolve_model
from codesign.quantize_blocks import CalibrationPlan, LayerJob, quantize_blocks
from codesign.quantize_recipe import gather, kv_of, layer_jobs, recipe_job
from codesign.quantized_folder import load_quantized
from codesign.quantized_model import QuantizationJob, quantize_model
from codesign.recipes import Recipe, recipe
from datatypes.catalog import INTS_SYMMETRIC
from datatypes.config_json import config_from_dict
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, TensorConfig

INT4 = LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[4],), PerGroup(32)))
INT8 = LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[8],), PerChannel()))


def windows(rows=4, length=24, seed=0):
    return torch.randint(0, 320, (rows, length), generator=torch.Generator().manual_seed(seed))


def rounding_job(model, names=None):
    names = model.layer_names() if names is None else names
    return QuantizationJob("int4_g32", {name: LayerJob(RoundToNearest(), INT4) for name in names})


@pytest.fixture
def finished(tiny_gqa_dir, tmp_path):
    """A finished folder of a rounded model."""
    source = resolve_model(tiny_gqa_dir)
    quantize_model(source, rounding_job(BlockModel(source)), tmp_path / "made")
    return tmp_path / "made"


RECIPES = (
    "int4_g128_fp16",
    "bitmod3_g128",
    "ant4",
    "mxfp4",
    "nvfp4",
    "olive4",
    "gptq_int4_asym_g128",
    "l2qer_w4a8_mxint",
    "gwq3_g128",
    "awq_int4_asym_g128",
    "smoothquant_int8_channel_a8",
    "bitmod4_g128_kv4",
)


@pytest.mark.parametrize("name", RECIPES)
def test_a_folder_evaluates_to_the_same_losses_and_is_as_large_as_promised(name, tiny_gqa_dir, tmp_path):
    source = resolve_model(tiny_gqa_dir)
    model = BlockModel(source)
    chosen = recipe(name)
    gathered = gather(model, source.hash, windows(seed=1), chosen.needs)
    plan = CalibrationPlan(gathered, windows(seed=1))
    layers = dict(quantize_blocks(model, layer_jobs(model, chosen), plan, kv=kv_of(chosen)))
    in_memory = perplexity(model, windows(), layers, kv=kv_of(chosen))
    made = quantize_model(source, recipe_job(model, chosen, plan, {"text": "random"}), tmp_path / "made")
    again = load_quantized(tmp_path / "made")
    from_disk = perplexity(BlockModel(again), windows(), again.layers, kv=again.kv)
    assert (from_disk.losses == in_memory.losses).all()
    assert made.manifest == again.manifest
    total = 0
    for entry in made.manifest["layers"]:
        arrays = load_file(tmp_path / "made" / entry["file"])
        written = sum(array.numel() * array.element_size() for array in arrays.values())
        config = config_from_dict(entry["config"])
        assert 8 * written == config.storage_bits(tuple(entry["shape"])).total == entry["bits"]["total"]
        total += 8 * written
    assert made.manifest["bits"]["total"] == total
    assert made.bits_per_weight == total / (2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 160))  # q, o; k, v; the MLP


@pytest.mark.parametrize("fixture", ["tiny_llama_dir", "tiny_gpt2_dir", "tiny_moe_dir"])
def test_every_structure_survives_the_disk(fixture, request, tmp_path):
    source = resolve_model(request.getfixturevalue(fixture))
    model = BlockModel(source)
    names = [*model.layer_names(), "lm_head"]
    job = rounding_job(model, names)
    in_memory = perplexity(model, windows(), dict(quantize_blocks(model, job.layers, job.plan)))
    made = quantize_model(source, job, tmp_path / "made")
    assert (perplexity(BlockModel(made), windows(), made.layers).losses == in_memory.losses).all()
    # and a folder is a source of decoded weights for anything that wants them
    name = names[0]
    slot = next(slot for slot in model.slots(0) if slot.name == name)
    assert torch.equal(slot.matrix_of(made.tensor(slot.parameter_name)), made.layers[name].dequantize_weight())
    assert made.tokenizer()("The fox")["input_ids"] == source.tokenizer()("The fox")["input_ids"]
    assert made.config.vocab_size == 320


@pytest.mark.parametrize(("head", "embedding"), [(INT8, None), (None, INT8), (INT8, INT4)])
def test_head_and_embedding_of_a_tied_model(head, embedding, tiny_gqa_dir, tmp_path):
    transformers = pytest.importorskip("transformers")
    source = resolve_model(tiny_gqa_dir)
    model = BlockModel(source)
    chosen = Recipe("head", None, LayerConfig(), head=head, embedding=embedding)
    made = quantize_model(source, recipe_job(model, chosen, CalibrationPlan(), {}), tmp_path / "made")
    whole = transformers.AutoModelForCausalLM.from_pretrained(tiny_gqa_dir, dtype=torch.float32).eval()
    original = whole.lm_head.weight.detach()

    def decoded(config):
        if config is None:
            return torch.nn.Parameter(original.clone())
        return torch.nn.Parameter(RoundToNearest().quantize(original, NO_CALIBRATION, config).dequantize_weight())

    whole.lm_head.weight, whole.model.embed_tokens.weight = decoded(head), decoded(embedding)
    with torch.no_grad():
        expected = [float(whole(w[None], labels=w[None], use_cache=False).loss) for w in windows()]
    found = perplexity(BlockModel(made), windows(), made.layers)
    assert found.losses.mean(axis=1) == pytest.approx(expected, rel=2e-6)


@dataclass(frozen=True)
class Failing:
    """Rounds to nearest and stops at one layer, as a user's Ctrl-C would."""

    stop_at: str
    name: str = "rtn"
    source: str = "this test"
    needs: frozenset = frozenset()

    def quantize(self, weight, calibration, config):
        if calibration.layer == self.stop_at:
            raise KeyboardInterrupt
        return RoundToNearest().quantize(weight, calibration, config)

    def __repr__(self):
        return "RoundToNearest()"


@dataclass(frozen=True)
class Counting(Failing):
    """Counts instead of stopping."""

    seen: tuple = ()

    def quantize(self, weight, calibration, config):
        self.seen[0].append(calibration.layer)
        return RoundToNearest().quantize(weight, calibration, config)

    def __repr__(self):
        return "RoundToNearest()"


def test_an_interrupted_run_goes_on_at_the_next_layer(tiny_gqa_dir, tmp_path):
    source = resolve_model(tiny_gqa_dir)
    names = BlockModel(source).layer_names()
    folder = tmp_path / "made"
    stopping = QuantizationJob("r", {name: LayerJob(Failing(names[5]), INT4) for name in names})
    with pytest.raises(KeyboardInterrupt):
        quantize_model(source, stopping, folder)
    with pytest.raises(ValueError, match="must be a finished quantized model, not one interrupted after 5 layers"):
        load_quantized(folder)
    seen = []
    counting = QuantizationJob("r", {name: LayerJob(Counting("", seen=(seen,)), INT4) for name in names})
    made = quantize_model(source, counting, folder)
    assert seen == names[5:]
    whole = quantize_model(source, counting, tmp_path / "whole")
    strip = {"versions": None}
    assert {**made.manifest, **strip} == {**whole.manifest, **strip}
    assert sorted(p.name for p in folder.rglob("*")) == sorted(p.name for p in (tmp_path / "whole").rglob("*"))


def test_a_damaged_layer_of_an_interrupted_run_is_made_again(tiny_gqa_dir, tmp_path):
    source = resolve_model(tiny_gqa_dir)
    names = BlockModel(source).layer_names()
    folder = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt):
        quantize_model(source, QuantizationJob("r", {n: LayerJob(Failing(names[3]), INT4) for n in names}), folder)
    (folder / "layers" / "00001.safetensors").write_bytes(b"half")
    seen = []
    quantize_model(source, QuantizationJob("r", {n: LayerJob(Counting("", seen=(seen,)), INT4) for n in names}), folder)
    assert seen == [names[1], *names[3:]]


KILLED = """
import sys, time
from codesign.algorithms.rtn import RoundToNearest
from codesign.blocks import BlockModel
from codesign.models import resolve_model
from codesign.quantize_blocks import LayerJob
from codesign.quantized_model import QuantizationJob, quantize_model
sys.path.insert(0, sys.argv[3])
from slow_rounding import Slow
from datatypes.config_json import config_from_dict

source = resolve_model(sys.argv[1])
config = config_from_dict({"weight": {"formats": "int4_sym", "granularity": {"kind": "per_group", "group_size": 32}}})
jobs = {name: LayerJob(Slow(), config) for name in BlockModel(source).layer_names()}
quantize_model(source, QuantizationJob("r", jobs), sys.argv[2])
"""
SLOW = """
import time
from dataclasses import dataclass
from codesign.algorithms.rtn import RoundToNearest

@dataclass(frozen=True)
class Slow:
    name: str = "rtn"
    source: str = "this test"
    needs: frozenset = frozenset()

    def quantize(self, weight, calibration, config):
        time.sleep(0.2)
        return RoundToNearest().quantize(weight, calibration, config)

    def __repr__(self):
        return "RoundToNearest()"
"""


def test_kill_9_loses_at_most_the_layer_in_flight(tiny_gqa_dir, tmp_path):
    (tmp_path / "slow_rounding.py").write_text(SLOW)
    folder = tmp_path / "made"
    command = [sys.executable, "-c", KILLED, str(tiny_gqa_dir), str(folder), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while len(list(folder.glob("layers/*.json"))) < 4 and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    done = len(list(folder.glob("layers/*.json")))
    assert 4 <= done < 14
    source = resolve_model(tiny_gqa_dir)
    names = BlockModel(source).layer_names()
    seen = []
    jobs = {name: LayerJob(Counting("", seen=(seen,)), INT4) for name in names}
    made = quantize_model(source, QuantizationJob("r", jobs), folder)
    assert seen == names[done:]
    assert not list(folder.rglob("*.part"))
    assert len(made.layers) == 14


def test_a_finished_folder_is_recognised(finished, tiny_gqa_dir):
    source = resolve_model(tiny_gqa_dir)
    stamps = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    quantize_model(source, rounding_job(BlockModel(source)), finished)
    assert stamps == {path: path.stat().st_mtime_ns for path in finished.rglob("*")}


def test_another_job_in_the_folder_is_refused(finished, tiny_gqa_dir):
    source = resolve_model(tiny_gqa_dir)
    job = QuantizationJob("int8", {name: LayerJob(RoundToNearest(), INT8) for name in BlockModel(source).layer_names()})
    with pytest.raises(ValueError, match="must hold the same job, but its recipe differs"):
        quantize_model(source, job, finished)


def test_a_folder_with_other_files_is_refused(tiny_gqa_dir, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    source = resolve_model(tiny_gqa_dir)
    with pytest.raises(ValueError, match="must be empty or hold a quantized model, not other files"):
        quantize_model(source, rounding_job(BlockModel(source)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_nothing_is_written_for_weights_that_hold_nan(tiny_gqa_dir, tmp_path):
    from safetensors.torch import save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_gqa_dir, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    source = resolve_model(broken)
    with pytest.raises(ValueError, match=r"weight model\.layers\.1\.mlp\.up_proj\.weight must be finite"):
        quantize_model(source, rounding_job(BlockModel(source)), tmp_path / "made")
    assert not (tmp_path / "made" / "codesign.json").exists()


def test_a_job_that_finishes_no_layer_leaves_the_folder_as_it_was(tiny_gqa_dir, tmp_path):
    source = resolve_model(tiny_gqa_dir)
    names = BlockModel(source).layer_names()
    stopping = QuantizationJob("r", {name: LayerJob(Failing(names[0]), INT4) for name in names})
    (tmp_path / "empty").mkdir()
    for folder in ("new", "empty"):
        with pytest.raises(KeyboardInterrupt):
            quantize_model(source, stopping, tmp_path / folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def edit_manifest(folder, change):
    manifest = json.loads((folder / "codesign.json").read_text())
    change(manifest)
    (folder / "codesign.json").write_text(json.dumps(manifest))


def test_refused_folders(finished, tmp_path):
    layer = finished / "layers" / "00003.safetensors"
    content = layer.read_bytes()

    layer.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"00003\.safetensors must be \d+ bytes, not \d+ bytes: .* truncated"):
        load_quantized(finished)
    layer.unlink()
    with pytest.raises(ValueError, match=r"00003\.safetensors must be \d+ bytes, not absent"):
        load_quantized(finished)
    layer.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"00003\.safetensors must have the SHA-256 .* it was changed"):
        load_quantized(finished).layers["model.layers.0.self_attn.o_proj"]
    layer.write_bytes(content)
    assert load_quantized(finished).layers["model.layers.0.self_attn.o_proj"].shape == (64, 64)

    with pytest.raises(ValueError, match=r"must be a quantized model folder with codesign\.json"):
        load_quantized(tmp_path)
    edit_manifest(finished, lambda m: m["layers"][2].pop("config"))
    with pytest.raises(ValueError, match=r"every entry of layers in .*codesign\.json must have the key 'config'"):
        load_quantized(finished)
    edit_manifest(finished, lambda m: m["layers"][2].update(config={}) or m["rest"][0].pop("tensors"))
    with pytest.raises(ValueError, match=r"every entry of rest in .*codesign\.json must have the key 'tensors'"):
        load_quantized(finished)
    edit_manifest(finished, lambda m: m["rest"][0].update(tensors=[]))
    edit_manifest(finished, lambda m: m.update(version=99))
    with pytest.raises(ValueError, match=r"version in .*codesign\.json must be 1, not 99"):
        load_quantized(finished)
    edit_manifest(finished, lambda m: m.update(version=1, kind="other"))
    with pytest.raises(ValueError, match="kind in .* must be 'codesign quantized model', not 'other'"):
        load_quantized(finished)
    edit_manifest(finished, lambda m: m.update(kind="codesign quantized model") or m.pop("kv"))
    with pytest.raises(ValueError, match="must have the key 'kv'"):
        load_quantized(finished)
    (finished / "codesign.json").write_text("{")
    with pytest.raises(ValueError, match=r"codesign\.json must be valid JSON"):
        load_quantized(finished)


@pytest.mark.parametrize(
    "path", ["../../secret.safetensors", "/etc/passwd", "layers/../../x.safetensors", "config.json"]
)
def test_a_manifest_cannot_name_files_outside_its_layout(path, finished):
    edit_manifest(finished, lambda m: m["layers"][0].update(file=path))
    with pytest.raises(ValueError, match=r"must be layers/N\.safetensors or rest-N"):
        load_quantized(finished)


def test_layer_names_never_become_paths(finished):
    manifest = json.loads((finished / "codesign.json").read_text())
    assert [entry["file"] for entry in manifest["layers"]] == [f"layers/{i:05d}.safetensors" for i in range(14)]
