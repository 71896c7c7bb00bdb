"""``codesign export`` and ``codesign csim`` on a small real model, from its quantized folder to equal outputs."""

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess

import numpy as np
import pytest

from codesign.algorithms.rtn import RoundToNearest
from codesign.blocks import BlockModel
from codesign.cli import main
from codesign.models import resolve_model
from codesign.quantize_blocks import LayerJob
from codesign.quantized_model import QuantizationJob, quantize_model
from codesign.recipes import recipe
from codesign.weight_slots import all_slots
from hls import csim
from hls.ap_types import ap_types_folder

Q, K = "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj"
SENTENCE = "The quick brown fox jumps over the lazy dog. She read the whole book, and then she read it again. "


def quantized(model, folder, name, every=False):
    """The model with its blocks (or every slot) quantized."""
    source = resolve_model(model)
    made = recipe(name)
    names = [slot.name for slot in all_slots(source.skeleton())] if every else BlockModel(source).layer_names()
    job = QuantizationJob(name, {layer: LayerJob(RoundToNearest(), made.linear) for layer in names})
    return quantize_model(source, job, folder).folder


@pytest.fixture(scope="module")
def model(tiny_gqa_dir, tmp_path_factory):
    return quantized(tiny_gqa_dir, tmp_path_factory.mktemp("int4") / "model", "int4_g32_fp16_a8")


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "out"
    with pytest.raises(SystemExit) as stop:
        main(["export", str(model), "-l", "*.1.self_attn.[kv]_proj", "--out", str(folder), "--on-chip", "0",
              "--tokens", "2", "--lanes", "8", "--rows", "4"])  # fmt: skip
    assert not stop.value.code
    return folder


def bytes_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def compiled_here(monkeypatch):
    try:
        ap_types_folder()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    monkeypatch.setattr(csim, "FLAGS", ("-O0",))


def test_export_and_csim_from_folder_to_equal_outputs(run, exported, compiled_here):
    manifest = json.loads((exported / "manifest.json").read_text())
    assert [layer["name"] for layer in manifest["layers"]] == [K, K.replace("k_proj", "v_proj")]
    # two key heads of 16 features; BISMO's planning clock on UltraScale+
    assert all(layer["shape"] == [32, 64] for layer in manifest["layers"]) and manifest["clock_mhz"] == 300
    status, out, err = run("csim", exported)
    # each layer: a call with 1 token and one with 2, of 32 outputs
    assert status == 0 and "all 192 outputs are as expected" in err
    assert err.count(", 96 outputs as expected") == 2 and out.count("k_proj") == out.count("v_proj") == 1
    assert len(list((exported / "build").iterdir())) == 1  # equal layers share a program
    golden = exported / manifest["layers"][0]["folder"] / "output.bin"
    kept = (exported / "manifest.json").read_bytes(), golden.read_bytes()
    try:
        wrong = bytearray(kept[1])
        wrong[4 * 5] ^= 1  # lowest bit of row 5 of token 0
        golden.write_bytes(wrong)
        (entry,) = (
            e for e in manifest["files"] if e["file"].endswith("layer_model_layers_1_self_attn_k_proj_x3a/output.bin")
        )
        entry["sha256"] = hashlib.sha256(wrong).hexdigest()
        (exported / "manifest.json").write_text(json.dumps(manifest))
        status, out, err = run("csim", exported, "-l", K, "--json")
        made = json.loads(out)
        assert status == 1 and not made["equal"] and made["layers"][0]["mismatches"] == 2
        first = made["layers"][0]["first"][0]
        assert (first["row"], first["token"], first["expected_bits"] ^ first["found_bits"]) == (5, 0, 1)
        status, _, err = run("csim", exported)
        assert status == 1 and f"layer {K}, row 5, token 0: expected" in err and "2 of 192 outputs differ" in err
    finally:
        (exported / "manifest.json").write_bytes(kept[0])
        golden.write_bytes(kept[1])


def test_the_same_command_gives_the_same_bytes(run, model, tmp_path):
    arguments = ("export", model, "-l", "*.0.mlp.*", "-l", Q, "-d", "zcu104", "--clock", "250", "-a")
    file = tmp_path / "mine.yaml"  # where a machine is described is no part of what is exported
    file.write_text("base: stripes\nname: stripes\nsource: the preset\n")
    for machine, name, said in (
        ("stripes", "one", f"csim {tmp_path}/one,"),
        (file, "or two", f"csim '{tmp_path}/or two',"),
    ):
        status, out, err = run(*arguments, machine, "-o", tmp_path / name)
        assert status == 0 and f"{said} or make csim" in err and "gate_proj" in out
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "or two")
    manifest = json.loads((tmp_path / "one/manifest.json").read_text())
    names = [layer["name"].rpartition(".")[2] for layer in manifest["layers"]]
    assert sorted(names) == ["down_proj", "gate_proj", "q_proj", "up_proj"]
    assert manifest["device"]["part"] == "xczu7ev-ffvc1156-2-e" and manifest["clock_mhz"] == 250
    assert all("bit_serial_arithmetic" in layer["arithmetic"][0] for layer in manifest["layers"])
    before = (tmp_path / "one/manifest.json").stat().st_mtime_ns
    run(*arguments, "stripes", "-o", tmp_path / "one")
    assert (tmp_path / "one/manifest.json").stat().st_mtime_ns == before


