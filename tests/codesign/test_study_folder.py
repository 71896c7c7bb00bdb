"""The folder that a study leaves behind: whole, read back as it was, and said to be none where it is damaged."""

import json
import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from codesign.study import LAYER_COLUMNS, MACHINE_COLUMNS, TRIAL_COLUMNS, StudyResult
from codesign.study_folder import check_study_folder, read_study_folder, write_study


@pytest.fixture
def study():
    """Two recipes on one machine, one layer, the same number everywhere."""
    names = {"accelerator": "bitmod", "phase": "prefill", "layer": "model.layers.0.q_proj", "kind": "linear",
             "algorithm": "rtn", "reason": "", "source": "made up", "supported": True, "on_front": True,
             "bound": "compute"}  # fmt: skip

    def table(columns, recipes=("fp16", "int4")):
        return pd.DataFrame([{key: names.get(key, 1.0) for key in columns} | {"recipe": name} for name in recipes])

    machines = table(MACHINE_COLUMNS, ["fp16"]).drop(columns="recipe")
    trials = table(TRIAL_COLUMNS)
    trials.loc[1, "on_front"] = False
    return StudyResult("tiny", trials, table(LAYER_COLUMNS), machines, ("loss", "total_s"), {"model": {"name": "m"}})


def test_a_folder_is_read_back(study, tmp_path):
    folder = tmp_path / "out"
    page = write_study(study, folder)
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    back = read_study_folder(folder)
    pd.testing.assert_frame_equal(back.trials, study.trials)
    pd.testing.assert_frame_equal(back.layers, study.layers)
    assert back.objectives == study.objectives
    csv = pd.read_csv(folder / "front.csv")
    assert csv["on_front"].all()
    assert not list(folder.glob(".*")), "no temporary file is left"


@pytest.fixture
def folder(study, tmp_path):
    """The study's folder as it was written before manifests had digests."""
    write_study(study, tmp_path / "out")
    change(tmp_path / "out", "tables", None)
    return tmp_path / "out"


def change(folder, key, value):
    """Another value in a manifest; ``None`` for none."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content.pop(key)
    path.write_text(json.dumps(content if value is None else content | {key: value}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("manifest.json", "must be a manifest that codesign study wrote, in JSON"),
        ("trials.parquet", "must be a table that codesign study wrote"),
    ],
)
def test_a_damaged_folder_is_one_sentence(folder, damage, message):
    (folder / damage).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=f"out/{damage} {message}") as caught:
        read_study_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", 5, "name in .*manifest.json must be a text, not 5"),
        ("name", " ", "name in .* must be a line of text, not ' '"),
        ("name", "two\nlines", "name in .* must be a line of text"),
        ("name", None, "manifest.json must have the key 'name'"),
        ("objectives", "loss", "objectives in .* must be a list of columns, not 'loss'"),
        ("objectives", [3], "manifest.json: objectives of study tiny must be columns of the trials table, not 3"),
        ("objectives", ["recipe"], "objectives of study tiny must be columns of numbers, not 'recipe'"),
        ("objectives", ["loss", "-loss"], "objectives of study tiny must differ, not repeat loss"),
        ("objectives", [], "objectives of study tiny must name at least one, not none"),
        ("manifest", [1], r"manifest in .* must be an object, not \[1\]"),
        ("manifest", json.loads("[" * 99 + "]" * 99), "manifest in .* must be an object"),
        ("manifest", {"a": json.loads("[" * 99 + "]" * 99)}, "must hold values at most 64 inside one another"),
    ],
)
def test_a_manifest_that_was_edited_is_one_sentence(folder, refused, key, value, message):
    change(folder, key, value)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert re.search(message, refused("report", folder))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("value", [5, {"x": "0"}, {"trials.parquet": 5}])
def test_digests_that_are_none_are_one_sentence(study, tmp_path, refused, value):
    write_study(study, tmp_path / "out")
    change(tmp_path / "out", "tables", value)
    assert re.match("tables in .*manifest.json must", refused("report", tmp_path / "out"))


@pytest.mark.parametrize(
    ("table", "column", "values", "message"),
    [
        ("trials", "loss", ["1", "low"], "column loss must hold numbers, not '1' in row 1"),
        ("trials", "kl", [b"x", b"y"], "column kl must hold numbers, not b'x' in row 1"),
        ("trials", "supported", [True, None], "column supported must hold true or false, not None in row 2"),
        ("trials", "recipe", ["fp16", None], "column recipe must hold texts, not (nan|None) in row 2"),
        ("layers", "layer", [5, 6], "column layer must hold texts, not 5 in row 1"),
        ("machines", "clock_hz", [0.0], "column clock_hz must be above 0, not 0.0 in row 1"),
    ],
)
def test_a_table_that_was_edited_is_one_sentence(folder, refused, table, column, values, message):
    path = folder / f"{table}.parquet"
    pd.read_parquet(path).assign(**{column: values}).to_parquet(path, index=False)
    before = (folder / "index.html").read_bytes()
    assert re.search(f"{table}.parquet: {message}", refused("report", folder))
    assert (folder / "index.html").read_bytes() == before


def test_an_accelerator_that_stands_twice_is_one_sentence(folder, refused):
    path = folder / "machines.parquet"
    table = pd.read_parquet(path)
    pd.concat([table, table]).to_parquet(path, index=False)
    assert "column accelerator must name each once, not repeat 'bitmod'" in refused("report", folder)


def test_numbers_that_are_missing_are_read(study, tmp_path):
    study.trials["area_mm2"] = None
    write_study(study, tmp_path / "out")
    assert read_study_folder(tmp_path / "out").trials["area_mm2"].isna().all()


@pytest.mark.parametrize("table", ["layers.parquet", "trials.csv"])
def test_tables_of_two_studies_are_refused(study, tmp_path, refused, run, table):
    one, other = tmp_path / "one", tmp_path / "other"
    write_study(study, one)
    study.trials["loss"] = study.layers["cycles"] = 2.0
    write_study(study, other)
    shutil.copy(other / table, one / table)
    said = refused("report", one)
    assert said.startswith(f"{one / table} must be the table that manifest.json of study 'tiny' was written with, not ")
    change(one, "tables", None)
    assert run("report", one)[0] == 0  # as before manifests had digests


def test_another_study_s_folder_is_refused(study, tmp_path):
    folder = tmp_path / "out"
    write_study(study, folder)
    write_study(study, folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for name in ("big", "tiny "):
        with pytest.raises(ValueError, match=f"output folder .*out must be new or of study '{name}', not of .*'tiny'$"):
            write_study(replace(study, name=name), folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "manifest.json").write_text('{"kind": "codesign hls export"}')
    with pytest.raises(ValueError, match="must be new or of study 'tiny': .*manifest.json must have the key 'name'"):
        check_study_folder(folder, "tiny")


def test_a_folder_where_a_table_should_be_is_refused(tmp_path):
    (tmp_path / "front.csv").mkdir()
    with pytest.raises(ValueError, match="front.csv must be a file, not a folder"):
        check_study_folder(tmp_path, "tiny")


def test_a_study_that_cannot_be_drawn_leaves_nothing(study, tmp_path):
    study.layers["phase"] = "encode"
    with pytest.raises(ValueError, match="phase in study tiny must be one of"):
        write_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["manifest.json", "layers.parquet"])
def test_what_a_folder_lacks_is_named(study, tmp_path, missing):
    folder = tmp_path / "out"
    write_study(study, folder)
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=f"out must be the folder of a finished study, but {missing} is not there$"):
        read_study_folder(folder)
