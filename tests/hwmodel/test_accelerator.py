"""Ports, peaks and leakage by hand; impossible accelerators."""

from dataclasses import replace

import pytest

from hwmodel.accelerator import Array, VectorUnit, at_node
from hwmodel.evaluate import evaluate
from hwmodel.operands import OperandBits
from hwmodel.presets import ACCELERATORS, ANT, BITMOD, FP16_BASELINE, OLIVE
from hwmodel.technology import TSMC28, Technology, node_scaling
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload


def test_ports_of_the_published_design_points() -> None:
    # simulator rows: wsram_bw and isram_bw
    assert BITMOD.weight_port_bits(4.0625, BITMOD.prefill_array) == 512
    assert BITMOD.weight_port_bits(3.0625, BITMOD.decode_array) == 512
    assert OLIVE.weight_port_bits(4, OLIVE.array(Phase.PREFILL)) == 144
    assert OLIVE.weight_port_bits(4, OLIVE.array(Phase.DECODE)) == 288
    assert FP16_BASELINE.weight_port_bits(16, FP16_BASELINE.decode_array) == 1024
    assert FP16_BASELINE.input_port_bits(FP16_BASELINE.decode_array) == 192
    assert ANT.weight_port_bits(4, Array(1, 1)) == 64  # never narrower than a word


def test_peak() -> None:
    assert BITMOD.peak_macs_per_cycle_of_bits(4) == 2048  # HPCA 2025: 1024 PEs of 4 lanes, two terms
    assert BITMOD.peak_macs_per_cycle_of_bits(8) == 1024
    mx = ACCELERATORS["mx_dot"]  # 192 PEs: 32 4-bit floats in a cycle, 16 of anything wider
    assert mx.peak_macs_per_cycle_of_bits(4, 4) == mx.most_macs_per_cycle == 192 * 32
    assert mx.peak_macs_per_cycle_of_bits(4, 8) == mx.peak_macs_per_cycle_of_bits(6, 6) == 192 * 16
    assert mx.peak_macs_per_cycle_of_bits(16, 16) == 192 * 16  # cut to its widest


def test_logic_leakage() -> None:
    area_um2 = 768 * 1968.7 + 64 * 1968.7
    assert FP16_BASELINE.logic_leakage_mw == pytest.approx(area_um2 * 69.0 / 2203.2 / 1000)


def test_layouts_have_the_same_pes() -> None:
    with pytest.raises(ValueError, match="prefill_array and decode_array of accelerator bitmod must have as many PEs"):
        replace(BITMOD, decode_array=Array(64, 8))


def test_impossible_figures() -> None:
    with pytest.raises(ValueError, match="rows and columns of an array must be at least 1, not 0 and 4"):
        Array(0, 4)
    with pytest.raises(ValueError, match="frequency_hz of accelerator bitmod must be above 0, not 0"):
        replace(BITMOD, frequency_hz=0)
    with pytest.raises(ValueError, match="lanes of a vector unit must be at least 1, not 0"):
        VectorUnit(0, 1.0, 1.0, "here")
    with pytest.raises(ValueError, match="node_nm of technology x must be above 0, not 0"):
        Technology("x", 0, 1.0, 0.0, "here")
    with pytest.raises(ValueError, match=r"logic_leakage_uw_per_um2 of technology tsmc28 must be at least 0, not -1"):
        replace(TSMC28, logic_leakage_uw_per_um2=-1)


def test_a_design_in_another_node() -> None:
    small, scale = at_node(BITMOD, 7), node_scaling(28, 7)
    assert small.pe_area_mm2 == pytest.approx(BITMOD.pe_area_mm2 * scale.area)
    assert small.area_mm2 == pytest.approx(BITMOD.area_mm2 * scale.area)
    assert small.logic_leakage_mw == pytest.approx(BITMOD.logic_leakage_mw * scale.energy)
    assert small.idle_pj_per_cycle == pytest.approx(BITMOD.idle_pj_per_cycle * scale.energy)
    spec = LayerSpec("x", LayerKind.LINEAR, 64, 1024, 1024)
    here, there = (
        evaluate(Workload("x", Phase.PREFILL, (spec,)), OperandBits(4, 4), machine).total for machine in (BITMOD, small)
    )
    assert (there.cycles, there.dram_pj) == (here.cycles, here.dram_pj)
    assert there.onchip_pj == pytest.approx(here.onchip_pj * scale.energy)
    mx = at_node(ACCELERATORS["mx_dot"], 16)
    assert mx.pe.modes[0].energy_pj_per_cycle < ACCELERATORS["mx_dot"].pe.modes[0].energy_pj_per_cycle
    assert at_node(ACCELERATORS["bismo_pynq_z1"], 16).logic_leakage_mw == 0
    with pytest.raises(ValueError, match="node_nm must be 7 to 130 to be scaled, not 3"):
        at_node(BITMOD, 3)