def test_products_of_integers_go_where_they_are_told(run, refused, model, tmp_path):
    luts, dsps = {}, {}
    for mapping in ("auto", "lut", "dsp", "dsp_pair"):
        status, out, _ = run("export", model, "-l", Q, "--mapping", mapping, "-o", tmp_path / mapping, "--json")
        (layer,) = json.loads(out)["layers"]
        assert status == 0 and layer["options"]["mapping"] == mapping
        config = (tmp_path / mapping / layer["folder"] / "config.h").read_text()
        assert (f"codesign::int_mapping::{mapping}>" in config) == (mapping != "auto")
        luts[mapping], dsps[mapping] = (layer["estimate"]["resources"][site] for site in ("luts", "dsps"))
    assert luts["dsp"] < luts["dsp_pair"] < luts["lut"] == luts["auto"]
    # 8 rows of 16 lanes: a DSP a product, or for two
    assert dsps["dsp"] - dsps["lut"] == 128 and dsps["dsp_pair"] - dsps["lut"] == 64
    message = refused("export", model, "-l", Q, "--mapping", "dsp", "-a", "stripes", "-o", tmp_path / "serial")
    assert "mapping must be auto for products that are not of plain integers" in message


def test_formats_at_run_time_are_an_option_of_bitmods_pe(run, refused, tiny_gqa_dir, model, tmp_path):
    folder = quantized(tiny_gqa_dir, tmp_path / "bitmod", "bitmod4_g32")
    arguments = ("export", folder, "-l", Q, "--runtime-formats")
    status, out, _ = run(*arguments, "-a", "bitmod", "-o", tmp_path / "out")
    (layer,) = json.loads((tmp_path / "out/manifest.json").read_text())["layers"]
    assert status == 0 and layer["options"]["runtime_formats"]
    words = {one["name"]: one["register"] for one in layer["formats"]}
    assert words.keys() == {"bitmod_fp3", "bitmod_fp4", "int4", "int6", "int8"} and words["int6"] == 5 << 24
    assert all(name in out for name in words)
    cycles = {one["name"]: one["cycles"] for one in layer["formats"]}
    assert cycles["bitmod_fp4"] < cycles["int6"] < cycles["int8"]
    assert "runtime_formats must come with BitMoD's PE" in refused(*arguments, "-o", tmp_path / "two")
    message = refused("export", folder, "--block", "0", "--runtime-formats", "-a", "bitmod", "-o", tmp_path / "two")
    assert "go with layers exported one by one, not with the whole block" in message


