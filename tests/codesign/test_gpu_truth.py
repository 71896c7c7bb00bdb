"""Measured kernels beside the model: every record is there, errors are what they say, mistakes are sentences."""

import json
from dataclasses import replace
from functools import cache

import pytest

from codesign.gpu_records import RECORDED, read_measurements, recorded_files
from codesign.gpu_rows import OWN, OWN_DEQUANTIZER, OWN_LAYER, OWN_LIBRARY, OWN_STEP, OWN_TILES, predicted_of
from codesign.gpu_truth import (
    AGAIN,
    COLUMNS,
    OWN_EXPLORED,
    comparison,
    fitted_cases,
    fitted_layers,
    fitted_tiles,
    summary,
)
from hwmodel.gpu_presets import GPUS


@cache
def compared():
    return comparison()


def records():
    return json.loads(recorded_files()[0].read_text())


def test_every_recorded_kernel_is_compared():
    rows = compared().rows
    assert tuple(rows.columns) == COLUMNS
    left_out = sum(int(sentence.split()[0]) for sentence in compared().left_out)
    assert len(rows) + left_out == sum(len(json.loads(path.read_text())) for path in recorded_files())
    assert {1, 2, 4, 8, 16} <= set(rows["m"]) and len(rows.groupby(["n", "k"])) >= 3
    one = rows[(rows["format"] == "int4_g128") & (rows["gpu"] == "h100") & (rows["n"] == 28672) & (rows["m"] == 1)]
    one = one[one["kernel"] == OWN]
    assert list(one["use"]) == ["fitted"]
    mine = next(r for r in records() if r["name"] == "int4_g128" and r["shape"] == [1, 8192, 28672])
    assert one["measured_us"].item() == pytest.approx(mine["seconds"] * 1e6)
    # 4 bits and an FP16 scale for 128 weights, at the copy's rate
    moved = 28672 * 8192 * (4 + 16 / 128) / 8
    assert one["roofline_us"].item() == pytest.approx(moved / float(mine["conditions"]["copy_bytes_per_s"]) * 1e6)
    assert one["error"].item() == pytest.approx(one["predicted_us"].item() / one["measured_us"].item() - 1)


def test_errors_on_the_fitted_gpu_keep_to_the_issues_goal_in_the_mean():
    found = summary(compared().rows).set_index(["kernel", "gpu", "use"])
    ours = [key for key in found.index if key[:2] == (OWN, "h100") and key[2] != AGAIN]
    held = [key for key in ours if key[2] != "fitted"]
    assert len(held) == 7  # a format, a shape, a number of tokens, and all that they make together
    mean = sum(found.loc[key, "mean_error"] * found.loc[key, "rows"] for key in held) / sum(found.loc[held, "rows"])
    assert mean < 0.05  # the goal of issue 5: 0.0495
    for key in found.index:
        if key[0] == OWN:  # the model says more than its bytes do
            assert found.loc[key, "mean_error"] < found.loc[key, "roofline_mean_error"] / 4
    other = found.loc[(OWN, "h200", "other GPU")]
    assert found.loc[(OWN, "h100", "fitted"), "worst_error"] <= 0.15  # the goal
    # the goals of 0.15 at worst, and of 0.05 in the mean on another GPU, are missed by some rows: docs/gpu_kernels.md
    assert found.loc[ours, "worst_error"].max() < 0.202 and other["worst_error"] < 0.205
    inside = sum(found.loc[key, "within_15_percent"] * found.loc[key, "rows"] for key in held)
    assert inside / sum(found.loc[held, "rows"]) > 0.97
    assert other["rows"] >= 250 and other["mean_error"] < 0.061 and other["within_15_percent"] > 0.945
    for gpu, most in (("h100", 0.037), ("h200", 0.042)):  # the step of a whole model: issue 5 wants 0.05
        assert found.loc[(OWN_STEP, gpu, "not fitted"), "mean_error"] < most


def test_no_held_out_row_is_fitted():
    cases = list(fitted_cases())
    rows = compared().rows
    assert len(cases) == int(((rows["use"] == "fitted") & (rows["kernel"] == OWN)).sum()) >= 50
    assert all(case.shape[1:] != (11008, 4096) and case.gpu.name == "h100_cublas13" for case in cases)


def test_a_file_joins_in(tmp_path):
    path = tmp_path / "own.json"
    mine = records()[:2]
    mine[0]["device"] = "NVIDIA A100-SXM4-80GB"
    mine[1]["conditions"]["cut"] += " alone"
    mine.append({**mine[0], "name": "e4m3", "conditions": {**mine[0]["conditions"], "cut": "4x2x1x0 alone"}})
    path.write_text(json.dumps(mine))
    found = comparison((path,))
    assert len(found.rows) == len(compared().rows) + 1
    assert (found.rows.iloc[-1]["gpu"], found.rows.iloc[-1]["use"]) == ("a100", "not fitted")
    new = [sentence for sentence in found.left_out if sentence not in compared().left_out]
    assert new[0].startswith("1 records of uint4_g128: the model must have overlapped kernels")
    assert new[1].startswith("1 records of e4m3: ")


