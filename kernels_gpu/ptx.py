"""PTX instructions that Python cannot say, each with a plain twin that numba's CUDA simulator runs.

Every arithmetic instruction is spelled out (``mul.rn``, ``fma.rn`` ...) so that no compiler contracts or reorders it:
the kernels give the same bits on every GPU, and the twins the same bits on a CPU. The twins compute in float64 and
round once; that equals the instruction except in double-rounding cases of ``fma``, 2**-29 of the inputs, none of which
the kernels' exact steps (a power of two times a float32, plus a float32) can meet.

Source of the semantics: NVIDIA PTX ISA 8.0, section 9.7. The twins leave out NaN payloads.
"""

from __future__ import annotations

import threading

import numpy as np
from llvmlite import ir
from numba import config, cuda, types
from numba.core import cgutils

SIMULATED = bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]  # numba sets it when it is imported

_F32, _I16, _I32, _I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_LLVM_TYPES = {
    types.float32: (_F32, "f"),
    types.uint32: (_I32, "r"),
    types.int32: (_I32, "r"),
    types.uint64: (_I64, "l"),
}

if SIMULATED:
    np.seterr(over="ignore", invalid="ignore", divide="ignore")

    def mul(a, b):
        """a * b, to nearest even."""
        return np.float32(np.float64(a) * np.float64(b))

    def add(a, b):
        """a + b, to nearest even."""
        return np.float32(np.float32(a) + np.float32(b))

    def sub(a, b):
        """a - b, to nearest even."""
        return np.float32(np.float32(a) - np.float32(b))

    def div(a, b):
        """a / b, to nearest even."""
        return np.float32(np.float32(a) / np.float32(b))

    def reciprocal(a):
        """1 / a, to about a unit in the last place."""
        return np.float32(np.float32(1) / np.float32(a))

    def reciprocal_root(a):
        """1 / sqrt(a), to about two units in the last place; infinity for 0."""
        return np.float32(1 / np.sqrt(np.float64(a)))

    def fma(a, b, c):
        """a * b + c, rounded once."""
        return np.float32(np.float64(a) * np.float64(b) + np.float64(c))

    def add_up(a, b):
        """a + b, rounded towards plus infinity."""
        exact = np.float64(a) + np.float64(b)
        near = np.float32(exact)
        return near if np.float64(near) >= exact or np.isnan(exact) else np.nextafter(near, np.float32(np.inf))

    def add_saturated(a, b):
        """a + b cut to 0 .. 1; NaN becomes 0."""
        total = np.float32(np.float32(a) + np.float32(b))
        return np.float32(0) if np.isnan(total) else np.float32(min(max(total, 0.0), 1.0))

    def fma_saturated(a, b, c):
        """a * b + c cut to 0 .. 1; NaN becomes 0."""
        total = fma(a, b, c)
        return np.float32(0) if np.isnan(total) else np.float32(min(max(total, 0.0), 1.0))

    def tent(u, centre):
        """max(0, 1/2 - |u - centre|)."""
        return add_saturated(np.float32(0.5), -np.abs(sub(u, centre)))

    def distance_to_level(u, significand):
        """u less the nearest multiple of the ulp of ``max(u, 1) * significand``, for u >= 0 (see quantize_bitmod)."""
        return distance_to_level_up_to(u, significand, np.float32(np.inf))

    def distance_to_level_up_to(u, significand, largest):
        """The same, with no level above ``largest``."""
        m = maximum(u, np.float32(1 + 2.0**-21))
        return sub(u, minimum(fma(m, significand, -fma(m, significand, -u)), largest))

    def absolute(a):
        """|a|."""
        return np.abs(np.float32(a))

    def maximum(a, b):
        """The larger; the other one where one is NaN."""
        return np.fmax(np.float32(a), np.float32(b))

    def minimum(a, b):
        """The smaller; the other one where one is NaN."""
        return np.fmin(np.float32(a), np.float32(b))

    def maximum_or_nan(a, b):
        """The larger; NaN where either is NaN."""
        return np.maximum(np.float32(a), np.float32(b))

    def round_even(a):
        """Nearest integer as float32, halves to even."""
        return np.rint(np.float32(a))

    def float_bits(a):
        """The 32 bits of a float32, uint32."""
        return np.float32(a).view(np.uint32)

    def bits_float(a):
        """The float32 of 32 bits."""
        return np.uint32(a).view(np.float32)

    def to_half(a):
        """The 16 bits of a float32 rounded to half precision, uint32."""
        return np.uint32(np.float32(a).astype(np.float16).view(np.uint16))

    def from_half(a):
        """The float32 value of half-precision bits in the low 16 bits of a uint32."""
        return np.float32(np.uint16(int(a) & 0xFFFF).view(np.float16))

    def and_or(a, b, c):
        """(a & b) | c."""
        return np.uint32((np.uint32(a) & np.uint32(b)) | np.uint32(c))

    def select_bits(a, b, mask):
        """Bits of ``a`` where ``mask`` has ones, of ``b`` elsewhere."""
        return np.uint32((np.uint32(a) & np.uint32(mask)) | (np.uint32(b) & ~np.uint32(mask)))

    def to_bfloat(a):
        """The 16 bits of a float32 rounded to bfloat16, uint32."""
        bits = int(np.float32(a).view(np.uint32))
        if np.isnan(a):
            return np.uint32(0x7FFF)
        return np.uint32((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)

    def pick_bytes(low, high, selector):
        """Four of the eight bytes of ``high`` and ``low``, chosen by the low nibbles of ``selector`` (prmt).

        Bit 3 of a nibble asks for eight copies of the chosen byte's top bit.
        """
        both, made = int(high) << 32 | int(low), 0
        for i in range(4):
            nibble = int(selector) >> 4 * i & 0xF
            byte = both >> 8 * (nibble & 7) & 0xFF
            made |= (byte if nibble < 8 else 0xFF * (byte >> 7)) << 8 * i
        return np.uint32(made)

    def upper_half(a):
        """The high 16 bits, by an integer dot product: the pipe of shifts is that of permutations, this one is not."""
        return np.uint32(np.uint32(a) >> np.uint32(16))

    def turned_half(a):
        """All bits of the lower half turned over; the upper half is of no use."""
        return np.uint32(int(a) * 0xFFFF + 0xFFFF & 0xFFFFFFFF)

    def maximum_or_nan_halves(a, b):
        """The larger of the low and of the high half-precision numbers of two words; NaN where either is NaN."""
        low, high = (np.maximum(from_half(int(a) >> s), from_half(int(b) >> s)) for s in (0, 16))
        return np.uint32(to_half(low) | to_half(high) << np.uint32(16))

    def maximum_or_nan_bfloats(a, b):
        """The larger of the low and of the high bfloat16 numbers of two words; NaN where either is NaN."""
        low = np.maximum(bits_float(int(a) << 16 & 0xFFFF0000), bits_float(int(b) << 16 & 0xFFFF0000))
        high = np.maximum(bits_float(int(a) & 0xFFFF0000), bits_float(int(b) & 0xFFFF0000))
        return np.uint32((float_bits(low) >> np.uint32(16)) | (float_bits(high) & np.uint32(0xFFFF0000)))

    def signed(a):
        """The int32 of 32 bits."""
        return np.uint32(a).view(np.int32)

    def unsigned(a):
        """The uint32 of 32 bits."""
        return np.int32(a).view(np.uint32)

    def opaque(a):
        """``a``, through an instruction that the compiler does not look into."""
        return a

    def load4(array, index):
        """Four consecutive uint32 at an index that is a multiple of 4 (one 16-byte load)."""
        return array[index], array[index + 1], array[index + 2], array[index + 3]

    def store4(array, index, a, b, c, d):
        """Four consecutive uint32 at an index that is a multiple of 4 (one 16-byte store)."""
        array[index], array[index + 1], array[index + 2], array[index + 3] = a, b, c, d

    def shuffle_xor(value, mask):
        """``value`` of the lane ``lane ^ mask`` (every thread of the block must take part)."""
        thread = threading.current_thread()
        mailbox = thread._manager.__dict__.setdefault("shuffled", {})
        mailbox[thread.thread_id] = value
        thread.syncthreads()
        received = mailbox[thread.thread_id ^ mask]
        thread.syncthreads()
        return received

    def shuffle(value, lane):
        """``value``, a uint32, of a lane of the warp (every thread of the block must take part)."""
        thread = threading.current_thread()
        return shuffle_xor(value, (thread.thread_id % 32) ^ int(lane))

    def exp2(a):
        """2**a, to about two units in the last place; 0 for minus infinity."""
        with np.errstate(over="ignore"):  # settings are a thread's own
            return np.float32(np.exp2(np.float64(a)))

    def sync_warp():
        """A barrier (here of the whole block: every thread must take part)."""
        threading.current_thread().syncthreads()

else:
    from numba.cuda.extending import intrinsic

    def _instruction(text, result, *operands, side_effect=False):
        """An intrinsic that is one PTX instruction; ``text`` names the result $0 and the operands $1, $2 ..."""
        llvm_result, letter = _LLVM_TYPES[result]
        constraints = ",".join([f"={letter}", *(_LLVM_TYPES[t][1] for t in operands)])
        function_type = ir.FunctionType(llvm_result, [_LLVM_TYPES[t][0] for t in operands])
        signature = result(*operands)

        def generate(context, builder, sig, args):
            return builder.call(ir.InlineAsm(function_type, text, constraints, side_effect=side_effect), args)

        if len(operands) == 1:

            @intrinsic
            def one(typingctx, a):
                return signature, generate

            return one
        if len(operands) == 2:

            @intrinsic
            def two(typingctx, a, b):
                return signature, generate

            return two

        @intrinsic
        def three(typingctx, a, b, c):
            return signature, generate

        return three

    _f, _u = types.float32, types.uint32
    mul = _instruction("mul.rn.f32 $0, $1, $2;", _f, _f, _f)
    add = _instruction("add.rn.f32 $0, $1, $2;", _f, _f, _f)
    sub = _instruction("sub.rn.f32 $0, $1, $2;", _f, _f, _f)
    div = _instruction("div.rn.f32 $0, $1, $2;", _f, _f, _f)
    reciprocal = _instruction("rcp.approx.f32 $0, $1;", _f, _f)
    reciprocal_root = _instruction("rsqrt.approx.f32 $0, $1;", _f, _f)
    exp2 = _instruction("ex2.approx.f32 $0, $1;", _f, _f)
    fma = _instruction("fma.rn.f32 $0, $1, $2, $3;", _f, _f, _f, _f)
    add_up = _instruction("add.rp.f32 $0, $1, $2;", _f, _f, _f)
    add_saturated = _instruction("add.rn.sat.f32 $0, $1, $2;", _f, _f, _f)
    fma_saturated = _instruction("fma.rn.sat.f32 $0, $1, $2, $3;", _f, _f, _f, _f)
    tent = _instruction(
        "{ .reg .f32 t; sub.rn.f32 t, $1, $2; abs.f32 t, t; neg.f32 t, t; add.rn.sat.f32 $0, t, 0f3F000000; }",
        _f,
        _f,
        _f,
    )
    _level = (
        "{ .reg .f32 m, t; max.f32 m, $1, 0f3F800004; neg.f32 t, $1; fma.rn.f32 t, m, $2, t; neg.f32 t, t; "
        "fma.rn.f32 t, m, $2, t; "  # 0f3F800004 is 1 + 2**-21
    )
    distance_to_level = _instruction(_level + "sub.rn.f32 $0, $1, t; }", _f, _f, _f)
    distance_to_level_up_to = _instruction(_level + "min.f32 t, t, $3; sub.rn.f32 $0, $1, t; }", _f, _f, _f, _f)
    absolute = _instruction("abs.f32 $0, $1;", _f, _f)
    maximum = _instruction("max.f32 $0, $1, $2;", _f, _f, _f)
    minimum = _instruction("min.f32 $0, $1, $2;", _f, _f, _f)
    maximum_or_nan = _instruction("max.NaN.f32 $0, $1, $2;", _f, _f, _f)
    round_even = _instruction("cvt.rni.f32.f32 $0, $1;", _f, _f)
    float_bits = _instruction("mov.b32 $0, $1;", _u, _f)
    bits_float = _instruction("mov.b32 $0, $1;", _f, _u)
    and_or = _instruction("lop3.b32 $0, $1, $2, $3, 0xEA;", _u, _u, _u, _u)  # 0xEA: (0xF0 & 0xCC) | 0xAA
    signed = _instruction("mov.b32 $0, $1;", types.int32, _u)
    unsigned = _instruction("mov.b32 $0, $1;", _u, types.int32)
    select_bits = _instruction("lop3.b32 $0, $1, $2, $3, 0xE4;", _u, _u, _u, _u)  # (0xF0 & 0xAA) | (0xCC & ~0xAA)
    to_bfloat = _instruction("{ .reg .b16 h; cvt.rn.bf16.f32 h, $1; cvt.u32.u16 $0, h; }", _u, _f)
    pick_bytes = _instruction("prmt.b32 $0, $1, $2, $3;", _u, _u, _u, _u)
    # low half times 0, high half times 1; a plain shift shares its half-wide pipe with prmt and lop3
    upper_half = _instruction("dp2a.lo.u32.u32 $0, $1, 256, 0;", _u, _u)
    # times -1, less 1, modulo 2**16: on the pipe of multiplications, where lop3 would share prmt's (a multiplier of -1
    # becomes a sum on that pipe)
    turned_half = _instruction("mad.lo.u32 $0, $1, 0xFFFF, 0xFFFF;", _u, _u)
    maximum_or_nan_halves = _instruction("max.NaN.f16x2 $0, $1, $2;", _u, _u, _u)
    maximum_or_nan_bfloats = _instruction("max.NaN.bf16x2 $0, $1, $2;", _u, _u, _u)
    opaque = _instruction("mov.b32 $0, $1;", _u, _u, side_effect=True)
    to_half = _instruction("{ .reg .b16 h; cvt.rn.f16.f32 h, $1; cvt.u32.u16 $0, h; }", _u, _f)
    from_half = _instruction("{ .reg .b16 l, h; mov.b32 {l, h}, $1; cvt.f32.f16 $0, l; }", _f, _u)

    @intrinsic
    def load4(typingctx, array, index):
        signature = types.UniTuple(types.uint32, 4)(array, types.int64)

        def generate(context, builder, sig, args):
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            address = builder.ptrtoint(builder.gep(data, [args[1]]), _I64)
            function_type = ir.FunctionType(ir.LiteralStructType([_I32] * 4), [_I64])
            text = "ld.global.nc.L1::no_allocate.v4.u32 {$0, $1, $2, $3}, [$4];"
            loaded = builder.call(ir.InlineAsm(function_type, text, "=r,=r,=r,=r,l", side_effect=True), [address])
            return cgutils.pack_array(builder, [builder.extract_value(loaded, i) for i in range(4)])

        return signature, generate

    @intrinsic
    def store4(typingctx, array, index, a, b, c, d):
        signature = types.void(array, types.int64, *[types.uint32] * 4)

        def generate(context, builder, sig, args):
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            address = builder.ptrtoint(builder.gep(data, [args[1]]), _I64)
            function_type = ir.FunctionType(ir.VoidType(), [_I64, *[_I32] * 4])
            text = "st.global.v4.u32 [$0], {$1, $2, $3, $4};"
            builder.call(ir.InlineAsm(function_type, text, "l,r,r,r,r", side_effect=True), [address, *args[2:]])
            return context.get_dummy_value()

        return signature, generate

    @cuda.jit(device=True)
    def shuffle_xor(value, mask):
        """``value`` of the lane ``lane ^ mask``."""
        return cuda.shfl_xor_sync(0xFFFFFFFF, value, mask)

    @cuda.jit(device=True)
    def shuffle(value, lane):
        """``value``, a uint32, of a lane of the warp."""
        return unsigned(cuda.shfl_sync(0xFFFFFFFF, signed(value), lane))

    @cuda.jit(device=True)
    def sync_warp():
        """A barrier of the warp's lanes, for shared memory too."""
        cuda.syncwarp()
