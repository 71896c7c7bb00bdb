"""Layers whose weight format a register chooses at run time: one kernel, every format, against the reference.

Needs ``ap_int.h`` (extra ``hls``) and g++ where it compiles.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FP4, FP16, FP32, INTS, INTS_SYMMETRIC, UINT8
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from hls.csim import open_export, simulate
from hls.estimate import estimate_layer
from hls.export import ExportLayer, ExportTarget, export_layers
from hls.layer_config_text import config_text
from hls.layer_csim import compile_plans, simulate_plan
from hls.layer_loops import iterations_by_label, layer_loops
from hls.layer_options import LayerOptions
from hls.layer_planning import plan_layer
from hls.layer_reference import layer_reference
from hls.loop_counter import count_loops
from hls.runtime_formats import in_runtime_formats
from hwmodel.fpga import DEVICES
from hwmodel.unit_cost_design import Arithmetic

NAMES = ("bitmod_fp3", "bitmod_fp4", "int4", "int6", "int8")
TERMS = {"bitmod_fp3": 2, "bitmod_fp4": 2, "int4": 2, "int6": 3, "int8": 4}  # Chen et al., HPCA 2025, section IV
BITS = {"bitmod_fp3": 3, "bitmod_fp4": 4, "int4": 4, "int6": 6, "int8": 8}
INT8 = TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP32), dynamic=True)
OPTIONS = LayerOptions(3, 4, 4, Arithmetic.BITMOD, runtime_formats=True)
U250 = DEVICES["u250"]


def layer(formats=BITMOD_FP4, activation=None, shape=(23, 150), group=32, **more) -> QuantizedLayer:
    weight = TensorConfig(formats, PerGroup(group), ScaleConfig(UINT8, outer=FP16), **more)
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(shape[0]))
    return QuantizedLayer(LayerConfig(weight=weight, activation=activation), quantize_tensor(values, weight), shape)


def plans_of(made: QuantizedLayer, options: LayerOptions = OPTIONS) -> dict:
    return {name: plan_layer(one, options=options) for name, one in in_runtime_formats(made).items()}


def tokens_of(made: QuantizedLayer, count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, made.shape[1])).astype(np.float16)


def check(made: QuantizedLayer, options: LayerOptions, folder: Path) -> int:
    """Compile the kernel once and compare every output of every format."""
    layers, plans, x = in_runtime_formats(made), plans_of(made, options), tokens_of(made)
    compile_plans({"layer": plans["int6"]}, folder / "program", flags=("-O0",))
    results = set()
    for name, plan in plans.items():
        found = simulate_plan(folder / "program", "layer", plan, x).values
        np.testing.assert_array_equal(found, layer_reference(layers[name], x, None, options).values, err_msg=name)
        results.add(found.tobytes())
    assert len(results) == len(NAMES)  # no format is another one
    return len(plans) * x.shape[0] * made.shape[0]


def test_one_kernel_runs_every_format(needs_compiler, tmp_path) -> None:
    assert check(layer(), OPTIONS, tmp_path) == 5 * 5 * 23


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "options"),
    [
        (layer(activation=INT8), OPTIONS),
        (layer(BITMOD_FP3, INT8, (9, 90), 24), replace(OPTIONS, lanes=8)),
        (layer((INTS[8],), None, (13, 30), 128), replace(OPTIONS, tile_rows=3, tile_blocks=2)),  # a block of codes
        (layer((INTS_SYMMETRIC[6],), None, (10, 260), 128), replace(OPTIONS, lanes=16, tile_blocks=2)),
    ],
    ids=["int8 inputs", "fp3, ragged groups", "less than a block", "two lines and a bit"],
)
def test_one_kernel_runs_every_format_in_other_shapes(needs_compiler, made, options, tmp_path) -> None:
    assert check(made, options, tmp_path)


def test_images_differ_in_their_codes_alone() -> None:
    plans = plans_of(layer())
    assert tuple(plans) == NAMES and len({config_text(plan, "layer") for plan in plans.values()}) == 1
    for name, plan in plans.items():
        assert [array.name for array in plan.arrays] == [
            "weight.scale", "weight.outer_scale", "weight.selector", "weight.codes",
        ]  # fmt: skip
        assert plan.arrays[-1].beat == plans["int4"].arrays[-1].beat
        assert plan.arrays[-1].words == 23 * 5 * BITS[name]  # 150 codes are five blocks
    assert plans["int8"].beats == plans["int4"].most_beats


def test_the_layers_own_format_keeps_its_codes() -> None:
    made = layer((INTS_SYMMETRIC[4],))
    layers = in_runtime_formats(made)
    assert layers["int4"] is made
    for name, one in layers.items():
        away = (one.weight.dequantize() - made.weight.dequantize()).abs()
        assert (away.max() > 0) == (name != "int4")


def test_estimates_are_of_one_kernel_and_of_the_time_of_each_format() -> None:
    made = {name: estimate_layer(plan, U250, 300e6) for name, plan in plans_of(layer(shape=(64, 512))).items()}
    assert len({(one.resources.luts, one.resources.bram36, one.resources.dsps) for one in made.values()}) == 1
    steps = 3 * 64 // 4 * 16 * (32 // 4)  # tokens, blocks of rows, groups, sets of four lanes
    assert {name: one.cycles.steps for name, one in made.items()} == {n: steps * TERMS[n] for n in NAMES}
    assert made["bitmod_fp3"].bytes_moved < made["int4"].bytes_moved < made["int6"].bytes_moved
    fixed = estimate_layer(
        plan_layer(layer(shape=(64, 512)), options=replace(OPTIONS, runtime_formats=False)), U250, 300e6
    )
    assert fixed.resources.luts < made["int4"].resources.luts  # codes of one width are taken apart more cheaply


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bitmod_fp3", "int8"])
def test_loops_are_counted(needs_compiler, name, tmp_path) -> None:
    made = layer()
    plan, x = plans_of(made)[name], tokens_of(made, 3)
    counted = count_loops(plan, x, tmp_path)
    expected = iterations_by_label(layer_loops(plan, 3))
    assert {label: count for label, count in counted.items() if label in expected} == expected


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (layer((INTS[5],)), "formats chosen at run time are bitmod_fp3, bitmod_fp4, int4, int6, int8, not int5"),
        (layer((FP4,)), "int8, not e2m1"),
    ],
)
def test_other_formats_are_refused(made, message) -> None:
    with pytest.raises(NotImplementedError, match=message):
        plan_layer(made, options=OPTIONS)
    with pytest.raises(NotImplementedError, match=message):
        in_runtime_formats(made)


def test_a_residual_and_other_pes_are_refused() -> None:
    residual = TensorConfig((INTS[4],), PerGroup(32), ScaleConfig(UINT8, outer=FP16))
    made = layer()
    assert made.config.weight is not None
    config = replace(made.config, weight=replace(made.config.weight, residual=residual))
    tensor = replace(made.weight, config=config.weight, residual=quantize_tensor(torch.randn(23, 150), residual))
    two = replace(made, config=config, weight=tensor)
    for refused in (lambda: plan_layer(two, options=OPTIONS), lambda: in_runtime_formats(two)):
        with pytest.raises(NotImplementedError, match="go with one weight matrix, not with parts or a residual"):
            refused()
    with pytest.raises(ValueError, match="runtime_formats must come with BitMoD's PE .* not with parallel"):
        LayerOptions(runtime_formats=True)


@pytest.mark.slow
def test_an_export_runs_all_formats_and_describes_them(needs_compiler, tmp_path) -> None:
    made = layer(shape=(10, 70))
    target = ExportTarget(U250, 300.0, OPTIONS)
    item = ExportLayer("model.q", made, tokens_of(made, 2), np.linspace(-1, 1, 10).astype(np.float32))
    manifest = export_layers(tmp_path / "out", [item], target, {"model": "m"})
    (entry,) = manifest["layers"]
    assert [one["name"] for one in entry["formats"]] == list(NAMES) and not entry["on_chip"]
    assert {f"{one['weights']}" for one in entry["formats"]} == {f"weights_{name}.bin" for name in NAMES}
    kernel = (tmp_path / "out" / entry["folder"] / "kernel.cpp").read_text()
    assert "#pragma HLS INTERFACE s_axilite port = format bundle = control" in kernel
    note = (tmp_path / "out" / "HOST.md").read_text()
    assert all(f"| {name} | `0x" in note for name in NAMES)
    (result,) = simulate(open_export(tmp_path / "out"))
    assert (result.compared, result.mismatch_count) == (5 * (1 + 2) * 10, 0)
    golden = tmp_path / "out" / entry["folder"] / "output_int6.bin"
    golden.write_bytes(bytes([golden.read_bytes()[0] ^ 1]) + golden.read_bytes()[1:])
    (result,) = simulate(open_export_with(tmp_path / "out", f"{entry['folder']}/output_int6.bin"))
    assert result.mismatch_count == 2 and "format int6, row 0, token 0" in str(result.mismatches[0])


def open_export_with(folder: Path, changed: str):
    """An export one of whose data files was changed, and its manifest with it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["file"] == changed:
            entry["sha256"] = hashlib.sha256((folder / changed).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return open_export(folder)
