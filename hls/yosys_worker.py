"""Runs one Yosys job in a process of its own: ``python -m hls.yosys_worker JOB.json``.

A job puts several designs under one top, keeps each as a module, and passes them through the same commands, since
starting Yosys and reading a cell library costs more than synthesising one PE. Only this file imports ``pyosys``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TOP = "batch"


def run(job: dict) -> None:
    """Carries out a job.

    Args:
        job: ``sources`` (files), ``instances`` (instance name to ``module #(...)``), ``commands``; then, where given,
            ``json`` (netlist file), ``stat`` (file for ``stat`` with ``stat_arguments``), ``verilog`` (netlist file).
            Every design's module is called as its instance at the end.
    """
    from pyosys import libyosys

    design = libyosys.Design()

    def passes(*commands: str) -> None:
        for command in commands:
            libyosys.run_pass(command, design)

    batch = Path(job["batch"])
    lines = [f"  (* keep *) {module} {name} ();" for name, module in job["instances"].items()]
    batch.write_text(f"module {TOP};\n" + "\n".join(lines) + "\nendmodule\n", encoding="utf-8")
    passes(f"read_verilog -sv {' '.join(job['sources'])} {batch}", f"hierarchy -check -top {TOP}")
    kinds = {cell.name.str(): cell.type.str() for cell in design.top_module().cells_.values()}
    kinds = {name.removeprefix("\\"): kind for name, kind in kinds.items()}
    if len(set(kinds.values())) != len(job["instances"]):
        raise ValueError("designs of a batch must differ in module or parameters")
    for kind in kinds.values():
        passes(f"setattr -mod -set keep_hierarchy 1 {kind}")
    passes(*job["commands"], f"delete {TOP}")
    for name, kind in kinds.items():
        passes(f"rename {kind} {name}")
    passes(f"select {' '.join(kinds)}")
    if "json" in job:
        passes(f"write_json -selected {job['json']}")
    if "stat" in job:
        passes(f"tee -q -o {job['stat']} stat -json {job.get('stat_arguments', '')}")
    if "verilog" in job:
        passes(f"write_verilog -selected -noattr -noexpr -nohex {job['verilog']}")


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
