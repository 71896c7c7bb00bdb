"""C simulation of exports: a small kernel of this file's own, right and wrong, and everything that may go amiss."""

import json
import shutil
import struct

import numpy as np
import pytest

from hls import csim
from hls.ap_types import INCLUDE
from hls.csim import Mismatch, edited_sources, matching, open_export, simulate
from hls.export import needed_headers
from hls.export_folder import MANIFEST, read_manifest, whole_export, write_manifest
from hls.render import GoldenRun, KernelText, bench_text
from hls.weights import row_bytes

pytestmark = pytest.mark.usefixtures("needs_compiler")
TOKENS, COLUMNS = 3, 40

# Doubles every value of a row of FP32; `input` and `output` have rows that start a beat.
KERNEL = """
#include "config.h"
extern "C" void NAME(const ap_uint<512>* input, ap_uint<512>* output, int tokens) {
  for (int beat = 0; beat < tokens * BEATS; ++beat) {
    for (int place = 0; place < 16; ++place) {
      codesign_bits both;
      both.bits = ap_uint<32>(input[beat].range(32 * place + 31, 32 * place)).to_uint();
      both.value *= FACTOR;
      output[beat].range(32 * place + 31, 32 * place) = both.bits;
    }
  }
}
"""
CONFIG = """
#include <ap_int.h>
#include <cstdint>
constexpr int BEATS = 3;
constexpr float FACTOR = 2.0F;
union codesign_bits { std::uint32_t bits; float value; };
"""


def write_layer(folder, name, identifier, *, wrong=()):
    place = folder / "layers" / identifier
    place.mkdir(parents=True)
    rng = np.random.default_rng(len(name))
    values = rng.standard_normal((TOKENS, COLUMNS)).astype(np.float32)
    expected = 2 * values
    for token, row in wrong:
        expected[token, row] += 1
    run = GoldenRun("", 0, "", 0, "output.bin")
    kernel = KernelText(
        name, identifier, (COLUMNS, COLUMNS), "twice", TOKENS, 0, True, 3, 3, COLUMNS, 32, (1, TOKENS), (run,)
    )
    (place / "kernel.cpp").write_text(KERNEL.replace("NAME", identifier))
    (place / "config.h").write_text(CONFIG)
    (place / "testbench.cpp").write_text(bench_text(kernel))
    (place / "input.bin").write_bytes(row_bytes(values))
    (place / "output.bin").write_bytes(row_bytes(expected))
    here = f"layers/{identifier}"
    return {
        "name": name, "identifier": identifier, "folder": here, "output": "fp32",
        "sources": [f"{here}/{file}" for file in ("kernel.cpp", "config.h", "testbench.cpp")],
        "data": [f"{here}/input.bin", f"{here}/output.bin"],
    }  # fmt: skip


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch):
    monkeypatch.setattr(csim, "FLAGS", ("-O0",))


def write_export(folder, *layers, programs=None):
    """An export of doubling layers, with the programs of another one where they will do."""
    with whole_export(folder) as made:
        (made / "include" / "codesign").mkdir(parents=True)
        for header in needed_headers('#include "codesign/beat_file.h"\n#include "codesign/fields.h"'):
            shutil.copyfile(INCLUDE / "codesign" / header, made / "include" / "codesign" / header)
        entries = [write_layer(made, name, identifier, **more) for name, identifier, more in layers]
        write_manifest(made, {"layers": entries})
    if programs is not None:
        shutil.copytree(programs / "build", folder / "build")
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("csim") / "good", ("a.one", "layer_a", {}), ("b.two", "layer_b", {}))


def test_equal_layers_share_one_program_and_pass(good):
    seen = []
    results = simulate(open_export(good), finished=lambda result, done, total: seen.append((result.layer, done, total)))
    assert [r.layer for r in results] == ["a.one", "b.two"]
    # two calls, of one token and of all: (1 + 3) * 40 values
    assert all((r.compared, r.mismatch_count, r.mismatches) == (160, 0, ()) for r in results)
    assert sorted(r.compile_s is None for r in results) == [False, True]  # the second finds the program of the first
    assert [entry[1:] for entry in seen] == [(1, 2), (2, 2)]
    assert len(list((good / "build").iterdir())) == 1
    again = simulate(open_export(good, ["b.*"]), workers=1)
    assert [(r.layer, r.compile_s) for r in again] == [("b.two", None)]


def test_mismatches_name_layer_row_token_and_values(good, tmp_path):
    wrong = {"wrong": [(0, 7), (2, 39)]}
    folder = write_export(tmp_path / "out", ("a.bad", "layer_c", wrong), programs=good)
    (result,) = simulate(open_export(folder))
    # token 0 is in both calls, token 2 in the second
    assert [(m.token, m.row) for m in result.mismatches] == [(0, 7), (0, 7), (2, 39)]
    assert result.mismatch_count == 3
    first = result.mismatches[0]
    stored = (folder / "layers/layer_c/output.bin").read_bytes()
    assert first.value(first.expected) == struct.unpack_from("<f", stored, 4 * 7)[0]
    assert first.value(first.expected) == pytest.approx(first.value(first.found) + 1, abs=1e-6)
    assert str(first).startswith("layer a.bad, row 7, token 0: expected ")
    (short,) = simulate(open_export(folder), most=1)
    assert len(short.mismatches) == 1 and short.mismatch_count == 3


