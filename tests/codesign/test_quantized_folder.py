"""Opening a quantized model folder: decoded weights by name, and what is refused. Damage by kind stands in
test_quantized_model.py."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from codesign.algorithms.rtn import RoundToNearest
from codesign.blocks import BlockModel
from codesign.models import resolve_model
from codesign.quantize_blocks import LayerJob
from codesign.quantized_folder import MANIFEST, checked_file, digest, is_quantized, load_quantized
from codesign.quantized_model import QuantizationJob, quantize_model
from datatypes.catalog import INTS_SYMMETRIC
from datatypes.granularity import PerChannel
from datatypes.layer_config import LayerConfig, TensorConfig

INT4 = LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[4],), PerChannel()))


@pytest.fixture(scope="module")
def folder(tiny_gqa_dir, tmp_path_factory):
    source = resolve_model(tiny_gqa_dir)
    names = BlockModel(source).layer_names()
    job = QuantizationJob("int4", {name: LayerJob(RoundToNearest(), INT4) for name in names})
    return quantize_model(source, job, tmp_path_factory.mktemp("made") / "model").folder


def test_layers_are_a_mapping_read_when_asked(folder, tiny_gqa_dir):
    made = load_quantized(folder)
    names = BlockModel(resolve_model(tiny_gqa_dir)).layer_names()
    assert list(made.layers) == names and len(made.layers) == len(names)
    assert names[0] in made.layers and "lm_head" not in made.layers
    with pytest.raises(KeyError):
        made.layers["lm_head"]


def test_weights_are_decoded_by_name_and_the_rest_comes_as_it_was(folder, tiny_gqa_dir):
    made, original = load_quantized(folder), resolve_model(tiny_gqa_dir)
    name = "model.layers.1.mlp.down_proj"
    assert torch.equal(made.tensor(f"{name}.weight"), made.layers[name].dequantize_weight())
    for rest in ("model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(made.tensor(rest), original.tensor(rest)), rest
    with pytest.raises(ValueError, match=r"quantized model .*model must hold weight model\.layers\.9\.weight"):
        made.tensor("model.layers.9.weight")


def test_bits_per_weight_are_those_of_the_files(folder):
    made = load_quantized(folder)
    written = sum(
        8 * sum(array.numel() * array.element_size() for array in load_file(folder / entry["file"]).values())
        for entry in made.manifest["layers"]
    )
    weights = sum(entry["shape"][0] * entry["shape"][1] for entry in made.manifest["layers"])
    assert made.bits_per_weight == written / weights


def test_a_folder_is_recognised_by_its_manifest(folder, tmp_path):
    assert is_quantized(folder) and is_quantized(str(folder))
    assert not is_quantized(tmp_path) and not is_quantized(folder / MANIFEST)


def test_the_hash_follows_the_manifest_and_every_file_stands_in_it(folder):
    made = load_quantized(folder)
    assert made.hash == digest(folder / MANIFEST)
    entries = json.loads((folder / MANIFEST).read_text())["layers"]
    assert all(len(entry["sha256"]) == 64 for entry in entries)


def test_a_file_of_the_right_hash_that_is_no_safetensors_is_refused(folder, tmp_path):
    (tmp_path / "layers").mkdir()
    path = tmp_path / "layers" / "00000.safetensors"
    path.write_bytes(b"no header here, but of the size and hash that the entry says")
    entry = {"file": "layers/00000.safetensors", "bytes": path.stat().st_size, "sha256": digest(path)}
    with pytest.raises(ValueError, match=r"00000\.safetensors must be a safetensors file \("):
        checked_file(tmp_path, entry)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("layers",), None, r"'layers' of .*codesign\.json must be a list, not None"),
        (("kv",), "int8", r"'kv' of .*codesign\.json must be an object, not 'int8'"),
        (("kv",), {"key": 3}, r"kv in .*codesign\.json: "),
        (("version",), True, r"'version' of .*codesign\.json must be a whole number, not True"),
        (("bits",), {"total": 5}, r"bits in .*codesign\.json must have the key 'weights'"),
        (("bits", "total"), "many", r"'total' of bits in .*codesign\.json must be a whole number, not 'many'"),
        (("layers", 0), [], r"every entry of layers in .*codesign\.json must have the key 'file'"),
        (("layers", 0, "bytes"), 1e30, r"'bytes' of every entry of layers in .* must be a whole number, not 1e\+30"),
        (("layers", 0, "name"), ["a"], r"'name' of every entry of layers in .* must be a text, not \['a'\]"),
        (("layers", 0, "shape"), [64], r"shape of layer .*q_proj in .* must be two sizes \[n, k\], not \[64\]"),
        (("layers", 0, "shape"), [64, -1], r"shape of layer .*q_proj in .* must be two sizes \[n, k\], not \[64, -1\]"),
        (("layers", 0, "shape"), [64, "a"], r"shape of layer .*q_proj in .* must be two sizes"),
        (("layers", 0, "config"), {"weight": 3}, r"layer .*q_proj of .*codesign\.json: "),
        (("layers", 0, "config", "weight", "formats"), "int2", r"layer .*q_proj of .*: words must be .* of 2 bits"),
        (("rest", 0, "tensors"), [3], r"tensors of rest-00000\.safetensors in .* must be a list of names, not \[3\]"),
    ],
    ids=lambda value: "/".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_a_manifest_of_wrong_kinds_is_one_sentence(folder, tmp_path, place, value, message):
    broken = shutil.copytree(folder, tmp_path / "broken")
    manifest = json.loads((broken / MANIFEST).read_text())
    at = manifest
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    (broken / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=message) as caught:
        made = load_quantized(broken)
        _ = made.kv, [made.layers[name] for name in made.layers]
    assert "\n" not in str(caught.value)
