"""Runs this folder's tests in numba's CUDA simulator, in processes of their own.

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
    files = sorted(str(file.relative_to(ROOT)) for file in Path(__file__).parent.glob("test_*.py"))
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
    # two processes at a time: a simulated thread is a thread of Python's, and these take one core between them
    halves = [
        subprocess.Popen(
            [*command, *part], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for part in (files[::2], files[1::2])
    ]
    try:
        said = [half.communicate(timeout=900)[0] for half in halves]
    finally:
        for half in halves:
            half.kill()
    for half, text in zip(halves, said, strict=True):
        assert half.returncode == 0, text[-4000:]
    passed = [re.search(r"(\d+) passed", text) for text in said]
    assert sum(int(found[1]) for found in passed if found) >= 300, said[0][-2000:]
