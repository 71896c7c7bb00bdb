"""Accelerators by name: presets, or files."""

import pytest

from codesign.machines import accelerators_by_name


def test_accelerators_are_presets_or_files(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("base: bitmod\nname: mine\nsource: a test\n")
    assert list(accelerators_by_name(("ant", str(file)))) == ["ant", "mine"]
    file.write_text("base: bitmod\nname: ant\nsource: a test\n")
    with pytest.raises(ValueError, match="must have different names, not two called 'ant'"):
        accelerators_by_name(("ant", str(file)))
    with pytest.raises(ValueError, match="nearest: bitmod"):
        accelerators_by_name(("bitmodd",))
