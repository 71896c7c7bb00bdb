"""Programmatic dependent launch as compiled: what a decode step's kernels read before they wait, and write after."""

import os
import re
import subprocess
import sys

import pytest

from kernels_gpu.disassembly import ToolsMissing, find_tool

# loads before the wait: the gains of a norm, which no kernel writes
EARLY_LOADS = {"norm_residual": 1, "gate": 0, "rotary8": 0, "rotary4": 0, "embedding": 0, "argmax": 0}


@pytest.mark.slow
def test_kernels_release_the_next_one_first_and_wait_before_they_touch_what_others_write(tmp_path):
    """In a process of its own: numba's simulator, which the other tests run in, compiles nothing."""
    try:
        find_tool("ptxas"), find_tool("nvdisasm")
    except ToolsMissing as missing:
        pytest.skip(str(missing))
    command = [sys.executable, "-m", "kernels_gpu.disassembly", *EARLY_LOADS, "--listing", str(tmp_path)]
    made = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}, check=True
    )
    rows = [[cell.strip() for cell in line.split("|")] for line in made.stdout.splitlines()[2:]]
    assert [row[1] for row in rows] == [*EARLY_LOADS]
    assert all(row[3] == "0 B" and row[4] == "0" for row in rows)  # spills, local memory
    for name, early in EARLY_LOADS.items():
        text = (tmp_path / f"{name}.ptx").read_text()
        found = re.findall(r"griddepcontrol\.\w+|ld\.global|st\.global", text)
        wait = found.index("griddepcontrol.wait")
        assert found[0] == "griddepcontrol.launch_dependents"
        assert found[1:wait] == ["ld.global"] * early
        assert "st.global" in found[wait:] and found.count("griddepcontrol.wait") == 1
