"""The folder that a study leaves behind: whole, read back as it was, and said to be none where it is damaged."""

import pandas as pd
import pytest

from codesign.study import LAYER_COLUMNS, MACHINE_COLUMNS, TRIAL_COLUMNS, StudyResult
from codesign.study_folder import read_study_folder, write_study


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


@pytest.mark.parametrize("damage", ["manifest.json", "trials.parquet"])
def test_a_damaged_folder_is_one_sentence(study, tmp_path, damage):
    folder = tmp_path / "out"
    write_study(study, folder)
    (folder / damage).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="out must be the folder of a finished study") as caught:
        read_study_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["manifest.json", "layers.parquet"])
def test_what_a_folder_lacks_is_named(study, tmp_path, missing):
    folder = tmp_path / "out"
    write_study(study, folder)
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=f"out must be the folder of a finished study, but {missing} is not there$"):
        read_study_folder(folder)
