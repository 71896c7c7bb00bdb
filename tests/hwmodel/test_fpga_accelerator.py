"""Accelerators on FPGAs."""

import pytest

from datatypes.catalog import INTS
from hwmodel.fpga import device_by_name
from hwmodel.fpga_accelerator import design_of_pe, estimate_on_fpga, price_accelerator_pe
from hwmodel.pe import PeKind
from hwmodel.presets import ACCELERATORS, BITFUSION, BITMOD, FP16_BASELINE, LOOM
from hwmodel.synthesis_table import best_rows
from hwmodel.unit_cost import Origin, price_pe
from hwmodel.unit_cost_design import pe_design
from hwmodel.unit_cost_prices import samples

U250 = device_by_name("u250")
GROUPS = {"stripes": "bit-serial", "loom": "both serial"}


@pytest.mark.parametrize("name", list(ACCELERATORS))
def test_every_preset_is_estimated(name):
    if name in GROUPS and len(samples(GROUPS[name], "lut6")) < 3:
        pytest.skip(f"netlists of kind {GROUPS[name]} are not recorded yet")
    machine = ACCELERATORS[name]
    estimate = estimate_on_fpga(machine, U250)
    assert estimate.parts[0].count == machine.pe_count
    assert estimate.resources.luts == pytest.approx(sum(part.resources.luts for part in estimate.parts))
    assert estimate.resources.luts > 0
    # memory holds the buffers: 36 kb a block RAM, 288 kb an UltraRAM
    bits = 8 * (machine.weight_buffer.capacity_bytes + machine.activation_buffer.capacity_bytes)
    assert 36864 * estimate.resources.bram36 + 294912 * estimate.resources.uram288 >= bits
    assert estimate.report().luts == round(estimate.resources.luts)
    assert estimate.missing


def test_bitmod_is_its_netlists():
    estimate = estimate_on_fpga(BITMOD, U250)
    pe, encoder = estimate.parts[:2]
    rows = best_rows("lut6")
    assert pe.luts.origin is Origin.RECORDED
    assert pe.luts.value == rows["bitmod_pe.x4"].luts
    assert encoder.count == BITMOD.prefill_array.rows * 4
    assert estimate.lut_error == 0.0


@pytest.mark.parametrize(("name", "luts"), [("bismo_pynq_z1", 29.7e3), ("bismo_ultra96", 46.4e3)])
def test_bismo_keeps_its_published_luts(name, luts):
    estimate = estimate_on_fpga(ACCELERATORS[name], U250)
    assert estimate.parts[0].luts.origin is Origin.PUBLISHED
    assert estimate.resources.luts == pytest.approx(luts, rel=0.01)  # FPL 2018, TRETS 2019
    assert estimate.lut_error is None


@pytest.mark.parametrize(("name", "rows"), [("bismo_pynq_z1", 8), ("bismo_ultra96", 10)])
def test_bismo_reads_a_bit_a_lane_and_needs_no_more_blocks_than_its_cost_model_says(name, rows):
    estimate = estimate_on_fpga(ACCELERATORS[name], device_by_name("pynq_z1"))
    # 256 bits for each row of 1,024 entries: block RAMs of 18 bits by 1,024, two in a block of 36 kb
    one = -(-256 * rows // 18) / 2
    assert [part.memory.bram36 for part in estimate.parts[-2:]] == [one, one]
    # cost model of version 2, "bram_array": ceil(256 / 32) * (rows + columns) for 1,024 entries, of 36 bits 32 in use
    published = 256 // 32 * (rows + rows)
    assert estimate.resources.bram36 == pytest.approx(published * 32 / 36, abs=1)


def test_fused_bricks_by_hand():
    cost = price_accelerator_pe(BITFUSION.pe)
    # 16 bricks of 3 x 3 signed bits: seven LUTs; 4 times 3 adders of 6 bits, 3 of 12; 32 bits of accumulator
    assert cost.luts.value == 16 * 7 + 4 * 3 * 6 + 3 * 12 + 32
    assert cost.luts.origin is Origin.COMPOSED
    assert cost.luts.mean_error is None


@pytest.mark.parametrize("target", ["lut6", "sg13g2"])
@pytest.mark.parametrize("name", list(ACCELERATORS))
def test_every_preset_has_luts_and_cell_area_from_synthesis(name, target):
    cost = price_accelerator_pe(ACCELERATORS[name].pe, target=target)
    figure = cost.luts if target == "lut6" else cost.area_um2
    assert figure.value > 0
    assert cost.flip_flops.value > 0


# BitFusion's own synthesis at 45 nm (github.com/hsharma35/bitfusion): 8/2 fused unit; fixed multiply-adds beside it
@pytest.mark.parametrize(("bits", "published_um2"), [(None, 1733.1), (4, 282.2), (8, 687.6)])
def test_areas_at_45_nm_are_near_those_of_bitfusions_authors(bits, published_um2):
    if bits is None:
        cost = price_accelerator_pe(BITFUSION.pe, target="nangate45")
    else:
        cost = price_pe(pe_design(INTS[bits], INTS[bits]), "nangate45")
    assert cost.area_um2.value == pytest.approx(published_um2, rel=0.15)  # the goal of unit costs, another library


def test_a_small_board_is_too_small_and_says_for_what():
    estimate = estimate_on_fpga(FP16_BASELINE, device_by_name("kv260"))
    assert not estimate.budget.fits
    assert estimate.budget.tightest.resource == "luts"
    assert estimate.planning_clock_hz == 300e6


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: estimate_on_fpga(BITMOD, device_by_name("ecp5_25k")), ValueError, "LUTs of 6 inputs"),
        (lambda: price_accelerator_pe(BITFUSION.pe, dsp=True), NotImplementedError, "fused bricks are LUT logic"),
        (lambda: price_accelerator_pe(LOOM.pe, dsp=True), NotImplementedError, "a DSP48E2 multiplies integers"),
        (lambda: design_of_pe(BITFUSION.pe), NotImplementedError, f"kind {PeKind.FUSED_BRICKS.value} has no module"),
    ],
)
def test_mistakes_are_one_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
