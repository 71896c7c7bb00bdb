"""What each option is worth, from the command line."""

import json


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
