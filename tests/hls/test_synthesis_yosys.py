"""Flows are lists of Yosys commands; a job that fails or lingers is one sentence, and the wheel must be new enough."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from hls import synthesis_yosys
from hls.rtl_constructors import int_dot
from hls.synthesis_yosys import (
    DSP_FLOWS,
    LUT6_FLOWS,
    PREPARE,
    SynthesisError,
    lut6_commands,
    require_yosys,
    run_batch,
    run_job,
)


def test_flows_are_literal():
    with pytest.raises(ValueError, match=r"flow must be one of rowpair, default, booth, .*, dsp_chains, not 'fast'"):
        lut6_commands("fast")


@pytest.mark.parametrize("flow", LUT6_FLOWS)
def test_flows_differ_in_dsps_and_wide_multiplexers(flow):
    commands = lut6_commands(flow)
    mappings = [command for command in commands if command.startswith("synth_xilinx")]
    assert commands[: len(PREPARE)] == PREPARE
    assert all(("-nodsp" in command) != (flow in DSP_FLOWS) for command in mappings)
    assert all(("-nowidelut" in command) == flow.endswith(("nomux", "rounds", "twice")) for command in mappings)


@pytest.mark.parametrize("flow", LUT6_FLOWS)
def test_stages_follow_one_another_without_those_of_memories(flow):
    """``help synth_xilinx``: begin, prepare, coarse, map_memory, map_ffram, ...; a run ends before its second label."""
    stages = [command.partition(" -run ")[2].split(":") for command in lut6_commands(flow) if " -run " in command]
    assert stages[0][0] == "begin" and stages[-1] == ["map_ffram", "check"]
    ends = [end for _, end in stages[:-1]]
    assert ends[:-1] == [begin for begin, _ in stages[1:-1]] and ends[-1] == "map_memory"


def test_products_beside_carry_chains_become_row_pairs_once_dsps_are_chosen():
    commands = list(lut6_commands("dsp_chains"))
    coarse = next(i for i, command in enumerate(commands) if command.endswith("-run begin:coarse"))
    (rows,) = (i for i, command in enumerate(commands) if command == lut6_commands("rowpair")[len(PREPARE)])
    (chains,) = (i for i, command in enumerate(commands) if command.endswith("t:$add t:$sub"))
    assert chains < coarse < rows
    assert commands[rows + 2].endswith("-run coarse:map_memory")


@pytest.mark.parametrize(("version", "fits"), [(None, False), ("0.69", False), ("0.70", True), ("0.70.1", True)])
def test_the_wheel_must_be_new_enough(monkeypatch, version, fits):
    monkeypatch.setattr(synthesis_yosys, "yosys_version", lambda: version)
    if fits:
        assert require_yosys() == version
        return
    with pytest.raises(ValueError, match=rf"pyosys must be installed, 0.70 or newer .*, not {version}"):
        require_yosys()


@pytest.fixture
def worker(monkeypatch):
    """A function: what the job's process does, in place of Yosys; the jobs that were given are returned."""

    def stand_in(does):
        jobs = []

        def run(command, *, stdout, timeout, **_):
            jobs.append(json.loads(Path(command[-1]).read_text(encoding="utf-8")))
            return SimpleNamespace(returncode=does(jobs[-1], stdout, timeout))

        monkeypatch.setattr(subprocess, "run", run)
        return jobs

    return stand_in


def test_a_job_that_fails_says_its_last_lines(worker, tmp_path):
    def fails(job, log, timeout):
        log.write(b"one\ntwo\nthree\nERROR: no such \xff cell\n")
        log.flush()
        return 1

    worker(fails)
    with pytest.raises(SynthesisError, match="^Yosys failed: two / three / ERROR: no such .* cell$"):
        run_job({}, tmp_path)


def test_a_job_that_lingers_is_ended(worker, tmp_path):
    def lingers(job, log, timeout):
        raise subprocess.TimeoutExpired("yosys", timeout)

    worker(lingers)
    with pytest.raises(SynthesisError, match=r"Yosys must finish within 7 s, not longer: .*yosys\.log"):
        run_job({}, tmp_path, timeout_s=7)


def test_a_batch_gives_each_design_its_own_netlist_and_area(worker, tmp_path):
    chosen = [int_dot(4, 4), int_dot(8, 8)]

    def synthesises(job, log, timeout):
        (tmp_path / "netlist.json").write_text(json.dumps({"modules": {n: {"is": n} for n in job["instances"]}}))
        (tmp_path / "stat.json").write_text(
            json.dumps({"modules": {f"\\{name}": {"area": i} for i, name in enumerate(job["instances"])}})
        )
        return 0

    jobs = worker(synthesises)
    plain = run_batch(chosen, ["one", "two"], tmp_path)
    assert plain.areas == {} and "stat" not in jobs[0] and jobs[0]["commands"] == ["one", "two"]
    assert plain.modules == {chosen[0].name: {"is": "design0"}, chosen[1].name: {"is": "design1"}}
    assert list(jobs[0]["instances"].values()) == [design.instance for design in chosen]
    cells = run_batch(chosen, ["one"], tmp_path, liberty=[tmp_path / "a.lib", tmp_path / "b.lib"])
    assert {name: area["area"] for name, area in cells.areas.items()} == {chosen[0].name: 0, chosen[1].name: 1}
    assert jobs[1]["stat_arguments"] == f"-liberty {tmp_path / 'a.lib'} -liberty {tmp_path / 'b.lib'}"
