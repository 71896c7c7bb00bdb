"""Device functions of the GEMV for one token whose lanes have groups of 32 or 16 inputs: sums of a block, or of half.

As in ``gemv_gathered`` a lane takes four blocks of 32 codes next to one another; here each ends a group, or two. A
lane's four or eight scales of a row are one word or two where they are bytes and its 128 inputs are whole groups: one
load, one look for NaN, and few instructions for each. E8M0's is an exponent in place; of UE4M3's, two become halves at
once, 2**-8 times their value, which is made up for once in a stage. Other scales are read one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import cuda, float32, int32, uint32

from hwmodel.units import BYTE_BITS
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.dequantize_scales import BYTE_SCALES, make_scale_of_bits
from kernels_gpu.gemv_fields import RowPair
from kernels_gpu.gemv_plan import BLOCK, RUN, ScaleKind
from kernels_gpu.gemv_planes import make_load_inputs
from kernels_gpu.gemv_spec import BLOCKS, GemvSpec

UE4M3_AS_HALF = 2.0**8  # the bias of halves is 15, that of E4M3 is 7
NAN_BITS = 0x7FC00000


@dataclass(frozen=True)
class ShortGroups:
    """Device functions of a stage; ``steps`` are words that ``begin`` gave, ``sums`` float32 of rows g and g + 8.

    Args:
        begin: ``(shared, upper_scale_at, lower_scale_at, lane, run, y) -> steps, sums``.
        add: for each block in the order in which a lane takes them ``(shared, at, row0, lane, first, run,
            upper_scale_at, lower_scale_at, a, b, u, v, source, steps, sums) -> sums``, with its products; ``a`` to
            ``v`` as ``accumulate`` takes them, ``source``: word of its inputs.
        end: ``(shared, run, sums, y)``, sums to ``y``.
    """

    begin: Any
    add: tuple[Any, ...]
    end: Any


def in_words(spec: GemvSpec) -> bool:
    """Whether a lane's scales are whole words: bytes, of whole groups of its inputs."""
    return spec.plan.scale in BYTE_SCALES and spec.groups % (RUN // spec.plan.group) == 0


def make_byte_of_word(kind: ScaleKind, index: int) -> Any:
    """Device function ``word -> float32``: the scale in byte ``index``, if it is no NaN; UE4M3's times 2**-8."""
    if kind is ScaleKind.E8M0:
        left = 23 - BYTE_BITS * index

        @cuda.jit(device=True)
        def scale(word):
            moved = uint32(word << uint32(left)) if left >= 0 else uint32(word >> uint32(-left))
            exponent = uint32(moved & uint32(0x7F800000))
            # 2**-127 is subnormal in float32: half the smallest other
            return ptx.bits_float(exponent if exponent > uint32(0) else uint32(0x00400000))
    elif kind is ScaleKind.UE4M3:
        selector = 0x1404 if index < 2 else 0x3424  # bytes 0 and 1, or 2 and 3, each above a byte of zeros

        @cuda.jit(device=True)
        def scale(word):
            pair = uint32((ptx.pick_bytes(word, uint32(0), uint32(selector)) >> uint32(1)) & uint32(0x3F803F80))
            return ptx.from_half(uint32(pair >> uint32(16)) if index % 2 else pair)
    else:
        scale_of_bits = make_scale_of_bits(kind)

        @cuda.jit(device=True)
        def scale(word):
            return scale_of_bits(uint32((word >> uint32(BYTE_BITS * index)) & uint32(0xFF)))

    return scale


def make_holds_nan(kind: ScaleKind) -> Any:
    """Device function: whether a byte of a word is the scale's NaN (E8M0's is 255, UE4M3's 127 without the sign)."""
    others = 0xFFFFFFFF if kind is ScaleKind.E8M0 else 0x7F7F7F7F

    @cuda.jit(device=True)
    def holds_nan(word):
        if kind is ScaleKind.UINT8:
            return False
        zeros = uint32(~word & uint32(others))  # a byte of zeros for a NaN; the lowest such byte borrows
        return uint32((zeros - uint32(0x01010101)) & ~zeros & uint32(0x80808080)) != uint32(0)

    return holds_nan


def make_short_groups(spec: GemvSpec, row_pair: RowPair, accumulate: Any, no_sums: Any, finish: Any) -> ShortGroups:
    """The device functions of one kernel.

    Args:
        spec: of the kernel.
        row_pair: what goes with groups, where scales are read one by one; zero points.
        accumulate, no_sums, finish: as in ``gemv_decode.Decoders``.
    """
    plan, words, kind = spec.plan, in_words(spec), spec.plan.scale or ScaleKind.FP32
    halves = 2 if plan.group == BLOCK // 2 else 1
    as_halves = words and kind is ScaleKind.UE4M3
    scales_of_x, turned = spec.input_scales_at, spec.turned
    holds_nan = make_holds_nan(kind)

    @cuda.jit(device=True)
    def x_step(shared, run):
        return ptx.bits_float(ptx_tile.shared_1(shared, uint32(uint32(scales_of_x) + run)))

    @cuda.jit(device=True)
    def in_order(first, second, turn):
        """A row's scales by the order in which a lane takes its blocks: of each two the second first if ``turn``."""
        if not turned:
            return first, second
        if halves == 1:
            return ptx.pick_bytes(first, first, uint32(0x2301) if turn else uint32(0x3210)), second
        order = uint32(0x1032) if turn else uint32(0x3210)
        return ptx.pick_bytes(first, first, order), ptx.pick_bytes(second, second, order)

    @cuda.jit(device=True)
    def row_words(shared, scale_at, lane):
        """A lane's scales of a row, in its order, and whether one is NaN."""
        c = uint32(lane & uint32(3))
        at, turn = uint32((scale_at >> uint32(2)) + c * uint32(halves)), c > uint32(1)
        if halves == 1:
            word = ptx_tile.shared_1(shared, at)
            nan = holds_nan(word)
            first, second = in_order(word, word, turn)
        else:
            pair = ptx_tile.shared_2(shared, at)
            nan = holds_nan(pair[0]) or holds_nan(pair[1])
            first, second = in_order(pair[0], pair[1], turn)
        return first, second, nan

    @cuda.jit(device=True)
    def begin(shared, upper_scale_at, lower_scale_at, lane, run, y):
        zero = uint32(0)
        if not words:
            return (zero, zero, zero, zero), (y[0], y[1])
        first, second, nan = row_words(shared, upper_scale_at, lane)
        upper = float32(0) if as_halves else y[0]
        if nan:
            upper = ptx.bits_float(uint32(NAN_BITS))
        third, fourth, nan = row_words(shared, lower_scale_at, lane)
        lower = float32(0) if as_halves else y[1]
        if nan:
            lower = ptx.bits_float(uint32(NAN_BITS))
        return (first, second, third, fourth), (upper, lower)

    close = [make_close(spec, row_pair, finish, index) for index in range(BLOCKS * halves)]
    load_inputs = make_load_inputs(plan.halves)

    def make_add(block: int) -> Any:
        close_first, close_second = close[block * halves], close[block * halves + halves - 1]

        @cuda.jit(device=True)
        def add(
            shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, a, b, u, v, source, steps, sums
        ):  # fmt: skip
            inputs = load_inputs(shared, source)
            made = accumulate(a, b, u, v, inputs, 0, no_sums())
            sums = close_first(shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, steps, made, sums)
            if halves == 2:
                made = accumulate(a, b, u, v, inputs, 1, no_sums())
                sums = close_second(
                    shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, steps, made, sums
                )
            return sums

        return add

    whole, k = spec.whole_stages or not words, spec.k  # groups of their own steps are looked at one by one

    @cuda.jit(device=True)
    def end(shared, run, sums, y):
        upper, lower = sums
        if as_halves:
            step = ptx.mul(x_step(shared, run), float32(UE4M3_AS_HALF))
            upper, lower = ptx.fma(upper, step, y[0]), ptx.fma(lower, step, y[1])
        if whole or run * uint32(RUN) < uint32(k):
            y[0], y[1] = upper, lower

    return ShortGroups(begin, tuple(make_add(block) for block in range(BLOCKS)), end)


def make_close(spec: GemvSpec, row_pair: RowPair, finish: Any, index: int) -> Any:
    """Device function that adds a group's products to the sums; the group is the lane's one number ``index``."""
    plan, words, kind, k = spec.plan, in_words(spec), spec.plan.scale or ScaleKind.FP32, spec.k
    halves = 2 if plan.group == BLOCK // 2 else 1
    block, half, group = index // halves, index % halves, plan.group
    scales_of_x, sums_of_x, sums_per_run = spec.input_scales_at, spec.input_sums_at, spec.sums_per_run
    zero_step, whole, turned = plan.zero_step, spec.whole_stages or words, spec.turned
    as_halves = words and kind is ScaleKind.UE4M3
    in_second, byte = index >= 4, make_byte_of_word(kind, index % 4)
    steps_of_rows, zeros_of_rows = row_pair.steps, row_pair.zeros

    @cuda.jit(device=True)
    def close(shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, steps, made, sums):
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
        piece = uint32(block)
        if turned:
            piece = uint32(piece ^ uint32(c >> uint32(1)))
        piece = uint32(piece * uint32(halves) + uint32(half))
        field = uint32(run * uint32(RUN) // uint32(group) - first + piece)
        if words:
            upper_step = byte(steps[1] if in_second else steps[0])
            lower_step = byte(steps[3] if in_second else steps[2])
        else:
            upper_step, lower_step = steps_of_rows(shared, upper_scale_at, lower_scale_at, field)
        upper_zero, lower_zero = zeros_of_rows(shared, at, upper, lower, g, first, field)
        zero_sum = int32(0)
        if sums_per_run > 0:
            found = ptx_tile.shared_1(shared, uint32(uint32(sums_of_x) + run * uint32(sums_per_run) + piece))
            zero_sum = int32(ptx.signed(found) * int32(zero_step))
        upper_sum, lower_sum = finish(made, int32(int32(upper_zero) * zero_sum), int32(int32(lower_zero) * zero_sum))
        if not as_halves:
            x_step = ptx.bits_float(ptx_tile.shared_1(shared, uint32(uint32(scales_of_x) + run)))
            upper_step, lower_step = ptx.mul(upper_step, x_step), ptx.mul(lower_step, x_step)
        added = ptx.fma(upper_step, upper_sum, sums[0]), ptx.fma(lower_step, lower_sum, sums[1])
        if whole or run * uint32(RUN) + piece * uint32(group) < uint32(k):
            return added
        return sums

    return close


def make_short_stage(spec: GemvSpec, short: ShortGroups, row_pair: RowPair, load_block: Any, load_four: Any) -> Any:
    """Device function that adds the products of a stage to ``y``, as ``gemv_gathered.make_step_stage``."""
    bits, pitch, turned = spec.plan.bits, spec.pitch, spec.turned
    two, three = 2 * bits, 3 * bits
    begin, (add0, add1, add2, add3), end = short.begin, short.add, short.end
    lane_places, tables_of_rows = make_lane_places(spec), row_pair.tables

    @cuda.jit(device=True)
    def short_stage(
        shared, stage, first, at, row0, lane, upper_scale_at, lower_scale_at, upper_set, lower_set, own_tables, y,
    ):  # fmt: skip
        g = uint32(lane >> uint32(2))
        run, even, odd, even_source, odd_source, step = lane_places(stage, at, lane)
        upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
        u, v = tables_of_rows(
            shared, at, upper, lower, g, first, uint32(0), upper_set, lower_set, own_tables
        )  # one table for all groups
        steps, sums = begin(shared, upper_scale_at, lower_scale_at, lane, run, y)
        source, step = even_source, uint32(step + step)
        if turned:
            a, b = load_block(shared, even), load_block(shared, uint32(even + uint32(8 * pitch)))
            sums = add0(
                shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, a, b, u, v, source, steps, sums
            )
            a, b = load_block(shared, odd), load_block(shared, uint32(odd + uint32(8 * pitch)))
            sums = add1(
                shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, a, b, u, v, odd_source, steps, sums
            )
            even, odd = uint32(even + uint32(two)), uint32(odd + uint32(two))
            a, b = load_block(shared, even), load_block(shared, uint32(even + uint32(8 * pitch)))
            source = uint32(source + step)
            sums = add2(
                shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, a, b, u, v, source, steps, sums
            )
            a, b = load_block(shared, odd), load_block(shared, uint32(odd + uint32(8 * pitch)))
            source = uint32(odd_source + step)
            sums = add3(
                shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, a, b, u, v, source, steps, sums
            )
        else:
            p, q = load_four(shared, even), load_four(shared, uint32(even + uint32(8 * pitch)))
            sums = add0(
                shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, p[:bits], q[:bits], u, v, source,
                steps, sums,
            )  # fmt: skip
            sums = add1(
                shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, p[bits:two], q[bits:two], u, v,
                odd_source, steps, sums,
            )  # fmt: skip
            source = uint32(source + step)
            sums = add2(
                shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, p[two:three], q[two:three], u, v,
                source, steps, sums,
            )  # fmt: skip
            source = uint32(odd_source + step)
            sums = add3(
                shared, at, row0, lane, first, run, upper_scale_at, lower_scale_at, p[three:], q[three:], u, v, source,
                steps, sums,
            )  # fmt: skip
        end(shared, run, sums, y)

    return short_stage


def make_lane_places(spec: GemvSpec) -> Any:
    """Device function ``(stage, at, lane) -> run, even, odd, even_source, odd_source, step`` of a gathered stage.

    Words of the codes and of the inputs of the first two blocks that a lane takes, and words between blocks of inputs,
    0 where the inputs that a lane hands in are not its column's.
    """
    bits, pitch, plane, block_words = spec.plan.bits, spec.pitch, spec.plane, spec.block_words
    inputs_at, as_halves, turned = spec.inputs_at, spec.plan.halves, spec.turned

    @cuda.jit(device=True)
    def lane_places(stage, at, lane):
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        run = uint32(stage * uint32(BLOCKS) + c)
        # lane 4 g + c hands in inputs of column g; written as g, it compiles otherwise than what was timed
        column = uint32(lane >> uint32(2))
        idle = uint32(column >> uint32(1)) != c
        step = uint32(0) if idle else uint32(block_words)
        source = uint32(uint32(inputs_at) + run * uint32(4 * block_words))
        if not as_halves:
            source = uint32(source + (column & uint32(1)) * uint32(plane))
        source = uint32(0) if idle else source
        place = uint32(at + c * uint32(4 * bits) + g * uint32(pitch))
        turn = uint32(c >> uint32(1)) if turned else uint32(0)
        even, odd = uint32(place + turn * uint32(bits)), uint32(place + uint32(bits) - turn * uint32(bits))
        return run, even, odd, uint32(source + turn * step), uint32(source + step - turn * step), step

    return lane_places
