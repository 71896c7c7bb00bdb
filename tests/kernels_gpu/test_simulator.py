"""Runs this folder's tests in numba's CUDA simulator, in a process of its own.

The simulator is chosen when numba is first imported, so it must not be switched on in the process of other tests.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernels_gpu import ptx

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(ptx.SIMULATED, reason="already inside the simulator")
def test_kernels_pass_in_the_simulator():
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/kernels_gpu"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= 40, done.stdout[-2000:]
