"""``codesign fpga``."""

import json

import pytest

from codesign.cli_fpga import fpga
from hwmodel.fpga import DEVICES


def test_devices_are_listed(capsys):
    fpga(None, device="u250", dsp=False, as_json=True)
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(DEVICES)


def test_an_estimate_says_what_each_number_is(capsys):
    fpga("bitmod", device="zcu104", dsp=False, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert result["device"] == "zcu104"
    assert result["parts"][0]["origin"] == "recorded"
    uses = {use["resource"]: use for use in result["budget"]}
    assert uses["luts"]["capacity"] == 230400
    assert result["fits"] == all(use["fits"] for use in uses.values())


def test_people_read_the_verdict(capsys):
    fpga("bismo_ultra96", device="u250", dsp=False, as_json=False)
    captured = capsys.readouterr()
    assert "published" in captured.out
    assert "fits" in captured.err
    assert "300 MHz" in captured.err


@pytest.mark.parametrize(
    ("accelerator", "device", "message"),
    [("bitmod", "u25", "device must be one of"), ("a100", "u250", "not the GPU a100"), ("x", "u250", "not 'x'")],
)
def test_mistakes_are_one_sentence(accelerator, device, message):
    with pytest.raises(ValueError, match=message):
        fpga(accelerator, device=device, dsp=False, as_json=True)
