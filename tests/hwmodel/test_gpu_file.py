"""A GPU from its data sheet in a file: the A40, and every mistake in one sentence."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hwmodel.accelerator import Accelerator
from hwmodel.gpu import GpuKernels
from hwmodel.gpu_file import gpu_of, load_gpu, load_machine
from hwmodel.gpu_presets import A40, H100
from hwmodel.presets import BITMOD

SHEET = """
name: a40
source: NVIDIA A40 data sheet; NVIDIA Ampere GA102 GPU Architecture, V2
architecture: ampere
multiprocessors: 84
frequency_ghz: 1.74
tensor_tflops: {fp16: 149.7, int8: 299.3, int4: 598.6}
memory: {preset: gddr6, gb: 48, gb_per_s: 696}
l2_mib: 6
shared_kib: 100
power_w: 300
link: pcie4_x16
die_mm2: 628.4
compute_capability: 8.6
"""


def test_the_sheet_of_the_a40_is_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "a40.yaml"
    path.write_text(SHEET)
    read = load_gpu(path)
    assert replace(read, dram=A40.dram) == A40
    assert read.dram.bytes_per_s == A40.dram.bytes_per_s
    assert load_machine(path) == read


def test_a_base_needs_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "h800.yaml"
    path.write_text("name: half_link\nbase: h100\nsource: made up\nlink: pcie5_x16\n")
    assert load_machine(path) == replace(H100, name="half_link", source="made up", link="pcie5_x16")


def test_kernels_and_capability_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nbase: h100\nsource: made up\nlow_bit_kernels: public\ncompute_capability: 9\n")
    assert load_gpu(path).kernels is GpuKernels.PUBLIC
    path.write_text(SHEET.replace("compute_capability: 8.6\n", "").replace("ampere", "turing"))
    assert load_gpu(path).compute_capability == (7, 5)


def test_an_accelerator_file_stays_an_accelerator(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: mine\nbase: bitmod\nsource: made up\n")
    read = load_machine(path)
    assert isinstance(read, Accelerator)
    assert read.pe == BITMOD.pe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sms": 84}, "GPU: key 'sms' is not known"),
        ({"compute_capability": 8.65}, "'compute_capability' must be a compute capability such as 8.6, not 8.65"),
        ({"low_bit_kernels": "mine"}, "GPU: key 'low_bit_kernels' must be one of project, public, not 'mine'"),
        ({"power_w": None}, "GPU: key 'power_w' must be a number above 0, not None"),
        ({"frequency_ghz": -1}, "GPU: key 'frequency_ghz' must be a number above 0, not -1"),
        ({"multiprocessors": 1.5}, "GPU: key 'multiprocessors' must be a whole number above 0, not 1.5"),
        ({"name": " "}, "GPU: key 'name' must be text, not ' '"),
        ({"tensor_tflops": {"int8": 1}}, "GPU: key 'tensor_tflops' must be a mapping with fp16 and any of fp8, int8"),
        ({"tensor_tflops": {"fp16": "x"}}, "GPU: key 'tensor_tflops' must be a number above 0"),
        ({"link": "wire"}, "GPU: key 'link' must be one of nvlink3"),
        ({"architecture": "cdna"}, "GPU: key 'architecture' must be one of volta"),
        ({"memory": 48}, "GPU: key 'memory' must be a mapping of preset, gb, gb_per_s, not 48"),
        ({"memory": {"preset": "gddr6", "gb": 48}}, "GPU: memory: key 'gb_per_s' must be given"),
        ({"memory": {"preset": "x", "gb": 1, "gb_per_s": 1}}, "GPU: memory: key 'preset' must be one of ddr4"),
        ({"memory": {"preset": "gddr6", "gb": 0, "gb_per_s": 1}}, "keys 'gb_per_s' and 'gb' must each be a number"),
        ({"base": "a41"}, "GPU must be one of the presets, not 'a41'"),
        ({"base": {"a": 1}}, "GPU must be one of the presets, not"),
        ({"link": ["nvlink3"]}, r"GPU: key 'link' must be one of nvlink3, .*, not \['nvlink3'\]"),
        ({"architecture": {}}, "GPU: key 'architecture' must be one of volta, .*, not {}"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ",".join(value),
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gpu_of({**yaml.safe_load(SHEET), **change})


def test_a_missing_key_is_named() -> None:
    sheet = yaml.safe_load(SHEET)
    del sheet["power_w"]
    with pytest.raises(ValueError, match="GPU: key 'power_w' must be given"):
        gpu_of(sheet)


def test_a_base_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: mine\nbase: [h100]\nsource: made up\n")
    with pytest.raises(ValueError, match=r"x\.yaml: key base must be text, not \['h100'\]"):
        load_machine(path)