def test_attention_is_compared_and_what_leaves_sms_idle_is_left_out(tmp_path):
    rows = compared().rows
    own = rows[rows["kernel"] == "decode attention"]
    assert dict(own.groupby("use").size().items()) == {"fitted": 12, "format held out": 12, "other GPU": 14}
    assert any("cut a context among SMs" in sentence for sentence in compared().left_out)
    record = json.loads(recorded_files()[RECORDED.index("attention_h100.json")].read_text())[0]
    del record["conditions"]["sequences x key heads x query heads of each at context, blocks"]
    path = tmp_path / "own.json"
    path.write_text(json.dumps([record]))
    with pytest.raises(ValueError, match="attention int8 must have sequences x key heads x query heads"):
        comparison((path,))


def test_prefill_and_steps_are_compared_and_held_rows_are_not_fitted():
    rows = compared().rows
    found = summary(rows).set_index(["kernel", "gpu", "use"])
    every = rows[rows["model"] == "tiles"]
    assert len(list(fitted_tiles())) == int((every["use"] == "fitted").sum()) == 304
    tiles = every[every["kernel"] == OWN_TILES]  # the launcher's cuts; others were explored
    held = tiles[tiles["use"].str.contains("held")]
    other = every[every["kernel"] == OWN_EXPLORED]
    assert len(held) == 108 and len(other) == 768 and other["error"].abs().mean() < 0.06
    # the goals of issue 5, on what was held out and on another GPU
    assert found.loc[(OWN_TILES, "h100", "fitted"), "mean_error"] < 0.045 and held["error"].abs().mean() < 0.05
    assert held["error"].abs().max() <= 0.15
    other_gpu = found.loc[(OWN_TILES, "h200", "other GPU")]
    assert other_gpu["rows"] == 132 and other_gpu["mean_error"] < 0.056 and other_gpu["worst_error"] < 0.195
    earlier = found.loc[(OWN_TILES, "h100", "earlier kernel")]  # its rows lay across sectors, or BitMoD-3's decoding
    assert earlier["rows"] == 48 and earlier["mean_error"] < 0.065 and earlier["worst_error"] <= 0.165
    assert {"int4_g128 tiles", "bitmod4_g128 tiles"} <= set(tiles["format"])
    # the goals of issue 5
    dequantized, elsewhere = (
        found.loc[(OWN_DEQUANTIZER, *key)] for key in (("h100", "held out"), ("h200", "other GPU"))
    )
    assert dequantized["mean_error"] < 0.03 and dequantized["worst_error"] < 0.09
    assert elsewhere["mean_error"] < 0.05 and elsewhere["worst_error"] <= 0.15
    library, elsewhere = (found.loc[(OWN_LIBRARY, gpu, "not fitted")] for gpu in ("h100", "h200"))
    assert library["rows"] == 192 and library["mean_error"] < 0.04 and library["worst_error"] <= 0.15
    assert elsewhere["rows"] == 120 and elsewhere["mean_error"] < 0.07 and elsewhere["worst_error"] < 0.19
    step = found.loc[(OWN_STEP, "h100", "not fitted")]
    assert step["rows"] == 8 and step["mean_error"] < 0.05 and step["worst_error"] < 0.09  # the same
    one = rows[(rows["format"] == "decode step int4_g128") & (rows["gpu"] == "h100")].iloc[0]
    assert (one["m"], one["n"], one["k"]) == (1, 256, 32)  # sequences, tokens, layers
    stated = json.loads(recorded_files()[RECORDED.index("decode_step_h100.json")].read_text())[0]
    assert one["measured_us"] == pytest.approx(stated["seconds"] * 1e6)


def changed(file, kernel, **change):
    """A recorded kernel with other fields."""
    entries = json.loads(recorded_files()[RECORDED.index(file)].read_text())
    entry = next(e for e in entries if e["name"] == kernel)
    return {**entry, **change, "conditions": {**entry["conditions"], **change.get("conditions", {})}}


def test_layers_are_compared_and_held_ones_are_not_fitted():
    rows = compared().rows
    layers = rows[(rows["kernel"] == OWN_LAYER) & (rows["gpu"] == "h100")]
    assert len(list(fitted_layers())) == int((layers["use"] == "fitted").sum()) == 24 and len(layers) == 81
    held = layers[layers["use"].str.contains("held out")]
    # the goals of issue 5 are missed: INT4 takes 12 % more at 11008 x 4096 in the law (docs/gpu_kernels.md)
    assert len(held) == 48 and held["error"].abs().mean() < 0.06 and held["error"].abs().max() < 0.195
    assert sorted(held["error"].abs())[-4] <= 0.15 and held["roofline_error"].abs().mean() > 0.5


