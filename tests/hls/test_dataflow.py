"""No stream is too shallow: layers and blocks whose processes run side by side over streams of their stated depths.

In hardware, where a region's processes wait for one another, a stream that holds too little stops all of them for good;
C simulation does not see it (``dataflow_threads``). Needs ``ap_int.h`` (extra ``hls``) and g++.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hls import csim
from hls.ap_types import INCLUDE, compile_program
from hls.block_export import export_block
from hls.export import ExportTarget
from hls.layer_csim import compile_plans, simulate_plan
from hls.layer_plan import LayerPlan
from hls.layer_planning import plan_layer
from hls.layer_reference import layer_reference
from hwmodel.fpga import DEVICES
from tests.hls import test_csim_layer, test_layer_loops
from tests.hls.block_cases import BLOCKS
from tests.hls.dataflow_threads import STUCK, threaded, write_threaded_headers

pytestmark = pytest.mark.usefixtures("needs_compiler")

# Layers by kind: what has streams of its own (outliers, biases, one pair of streams a part) and what takes turns.
KINDS = {**test_layer_loops.LAYERS, "residual": lambda: test_csim_layer.residual()[0],
         "partitioned": lambda: test_csim_layer.partitioned()[0]}  # fmt: skip
QUICK = ("residual",)


def cases(names: tuple[str, ...], blocks: int) -> dict[str, tuple]:
    """Layers, their plans with a bias, and inputs of a full call and one that is not."""
    made = {}
    for name in names:
        layer = KINDS[name]()
        n, k = layer.shape
        bias = np.linspace(-1, 1, n, dtype=np.float32)
        options = replace(test_layer_loops.OPTIONS, tile_blocks=blocks)
        x = np.random.default_rng(3).standard_normal((options.tokens + 1, k)).astype(np.float16)
        made[name] = layer, plan_layer(layer, options=options, bias=bias), x, bias
    return made


def compiled(plans: Mapping[str, LayerPlan], folder: Path, headers: Path) -> Path:
    compile_plans(plans, folder / "program", flags=("-O0", "-pthread", "-I", str(headers)))
    return folder / "program"


def check(names: tuple[str, ...], blocks: int, folder: Path) -> None:
    """The layers end, and give what they always give."""
    headers = write_threaded_headers(folder / "headers")
    made = cases(names, blocks)
    program = compiled({f"a_{name}": plan for name, (_, plan, _, _) in made.items()}, folder, headers)
    for name, (layer, plan, x, bias) in made.items():
        expected = layer_reference(layer, x, bias, plan.options)
        found = simulate_plan(program, f"a_{name}", plan, x).values
        values = expected.values if expected.coded is None else expected.coded.codes.numpy()
        np.testing.assert_array_equal(found, values, err_msg=name)


def test_layers_end_over_streams_of_their_depths(tmp_path):
    check(QUICK, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [1, 4])
def test_layers_of_every_kind_end(tmp_path, blocks):
    check(tuple(KINDS), blocks, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "depth", "shallow"),
    [
        (
            "layer_parts.h",
            "totals_depth = TOKENS * BLOCKS + 2",
            "totals_depth = 2",
        ),  # while the second part is summed up
        (
            "layer.h",
            "biases_depth = 4 * C::tile_rows",
            "biases_depth = 2",
        ),  # a tile is handed on with all of its biases
    ],
)
def test_a_shallower_stream_is_stuck(tmp_path, header, depth, shallow):
    headers = write_threaded_headers(tmp_path / "headers", (header, depth, shallow), patience_s=10)
    _, plan, x, _ = cases(("residual",), 4)["residual"]
    program = compiled({"residual": plan}, tmp_path, headers)
    with pytest.raises(ValueError, match=rf"not with status {STUCK}: stuck: a (reader|writer)"):
        simulate_plan(program, "residual", plan, x)


def test_every_region_becomes_threads():
    """As many threads as processes, in the headers that have DATAFLOW in them and in no other."""
    found = {}
    for path in sorted((INCLUDE / "codesign").glob("*.h")):
        text = path.read_text(encoding="utf-8")
        made = threaded(text)
        assert "DATAFLOW\n" not in made and "HLS STREAM" not in made
        if made.count("emplace_back"):
            found[path.name] = text.count("HLS DATAFLOW"), made.count("emplace_back")
    # regions, and threads: of a layer 4 (its activations join two of 5 processes) and of its tiles 4; of scores 4, of
    # values 3; of a block 19 and of its layers 1 (two processes, joined)
    assert found == {"layer.h": (2, 8), "attention.h": (2, 7), "decoder_block.h": (2, 20)}


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_end_over_streams_of_their_depths(tmp_path, name):
    run, folder = block_program(tmp_path, name)
    assert subprocess.run([run], cwd=folder, timeout=600, check=False).returncode == 0


@pytest.mark.slow
def test_a_block_with_less_room_for_a_residual_is_stuck(tmp_path):
    shallow = ("decoder_block.h", "variable = residual depth = hidden", "variable = residual depth = 8")
    run, folder = block_program(tmp_path, next(iter(BLOCKS)), shallow, patience_s=10)
    assert subprocess.run([run], cwd=folder, timeout=600, check=False).returncode == STUCK


def block_program(
    work: Path, name: str, *changes: tuple[str, str, str], patience_s: int = 60
) -> tuple[Path, Path]:  # fmt: skip
    """An exported block with all positions of its cache, compiled with threads, and the folder to run it in."""
    made, options = BLOCKS[name]()
    x = np.random.default_rng(9).normal(size=(made.positions, made.hidden)).astype(np.float32)
    target = ExportTarget(DEVICES["u250"], 300.0, options)
    export_block(work / "out", made, x, target, {"model": "none"})
    (entry,) = csim.open_export(work / "out").layers
    folder = work / "out" / entry["folder"]
    headers = write_threaded_headers(work / "headers", *changes, patience_s=patience_s)
    sources = [folder / "kernel.cpp", folder / "testbench.cpp"]
    compile_program(sources, work / "run", includes=(headers, INCLUDE, folder), flags=("-O0", "-pthread"))
    return work / "run", folder
