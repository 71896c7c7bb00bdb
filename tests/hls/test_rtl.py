"""Each RTL module computes what ``datatypes`` says: the netlist that is counted, and the source in Icarus Verilog.

Needs ``pyosys`` (extra ``synth``) and, for the second reading of the sources, Debian's ``iverilog``.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from datatypes.catalog import MINIFLOATS
from hls import rtl_constructors as make
from hls import rtl_constructors_books as books
from hls.lut_packing import count_luts
from hls.rtl_design import RTL, Design, source_files
from hls.rtl_designs import FP16_OPERAND
from hls.rtl_reference import REFERENCES, check
from hls.rtl_simulation import integers_of, netlist_of
from hls.synthesis import DSP_MODULES
from hls.synthesis_yosys import lut6_commands, run_batch, run_job, yosys_version
from hwmodel.synthesis_table import synthesis_rows

pytestmark = pytest.mark.synth

E2M1, E4M3, E3M0 = MINIFLOATS["e2m1"], MINIFLOATS["e4m3"], MINIFLOATS["e3m0"]
FAMILIES: tuple[tuple[Design, ...], ...] = (
    (
        make.int_multiplier(3, 5),
        make.int_multiplier(4, 4, unsigned=True),
        make.minifloat_unit("minifloat_product", E2M1, E4M3),
        make.minifloat_unit("minifloat_multiplier", E3M0, E4M3),
        make.int_dot(4, 8, lanes=4, stages=2),
        make.int_dot(8, 8),
        make.minifloat_dot(E4M3, E4M3),
    ),
    (
        make.codebook_dot(programmable=False),
        make.codebook_dot(programmable=True, code_bits=3, lanes=4),
        make.decoder("flint_decode", (("BITS", 4),), "flint5", "flint5"),
        make.decoder("olive_decode", (("FLINT", 1),), "olive4_flint", "olive4_flint"),
        make.flint_int_dot(4, 8),
        make.flint_flint_dot(5),
        make.olive_dot(flint=True, lanes=2),
        make.tender_dot(4, 4, lanes=4),
    ),
    (make.bit_serial_dot(8, 3, lanes=4), make.term_serial_dot(4, lanes=4), make.bit_bit_dot(lanes=16)),
    (
        make.bitmod_part("bitmod_term_encoder"),
        make.bitmod_part("bitmod_dequantizer"),
        make.bitmod_part("bitmod_int_accumulator"),
    ),
    (make.bitmod_part("bitmod_group_accumulator"), make.bitmod_part("bitmod_pe")),
    (
        make.float_mac(E2M1, E2M1, mantissa_bits=13),
        make.float_mac(FP16_OPERAND, FP16_OPERAND, exponent_bits=5, mantissa_bits=10),
    ),
    (make.float_int_mac(4), make.codebook_float_mac(programmable=False)),
    (make.int_pair_dot(4, 4), make.int_pair_dot(3, 8, lanes=5, unsigned=True)),
    (
        books.mixture_dot("bitmod_fp4", 8, lanes=2),
        books.mixture_dot("ant4", 4),
        books.vector_codebook_dot(4, 2, 2),
        books.vector_codebook_dot(3, 2, 1, residual_bits=2, programmable=True, along_outputs=True),
        books.vector_dot(3, 2, layers=2),
    ),
    (books.mixture_float_mac("bitmod_fp3"),),
    (make.mx_block_dot("e2m1", lanes=4), make.mx_block_dot("mx_int8", lanes=4), make.nvfp4_block_dot(lanes=4)),
)
EVERY = [design for family in FAMILIES for design in family]


@pytest.fixture(scope="module", autouse=True)
def yosys() -> None:
    if yosys_version() is None:
        pytest.skip("pyosys must be installed: pip install 'codesign[synth]'")


def test_every_module_with_a_reference_is_tested():
    assert {design.module for design in EVERY} == set(REFERENCES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: "+".join(design.name for design in family))
def test_the_counted_netlist_computes_what_the_formats_say(family, tmp_path):
    flow = "dsp" if family[0].module in DSP_MODULES else "rowpair"
    batch = run_batch(family, lut6_commands(flow), tmp_path)
    for design in family:
        assert check(design, netlist_of(batch.modules[design.name]), np.random.default_rng(7)) > 0


@pytest.mark.parametrize("signed", [0, 1], ids=["unsigned", "signed"])
@pytest.mark.parametrize(("a", "b"), [(4, 4), (3, 5), (6, 3), (5, 5), (8, 4)])
def test_row_pairs_are_multiplication(a, b, signed, tmp_path):
    """Yosys' SAT solver finds no operands for which the technology map and ``*`` differ."""
    sign = "signed" if signed else ""
    (tmp_path / "gold.sv").write_text(
        f"module TOP(input {sign} [{a - 1}:0] a, input {sign} [{b - 1}:0] b, output {sign} [{a + b - 1}:0] p);"
        " assign p = a * b; endmodule\n".replace("TOP", "gold")
    )
    job = {
        "sources": [str(tmp_path / "gold.sv")],
        "batch": str(tmp_path / "batch.sv"),
        "instances": {"design0": "gold"},
        "commands": [
            "setattr -mod -unset keep_hierarchy design0",
            "copy design0 gate",
            f"techmap -autoproc -map {RTL / 'rowpair_map.v'} gate",
            "techmap gate",
            "select -assert-none gate/t:$mul",
            "miter -equiv -flatten design0 gate miter",
            "sat -verify -prove trigger 0 miter",
            "delete gate miter",
        ],
        "json": str(tmp_path / "netlist.json"),
    }
    run_job(job, tmp_path)


