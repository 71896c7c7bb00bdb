"""PTX by which the blocks of one launch hand each other words, and plain twins.

A word and its tag are one 64-bit access: who finds the tag has the word, without a fence or a counter between them.

Source of the semantics: NVIDIA PTX ISA 8.0, sections 8 (memory consistency: accesses of one location are seen in
one order), 9.7.12 (red) and 9.7.8 (ld, st).
"""

from __future__ import annotations

import threading

import numpy as np
from llvmlite import ir
from numba import cuda, types

from kernels_gpu import ptx_tile
from kernels_gpu.ptx import SIMULATED

if SIMULATED:

    def relaxed_word(address, word):
        """A word of global memory that other blocks change."""
        return address[word]  # the simulator runs one block after another

    def count_up(address, word, last):
        """Add one to a word of global memory that other blocks count in, or begin again at 0 behind ``last``."""
        found = int(address[word])
        address[word] = np.uint32(0 if found >= int(last) else found + 1)

    def put_tagged(address, pair, bits, tag):
        """Store a word and its tag, both at once, for other blocks: the pair of words ``pair`` of global memory."""
        address[2 * int(pair)], address[2 * int(pair) + 1] = bits, tag

    def tagged(address, pair):
        """A word and its tag, of the same store."""
        return address[2 * int(pair)], address[2 * int(pair) + 1]

    def sync_block():
        """Wait for the block's other threads."""
        threading.current_thread().syncthreads()

else:
    from numba.cuda.extending import intrinsic

    _I32, _I64, _VOID = ir.IntType(32), ir.IntType(64), ir.VoidType()
    _u, _a = types.uint32, types.uint64

    @intrinsic
    def put_tagged(typingctx, address, pair, bits, tag):
        def generate(context, builder, sig, args):
            text = "{ .reg .b64 t; mov.b64 t, {$1, $2}; st.relaxed.gpu.global.b64 [$0], t; }"
            function_type = ir.FunctionType(_VOID, [_I64, _I32, _I32])
            asm = ir.InlineAsm(function_type, text, "l,r,r,~{memory}", side_effect=True)
            builder.call(asm, [ptx_tile._at(builder, args[0], args[1], 8), args[2], args[3]])
            return context.get_dummy_value()

        return types.void(_a, _u, _u, _u), generate

    tagged = ptx_tile._global_load("{ .reg .b64 t; ld.relaxed.gpu.global.b64 t, [$2]; mov.b64 {$0, $1}, t; }", 8, 2)
    relaxed_word = ptx_tile._global_load("ld.relaxed.gpu.global.u32 $0, [$1];", 4, 1)
    count_up = ptx_tile._word_store("red.relaxed.gpu.global.inc.u32 [$0], $1;")

    @cuda.jit(device=True)
    def sync_block():
        cuda.syncthreads()
