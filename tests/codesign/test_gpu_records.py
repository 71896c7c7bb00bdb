"""Records of measured kernels: files are read whole or refused, devices mean data sheets, conditions are numbers."""

import json
from dataclasses import replace

import pytest

from codesign.gpu_records import (
    DEVICES,
    RECORDED,
    REPLAY_START_S,
    condition,
    gpu_of,
    read_measurements,
    recorded_files,
    sheet_name,
    start_share_s,
)
from hwmodel.gpu_presets import GPUS
from hwmodel.report import Measurement

ENTRY = {
    "name": "int8", "shape": [4, 256, 64], "device": "NVIDIA H200", "seconds": 2.5e-06, "repeats": 30,
    "conditions": {"copy_bytes_per_s": 4.2e12, "driver": "580", "cut": "4x2x1x0"}, "source": "made up",
}  # fmt: skip
RECORD = Measurement(
    "int8", (4, 256, 64), "NVIDIA H200", 2.5e-6, 30,
    {"copy_bytes_per_s": "4200000000000.0", "driver": "580", "cut": "4x2x1x0"}, "made up",
)  # fmt: skip
SHORT = "CUDA graph, weights rotated beyond L2, median of 30 replays"


def test_a_file_is_its_records_in_order(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps([ENTRY, {**ENTRY, "name": "int4_g128"}]))
    assert read_measurements(path) == (RECORD, replace(RECORD, name="int4_g128"))


@pytest.mark.parametrize(
    "text", ["not json", "{}7", '[{"name": 1}]', '{"a": 1}', "[1]", "7", "null", "[]", "", "[" * 100_000]
)
def test_a_file_without_measurements_is_refused(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="must be a JSON list of measurements, as codesign bench writes it"):
        read_measurements(path)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "bad.json"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match="must be a JSON list of measurements"):
        read_measurements(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seconds": "fast"}, "seconds must be a finite number above 0, not 'fast'"),
        ({"seconds": -1.0}, "seconds must be a finite number above 0, not -1.0"),
        ({"seconds": float("inf")}, "seconds must be a finite number above 0, not inf"),
        ({"seconds": float("nan")}, "seconds must be a finite number above 0, not nan"),
        ({"seconds": True}, "seconds must be a finite number above 0, not True"),
        ({"repeats": 0}, "repeats must be a whole number above 0, not 0"),
        ({"shape": [1, 2]}, r"shape must be the three whole numbers m, k and n, not \[1, 2\]"),
        ({"shape": [1.5, 256, 64]}, r"shape must be the three whole numbers m, k and n, not \[1.5, 256, 64\]"),
        ({"shape": [1, -256, 64]}, "shape must be the three whole numbers"),
        ({"conditions": []}, "conditions must be names and values, not list"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_entry_that_is_no_measurement_is_named(tmp_path, change, said):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([ENTRY, {**ENTRY, **change}]))
    with pytest.raises(ValueError, match=f"bad.json must be a JSON list of measurements, .*; of entry 2 {said}"):
        read_measurements(path)
    path.write_text(json.dumps([{name: value for name, value in ENTRY.items() if name != "repeats"}]))
    with pytest.raises(ValueError, match="of entry 1 the fields must be name, shape, .* repeats, .* not "):
        read_measurements(path)


def test_the_projects_files_are_there_and_quantizers_are_none_of_them():
    files = recorded_files()
    assert [path.name for path in files] == list(RECORDED)
    # a kernel that was measured twice counts where it was measured first
    assert RECORDED[:3] == ("gemv_h100.json", "gemv_h200.json", "gemv_tokens_h100.json")
    assert list(RECORDED[3:]) == sorted(set(RECORDED[3:]) - set(RECORDED[:3]))
    folder = {path.name for path in files[0].parent.glob("*.json")}
    assert {name.split("_")[0] for name in folder - set(RECORDED)} == {"quantize"}
    assert all(condition(record, "copy_bytes_per_s") > 1e12 for path in files for record in read_measurements(path))


@pytest.mark.parametrize(
    ("device", "sheet"),
    [  # names as the driver gives them
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA L40S", "l40s"),
        ("Orin", "jetson_agx_orin"),
    ],
)
def test_a_device_means_its_data_sheet(device, sheet):
    assert sheet_name(gpu_of(device)) == sheet


def test_a_launch_has_its_share_of_a_short_replays_start():
    # 4 times 50 MiB in buffers of 9 MB are 24, each launched once; of 100 MB three, each launched eight times
    for moved, calls in ((9_000_000, 24), (100_000_000, 24), (13_000_000, 17), (1_000_000, 210)):
        short = replace(RECORD, conditions={"method": SHORT, "bytes": str(moved)})
        assert start_share_s(short, GPUS["h100"]) == pytest.approx(REPLAY_START_S / calls)
    for method in ("CUDA graph, weights rotated beyond 16 times L2, median of 30 replays", "by hand"):
        assert start_share_s(replace(RECORD, conditions={"method": method}), GPUS["h100"]) == 0
    assert start_share_s(replace(RECORD, conditions={}), GPUS["h100"]) == 0
    with pytest.raises(ValueError, match="must have bytes, a number above 0"):
        start_share_s(replace(RECORD, conditions={"method": SHORT}), GPUS["h100"])


def test_every_device_has_a_sheet():
    assert set(DEVICES.values()) <= GPUS.keys()


@pytest.mark.parametrize(
    "device",
    [
        "Radeon", "NVIDIA A4000", "NVIDIA L40", "h100",
        # the same chip on another board, or a part of it: fewer multiprocessors, or another clock
        "NVIDIA H100 PCIe", "NVIDIA H200 NVL", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "Orin NX",
    ],
)  # fmt: skip
def test_a_device_without_a_sheet_is_refused(device):
    with pytest.raises(ValueError, match=f"device of a measurement must be one of H100, .* not '{device}'"):
        gpu_of(device)


def test_a_condition_is_a_number_above_zero():
    assert condition(RECORD, "copy_bytes_per_s") == 4.2e12
    for name, stated in (("cut", "'4x2x1x0'"), ("absent", "None")):
        with pytest.raises(ValueError, match=f"of measurement int8 must have {name}, a number above 0, not {stated}"):
            condition(RECORD, name)
    for value in ("0", "-1", "nan", "inf"):
        with pytest.raises(ValueError, match=f"must have driver, a number above 0, not '{value}'"):
            condition(replace(RECORD, conditions={"driver": value}), "driver")
