"""PTX for kernels that stream tiles: asynchronous copies, shared words, integer tensor-core products; and plain twins.

Kernels that use these take *addresses*: uint64 on the device, where the launcher passes pointers, and numpy arrays in
numba's simulator, where the twins index them. So one kernel body serves both, without numba's array arguments.
Shared memory is one dynamic array of 32-bit words, named by ``shared_words``: its base address on the device.

Source of the semantics: NVIDIA PTX ISA 8.0, sections 9.7.8 (cp.async, ld, st, griddepcontrol) and 9.7.13 (mma).
"""

from __future__ import annotations

import threading

import numpy as np
from llvmlite import ir
from numba import cuda, types, uint32
from numba.core import cgutils

from datatypes.catalog import E4M3
from kernels_gpu.ptx import SIMULATED

if SIMULATED:

    @cuda.jit(device=True)
    def shared_words():
        """The dynamic shared memory of the block."""
        return cuda.shared.array(0, uint32)

    def start():
        """Let the next kernel of the stream be launched as soon as every block came here."""

    def wait_for_previous():
        """Wait until what the previous kernel of the stream wrote can be read."""

    def wait_for_previous_in_a_loop(again):
        """The same, in a loop until ``again`` (which is 0) is 0: the assembler moves nothing across a loop."""

    def place_of(address, word):
        """The place of a word in global memory, for the copies below."""
        return address, int(word)

    def copy_async_4(shared, at, place, offset, valid):
        """Start copying a word from and to ``offset`` words on, or a zero where ``valid`` (bytes) is 0."""
        address, word = place
        shared[at + offset] = address[word + offset] if valid else 0

    def copy_async_16(shared, at, place, offset):
        """Start copying four words (both places at multiples of four) from and to ``offset`` words on."""
        address, word = place
        for i in range(4):
            shared[at + offset + i] = address[word + offset + i]

    def copy_async_16_if(shared, at, place, offset, valid):
        """The same; zeros where ``valid`` (bytes) is 0, and nothing is read then."""
        address, word = place
        for i in range(4):
            shared[at + offset + i] = address[word + offset + i] if valid else 0

    def sync_some(barrier, threads):
        """Wait for the threads, a multiple of 32 of them, that meet at one of 16 barriers; the block's, simulated."""
        threading.current_thread().syncthreads()

    def commit():
        """Close this thread's group of asynchronous copies."""

    def wait_all_but(groups):
        """A device function that waits until at most ``groups`` of this thread's groups are under way."""
        return start

    def load_word(address, word):
        """A uint32 of global memory."""
        return address[word]

    def load_half(address, index):
        """Sixteen bits of global memory, as uint32."""
        return np.uint32(address.view(np.uint16)[index])

    def load_words_4(address, word):
        """Four words of global memory at a multiple of four."""
        return address[word], address[word + 1], address[word + 2], address[word + 3]

    def stream_words_1(address, word):
        """A word of global memory that is read once."""
        return (address[word],)

    def stream_words_2(address, word):
        """Two of them at a multiple of two."""
        return address[word], address[word + 1]

    stream_words_4 = load_words_4

    def store_word(address, word, bits):
        """Store a word in global memory."""
        address[word] = bits

    def store_words_4(address, word, a, b, c, d):
        """Store four words in global memory at a multiple of four."""
        address[word], address[word + 1], address[word + 2], address[word + 3] = a, b, c, d

    def store_half(address, index, bits):
        """Store the low sixteen bits."""
        address.view(np.uint16)[index] = np.uint16(bits)

    def shared_1(shared, at):
        """A word of shared memory."""
        return shared[at]

    def shared_2(shared, at):
        """Two words of shared memory at a multiple of two."""
        return shared[at], shared[at + 1]

    def shared_4(shared, at):
        """Four words of shared memory at a multiple of four."""
        return shared[at], shared[at + 1], shared[at + 2], shared[at + 3]

    def shared_half(shared, byte):
        """Sixteen bits of shared memory at an even byte."""
        return np.uint32(int(shared[byte // 4]) >> byte % 4 * 8 & 0xFFFF)

    def shared_byte(shared, byte):
        """A byte of shared memory."""
        return np.uint32(int(shared[byte // 4]) >> byte % 4 * 8 & 0xFF)

    def put_1(shared, at, value):
        """Store a word."""
        shared[at] = np.uint32(value)

    def put_2(shared, at, first, second):
        """Store two words at a multiple of two."""
        shared[at], shared[at + 1] = first, second

    def put_4(shared, at, a, b, c, d):
        """Store four words at a multiple of four."""
        shared[at], shared[at + 1], shared[at + 2], shared[at + 3] = a, b, c, d

    def put_byte(shared, byte, value):
        """Store the low eight bits."""
        shared.view(np.uint8)[byte] = np.uint8(int(value) & 0xFF)

    _E4M3 = np.array(E4M3.code_values, np.float16)

    def halves_of_e4m3(pair):
        """Two E4M3 codes in the low sixteen bits as two halves."""
        return _E4M3[[int(pair) & 0xFF, int(pair) >> 8 & 0xFF]].view(np.uint32)[0]

    def product_half(a0, a1, a2, a3, b0, b1, c):
        """c + A B for halves: mma.m16n8k16; a 16 x 16 tile A, a 16 x 8 tile B, a 16 x 8 tile c of float32."""
        words, lane = _fragments([a0, a1, a2, a3, b0, b1])
        group, part = lane // 4, lane % 4
        # [row, part, register, half]
        a = words[:, :, :4].copy().view(np.float16).reshape(8, 4, 4, 2).astype(np.float64)
        b = words[:, :, 4:].copy().view(np.float16).reshape(8, 4, 2, 2).astype(np.float64)
        sums = [(a[group, :, first::2] * b[2 * part + column]).sum() for first in range(2) for column in range(2)]
        threading.current_thread().syncthreads()
        return tuple(np.float32(old + new) for old, new in zip(c, sums, strict=True))

    def _fragments(registers):
        """Registers of a warp's lanes, ``[row or column, part, register]``, and this lane."""
        thread = threading.current_thread()
        posted = thread._manager.__dict__.setdefault("fragments", {})
        warp = thread.thread_id // 32 * 32
        posted[thread.thread_id] = np.array(registers, np.uint32)
        thread.syncthreads()
        return np.stack([posted[warp + i] for i in range(32)]).reshape(8, 4, -1), thread.thread_id % 32

    def _product(a_type, a0, a1, a2, a3, b0, b1, c):
        words, lane = _fragments([a0, a1, a2, a3, b0, b1])
        group, part = lane // 4, lane % 4
        a = words[:, :, :4].copy().view(a_type).reshape(8, 4, 4, 4).astype(np.int64)  # [row, part, register, byte]
        b = words[:, :, 4:].copy().view(np.int8).reshape(8, 4, 2, 4).astype(np.int64)
        sums = [int((a[group, :, first::2] * b[2 * part + column]).sum()) for first in range(2) for column in range(2)]
        threading.current_thread().syncthreads()
        return tuple(np.int32(old + new) for old, new in zip(c, sums, strict=True))

    def product_s8(a0, a1, a2, a3, b0, b1, c):
        """c + A B for signed bytes: mma.m16n8k32; a 16 x 32 tile A, a 32 x 8 tile B, a 16 x 8 tile c of int32."""
        return _product(np.int8, a0, a1, a2, a3, b0, b1, c)

    def product_u8(a0, a1, a2, a3, b0, b1, c):
        """The same for unsigned bytes in A."""
        return _product(np.uint8, a0, a1, a2, a3, b0, b1, c)

else:
    from numba.cuda.extending import intrinsic

    _I32, _I64, _VOID = ir.IntType(32), ir.IntType(64), ir.VoidType()
    _u, _a, _i = types.uint32, types.uint64, types.int32

    @cuda.jit(device=True)
    def shared_words():
        return _shared_base(cuda.shared.array(0, uint32))

    @intrinsic
    def _shared_base(typingctx, array):
        def generate(context, builder, sig, args):
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            address = builder.ptrtoint(data, _I64)
            text = "{ .reg .u64 t; cvta.to.shared.u64 t, $1; cvt.u32.u64 $0, t; }"
            return builder.call(ir.InlineAsm(ir.FunctionType(_I32, [_I64]), text, "=r,l", side_effect=False), [address])

        return _u(array), generate

    def _nullary(text):
        @intrinsic
        def one(typingctx):
            def generate(context, builder, sig, args):
                builder.call(ir.InlineAsm(ir.FunctionType(_VOID, []), text, "~{memory}", side_effect=True), [])
                return context.get_dummy_value()

            return types.void(), generate

        return one

    start = _nullary("griddepcontrol.launch_dependents;")
    wait_for_previous = _nullary("griddepcontrol.wait;")
    commit = _nullary("cp.async.commit_group;")

    @intrinsic
    def sync_some(typingctx, barrier, threads):
        def generate(context, builder, sig, args):
            function_type = ir.FunctionType(_VOID, [_I32] * 2)
            asm = ir.InlineAsm(function_type, "bar.sync $0, $1;", "r,r,~{memory}", side_effect=True)
            builder.call(asm, args)
            return context.get_dummy_value()

        return types.void(_u, _u), generate

    @intrinsic
    def wait_for_previous_in_a_loop(typingctx, again):
        def generate(context, builder, sig, args):
            text = "{ .reg .pred p; again: griddepcontrol.wait; setp.ne.u32 p, $0, 0; @p bra again; }"
            function_type = ir.FunctionType(_VOID, [_I32])
            builder.call(ir.InlineAsm(function_type, text, "r,~{memory}", side_effect=True), args)
            return context.get_dummy_value()

        return types.void(_u), generate

    def wait_all_but(groups):
        return _nullary(f"cp.async.wait_group {groups};")

    def _at(builder, base, index, size):
        """``base + index * size`` for a 64-bit base and a 32-bit unsigned index."""
        offset = builder.mul(builder.zext(index, _I64), ir.Constant(_I64, size))
        return builder.add(base, offset)

    def _in_shared(builder, base, index, size):
        return builder.add(base, builder.mul(index, ir.Constant(_I32, size)))

    @intrinsic
    def place_of(typingctx, address, word):
        def generate(context, builder, sig, args):
            return _at(builder, args[0], args[1], 4)

        return _a(_a, _u), generate

    def _targets(builder, args):
        """Shared and global address of a copy, both moved on by ``offset`` words."""
        moved = builder.mul(args[3], ir.Constant(_I32, 4))
        target = builder.add(_in_shared(builder, args[0], args[1], 4), moved)
        return [target, builder.add(args[2], builder.zext(moved, _I64))]

    def _copy_if(text):
        @intrinsic
        def one(typingctx, shared, at, place, offset, valid):
            def generate(context, builder, sig, args):
                function_type = ir.FunctionType(_VOID, [_I32, _I64, _I32])
                asm = ir.InlineAsm(function_type, text, "r,l,r,~{memory}", side_effect=True)
                builder.call(asm, [*_targets(builder, args), args[4]])
                return context.get_dummy_value()

            return types.void(_u, _u, _a, _u, _u), generate

        return one

    copy_async_4 = _copy_if("cp.async.ca.shared.global [$0], [$1], 4, $2;")
    copy_async_16_if = _copy_if("cp.async.cg.shared.global.L2::256B [$0], [$1], 16, $2;")

    @intrinsic
    def copy_async_16(typingctx, shared, at, place, offset):
        def generate(context, builder, sig, args):
            text = "cp.async.cg.shared.global.L2::256B [$0], [$1], 16;"
            asm = ir.InlineAsm(ir.FunctionType(_VOID, [_I32, _I64]), text, "r,l,~{memory}", side_effect=True)
            builder.call(asm, _targets(builder, args))
            return context.get_dummy_value()

        return types.void(_u, _u, _a, _u), generate

    def _global_load(text, size, count):
        @intrinsic
        def one(typingctx, address, index):
            result = _u if count == 1 else types.UniTuple(_u, count)

            def generate(context, builder, sig, args):
                place = _at(builder, args[0], args[1], size)
                return _loaded(builder, text, place, _I64, "l", count)

            return result(_a, _u), generate

        return one

    def _loaded(builder, text, place, kind, letter, count):
        result = _I32 if count == 1 else ir.LiteralStructType([_I32] * count)
        constraints = ",".join(["=r"] * count + [letter, "~{memory}"])
        asm = ir.InlineAsm(ir.FunctionType(result, [kind]), text, constraints, side_effect=True)
        made = builder.call(asm, [place])
        if count == 1:
            return made
        return cgutils.pack_array(builder, [builder.extract_value(made, i) for i in range(count)])

    load_word = _global_load("ld.global.u32 $0, [$1];", 4, 1)
    load_half = _global_load("{ .reg .u16 t; ld.global.u16 t, [$1]; cvt.u32.u16 $0, t; }", 2, 1)
    load_words_4 = _global_load("ld.global.v4.u32 {$0, $1, $2, $3}, [$4];", 4, 4)

    _stream_word = _global_load("ld.global.nc.L1::no_allocate.u32 $0, [$1];", 4, 1)
    stream_words_2 = _global_load("ld.global.nc.L1::no_allocate.v2.u32 {$0, $1}, [$2];", 4, 2)
    stream_words_4 = _global_load("ld.global.nc.L1::no_allocate.v4.u32 {$0, $1, $2, $3}, [$4];", 4, 4)

    @cuda.jit(device=True)
    def stream_words_1(address, word):
        return (_stream_word(address, word),)

    def _word_store(text):
        @intrinsic
        def one(typingctx, address, word, bits):
            def generate(context, builder, sig, args):
                asm = ir.InlineAsm(ir.FunctionType(_VOID, [_I64, _I32]), text, "l,r,~{memory}", side_effect=True)
                builder.call(asm, [_at(builder, args[0], args[1], 4), args[2]])
                return context.get_dummy_value()

            return types.void(_a, _u, _u), generate

        return one

    store_word = _word_store("st.global.u32 [$0], $1;")

    @intrinsic
    def store_words_4(typingctx, address, word, a, b, c, d):
        def generate(context, builder, sig, args):
            function_type = ir.FunctionType(_VOID, [_I64, *[_I32] * 4])
            text = "st.global.v4.u32 [$0], {$1, $2, $3, $4};"
            asm = ir.InlineAsm(function_type, text, "l,r,r,r,r,~{memory}", side_effect=True)
            builder.call(asm, [_at(builder, args[0], args[1], 4), *args[2:]])
            return context.get_dummy_value()

        return types.void(_a, *[_u] * 5), generate

    @intrinsic
    def store_half(typingctx, address, index, bits):
        def generate(context, builder, sig, args):
            place = _at(builder, args[0], args[1], 2)
            text = "{ .reg .u16 t; cvt.u16.u32 t, $1; st.global.u16 [$0], t; }"
            function_type = ir.FunctionType(_VOID, [_I64, _I32])
            builder.call(ir.InlineAsm(function_type, text, "l,r,~{memory}", side_effect=True), [place, args[2]])
            return context.get_dummy_value()

        return types.void(_a, _u, _u), generate

    def _shared_load(text, size, count):
        @intrinsic
        def one(typingctx, shared, at):
            result = _u if count == 1 else types.UniTuple(_u, count)

            def generate(context, builder, sig, args):
                return _loaded(builder, text, _in_shared(builder, args[0], args[1], size), _I32, "r", count)

            return result(_u, _u), generate

        return one

    shared_1 = _shared_load("ld.shared.u32 $0, [$1];", 4, 1)
    shared_2 = _shared_load("ld.shared.v2.u32 {$0, $1}, [$2];", 4, 2)
    shared_4 = _shared_load("ld.shared.v4.u32 {$0, $1, $2, $3}, [$4];", 4, 4)
    shared_half = _shared_load("{ .reg .u16 t; ld.shared.u16 t, [$1]; cvt.u32.u16 $0, t; }", 1, 1)
    shared_byte = _shared_load("{ .reg .u16 t; ld.shared.u8 t, [$1]; cvt.u32.u16 $0, t; }", 1, 1)

    @intrinsic
    def put_1(typingctx, shared, at, value):
        def generate(context, builder, sig, args):
            place = _in_shared(builder, args[0], args[1], 4)
            asm = ir.InlineAsm(
                ir.FunctionType(_VOID, [_I32] * 2), "st.shared.u32 [$0], $1;", "r,r,~{memory}", side_effect=True
            )
            builder.call(asm, [place, args[2]])
            return context.get_dummy_value()

        return types.void(_u, _u, _u), generate

    @intrinsic
    def put_2(typingctx, shared, at, first, second):
        def generate(context, builder, sig, args):
            place = _in_shared(builder, args[0], args[1], 4)
            text = "st.shared.v2.u32 [$0], {$1, $2};"
            asm = ir.InlineAsm(ir.FunctionType(_VOID, [_I32] * 3), text, "r,r,r,~{memory}", side_effect=True)
            builder.call(asm, [place, *args[2:]])
            return context.get_dummy_value()

        return types.void(_u, _u, _u, _u), generate

    @intrinsic
    def put_4(typingctx, shared, at, a, b, c, d):
        def generate(context, builder, sig, args):
            place = _in_shared(builder, args[0], args[1], 4)
            text = "st.shared.v4.u32 [$0], {$1, $2, $3, $4};"
            function_type = ir.FunctionType(_VOID, [_I32] * 5)
            asm = ir.InlineAsm(function_type, text, "r,r,r,r,r,~{memory}", side_effect=True)
            builder.call(asm, [place, *args[2:]])
            return context.get_dummy_value()

        return types.void(_u, _u, _u, _u, _u, _u), generate

    @intrinsic
    def put_byte(typingctx, shared, byte, value):
        def generate(context, builder, sig, args):
            place = builder.add(args[0], args[1])
            text = "{ .reg .u16 t; cvt.u16.u32 t, $1; st.shared.u8 [$0], t; }"
            asm = ir.InlineAsm(ir.FunctionType(_VOID, [_I32] * 2), text, "r,r,~{memory}", side_effect=True)
            builder.call(asm, [place, args[2]])
            return context.get_dummy_value()

        return types.void(_u, _u, _u), generate

    @intrinsic
    def halves_of_e4m3(typingctx, pair):
        def generate(context, builder, sig, args):
            text = "{ .reg .b16 l, h; mov.b32 {l, h}, $1; cvt.rn.f16x2.e4m3x2 $0, l; }"
            asm = ir.InlineAsm(ir.FunctionType(_I32, [_I32]), text, "=r,r", side_effect=False)
            return builder.call(asm, args)

        return _u(_u), generate

    def _mma(shape, kinds, result):
        """``kinds``: of the result, A, B and c; ``result``: numba type of both the result and c."""
        text = (
            f"mma.sync.aligned.{shape}.row.col.{kinds} "
            "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
        )
        kind, letter = (_I32, "r") if result is _i else (ir.FloatType(), "f")

        @intrinsic
        def one(typingctx, a0, a1, a2, a3, b0, b1, c):
            four = types.UniTuple(result, 4)

            def generate(context, builder, sig, args):
                old = [builder.extract_value(args[6], i) for i in range(4)]
                function_type = ir.FunctionType(ir.LiteralStructType([kind] * 4), [_I32] * 6 + [kind] * 4)
                constraints = ",".join([f"={letter}"] * 4 + ["r"] * 6 + [letter] * 4)
                made = builder.call(
                    ir.InlineAsm(function_type, text, constraints, side_effect=False), [*args[:6], *old]
                )
                return cgutils.pack_array(builder, [builder.extract_value(made, i) for i in range(4)])

            return four(*[_u] * 6, four), generate

        return one

    product_s8, product_u8 = _mma("m16n8k32", "s32.s8.s8.s32", _i), _mma("m16n8k32", "s32.u8.s8.s32", _i)
    product_half = _mma("m16n8k16", "f32.f16.f16.f32", types.float32)
