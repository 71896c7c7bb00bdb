"""Pipelines of integer dot products by Google XLS, an open scheduler: how many stages a clock takes, and what of.

    python -m hls.xls_pipeline --weight-bits 4 --activation-bits 8 --lanes 16 --clock-ps 1000 2000 4000

The dot product is written in DSLX, scheduled with one of the delay models of XLS (``asap7``, ``sky130``), and its
Verilog goes through the LUT6 flow of ``hls.synthesis_yosys``; the netlist is simulated against exact sums. Operands and
result have no registers of their own: an accumulator can stand behind them. Needs ``xls-python`` (extra ``xls``).

Delay models are of cells, not of an FPGA: stages are for cells, LUTs and flip-flops say what a cut costs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from hls.lut_packing import count_luts
from hls.rtl_simulation import integers_of, lanes_of, netlist_of
from hls.synthesis_yosys import SynthesisError, lut6_commands, require_yosys, run_job

DELAY_MODELS = ("asap7", "sky130")
CASES, SEED = 512, 20261122  # of the check


@dataclass(frozen=True)
class DotPipeline:
    """A scheduled dot product, combinational or with registers between stages.

    Args:
        stages: of logic; registers stand between them.
        verilog: module ``dot`` with ports ``weight``, ``activation`` and ``out``, lane 0 lowest.
    """

    weight_bits: int
    activation_bits: int
    lanes: int
    clock_ps: int
    delay_model: str
    stages: int
    verilog: str

    @property
    def sum_bits(self) -> int:
        """Width of the exact sum."""
        return self.weight_bits + self.activation_bits + (self.lanes - 1).bit_length()


def require_xls() -> ModuleType:
    """The bindings of XLS.

    Raises:
        ValueError: they are not installed.
    """
    try:
        return importlib.import_module("xls.c_api")
    except ImportError:
        raise ValueError("xls-python must be installed (pip install 'codesign[xls]')") from None


def dot_source(weight_bits: int, activation_bits: int, lanes: int) -> str:
    """The exact sum of products in DSLX, a tree over the lanes."""
    total = weight_bits + activation_bits + (lanes - 1).bit_length()
    terms = [f"(weight[u32:{i}] as s{total}) * (activation[u32:{i}] as s{total})" for i in range(lanes)]
    while len(terms) > 1:
        terms = [f"({' + '.join(terms[i : i + 2])})" for i in range(0, len(terms), 2)]
    operands = f"weight: s{weight_bits}[{lanes}], activation: s{activation_bits}[{lanes}]"
    return f"pub fn dot({operands}) -> s{total} {{ {terms[0]} }}\n"


def schedule_dot(
    weight_bits: int, activation_bits: int, lanes: int, *, clock_ps: int, delay_model: str = "asap7"
) -> DotPipeline:
    """Cuts a dot product of signed integers into stages of at most ``clock_ps``.

    Raises:
        ValueError: a width or the period is not positive, no such delay model, XLS is missing, or no schedule reaches
            the period.
    """
    if min(weight_bits, activation_bits, lanes, clock_ps) < 1:
        raise ValueError(
            f"widths, lanes and clock_ps must be positive, not {(weight_bits, activation_bits, lanes, clock_ps)!r}"
        )
    if delay_model not in DELAY_MODELS:
        raise ValueError(f"delay_model must be one of {', '.join(DELAY_MODELS)}, not {delay_model!r}")
    xls = require_xls()
    source = dot_source(weight_bits, activation_bits, lanes)
    package = xls.Package.parse_ir(xls.optimize_ir(xls.convert_dslx_to_ir(source, "dot.x", "dot"), "__dot__dot"))
    try:
        made = package.schedule_and_codegen(
            generator="pipeline", module_name="dot", use_system_verilog=False, flop_inputs=False, flop_outputs=False,
            with_delay_model=True, delay_model=delay_model, clock_period_ps=clock_ps,
        )  # fmt: skip
    except RuntimeError as error:
        reason = str(error).split(";")[0]
        raise ValueError(f"clock_ps must be a period that {delay_model} reaches, not {clock_ps!r}: {reason}") from None
    verilog = made.get_verilog_text()
    stages = len(re.findall(r"Pipe stage \d+", verilog))
    return DotPipeline(weight_bits, activation_bits, lanes, clock_ps, delay_model, stages, verilog)


def pipeline_luts(pipeline: DotPipeline) -> Mapping[str, int]:
    """LUT6 sites and flip-flops of a pipeline, whose netlist is compared with exact sums first.

    Returns:
        luts, flip_flops, checked (how many sums were compared).

    Raises:
        ValueError: a sum differs.
        SynthesisError: Yosys failed.
    """
    with tempfile.TemporaryDirectory(prefix="xls_") as work:
        folder = Path(work)
        (folder / "dot.v").write_text(pipeline.verilog, encoding="utf-8")
        job = {
            "sources": [str(folder / "dot.v")], "batch": str(folder / "batch.sv"), "instances": {"design0": "dot"},
            "commands": list(lut6_commands("rowpair")), "json": str(folder / "netlist.json"),
        }  # fmt: skip
        run_job(job, folder)
        module = json.loads((folder / "netlist.json").read_text(encoding="utf-8"))["modules"]["design0"]
    rng = np.random.default_rng(SEED)
    operands = {
        name: rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (CASES, pipeline.lanes))
        for name, bits in (("weight", pipeline.weight_bits), ("activation", pipeline.activation_bits))
    }
    # operands stay for as many cycles as there are stages
    stimulus = {
        "weight": lanes_of(operands["weight"][None], pipeline.weight_bits),
        "activation": lanes_of(operands["activation"][None], pipeline.activation_bits),
    }
    held = {name: np.repeat(bits, pipeline.stages, axis=0) for name, bits in stimulus.items()}
    found = integers_of(netlist_of(module).run(held)["out"], signed=True)[-1]
    expected = (operands["weight"] * operands["activation"]).sum(axis=1)
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        case = int(wrong[0])
        raise ValueError(f"out must be the sum of products {expected[case]} in case {case}, not {found[case]}")
    count = count_luts(module)
    return {"luts": count.luts, "flip_flops": count.flip_flops, "checked": CASES}


def main(arguments: Sequence[str] | None = None) -> int:
    """One line for each clock period; 2 for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m hls.xls_pipeline", description=__doc__.splitlines()[0])
    for name in ("weight-bits", "activation-bits", "lanes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--clock-ps", type=int, nargs="+", required=True, help="periods to reach")
    parser.add_argument("--delay-model", default=DELAY_MODELS[0], help=", ".join(DELAY_MODELS))
    options = parser.parse_args(arguments)
    try:
        require_yosys()
        for clock_ps in options.clock_ps:
            made = schedule_dot(
                options.weight_bits, options.activation_bits, options.lanes, clock_ps=clock_ps,
                delay_model=options.delay_model,
            )  # fmt: skip
            found = pipeline_luts(made)
            print(
                f"{clock_ps} ps, {made.delay_model}: {made.stages} stages, {found['luts']} LUTs, "
                f"{found['flip_flops']} flip-flops, {found['checked']} sums equal"
            )
    except (ValueError, SynthesisError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
