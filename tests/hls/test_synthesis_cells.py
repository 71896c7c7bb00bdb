"""Cell libraries by path, and what is asked of and read from OpenSTA."""

from __future__ import annotations

import gzip

import pytest

from hls.rtl_constructors import int_dot, int_multiplier
from hls.synthesis_cells import _parse_sta, cell_commands, cell_library, library_time_unit_ps, sta_script

LIBERTY = 'library (tiny) {\n  time_unit : "1ns";\n}\n'


def test_a_packed_library_is_unpacked(tmp_path):
    path = tmp_path / "tiny.lib.gz"
    path.write_bytes(gzip.compress(LIBERTY.encode()))
    library = cell_library("tiny", [path])
    assert library.files[0].read_text() == LIBERTY
    assert library_time_unit_ps(library) == 1000.0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tiny", "module x; endmodule", "liberty must hold a library, not 'tiny.lib'"),
        ("../tiny", LIBERTY, "target must be lower-case letters, digits and _, not '../tiny'"),
    ],
)
def test_what_is_no_library_is_refused(tmp_path, name, text, message):
    path = tmp_path / "tiny.lib"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        cell_library(name, [path])


def test_a_library_without_time_unit_is_refused(tmp_path):
    path = tmp_path / "tiny.lib"
    path.write_text("library (tiny) {}")
    with pytest.raises(ValueError, match="liberty must state its time_unit"):
        library_time_unit_ps(cell_library("tiny", [path]))


def test_commands_name_the_library_and_the_cells_to_avoid(tmp_path):
    path = tmp_path / "tiny.lib"
    path.write_text(LIBERTY)
    commands = cell_commands("booth", cell_library("tiny", [path], ["*probe*"]))
    assert commands[0].endswith("-booth")
    assert f"-liberty {path} -dont_use *probe*" in commands[2]
    assert "-script" not in commands[2]
    again = cell_commands("booth_twice", cell_library("tiny", [path], ["*probe*"]))
    assert again[2].startswith(commands[2]) and again[2].count("&nf") == 2  # mapped, and mapped once more
    with pytest.raises(ValueError, match="flow must be one of booth, plain, booth_twice, not 'rowpair'"):
        cell_commands("rowpair", cell_library("tiny", [path]))


def test_a_combinational_design_gets_a_clock_of_its_own(tmp_path):
    path = tmp_path / "tiny.lib"
    path.write_text(LIBERTY)
    script = sta_script([int_dot(4, 4), int_multiplier(4, 4)], tmp_path, cell_library("tiny", [path]))
    first, second = script.split("read_verilog ")[1:]
    assert "[get_ports clk]" in first
    assert "[get_ports clk]" not in second and "create_clock" in second


def test_slack_and_power_are_read_by_design():
    # Clock of 4 ns: a slack of -0.48 ns is a path of 4.48 ns. Power is printed in W.
    text = (
        "DESIGN 0\nworst slack -0.48000\nGroup Internal Switching Leakage Total\n"
        "Total 5.34e-04 4.65e-05 3.14e-08 5.80e-04 100.0%\nDESIGN 1\nworst slack 2.47000\n"
    )
    chosen = [int_dot(4, 4), int_multiplier(4, 4)]
    found = _parse_sta(text, chosen, 1000.0)
    assert found[chosen[0].name] == (pytest.approx(4480.0), pytest.approx(0.58))
    assert found[chosen[1].name] == (pytest.approx(1530.0), None)
