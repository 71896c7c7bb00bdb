"""Tables of kernels_gpu/NOTES.md that name a file of measurements say what that file says."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "kernels_gpu"
NOTES = (FOLDER / "NOTES.md").read_text(encoding="utf-8")
SHAPES = ((4096, 4096), (11008, 4096), (28672, 8192))
RECIPES = {
    "INT4 g128": "int4_g128", "UINT4 g128 with zero points": "uint4_g128",
    "BitMoD-4 g128, 8-bit scales": "bitmod4_g128", "BitMoD-3 g128, 8-bit scales": "bitmod3_g128",
    "INT3 g128": "int3_g128", "FP4 g128": "fp4_g128", "NF4 g64": "nf4_g64", "NF3 g64": "nf3_g64", "MXFP4": "mxfp4",
    "NVFP4": "nvfp4", "INT2 g64": "int2_g64", "UINT2 g64": "uint2_g64", "INT5 g128": "int5_g128",
    "INT6 g128": "int6_g128", "INT7 g128": "int7_g128", "INT8 by row": "int8", "E3M2 g128": "e3m2_g128",
    "MXFP6": "mxfp6", "E4M3 g128": "e4m3_g128", "MXFP8": "mxfp8", "learned, 4 bits": "learned4",
    "learned, 3 bits": "learned3",
}  # fmt: skip
LAYERS = {
    "INT4 alone": "int4_g128", "rank 32, FP16 factors": "lqer32_fp16", "rank 32, INT8 factors": "lqer32_int8",
    "rank 32, MXINT8 factors": "lqer32_mxint8",
    "rank 32, FP16 factors, three launches": "lqer32_fp16_launches",
    "rank 32, INT8 factors, three launches": "lqer32_int8_launches",
    "rank 32, MXINT8 factors, three launches": "lqer32_mxint8_launches",
    "1 % columns, dense slots left out": "columns1",
    "1 % of weights in rows": "rows1",
}  # fmt: skip


def records(name):
    """The first record of each kernel and shape (m, k, n) of a file."""
    found = {}
    for record in json.loads((FOLDER / "measurements" / name).read_text(encoding="utf-8")):
        found.setdefault((record["name"], *record["shape"]), record)
    return found


def table(after):
    """Cells of the first table after a text, by the name of their row; without its two lines of heads."""
    begin = NOTES.index("\n|", NOTES.index(after))
    lines = NOTES[begin:].strip().split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0]: row[1:] for row in rows}


def test_the_decode_gemvs_result_is_that_of_its_records():
    found = table("### Result (`measurements/gemv_h100.json`")
    assert found.keys() == RECIPES.keys()
    for label, cells in found.items():
        for cell, (file, (n, k)) in zip(
            cells, [(file, s) for file in ("gemv_h100.json", "gemv_h200.json") for s in SHAPES], strict=True
        ):
            record = records(file)[RECIPES[label], 1, k, n]
            rate = float(record["conditions"]["bytes"]) / float(record["conditions"]["copy_bytes_per_s"])
            assert cell == f"{record['seconds'] * 1e6:.1f}, {100 * rate / record['seconds']:.0f} %", (label, file, n)


def test_what_came_of_layers_is_that_of_their_records():
    timed, found = records("layer_h100.json"), table("### What came (`measurements/layer_h100.json`")
    assert found.keys() == LAYERS.keys()
    for label, cells in found.items():
        for cell, (n, k) in zip(cells, SHAPES, strict=True):
            assert cell == " / ".join(f"{timed[LAYERS[label], m, k, n]['seconds'] * 1e6:.1f}" for m in (1, 4, 16)), (
                label
            )


@pytest.mark.parametrize("gpu", ["h100", "h200"])
def test_tokens_a_second_in_the_readme_are_those_of_the_records(gpu):
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    said = re.search(r"decodes (\d+) tokens/s on an H100 and (\d+) on an H200, ([\d.]+) and ([\d.]+) times", readme)
    assert said is not None
    timed = records(f"decode_step_{gpu}.json")
    best, half = (timed[f"decode step {name}", 1, 256, 32] for name in ("int4_g128", "fp16 cuBLAS"))
    place = ["h100", "h200"].index(gpu)
    assert int(said[1 + place]) == round(1 / best["seconds"])
    assert float(said[3 + place]) == pytest.approx(half["seconds"] / best["seconds"], abs=0.05)