def test_a_compiler_that_fails_when_it_is_asked_for_its_version(good, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(ValueError, match=r"the C\+\+ compiler must answer .*, not 3: it said nothing"):
        simulate(open_export(good))


def test_an_edited_source_is_compiled_again_and_says_where_it_fails(good, tmp_path):
    folder = write_export(tmp_path / "out", ("a.one", "layer_a", {}), programs=good)
    config = folder / "layers/layer_a/config.h"
    config.write_text('#include "nowhere.h"\n' + config.read_text())
    export = open_export(folder)
    assert edited_sources(export) == ["layers/layer_a/config.h"]
    with pytest.raises(ValueError, match=r"layer a.one: kernel.cpp, testbench.cpp must compile: .*nowhere.h"):
        simulate(export)
    assert [path.name for path in (folder / "build").iterdir()] == [path.name for path in (good / "build").iterdir()]


def test_names_that_are_numbers_do_not_make_other_sources_alike(tmp_path):
    folder = write_export(tmp_path / "out", ("4", "layer_4_x0", {}), ("8", "layer_8_x0", {}))
    for name in ("4", "8"):
        (folder / f"layers/layer_{name}_x0/config.h").write_text(f'#include "width{name}.h"\n')
        with pytest.raises(ValueError, match=f"layer {name}: .*width{name}.h"):
            simulate(open_export(folder, [name]))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sources", 5, "sources of a layer in .* must be a list of texts, not 5"),
        ("data", [], "data of a layer in .* must be a list of texts"),
        ("name", ["a"], "every layer in .* must have a name and an identifier"),
        ("folder", "/etc", "must lie inside its folder, not '/etc'"),
        ("folder", "../x", "must lie inside its folder, not '../x'"),
        ("output", "fp99", "output of a layer in .* must be fp32, fp16, codes, not 'fp99'"),
    ],
)
def test_a_layer_of_an_edited_manifest_is_refused(good, tmp_path, key, value, said):
    folder = write_export(tmp_path / "out", ("a.one", "layer_a", {}), programs=good)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["layers"][0][key] = value
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=said):
        open_export(folder)


@pytest.mark.parametrize("state", ["missing", "changed"])
def test_data_must_be_as_exported(tmp_path, state):
    folder = write_export(tmp_path / "out", ("a.one", "layer_a", {}))
    data = folder / "layers/layer_a/output.bin"
    if state == "missing":
        data.unlink()
    else:
        data.write_bytes(data.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match=f"output.bin must be as it was exported, but it is {state}"):
        open_export(folder)


def test_a_short_file_ends_the_testbench(good, tmp_path):
    folder = write_export(tmp_path / "out", ("a.one", "layer_a", {}), programs=good)
    export = open_export(folder)
    data = folder / "layers/layer_a/input.bin"
    data.write_bytes(data.read_bytes()[:-64])
    with pytest.raises(ValueError, match=r"testbench of layer a.one .* status 2: input.bin must hold 9 beats"):
        simulate(export)


def test_a_missing_source_is_one_sentence(tmp_path):
    folder = write_export(tmp_path / "out", ("a.one", "layer_a", {}))
    (folder / "layers/layer_a/kernel.cpp").unlink()
    export = open_export(folder)
    assert edited_sources(export) == ["layers/layer_a/kernel.cpp"]
    with pytest.raises(ValueError, match=r"kernel.cpp must be there, as manifest.json says"):
        simulate(export)


def test_a_manifest_without_what_is_needed(tmp_path):
    folder = write_export(tmp_path / "out", ("a.one", "layer_a", {}))
    path = folder / MANIFEST
    whole = read_manifest(folder)
    lacking = json.loads(json.dumps(whole))
    del lacking["layers"][0]["sources"]
    path.write_text(json.dumps(lacking))
    with pytest.raises(ValueError, match="must have the keys sources"):
        open_export(folder)
    foreign = json.loads(json.dumps(whole))
    foreign["layers"][0]["sources"] = ["/tmp/evil.cpp"]
    path.write_text(json.dumps(foreign))
    with pytest.raises(ValueError, match="must list /tmp/evil.cpp among its files"):
        open_export(folder)


def test_patterns_choose_layers():
    names = ["model.0.q", "model.0.k", "model.1.q"]
    assert matching(names, []) == names
    assert matching(names, ["*.q"]) == ["model.0.q", "model.1.q"]
    assert matching(names, ["model.1.q", "model.0.*"]) == names
    with pytest.raises(ValueError, match=r"layers must match one of 3 names, not 'model.0.v'"):
        matching(names, ["model.0.v"])


def test_workers_are_one_or_two(good):
    with pytest.raises(ValueError, match="workers of a simulation must be 1 to 2, not 3"):
        simulate(open_export(good), workers=3)


def test_bits_are_read_as_their_type():
    assert Mismatch("a", 0, 0, 0, 0, "fp16").value(0x3C00) == 1.0  # IEEE 754: 0 01111 0000000000
    assert Mismatch("a", 0, 0, 0, 0, "fp32").value(0xC0000000) == -2.0  # 1 10000000 0...
    assert Mismatch("a", 0, 0, 0, 0, "codes").value(7) == 7
