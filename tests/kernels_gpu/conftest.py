"""Where kernels run that take torch tensors; and simulated shared memory, which begins as anything does on a device.

Here it is full of NaN, in numba full of zeros.
"""

import pytest

from kernels_gpu import ptx
from kernels_gpu.launch import require_cuda


@pytest.fixture
def device():
    """The simulator's or a GPU; without either the test is skipped, and ``test_simulator.py`` runs it."""
    if ptx.SIMULATED:
        return "cpu"
    try:
        require_cuda()
    except RuntimeError as error:
        pytest.skip(f"{error} (test_simulator.py runs this test in the simulator)")
    return "cuda"


@pytest.fixture(autouse=True)
def poisoned_shared_memory(monkeypatch):
    """Every byte 0xFF: NaN as float32, float16 and bfloat16, and the largest code, index and address."""
    if not ptx.SIMULATED:
        return
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    begin = FakeCUDAShared.__init__

    def poisoned(self, dynshared_size):
        begin(self, dynshared_size)
        self._dynshared[:] = -1

    monkeypatch.setattr(FakeCUDAShared, "__init__", poisoned)
