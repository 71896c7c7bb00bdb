"""Accelerators in YAML files, and one sentence with file and key for every mistake."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from hwmodel.accelerator import Array, at_node
from hwmodel.accelerator_file import load_accelerator
from hwmodel.evaluate import evaluate
from hwmodel.operands import OperandBits
from hwmodel.options import PAPER
from hwmodel.paper import paper_workload
from hwmodel.pe import PeKind
from hwmodel.presets import ACCELERATORS, BITMOD
from hwmodel.units import KIB
from hwmodel.workload import Phase

HEAD = "name: mine\nsource: us\n"
BASED = HEAD + "base: bitmod\n"
WHOLE = """
name: mine
source: our design
frequency_hz: 5e8
prefill_array: [16, 16]
decode_array: [32, 8]
pe: {name: int8, kind: int_multiplier, lanes: 2, energy_pj_per_cycle: 0.5, area_um2: 900, max_integer_bits: 8,
     decoders: [flint4], source: synthesis}
weight_buffer: {capacity_kib: 256, source: design}
activation_buffer: {capacity_kib: 128, source: design}
dram: {name: lpddr5, bytes_per_s: 51.2e+9, energy_pj_per_bit: 4, efficiency: 0.85, source: data sheet}
technology: {name: n28, node_nm: 28, layout_energy_factor: 1.2, logic_leakage_uw_per_um2: 0.02, source: library}
vector: {lanes: 16, energy_pj_per_operation: 0.8, area_um2_per_lane: 2000, source: synthesis}
encoder: {energy_pj_per_cycle: 1, area_um2: 100, source: synthesis}
"""


def _file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    return file


def test_a_whole_accelerator(tmp_path: Path) -> None:
    mine = load_accelerator(_file(tmp_path, WHOLE))
    assert (mine.name, mine.pe.kind, mine.pe_count) == ("mine", PeKind.INT_MULTIPLIER, 256)
    assert mine.frequency_hz == 5e8  # YAML 1.1 reads 5e8 as text
    assert mine.activation_buffer.capacity_bytes == 128 * KIB
    assert [fmt.name for fmt in mine.pe.decoders] == ["flint4"]
    assert evaluate(paper_workload("OPT-1.3B", Phase.PREFILL), OperandBits(4, 8), mine).cycles > 0


@pytest.mark.parametrize(
    ("pe", "luts"),
    [
        ("{energy_pj_per_cycle: 300}", ACCELERATORS["bismo_ultra96"].pe.luts),  # BISMO's own, of 256 bits
        ("{lanes: 512, luts: 763}", 763),
        ("{lanes: 512}", None),
        ("{max_integer_bits: 4}", None),
    ],
)
def test_published_luts_are_those_of_the_pe_as_it_was_published(tmp_path: Path, pe: str, luts: float | None) -> None:
    mine = load_accelerator(_file(tmp_path, HEAD + f"base: bismo_ultra96\npe: {pe}\n"))
    assert mine.pe.luts == luts


def test_what_is_not_said_comes_from_the_base(tmp_path: Path) -> None:
    text = BASED + "dram: {bytes_per_s: 64e9}\nprefill_array: [64, 32]\ndecode_array: [128, 16]\n"
    mine = load_accelerator(_file(tmp_path, text))
    assert mine.dram.bytes_per_s == 64e9 and mine.dram.energy_pj_per_bit == BITMOD.dram.energy_pj_per_bit
    assert mine.prefill_array == Array(64, 32) and mine.pe == BITMOD.pe and mine.encoder == BITMOD.encoder
    without = load_accelerator(_file(tmp_path, BASED + "encoder: null\n"))
    assert without.encoder is None


PES = {
    "fused_bricks": "lanes: 1, max_integer_bits: 8, max_activation_bits: 8, brick_bits: 2",
    "activation_serial": "lanes: 16, max_integer_bits: 16, max_activation_bits: 16, one_column_bits: 16",
    "both_serial": "lanes: 256, max_integer_bits: 8, max_activation_bits: 8, luts: 463.7",
    "term_skipping": "lanes: 8, max_integer_bits: 8, max_activation_bits: 8, skipping: lane, skip_rows: 4",
    "int_multiplier": "lanes: 1, max_integer_bits: 8, max_activation_bits: 8, channel_groups: 4",
    "table_lookup": "lanes: 1, max_integer_bits: 0, table_bits: 4096",
    "block_dot": "lanes: 8, max_integer_bits: 0, modes: [{bits: 8, family: integer, lanes: 8, energy_pj_per_cycle: 1}]",
}


@pytest.mark.parametrize("kind", PES)
def test_every_kind_of_pe(tmp_path: Path, kind: str) -> None:
    pe = f"pe: {{name: mine, kind: {kind}, {PES[kind]}, energy_pj_per_cycle: 1, area_um2: 900, source: synthesis}}\n"
    mine = load_accelerator(_file(tmp_path, BASED + pe))
    assert mine.pe.kind is PeKind(kind)
    assert evaluate(paper_workload("OPT-1.3B", Phase.PREFILL), OperandBits(4, 8, 8), mine, PAPER).cycles > 0
    needed = PES[kind].rsplit(", ", 1)[0] if kind == "table_lookup" else ""
    if needed:
        with pytest.raises(ValueError, match="key pe: table_bits of PE mine must be given for kind table_lookup"):
            load_accelerator(_file(tmp_path, BASED + pe.replace(", table_bits: 4096", ", table_bits: 0")))


def test_memory_presets_and_channels(tmp_path: Path) -> None:
    mine = load_accelerator(_file(tmp_path, BASED + "dram: {preset: hbm3, channels: 5}\n"))
    assert mine.dram.bytes_per_s == 5 * 819.2e9 and mine.dram.channels == 5  # JESD238: 819.2 GB/s a stack
    twice = load_accelerator(_file(tmp_path, BASED + "dram: {channels: 2}\n"))
    assert twice.dram.bytes_per_s == 2 * BITMOD.dram.bytes_per_s
    own = load_accelerator(_file(tmp_path, BASED + "dram: {channels: 2, bytes_per_s: 1e9}\n"))
    assert own.dram.channel_bytes_per_s == 5e8


def test_a_design_on_an_fpga_has_no_area(tmp_path: Path) -> None:
    text = BASED + "pe: {area_um2: .nan}\ntechnology: {static_power_mw: 400}\n"  # else it would leak by area
    assert math.isnan(load_accelerator(_file(tmp_path, text)).pe.area_um2)


def test_other_nodes(tmp_path: Path) -> None:
    text = BASED + "weight_buffer: {node_nm: 16}\ntechnology: {clock_idle_share: 0.2, static_power_mw: null}\n"
    mine = load_accelerator(_file(tmp_path, text))
    assert mine.weight_buffer.at(512).read_pj < BITMOD.weight_buffer.at(512).read_pj
    assert mine.technology.clock_idle_share == 0.2
    scaled = load_accelerator(_file(tmp_path, BASED + "node_nm: 16\npe: {area_um2: 500}\n"))
    assert scaled == replace(
        at_node(BITMOD, 16), name="mine", source="us", pe=replace(at_node(BITMOD, 16).pe, area_um2=500)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "node_nm: 16\n", "key node_nm needs a base, whose figures are scaled to that node"),
        (BASED + "node_nm: 3\n", "node_nm must be 7 to 130 to be scaled, not 3"),
        (BASED + "dram: {preset: hbm9}\n", "key dram.preset must be one of ddr4, .*, not 'hbm9'"),
        (BASED + "dram: {channels: 0}\n", "key dram: channels of DRAM ddr4 must be at least 1, not 0"),
        (BASED + "pe: {skipping: rows}\n", "key pe.skipping must be one of column, lane, bidirectional, not 'rows'"),
        (BASED + "pe: {modes: [4]}\n", "key pe.modes must be a list of mappings with the keys bits, family"),
        (
            BASED + "pe: {modes: [{bits: 4, family: posit, lanes: 1, energy_pj_per_cycle: 1}]}\n",
            "family being integer or float, not",
        ),
        (
            BASED + "pe: {modes: [{bits: 0, family: float, lanes: 1, energy_pj_per_cycle: 1}]}\n",
            "bits and lanes of a mode must be at least 1",
        ),
        (HEAD, "key prefill_array must be given"),
        ("base: bitmod\nname: mine\n", "key source must be given"),
        (HEAD + "base: bitmodd\n", "accelerator must be one of the presets .*, not 'bitmodd'; nearest: bitmod"),
        (BASED + "prefil_array: [1, 2]\n", "key prefil_array must be one of .*; nearest: prefill_array"),
        (
            BASED + "dram: {bytes_per_sec: 1}\n",
            "key dram.bytes_per_sec must be .*; nearest: dram.bytes_per_s",
        ),
        (BASED + "pe: {lanes: four}\n", "key pe.lanes must be a number, not 'four'"),
        (BASED + "pe: {lanes: 1.5}\n", "key pe.lanes must be an integer, not 1.5"),
        (BASED + "pe: {lanes: .inf}\n", "key pe.lanes must be a finite number, not inf"),
        (BASED + "frequency_hz: .nan\n", "key frequency_hz must be a finite number, not nan"),
        (BASED + "pe: {area_um2: .inf}\n", "key pe.area_um2 must be a finite number, not inf"),
        (BASED + "pe: {lanes: true}\n", "key pe.lanes must be a number, not True"),
        (BASED + "pe: {lanes: 0}\n", "key pe: lanes of PE bitmod must be at least 1, not 0"),
        (BASED + "pe: {kind: serial}\n", "key pe.kind must be one of bit_serial, .*, not 'serial'"),
        (BASED + "pe: {decoders: [flynt4]}\n", "key pe.decoders must be a list of format names .*flint4"),
        (
            BASED + "pe: {decoders: flint4}\n",
            "key pe.decoders must be a list of format names, not 'flint4'",
        ),
        (BASED + "pe: 4\n", "key pe must be a mapping, not 4"),
        (BASED + "prefill_array: 4\n", "key prefill_array must be a list of rows and columns, not 4"),
        (BASED + "prefill_array: [64, 64]\n", "must have as many PEs, not 4096 and 1024"),
        (
            BASED + "prefill_array: [32, 0]\n",
            r"key prefill_array must be rows and columns of at least 1, not \[32, 0\]",
        ),
        (BASED + "frequency_hz: 0\n", "key frequency_hz must be 10000 to 1e.14, in Hz or bytes a second, not 0"),
        (BASED + "frequency_hz: 1\n", "key frequency_hz must be .* in Hz .*, not 1"),  # meant as GHz
        (BASED + "frequency_hz: -1e9\n", "key frequency_hz must be .* in Hz .*, not '-1e9'"),
        (BASED + "dram: {bytes_per_s: 32}\n", "key dram.bytes_per_s must be .* bytes a second, not 32"),
        (BASED + "dram: {bytes_per_s: 32 GB/s}\n", "key dram.bytes_per_s must be a number, not '32 GB/s'"),
        (BASED + "weight_buffer: {capacity_kib: 0.3}\n", "key weight_buffer.capacity_kib must be KiB .* whole bytes"),
        (BASED + "pe: {area_um2: .nan}\n", "areas of PE, encoder and vector unit of accelerator mine must be numbers"),
        (HEAD + "base: {a: 1}\n", "key base must be text, not {'a': 1}"),
        (
            BASED + "pe: {modes: [{bits: 4, family: [], lanes: 1, energy_pj_per_cycle: 1}]}\n",
            "family being integer or float, not",
        ),
        (
            BASED + "weight_buffer: {capacity_kib: 1}\n",
            "key weight_buffer: capacity_bytes of an SRAM must",
        ),
        ("name: ''\nsource: us\nbase: bitmod\n", "key name must be text, not ''"),
        ("- 1\n", r"mine\.yaml must hold a mapping of keys, not list"),
        ("a: [", r"mine\.yaml line 1 must be YAML: "),
        (BASED + "name: again\n", r"mine\.yaml line \d+ must be YAML: key 'name' is given twice"),
        (BASED + "pe: {lanes: 4, lanes: 8}\n", "must be YAML: key 'lanes' is given twice"),
        (WHOLE.replace(", energy_pj_per_bit: 4", ""), "key dram.energy_pj_per_bit must be given"),
    ],
    ids=range(43),
)
def test_mistakes_get_a_sentence_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        load_accelerator(_file(tmp_path, text))
    assert "mine.yaml" in str(raised.value) and "\n" not in str(raised.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml must be a readable YAML file: No such file"):
        load_accelerator(tmp_path / "none.yaml")