def test_a_pair_takes_one_dsp_and_meets_every_four_codes(tmp_path):
    """Of 4 x 4 bits all 2**16 of them: a proof by exhaustion, of the netlist."""
    design = make.int_pair_dot(4, 4)
    module = run_batch([design], lut6_commands("dsp"), tmp_path).modules[design.name]
    assert count_luts(module).dsps == 1
    assert check(design, netlist_of(module), np.random.default_rng(7)) >= 1 << 16


@pytest.mark.parametrize(("weight", "activation", "unsigned"), [(2, 2, 0), (3, 3, 0), (2, 4, 1)])
def test_a_packed_pair_is_the_sum_of_two_products(weight, activation, unsigned, tmp_path):
    """Yosys' SAT solver finds no four operands for which they differ."""
    total = weight + activation + 1
    factor = "$signed({1'b0, %s})" if unsigned else "$signed(%s)"
    products = [
        f"$signed(weight[{weight * (i + 1) - 1}:{weight * i}]) * "
        + factor % f"activation[{activation * (i + 1) - 1}:{activation * i}]"
        for i in range(2)
    ]
    widths = f"WEIGHT_BITS({weight}), .ACTIVATION_BITS({activation}), .ACTIVATION_UNSIGNED({unsigned})"
    ports = f"input [{2 * weight - 1}:0] weight, input [{2 * activation - 1}:0] activation"
    (tmp_path / "gold.sv").write_text(
        f"module gold({ports}, output signed [{total - 1}:0] sum); assign sum = {' + '.join(products)}; endmodule\n"
        f"module gate({ports}, output signed [{total - 1}:0] sum);"
        f" int_pair #(.{widths}) pair (.weight(weight), .activation(activation), .sum(sum)); endmodule\n"
    )
    job = {
        "sources": [str(tmp_path / "gold.sv"), *(str(RTL / file) for file in source_files("int_pair"))],
        "batch": str(tmp_path / "batch.sv"),
        "instances": {"design0": "gold", "design1": "gate"},
        "commands": [
            "setattr -mod -unset keep_hierarchy design0 design1",
            "flatten design1",
            "miter -equiv -flatten design0 design1 miter",
            "sat -verify -prove trigger 0 miter",
            "delete miter",
        ],
        "json": str(tmp_path / "netlist.json"),
    }
    run_job(job, tmp_path)


def test_a_design_that_is_also_a_part_of_another_is_flattened_there(tmp_path):
    whole, part = make.int_dot(4, 4), make.int_multiplier(4, 4)
    together = run_batch([whole, part], lut6_commands("rowpair"), tmp_path)
    alone = run_batch([whole], lut6_commands("rowpair"), tmp_path)
    assert count_luts(together.modules[whole.name]).luts == count_luts(alone.modules[whole.name]).luts


