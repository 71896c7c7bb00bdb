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
            Every design's module is called as its instance.
    """
    from pyosys import libyosys

    design = libyosys.Design()

    def passes(*commands: str) -> None:
        for command in commands:
            libyosys.run_pass(command, design)

    batch, names = Path(job["batch"]), list(job["instances"])
    batch.write_text(_top("elaboration", job["instances"]), encoding="utf-8")
    passes(f"read_verilog -sv {' '.join(job['sources'])} {batch}", "hierarchy -check -top elaboration")
    kinds = {cell.name.str().removeprefix("\\"): cell.type.str() for cell in design.top_module().cells_.values()}
    # Copies, because a design may also be a part of another one, where it must not be kept apart.
    for name in names:
        passes(f"copy {kinds[f'{name}_instance']} {name}", f"setattr -mod -set keep_hierarchy 1 {name}")
    batch.write_text(_top(TOP, dict(zip(names, names, strict=True))), encoding="utf-8")
    passes("delete elaboration", f"read_verilog -sv {batch}", f"hierarchy -check -top {TOP}")
    passes(*job["commands"], f"delete {TOP}", f"select {' '.join(names)}")
    if "json" in job:
        passes(f"write_json -selected {job['json']}")
    if "stat" in job:
        passes(f"tee -q -o {job['stat']} stat -json {job.get('stat_arguments', '')}")
    if "verilog" in job:
        passes(f"write_verilog -selected -noattr -noexpr -nohex {job['verilog']}")


def _top(name: str, instances: dict) -> str:
    lines = [f"  (* keep *) {module} {instance}_instance ();" for instance, module in instances.items()]
    return f"module {name};\n" + "\n".join(lines) + "\nendmodule\n"


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
