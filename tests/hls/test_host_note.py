"""HOST.md: every buffer of every kernel, with its bytes."""

import re

import pytest

from datatypes.planes import plane_widths
from hls.host_note import host_note
from hls.render import TEMPLATES

ABOUT = {"model": "tiny-int4", "device": {"name": "u250", "part": "xcu250-figd2104-2L-e"}, "clock_mhz": 300.0}


def layer(**changes):
    return {
        "name": "model.q", "identifier": "layer_model_q_x1", "folder": "layers/layer_model_q_x1", "description": "int4",
        "shape": [40, 70], "tokens": 2, "options": {"tokens": 4}, "on_chip": False, "input_beats": 3, "output": "fp32",
        "output_beats": 3,
        "image": {"beats": 7, "arrays": [{"name": "weight.codes", "beat": 0, "words": 96},
                                         {"name": "weight.scale", "beat": 6, "words": 10}]},
        **changes,
    }  # fmt: skip


def test_ports_and_arrays_have_their_bytes():
    text = host_note(ABOUT, [layer()])
    assert "tiny-int4 for u250 (`xcu250-figd2104-2L-e`), clock 300 MHz" in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    # beats are 64 bytes: 7 of weights, 3 a token of input and output; arrays from beats 0 and 6
    assert [row[:3] for row in rows] == [
        ["`weights`", "read", "448"],
        ["`input`", "read", "192 a token"],
        ["`output`", "written", "192 a token"],
        ["`weight.codes`", "0", "384"],
        ["`weight.scale`", "384", "40"],
    ]
    assert "at most 4 tokens a call" in text


def test_weights_on_the_chip_have_no_port():
    text = host_note(ABOUT, [layer(on_chip=True), layer(name="model.k", output="codes")])
    assert "part of the kernel (`layers/layer_model_q_x1/image.inc`)" in text
    assert text.count("| `weights` |") == 1 and "FP32 scales of the token's tiles" in text
    assert text.index("## model.q") < text.index("## model.k")


@pytest.mark.parametrize("template", ["HOST.md", "BLOCK_HOST.md"])
def test_planes_are_all_that_codes_are_packed_in(template):
    text = " ".join((TEMPLATES / template).read_text().split())
    (said,) = re.findall(r"into planes of ([\d, ]+ and \d+) bits", text)
    there = {width for bits in range(1, 17) for width in plane_widths(bits)}
    assert [int(width) for width in re.findall(r"\d+", said)] == sorted(there, reverse=True)