def test_recorded_counts_come_out_again(tmp_path):
    chosen = [make.int_dot(4, 4), make.int_dot(8, 8), make.int_multiplier(8, 8), make.minifloat_dot(E2M1, E2M1)]
    recorded = {row.design: row for row in synthesis_rows("lut6") if row.flow == "rowpair"}
    batch = run_batch(chosen, lut6_commands("rowpair"), tmp_path)
    for design in chosen:
        assert count_luts(batch.modules[design.name]).luts == recorded[design.name].luts


@pytest.mark.parametrize("design", EVERY, ids=lambda design: design.name)
def test_icarus_reads_the_sources_the_same_way(design, tmp_path):
    """A second Verilog front end and an event-driven simulator: the first 48 cases of the same vectors."""
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog must be installed (Debian package iverilog)")
    vectors = REFERENCES[design.module](design, np.random.default_rng(7))
    cycles, cases = next(iter(vectors.stimulus.values())).shape[:2]
    cases = min(cases, 48)
    stimulus = {port: bits[:, :cases] for port, bits in vectors.stimulus.items()}
    width = sum(bits.shape[2] for bits in stimulus.values())
    lines = []
    for case in range(cases):
        for cycle in range(cycles):
            rows = [bits[cycle, case, ::-1] for bits in stimulus.values()]
            lines.append("".join("1" if bit else "0" for bit in np.concatenate(rows)))
    (tmp_path / "stimulus.txt").write_text("\n".join(lines) + "\n")
    ports = output_widths(design, tmp_path)
    declared = [f"reg [{bits.shape[2] - 1}:0] {port};" for port, bits in stimulus.items()]
    declared += [f"wire [{ports[port] - 1}:0] {port};" for port in vectors.expected]
    clock = [".clk(clk)"] if design.pipeline_stages else []
    pins = ", ".join([*clock, *(f".{port}({port})" for port in (*stimulus, *vectors.expected))])
    shown = ", ".join(vectors.expected)
    (tmp_path / "bench.sv").write_text(
        f"module bench; reg clk = 0; {' '.join(declared)}\n"
        f"  {design.instance} dut ({pins});\n"
        f"  reg [{width - 1}:0] rows [0:{len(lines) - 1}]; integer i;\n"
        f'  initial begin $readmemb("{tmp_path / "stimulus.txt"}", rows);\n'
        f"    for (i = 0; i < {len(lines)}; i = i + 1) begin {{{', '.join(stimulus)}}} = rows[i];\n"
        f'      #1 clk = 1; #1 $display("{" ".join(["%b"] * len(vectors.expected))}", {shown}); clk = 0; #1; end\n'
        "    $finish; end\nendmodule\n"
    )
    sources = [str(RTL / file) for file in source_files(design.module)]
    program = str(tmp_path / "bench.vvp")
    subprocess.run(["iverilog", "-g2012", "-o", program, str(tmp_path / "bench.sv"), *sources], check=True, timeout=120)
    text = subprocess.run(["vvp", "-n", program], check=True, capture_output=True, text=True, timeout=120).stdout
    printed = [line.split() for line in text.splitlines() if set(line) <= set("01xz ") and line.strip()]
    assert len(printed) == len(lines)
    for k, (port, expected) in enumerate(vectors.expected.items()):
        compared = vectors.compared_ports.get(port, vectors.compared)
        for row, (case, cycle) in zip(printed, np.ndindex(cases, cycles), strict=True):
            if compared is None or compared[cycle, case]:
                bits = np.array([bit == "1" for bit in row[k][::-1]])
                assert set(row[k]) <= {"0", "1"}, (port, cycle, case, row[k])
                signed = vectors.signed and port not in vectors.unsigned_ports
                assert integers_of(bits, signed) == expected[cycle, case], (port, cycle, case)


def output_widths(design: Design, folder: Path) -> dict[str, int]:
    """Width of each port, from Yosys."""
    batch = run_batch([design], ["proc"], folder)
    return {port: len(found["bits"]) for port, found in batch.modules[design.name]["ports"].items()}
