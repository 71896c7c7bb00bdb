"""Compiled kernels taken apart: the reader on listings, and the real tools where they are installed."""

import os
import re
import subprocess
import sys

import pytest

from kernels_gpu import disassembly
from kernels_gpu.disassembly import ToolsMissing, find_tool, main_loop, read_listing, stage_counts
from kernels_gpu.kernel_cases import Case, all_cases

ASSEMBLER = """ptxas info    : Compiling entry function 'kernel' for 'sm_90'
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 60 registers, used 1 barriers
"""
# a stage: copies, then a loop of products that turns twice, then the branch back
LISTING = """
.text.kernel:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDGSTS.E.BYPASS.LTC256B.128 [R2], desc[UR4][R4.64] ;
        /*0020*/              @!P0 BRA `(.L_x_3) ;
.L_x_2:
        /*0030*/                   LDS.128 R8, [R2] ;
        /*0040*/                   IMMA.16832.S8.S8 R8, R8.ROW, R12.COL, RZ ;
        /*0050*/              @P1  BRA `(.L_x_2) ;
.L_x_3:
        /*0060*/                   LOP3.LUT R3, R3, 0xff, RZ, 0xc0, !PT ;
        /*0070*/                   NOP ;
        /*0080*/               @P2 BRA `(.L_x_1) ;
        /*0090*/                   STL [R1], R3 ;
        /*00a0*/                   EXIT ;
"""
WRONG = {"x": "must be like 9.0", "7.5": r"at least \(8, 0\), not \(7, 5\)"}
CASE = Case("one", lambda: None, "p", "one", 64, 2)


def test_a_listing_is_read_into_instructions_labels_and_resources():
    kernel = read_listing(LISTING, ASSEMBLER)
    assert (kernel.registers, kernel.stack_bytes, kernel.spill_bytes) == (60, 16, 20)
    assert [one.name for one in kernel.instructions[:4]] == ["LDC", "LDGSTS", "BRA", "LDS"]
    assert kernel.instructions[2].predicate == "!P0" and kernel.instructions[2].target == ".L_x_3"
    assert kernel.instructions[3].labels == (".L_x_2",)


def test_the_loop_of_products_counts_as_often_as_it_turns():
    kernel = read_listing(LISTING, ASSEMBLER)
    assert main_loop(kernel) == ((1, 8), (3, 5))
    # copy, branch, 2 x (load, product, branch), logical operation, branch; the filler does not count
    assert sum(stage_counts(CASE, kernel).values()) == 2 + 2 * 3 + 2
    row = disassembly.row_of(CASE, kernel)
    assert row["products"] == "2" and row["local"] == "1" and row["copies"] == "128 bit" and row["spills"] == "20 B"
    assert row["a weight"] == f"{10 / 64:.2f}" and row["half-wide"] == f"{1 / 64:.2f}"


def test_copies_before_the_loop_are_not_part_of_a_stage():
    first, _, rest = LISTING.partition(".L_x_1:")
    copy = "        /*0004*/                   LDGSTS.E.BYPASS.LTC256B.128 [R2], desc[UR4][R4.64] ;\n"
    assert main_loop(read_listing(first + copy + ".L_x_1:" + rest, ASSEMBLER)) == ((2, 9), (4, 6))


def test_a_kernel_without_products_is_counted_whole():
    plain = LISTING.replace("IMMA", "IMAD")
    assert main_loop(read_listing(plain, ASSEMBLER)) == ((0, 10), None)


@pytest.mark.parametrize(
    ("listing", "assembler", "said"), [("", ASSEMBLER, "nvdisasm -c must"), (LISTING, "", "ptxas")]
)
def test_other_output_is_refused(listing, assembler, said):
    with pytest.raises(ValueError, match=said):
        read_listing(listing, assembler)


def test_a_missing_tool_names_its_wheel(monkeypatch):
    monkeypatch.setattr(disassembly.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(disassembly.shutil, "which", lambda name, path=None: None)
    with pytest.raises(ToolsMissing, match="pip install nvidia-cuda-nvdisasm"):
        find_tool("nvdisasm")


@pytest.mark.parametrize(
    ("given", "said"), [(["int9"], "kernels must be of --list, not 'int9'"), (["--capability", "hopper"], "like 9.0")]
)
def test_wrong_arguments_are_one_sentence(given, said, capsys):
    assert disassembly.main(given) == 2
    assert said in capsys.readouterr().err


def test_every_recipe_and_cache_is_a_case():
    names = [case.name for case in all_cases()]
    assert {"int4_g128", "int4_g128_m8", "bitmod3_g128", "attention8", "attention4_gqa8"} <= set(names)
    assert {"norm_residual", "gate", "rotary8", "rotary4_bfloat16", "embedding", "argmax"} <= set(names)
    assert len(names) == len(set(names))
    assert all(case.weights_per_lane > 0 and case.product_turns > 0 for case in all_cases())


@pytest.mark.slow
def test_kernels_compile_without_a_device_and_do_not_spill():
    """In a process of its own: numba's simulator, which the other tests run in, compiles nothing."""
    try:
        find_tool("ptxas"), find_tool("nvdisasm")
    except ToolsMissing as missing:
        pytest.skip(str(missing))
    command = [sys.executable, "-m", "kernels_gpu.disassembly", "int4_g128", "attention8"]
    made = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}, check=True
    )
    rows = [[cell.strip() for cell in line.split("|")] for line in made.stdout.splitlines()[2:]]
    assert [row[3] for row in rows] == ["0 B", "0 B"]


def test_kernels_of_older_devices_are_cut_for_their_shared_memory_and_have_no_missing_instructions():
    names = {case.name for case in all_cases((8, 0))}
    assert "e5m2_g128" in names and not {"e4m3", "mxfp8", "e4m3_g128_m8"} & names
    assert {"e4m3", "mxfp8"} <= {case.name for case in all_cases((8, 9))}


@pytest.mark.parametrize("capability", list(WRONG))
def test_a_capability_without_kernels_is_one_sentence(capability, capsys):
    assert disassembly.main(["int4_g128", "--capability", capability]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert re.search(WRONG[capability], said)
