"""PTX by which the blocks of one launch wait for each other, and plain twins.

Source of the semantics: NVIDIA PTX ISA 8.0, sections 8 (memory consistency), 9.7.12 (fence, atom) and 9.7.8 (ld, st).
"""

from __future__ import annotations

import threading

import numpy as np
from llvmlite import ir
from numba import cuda, types

from kernels_gpu import ptx_tile
from kernels_gpu.ptx import SIMULATED

if SIMULATED:

    def add_at(address, word, value):
        """Add to a word of global memory that other blocks add to; what was there before."""
        found = np.uint32(address[word])  # the simulator runs one block after another
        address[word] = np.uint32((int(found) + int(value)) & 0xFFFFFFFF)
        return found

    def acquire(address, word):
        """A word of global memory, read before all that follows."""
        return address[word]

    def release(address, word, bits):
        """Store a word of global memory after all that came before."""
        address[word] = bits

    def fence():
        """What this block has written before is seen by whoever sees what it writes after."""

    def sync_block():
        """Wait for the block's other threads."""
        threading.current_thread().syncthreads()

else:
    from numba.cuda.extending import intrinsic

    _I32, _I64 = ir.IntType(32), ir.IntType(64)
    _u, _a = types.uint32, types.uint64

    @intrinsic
    def add_at(typingctx, address, word, value):
        def generate(context, builder, sig, args):
            text = "atom.acq_rel.gpu.global.add.u32 $0, [$1], $2;"
            asm = ir.InlineAsm(ir.FunctionType(_I32, [_I64, _I32]), text, "=r,l,r,~{memory}", side_effect=True)
            return builder.call(asm, [ptx_tile._at(builder, args[0], args[1], 4), args[2]])

        return _u(_a, _u, _u), generate

    acquire = ptx_tile._global_load("ld.acquire.gpu.global.u32 $0, [$1];", 4, 1)
    release = ptx_tile._word_store("st.release.gpu.global.u32 [$0], $1;")
    fence = ptx_tile._nullary("fence.acq_rel.gpu;")

    @cuda.jit(device=True)
    def sync_block():
        cuda.syncthreads()
