"""Shared memory of simulated kernels begins as anything does on a device: here full of NaN, in numba full of zeros."""

import pytest

from kernels_gpu import ptx


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
