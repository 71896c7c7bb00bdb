"""The list of packaged models: what a reader of a number from one must know is there, and files can be checked."""

import re

import pytest

from codesign.package_models import DEFAULT_MODEL, PACKAGE_MODELS, Layout


@pytest.mark.parametrize("name", PACKAGE_MODELS)
def test_every_model_is_pinned_and_says_where_it_comes_from(name):
    model = PACKAGE_MODELS[name]
    assert re.fullmatch(r"[a-z0-9.\-]+", name), "a name is a file name too"
    assert re.fullmatch(r"[0-9a-f]{64}", model.sha256)
    assert model.licence and model.source and model.grid
    for package, path in model.files:
        assert re.fullmatch(r"[0-9a-f]{64}", package.sha256) and package.version
        assert not path.startswith("/") and ".." not in path


@pytest.mark.parametrize("name", [name for name, m in PACKAGE_MODELS.items() if m.layout is Layout.FOLDER])
def test_a_folder_has_its_weights_first_and_a_config(name):
    files = [path for _, path in PACKAGE_MODELS[name].files]
    assert files[0].endswith((".safetensors", ".bin"))
    assert any(path.endswith("/config.json") for path in files)
    assert len({path.rpartition("/")[0] for path in files}) == 1, "one folder"


@pytest.mark.parametrize("name", ["gemma3-270m", "qwen2.5-coder-0.5b"])
def test_parts_are_in_the_order_of_their_numbers(name):
    files = PACKAGE_MODELS[name].files
    numbers = [int(re.search(r"part(\d+)(?:\.bin)?$", path)[1]) for _, path in files]
    assert numbers == list(range(numbers[0], numbers[0] + len(files)))
    assert len({package.sha256 for package, _ in files}) == len(files)


def test_the_default_model_is_off_its_grid_and_starts_from_the_one_on_it():
    off, on = PACKAGE_MODELS[DEFAULT_MODEL], PACKAGE_MODELS["smollm2-135m"]
    assert off.layout is Layout.OFF_GRID and on.layout is Layout.GGUF
    assert (off.files, off.sha256) == (on.files, on.sha256)
    assert off.grid.startswith("none") and "Q4_1" in on.grid