def test_inputs_of_a_text_are_what_the_model_feeds_its_layers(run, model, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(SENTENCE * 8)
    status, out, _ = run("export", model, "-l", Q, "-o", tmp_path / "out", "--inputs", text, "--tokens", "3", "--json")
    manifest = json.loads(out)
    assert status == 0 and manifest["inputs"]["kind"] == "text"
    (layer,) = manifest["layers"]
    data = np.frombuffer((tmp_path / "out" / layer["folder"] / "input.bin").read_bytes(), np.float16).reshape(3, 64)
    # what enters q_proj of block 1 left its RMS norm, whose weights are ones: every row has a mean square of one
    assert np.allclose((data.astype(np.float64) ** 2).mean(1), 1, atol=0.01)


def test_biases_go_with_their_layers_and_embeddings_stay_out(run, refused, tiny_gpt2_dir, tmp_path):
    folder = quantized(tiny_gpt2_dir, tmp_path / "model", "int8_channel_a8", every=True)
    status, out, err = run("export", folder, "-l", "*.h.0.attn.c_proj", "-l", "*wte", "-o", tmp_path / "out", "--json")
    assert status == 0 and "left out, being no single matrix products: transformer.wte" in err
    (layer,) = json.loads(out)["layers"]
    assert layer["bias"] and [array["name"] for array in layer["image"]["arrays"]][-1] == "bias"
    assert layer["shape"] == [64, 64]
    message = refused("export", folder, "-l", "transformer.wte", "-o", tmp_path / "two")
    assert message.startswith("layers to export must be matrix products, not transformer.wte")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-l", "*.nothing"), r"layers must match one of 14 names, not '\*.nothing'"),
        (("-l", Q, "-d", "u25"), "device must be one of"),
        (("-l", Q, "-d", "ecp5_25k", "--clock", "50"), "device must be one that Vitis compiles for"),
        (("-l", Q, "-d", "vck190"), "clock must be given for device vck190"),
        (("-l", Q, "--clock", "5000"), "clock_mhz must be 1 to 1000, not 5000.0"),
        (("-l", Q, "-a", "a100"), "not the GPU a100"),
        (("-l", Q, "-a", "nonsense"), "not 'nonsense'"),
        (("-l", Q, "-a", "bitfusion"), "PEs that a header computes .*, not the fused bricks of bitfusion"),
        (("-l", Q, "-a", "fp16_baseline"), f"layer {Q} cannot be exported: PEs of fp16_baseline multiply FP16"),
        (("-l", Q, "--inputs", "no-such-text"), "no-such-text"),
        (("-l", Q, "--lanes", "0"), "--lanes"),
        (("-l", Q, "--positions", "8"), "--positions must come with --block"),
        (("-l", Q, "--tokens", "1000000000000"), "tokens of a layer must be 1 to 65536"),
        (("-l", Q, "--accumulator", "fp32"), "accumulator must be the bits of a float such as e8m23, not 'fp32'"),
        (("-l", Q, "--accumulator", "e9m23"), "accumulator must have 2 to 8 exponent"),
    ],
)
def test_mistakes_of_export_are_one_sentence_and_write_nothing(refused, model, tmp_path, arguments, message):
    assert re.search(message, refused("export", model, *arguments, "-o", tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_is_none_of_the_models_is_called_that(refused, tiny_gqa_dir, tmp_path):
    folder = quantized(tiny_gqa_dir, tmp_path / "model", "int4_g32_fp16_a8")
    manifest = folder / "codesign.json"
    strange = Q.replace("q_proj", "query")
    for path in (manifest, *folder.glob("*.safetensors.index.json")):
        path.write_text(path.read_text().replace(f'"{Q}"', f'"{strange}"'))
    message = refused("export", folder, "-l", strange, "-o", tmp_path / "out")
    assert (
        message.startswith(f"layer {strange} must be a weight matrix of ") and "which has none of this name" in message
    )


def test_a_model_that_is_no_quantized_folder(refused, tiny_gqa_dir, tmp_path):
    message = refused("export", tiny_gqa_dir, "-l", Q, "-o", tmp_path / "out")
    assert message.endswith("must be a quantized model folder with codesign.json")


@pytest.mark.parametrize("layers", [[], ["-l", Q]], ids=["all", "chosen"])
def test_a_model_of_which_nothing_is_quantized(refused, tiny_gqa_dir, tmp_path, layers):
    plain = quantize_model(resolve_model(tiny_gqa_dir), QuantizationJob("fp16", {}), tmp_path / "plain").folder
    message = refused("export", plain, *layers, "-o", tmp_path / "out")
    assert re.search("a model to export must have quantized layers, and .* has none", message)


def test_other_files_are_never_overwritten(refused, model, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    message = refused("export", model, "-l", Q, "-o", tmp_path)
    assert "must be empty or an earlier export" in message
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_mistakes_of_csim_are_one_sentence(refused, exported, tmp_path):
    assert "must be a folder that codesign export wrote" in refused("csim", tmp_path)
    assert "layers must match one of 2 names" in refused("csim", exported, "-l", "nothing")
    message = refused("csim", exported, "--ap-types", tmp_path)
    assert "must hold ap_int.h" in message


@pytest.mark.slow
def test_make_csim_needs_nothing_of_ours(exported, compiled_here, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "copy")
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = ["make", "csim", f"AP_TYPES={ap_types_folder()}", "CXXFLAGS=-O0"]
    done = subprocess.run(command, cwd=folder, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "all outputs of all layers are as expected" in done.stdout and done.stdout.count("mismatches 0") == 2
    # one golden value of row 3 is another: make names layer, token, row, and both values beside their bits
    place = sorted((folder / "layers").iterdir())[0]
    whole = (place / "output.bin").read_bytes()
    (right,) = struct.unpack_from("<f", whole, 12)
    (place / "output.bin").write_bytes(whole[:12] + struct.pack("<f", right + 1) + whole[16:])
    single = ["make", f"csim-{place.name}", *command[2:]]
    wrong = subprocess.run(single, cwd=folder, env=bare, capture_output=True, text=True)
    said = re.search(r"mismatch token=0 row=3 expected=\w+ found=\w+ format= \((\S+), not (\S+)\)", wrong.stdout)
    assert wrong.returncode != 0 and place.name in wrong.stdout and said is not None
    assert float(said[1]) == pytest.approx(right + 1) and float(said[2]) == pytest.approx(right)
    (place / "output.bin").write_bytes(whole)
    # weights on the chip are part of the program: a new image makes a new one
    dry = [*command[:1], "-n", *command[1:]]
    compiles = "-std=c++17"
    assert compiles not in subprocess.run(dry, cwd=folder, env=bare, capture_output=True, text=True).stdout
    next((folder / "layers").iterdir()).joinpath("image.inc").write_text("0x0")
    assert subprocess.run(dry, cwd=folder, env=bare, capture_output=True, text=True).stdout.count(compiles) == 1
