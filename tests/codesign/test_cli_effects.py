"""``codesign effects``."""

import json

import pytest

from codesign import cli_effects


def test_effects_of_an_unknown_model_or_machine(capsys):
    with pytest.raises(ValueError, match="Llama-9-7B"):
        cli_effects.effects("Llama-9-7B", "bitmod", as_json=True)
    with pytest.raises(ValueError, match="nearest: bitmod"):
        cli_effects.effects("Llama-2-7B", "bitmood", as_json=True)
    assert capsys.readouterr().out == ""


def test_a_machine_of_ones_own_has_effects_and_a_gpu_has_none(run, refused, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nbase: bitmod\nsource: me\n")
    tables = []
    for machine in ("bitmod", file):
        status, out, err = run("effects", "OPT-1.3B", "-a", machine, "--json")
        assert status == 0, err
        tables.append(json.loads(out))
    assert tables[0] == tables[1]
    assert "must be an array of PEs, not the GPU h100" in refused("effects", "OPT-1.3B", "-a", "h100")