def test_other_models_and_unknown_layers_are_left_out_or_refused(tmp_path):
    path = tmp_path / "own.json"
    other = changed("decode_step_h100.json", "decode step int8", conditions={"model": "Llama-3-8B"})
    path.write_text(json.dumps([other]))
    found = comparison((path,))
    assert len(found.rows) == len(compared().rows)
    new = [sentence for sentence in found.left_out if sentence not in compared().left_out]
    assert len(new) == 1 and "must be of Llama-2-7B" in new[0]
    path.write_text(json.dumps([changed("layer_h100.json", "rows1", name="rows2")]))
    with pytest.raises(ValueError, match="name of a measured layer must be one of .* not 'rows2'"):
        comparison((path,))


def test_a_file_of_a_gpu_without_a_preset_joins_in_by_its_data_sheet(tmp_path):
    path = tmp_path / "own.json"
    mine = records()[0]
    path.write_text(json.dumps([{**mine, "device": "NVIDIA GeForce RTX 3090"}]))
    with pytest.raises(ValueError, match=r"own.json, entry 1: device of a measurement must be .* given by --sheet"):
        comparison((path,))
    last = comparison((path,), replace(GPUS["h100_cublas13"], name="mine")).rows.iloc[-1]
    first = compared().rows.iloc[0]
    assert (last["gpu"], last["use"], last["device"]) == ("mine", "not fitted", "NVIDIA GeForce RTX 3090")
    assert last["predicted_us"] == first["predicted_us"] and first["gpu"] == "h100"


def test_a_cut_that_the_sheets_gpu_cannot_run_is_named(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps([{**records()[0], "device": "NVIDIA GeForce RTX 3090"}]))
    said = "entry 1: cut 16x2x2x1 of measured GEMV int4_g128, 4096x4096, must fit into the 102400 bytes"
    with pytest.raises(ValueError, match=said):
        comparison((path,), GPUS["rtx4090"])  # 100 KiB of shared memory: NVIDIA Ada GPU Architecture


def test_a_projects_file_given_again_leaves_its_own_rows_as_they_are():
    again = comparison((recorded_files()[0],)).rows
    before = len(compared().rows)
    assert list(again["use"][:before]) == list(compared().rows["use"])
    assert set(again["use"][before:]) == {"not fitted"}


def test_kernels_are_predicted_as_they_are_priced_where_they_cannot_overlap(tmp_path):
    # 2.7 us more for each launch below compute capability 9.0: kernels_gpu/NOTES.md, decode GEMV, ``alone``
    newer, older = (replace(GPUS["h100_cublas13"], compute_capability=level) for level in ((9, 0), (8, 9)))
    path, more = tmp_path / "own.json", {}
    for file, kernel in (
        ("gemv_h100.json", "int4_g128"), ("gemm_h100.json", "int4_g128 tiles"),
        ("gemm_h100.json", "int4_g128 dequantize"), ("gemm_h100.json", "int4_g128 library"),
        ("layer_h100.json", "lqer32_fp16"), ("layer_h100.json", "lqer32_fp16_launches"),
        ("gemv_h100.json", "fp16 cuBLAS"),
    ):  # fmt: skip
        path.write_text(json.dumps([changed(file, kernel)]))
        (record,) = read_measurements(path)
        more[kernel] = (predicted_of(record, older).seconds - predicted_of(record, newer).seconds) * 1e6
    assert more.pop("lqer32_fp16_launches") >= 3 * 2.7  # its rings do not fill ahead either
    launches = {
        "int4_g128": 1,
        "lqer32_fp16": 1,
        "int4_g128 tiles": 1,
        "int4_g128 dequantize": 1,
        "int4_g128 library": 2,
    }
    assert more == pytest.approx({**{name: 2.7 * count for name, count in launches.items()}, "fp16 cuBLAS": 0.0})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quartiles_over_median": "wide"}, "quartiles_over_median of measurement int8 tiles must be a number"),
        ({"registers": "x"}, "registers of measurement int8 tiles must be a whole number, not 'x'"),
        ({"bound_us": "inf"}, "must have bound_us, a number above 0, not 'inf'"),
    ],
)
def test_conditions_that_are_no_numbers_are_named_with_file_and_entry(tmp_path, change, said):
    path = tmp_path / "own.json"
    path.write_text(json.dumps([changed("gemm_h100.json", "int8 tiles", conditions=change)]))
    with pytest.raises(ValueError, match=f"own.json, entry 1: .*{said}"):
        comparison((path,))


def test_more_tokens_than_a_kernel_takes_are_refused(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps([{**records()[0], "shape": [17, 4096, 4096]}]))
    with pytest.raises(ValueError, match="entry 1: tokens of measured GEMV int4_g128 must be at most 16, not 17"):
        comparison((path,))
