"""Decode GEMV: ``out[m, n] = x[m, k] @ weight[n, k].T`` for few tokens, straight from packed codes.

Versions
    rows_of_a_warp     half-precision fma, two rows a warp, loads through registers: a sketch, 44 us at 28672 x 8192
    digits_and_tiles   this file: integer tensor cores on tiles of 16 rows, a ring of stages in shared memory

How it works. A block is ``warps`` warps that share a tile of 16 rows; each takes every ``warps``-th stage of ``runs`` x 128
inputs. Codes, scales, zero points and selectors of a stage come by ``cp.async`` into a ring of ``depth`` stages, so that
the loads in flight cost no registers, and any row pitch free of bank conflicts will do. Blocks stay and walk over tiles.

The inputs become two signed bytes each, ``x = scale * (256 * high + low)`` with one scale for each run of 128 inputs of a
token: 16-bit fixed point, an error of at most 2**-16 of the run's largest magnitude. Both bytes are columns of the right
operand of ``mma.m16n8k32``, whose eight columns would be idle anyway: four tokens cost what one costs. Weights are signed
bytes too (``gemv_plan``), so sums are exact integers until one float32 multiplication by both scales a run.

Lane ``4 g + c`` of a warp holds codes of rows g and g + 8: block ``4 run + c`` of 32 codes. Where a group has fewer than 128
inputs, the right operand is block-diagonal: column 2 c + digit is zero but for the blocks of lanes c, which gives each
lane the sum of its own 32 codes. One token then takes all eight columns.

Left out: more than 16 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba import cuda, float32, int32, uint32

from datatypes.planes import plane_widths
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemv_decode import make_decoders, make_scale
from kernels_gpu.gemv_plan import BLOCK, RUN, TILE_ROWS, Plan

WARP = 32
INPUT_LEVELS = 32512  # 127 * 256: the largest magnitude whose digits are -128 to 127
MAGIC = 12582912.0 + 128.0  # 1.5 * 2**23 leaves integers in the low bits of a float32; 128 makes the digits balanced
MAGIC_BITS = 0x4B400080
TINY = 1e-30  # inputs below count as zero
ARGUMENTS = "pppppppp" + "iiiiiiiiii"


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


@dataclass(frozen=True)
class GemvSpec:
    """One compiled kernel.

    Args:
        plan: the encoding.
        tokens: m, 1 to 16.
        warps: of a block; they share a tile of rows.
        runs: of 128 inputs in a stage.
        depth: stages of the ring, 2 or more.
        aligned: rows of words begin at multiples of 16 bytes.
        vector: rows of x begin at multiples of 16 bytes and hold a multiple of 8 inputs.
        bfloat: x is bfloat16 rather than float16, and so is the result.
    """

    plan: Plan
    tokens: int
    warps: int
    runs: int
    depth: int
    aligned: bool
    vector: bool
    bfloat: bool = False

    @property
    def column_tiles(self) -> int:
        """Products of eight columns for each tile of weights."""
        return -(-self.tokens // 4) if self.plan.by_quad else self.tokens

    @property
    def stage_row_words(self) -> int:
        """Words of codes of one row in a stage."""
        return self.runs * 4 * self.plan.bits

    @property
    def pitch(self) -> int:
        """Words between rows of a stage, so that the lanes of a load meet different banks."""
        allowed = {2: (8, 24), 4: (16,)}.get(self.plan.bits, (4, 12, 20, 28))
        return next(p for p in range(self.stage_row_words, self.stage_row_words + 64, 4) if p % 32 in allowed)

    def window_words(self, bits: int) -> int:
        """Words that hold the fields of a row in a stage, wherever the first one lies in its word."""
        if bits == 0:
            return 0
        width, group = self.runs * RUN, self.plan.group
        fields = 1 if group == 0 or group % width == 0 else -(-width // group) + (1 if width % group else 0)
        return -(-(WORD - bits + fields * bits) // WORD)

    @property
    def field_bits(self) -> tuple[int, int, int, int]:
        """Bits of the scale, of the zero point's two planes, and of the selector."""
        planes = plane_widths(self.plan.zero_bits) if self.plan.zero_bits else ()
        first, second = (*planes, 0, 0)[:2]
        return (0 if self.plan.scale is None else self.plan.scale.bits, first, second, self.plan.selector_bits)

    @property
    def stage_words(self) -> int:
        """Words of a stage of one warp."""
        words = TILE_ROWS * (self.pitch + sum(self.window_words(bits) for bits in self.field_bits))
        return -(-words // 4) * 4

    def slots(self, k: int) -> int:
        """Stages of a warp in one tile."""
        return ceil_div(ceil_div(k, self.runs * RUN), self.warps)

    def shared_bytes(self, k: int) -> int:
        """Dynamic shared memory of a block."""
        runs = self.slots(k) * self.warps * self.runs
        tables = 4 * -(-(sum(map(len, self.plan.tables)) or 4) // 4)
        inputs = self.tokens * (2 * (runs * RUN // 4 + 4) + runs + runs * self.sums_per_run)
        inputs = -(-inputs // 4) * 4
        ring = self.warps * self.depth * self.stage_words
        reduction = 2 * self.warps * TILE_ROWS * self.tokens
        return 4 * (8 + tables + inputs + ring + reduction)

    @property
    def sums_per_run(self) -> int:
        """Stored sums of inputs for each run of 128, where zero points need them."""
        if self.plan.zero_bits == 0:
            return 0
        return 1 if self.plan.by_quad or self.plan.group == 0 else 8 if self.plan.group == 16 else 4


WORD = 32


def make_body(spec: GemvSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``."""
    plan = spec.plan
    bits, tokens, warps, runs, depth = plan.bits, spec.tokens, spec.warps, spec.runs, spec.depth
    by_quad = plan.by_quad or plan.group == 0
    group = plan.group if plan.group else 1 << 30
    halves = 2 if plan.group == 16 else 1
    tiles_of_columns = spec.column_tiles
    results = 2 * tiles_of_columns  # of a lane: rows g and g + 8 of each tile of columns
    threads = warps * WARP
    row_stage, pitch, stage_words = spec.stage_row_words, spec.pitch, spec.stage_words
    chunk = 4 if spec.aligned else 1
    row_chunks = row_stage // chunk
    chunks = TILE_ROWS * row_chunks
    chunk_rounds = -(-chunks // WARP)
    scale_bits, zero_bits, _low_bits, selector_bits = spec.field_bits
    scale_window, zero_window, low_window, selector_window = (spec.window_words(b) for b in spec.field_bits)
    scale_at = TILE_ROWS * pitch
    zero_at = scale_at + TILE_ROWS * scale_window
    low_at = zero_at + TILE_ROWS * zero_window
    selector_at = low_at + TILE_ROWS * low_window
    table_words = sum(plan.tables, ()) or (0, 0, 0, 0)
    table_count = len(plan.tables[0]) if plan.tables else 0
    inputs_at = 8 + 4 * -(-len(table_words) // 4)
    sums_per_run = spec.sums_per_run
    zero_step = plan.zero_step
    pending = depth - 1
    wait_for_stage = ptx_tile.wait_all_but(pending)
    scaled = plan.scale is not None
    outer = plan.outer is not None
    outer_by_row = plan.outer_by_row
    step = float32(plan.step)
    one_sum = sums_per_run == 1
    vector, bfloat, even_odd = spec.vector, spec.bfloat, plan.even_odd
    decoders = make_decoders(plan)
    load_block, products, tables_of = decoders.load_block, decoders.products, decoders.tables_of
    scale_value = make_scale(plan.scale)
    outer_value = decoders.outer_value
    stage_inputs = _make_stage_inputs(vector, bfloat, even_odd, sums_per_run)

    @cuda.jit(device=True)
    def copy_window(shared, at, address, first, total, bits, window, groups, row0, lane):
        for i in range((TILE_ROWS * window + WARP - 1) // WARP):
            q = uint32(lane + WARP * i)
            if q < uint32(TILE_ROWS * window):
                row = uint32(q // uint32(window))
                word = uint32(((((row0 + row) * groups + first) * bits) >> 5) + (q - row * window))
                ptx_tile.copy_async_4(shared, uint32(at + q), address, word, uint32(4) if word < total else uint32(0))

    @cuda.jit(device=True)
    def field_position(row, groups, first, bits):
        """Bit of a row's first field in its window."""
        return uint32(uint32((row * groups + first) * bits) & uint32(31))

    @cuda.jit(device=True)
    def small_field(shared, at, position, bits):
        """A field of at most 8 bits in a window."""
        byte = ptx_tile.shared_byte(shared, uint32(at * 4 + (position >> 3)))
        return uint32((byte >> uint32(position & 7)) & uint32((1 << bits) - 1))

    def kernel(
        words, scales, zeros, selectors, books, outers, x, out,
        n, k, row_words, groups, slots, scale_words, zero_words, zero_low_at, selector_words, tiles,
    ):  # fmt: skip
        shared = ptx_tile.shared_words()
        thread = uint32(cuda.threadIdx.x)
        lane = uint32(thread & uint32(31))
        warp = uint32(thread >> uint32(5))
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        blocks = uint32(cuda.gridDim.x)
        all_runs = uint32(slots * warps * runs)
        plane = uint32(all_runs * (RUN // 4) + 4)
        scales_of_x = uint32(inputs_at + tokens * 2 * plane)
        sums_of_x = uint32(scales_of_x + tokens * all_runs)
        ring = uint32((sums_of_x + tokens * sums_per_run * all_runs + 3) & uint32(0xFFFFFFFC))
        reduction = uint32(ring + warps * depth * stage_words)
        mine = uint32(ring + warp * uint32(depth * stage_words))
        stages = uint32((k + runs * RUN - 1) // (runs * RUN))
        ptx_tile.start()

        tile, slot = uint32(cuda.blockIdx.x), uint32(0)
        at = uint32(mine)
        last = uint32(mine + (depth - 1) * stage_words)
        # the ring is filled before anything of the previous kernel is needed
        y = cuda.local.array(results, float32)
        for i in range(results):
            y[i] = float32(0)
        done_tile, done_slot, done_at, parity = uint32(tile), uint32(0), uint32(mine), uint32(0)
        prologue = uint32(0)
        while done_tile < uint32(tiles):
            # one stage under way for each turn; the first ``pending`` turns only fill the ring
            if tile < uint32(tiles):
                stage = uint32(warp + slot * uint32(warps))
                row0 = uint32(tile * uint32(TILE_ROWS))
                if stage < stages:
                    for i in range(chunk_rounds):
                        q = uint32(lane + uint32(WARP * i))
                        if chunks % WARP == 0 or q < uint32(chunks):
                            row = uint32(q // uint32(row_chunks))
                            offset = uint32((q - row * uint32(row_chunks)) * uint32(chunk))
                            word = uint32(stage * uint32(row_stage) + offset)
                            inside = uint32(row0 + row) < uint32(n) and word < uint32(row_words)
                            target = uint32(at + row * uint32(pitch) + offset)
                            source = uint32(uint32(row0 + row) * uint32(row_words) + word)
                            if chunk == 4:
                                ptx_tile.copy_async_16(
                                    shared, target, words, source, uint32(16) if inside else uint32(0)
                                )
                            else:
                                ptx_tile.copy_async_4(shared, target, words, source, uint32(4) if inside else uint32(0))
                    first = uint32(stage * uint32(runs * RUN) // uint32(group))
                    if scale_window > 0:
                        copy_window(
                            shared, at + scale_at, scales, first, uint32(scale_words), scale_bits, scale_window,
                            uint32(groups), row0, lane,
                        )  # fmt: skip
                    if zero_window > 0:
                        copy_window(
                            shared, at + zero_at, zeros, first, uint32(zero_words), zero_bits, zero_window,
                            uint32(groups), row0, lane,
                        )  # fmt: skip
                    if selector_window > 0:
                        copy_window(
                            shared, at + selector_at, selectors, first, uint32(selector_words), selector_bits,
                            selector_window, uint32(groups), row0, lane,
                        )  # fmt: skip
                slot = uint32(slot + uint32(1))
                if slot == uint32(slots):
                    slot = uint32(0)
                    tile = uint32(tile + blocks)
                at = uint32(mine) if at == last else uint32(at + uint32(stage_words))
            ptx_tile.commit()
            if prologue < uint32(pending):
                prologue = uint32(prologue + uint32(1))
                if prologue == uint32(pending):
                    if thread == uint32(0):
                        for i in range(8):
                            ptx_tile.put_1(shared, uint32(i), uint32(0))
                        for i in range(len(table_words)):
                            ptx_tile.put_1(shared, uint32(8 + i), uint32(table_words[i]))
                    ptx_tile.wait_for_previous()
                    stage_inputs(
                        shared,
                        x,
                        uint32(inputs_at),
                        plane,
                        scales_of_x,
                        sums_of_x,
                        all_runs,
                        tokens,
                        k,
                        thread,
                        threads,
                    )
                    cuda.syncthreads()
                continue
            wait_for_stage()
            ptx.sync_warp()
            stage = uint32(warp + done_slot * uint32(warps))
            row0 = uint32(done_tile * uint32(TILE_ROWS))
            if stage < stages or ptx.SIMULATED:
                first = uint32(stage * uint32(runs * RUN) // uint32(group))
                upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
                upper_scale = field_position(upper, uint32(groups), first, scale_bits)
                lower_scale = field_position(lower, uint32(groups), first, scale_bits)
                upper_zero = field_position(upper, uint32(groups), first, zero_bits)
                lower_zero = field_position(lower, uint32(groups), first, zero_bits)
                upper_choice = field_position(upper, uint32(groups), first, selector_bits)
                lower_choice = field_position(lower, uint32(groups), first, selector_bits)
                for s in range(runs):
                    run = uint32(stage * uint32(runs) + uint32(s))
                    place = uint32(done_at + uint32(s * 4 * bits) + c * uint32(bits) + g * uint32(pitch))
                    upper_codes = load_block(shared, place)
                    lower_codes = load_block(shared, uint32(place + uint32(8 * pitch)))
                    input0 = uint32(run * uint32(RUN))
                    if not by_quad:
                        input0 = uint32(input0 + c * uint32(BLOCK))
                    field = uint32(input0 // uint32(group) - first)
                    upper_table, lower_table = uint32(0), uint32(0)
                    if selector_window > 0:
                        choice_at = uint32(done_at + uint32(selector_at) + g * uint32(selector_window))
                        upper_table = small_field(
                            shared, choice_at, upper_choice + field * uint32(selector_bits), selector_bits
                        )
                        lower_table = small_field(
                            shared,
                            uint32(choice_at + uint32(8 * selector_window)),
                            lower_choice + field * uint32(selector_bits),
                            selector_bits,
                        )
                    upper_tables = tables_of(shared, uint32(8 + upper_table * uint32(table_count)))
                    lower_tables = tables_of(shared, uint32(8 + lower_table * uint32(table_count)))
                    for half in range(halves):
                        field_here = uint32(field + uint32(half))
                        inside = uint32(input0 + uint32(16 * half)) < uint32(k)
                        upper_step, lower_step = float32(1), float32(1)
                        if scaled:
                            scale_from = uint32((done_at + uint32(scale_at) + g * uint32(scale_window)) * uint32(4))
                            upper_step = scale_value(
                                shared, uint32(scale_from + ((upper_scale + field_here * uint32(scale_bits)) >> 3))
                            )
                            lower_step = scale_value(
                                shared,
                                uint32(
                                    scale_from
                                    + uint32(8 * scale_window * 4)
                                    + ((lower_scale + field_here * uint32(scale_bits)) >> 3)
                                ),
                            )
                        upper_zero_value, lower_zero_value = uint32(0), uint32(0)
                        if zero_window > 0:
                            zero_from = uint32(done_at + uint32(zero_at) + g * uint32(zero_window))
                            upper_zero_value = small_field(
                                shared, zero_from, upper_zero + field_here * uint32(zero_bits), zero_bits
                            )
                            lower_zero_value = small_field(
                                shared,
                                uint32(zero_from + uint32(8 * zero_window)),
                                lower_zero + field_here * uint32(zero_bits),
                                zero_bits,
                            )
                        for tile_of_columns in range(tiles_of_columns):
                            if by_quad:
                                token = uint32(4 * tile_of_columns + (lane >> uint32(3)))
                                mask = token < uint32(tokens)
                                sum_token = uint32(4 * tile_of_columns + c)
                            else:
                                token = uint32(tile_of_columns)
                                mask = (lane >> uint32(3)) == c
                                sum_token = uint32(tile_of_columns)
                            sum_token = sum_token if sum_token < uint32(tokens) else uint32(0)
                            source = uint32(0)
                            if mask:
                                source = uint32(
                                    inputs_at
                                    + (token * uint32(2) + ((lane >> uint32(2)) & uint32(1))) * plane
                                    + run * uint32(32)
                                    + c * uint32(8)
                                )
                            b0 = ptx_tile.shared_4(shared, source)
                            b1 = ptx_tile.shared_4(shared, uint32(source + uint32(4)))
                            zero_sum = int32(0)
                            if sums_per_run > 0:
                                sum_at = uint32(sums_of_x + (sum_token * all_runs + run) * uint32(sums_per_run))
                                if not one_sum:
                                    sum_at = uint32(sum_at + c * uint32(sums_per_run // 4) + uint32(half))
                                zero_sum = int32(int32(ptx_tile.shared_1(shared, sum_at)) * int32(zero_step))
                            upper_sum, lower_sum = products(
                                upper_codes, lower_codes, upper_tables, lower_tables, b0 + b1, half,
                                int32(int32(upper_zero_value) * zero_sum), int32(int32(lower_zero_value) * zero_sum),
                            )  # fmt: skip
                            x_step = ptx.bits_float(
                                ptx_tile.shared_1(shared, uint32(scales_of_x + sum_token * all_runs + run))
                            )
                            if inside:
                                at_y = 2 * tile_of_columns
                                y[at_y] = ptx.fma(ptx.mul(upper_step, x_step), upper_sum, y[at_y])
                                y[at_y + 1] = ptx.fma(ptx.mul(lower_step, x_step), lower_sum, y[at_y + 1])
            done_at = uint32(mine) if done_at == last else uint32(done_at + uint32(stage_words))
            done_slot = uint32(done_slot + uint32(1))
            ptx.sync_warp()
            if done_slot == uint32(slots):
                done_slot = uint32(0)
                buffer = uint32(reduction + parity * uint32(warps * TILE_ROWS * tokens))
                parity = uint32(parity ^ uint32(1))
                for tile_of_columns in range(tiles_of_columns):
                    upper_y, lower_y = y[2 * tile_of_columns], y[2 * tile_of_columns + 1]
                    y[2 * tile_of_columns] = float32(0)
                    y[2 * tile_of_columns + 1] = float32(0)
                    token = uint32(4 * tile_of_columns + c)
                    if not by_quad:
                        token = uint32(tile_of_columns)
                        upper_y = ptx.add(upper_y, ptx.shuffle_xor(upper_y, 1))
                        lower_y = ptx.add(lower_y, ptx.shuffle_xor(lower_y, 1))
                        upper_y = ptx.add(upper_y, ptx.shuffle_xor(upper_y, 2))
                        lower_y = ptx.add(lower_y, ptx.shuffle_xor(lower_y, 2))
                    if token < uint32(tokens) and (by_quad or c == uint32(0)):
                        target = uint32(buffer + (warp * uint32(tokens) + token) * uint32(TILE_ROWS) + g)
                        ptx_tile.put_1(shared, target, ptx.float_bits(upper_y))
                        ptx_tile.put_1(shared, uint32(target + uint32(8)), ptx.float_bits(lower_y))
                cuda.syncthreads()
                for i in range((tokens * TILE_ROWS + threads - 1) // threads):
                    item = uint32(thread + uint32(i * threads))
                    row = uint32(row0 + (item & uint32(15)))
                    if item < uint32(tokens * TILE_ROWS) and row < uint32(n):
                        total = float32(0)
                        for w in range(warps):
                            part = ptx_tile.shared_1(shared, uint32(buffer + uint32(w * tokens * TILE_ROWS) + item))
                            total = ptx.add(total, ptx.bits_float(part))
                        total = ptx.mul(total, step)
                        if outer:
                            total = ptx.mul(total, outer_value(outers, row if outer_by_row else uint32(0)))
                        place = uint32((item >> uint32(4)) * uint32(n) + row)
                        ptx_tile.store_half(out, place, ptx.to_bfloat(total) if bfloat else ptx.to_half(total))
                done_tile = uint32(done_tile + blocks)

    return kernel


def _make_stage_inputs(vector: bool, bfloat: bool, even_odd: bool, sums_per_run: int) -> Any:
    """Device function that turns inputs into digits, scales and sums in shared memory."""

    @cuda.jit(device=True)
    def element(word, odd):
        if bfloat:
            return ptx.bits_float(uint32(word & uint32(0xFFFF0000)) if odd else uint32(word << uint32(16)))
        return ptx.from_half(uint32(word >> uint32(16)) if odd else word)

    @cuda.jit(device=True)
    def spread(value, upto):
        """Sum over 2, 4, 8, or 16 neighbouring lanes."""
        if upto >= 2:
            value = int32(value + ptx.shuffle_xor(value, 1))
        if upto >= 4:
            value = int32(value + ptx.shuffle_xor(value, 2))
        if upto >= 16:
            value = int32(value + ptx.shuffle_xor(value, 4))
            value = int32(value + ptx.shuffle_xor(value, 8))
        return value

    lanes_of_sum = 16 if sums_per_run == 1 else 4 if sums_per_run == 4 else 2

    @cuda.jit(device=True)
    def stage_inputs(shared, x, inputs_at, plane, scales_of_x, sums_of_x, all_runs, tokens, k, thread, threads):
        units = uint32(all_runs * uint32(16))  # of eight inputs, for one token
        total = uint32(units * uint32(tokens))
        rounds = uint32((total + uint32(threads - 1)) // uint32(threads))
        for r in range(rounds):
            unit = uint32(thread + uint32(r) * uint32(threads))
            active = unit < total
            token = uint32(unit // units)
            within = uint32(unit - token * units)
            input0 = uint32(within * uint32(8))
            w0, w1, w2, w3 = uint32(0), uint32(0), uint32(0), uint32(0)
            if active and input0 < uint32(k):
                at = uint32(token * uint32(k) + input0)
                if vector:
                    w0, w1, w2, w3 = ptx_tile.load_words_4(x, uint32(at >> uint32(1)))
                else:
                    left = uint32(uint32(k) - input0)
                    w0 = ptx_tile.load_half(x, at)
                    if left > uint32(1):
                        w0 = uint32(w0 | (ptx_tile.load_half(x, uint32(at + uint32(1))) << uint32(16)))
                    if left > uint32(2):
                        w1 = ptx_tile.load_half(x, uint32(at + uint32(2)))
                    if left > uint32(3):
                        w1 = uint32(w1 | (ptx_tile.load_half(x, uint32(at + uint32(3))) << uint32(16)))
                    if left > uint32(4):
                        w2 = ptx_tile.load_half(x, uint32(at + uint32(4)))
                    if left > uint32(5):
                        w2 = uint32(w2 | (ptx_tile.load_half(x, uint32(at + uint32(5))) << uint32(16)))
                    if left > uint32(6):
                        w3 = ptx_tile.load_half(x, uint32(at + uint32(6)))
                    if left > uint32(7):
                        w3 = uint32(w3 | (ptx_tile.load_half(x, uint32(at + uint32(7))) << uint32(16)))
            e0, e1, e2, e3 = element(w0, False), element(w0, True), element(w1, False), element(w1, True)
            e4, e5, e6, e7 = element(w2, False), element(w2, True), element(w3, False), element(w3, True)
            largest = ptx.maximum_or_nan(ptx.absolute(e0), ptx.absolute(e1))
            largest = ptx.maximum_or_nan(largest, ptx.maximum_or_nan(ptx.absolute(e2), ptx.absolute(e3)))
            largest = ptx.maximum_or_nan(largest, ptx.maximum_or_nan(ptx.absolute(e4), ptx.absolute(e5)))
            largest = ptx.maximum_or_nan(largest, ptx.maximum_or_nan(ptx.absolute(e6), ptx.absolute(e7)))
            largest = ptx.maximum_or_nan(largest, ptx.shuffle_xor(largest, 1))
            largest = ptx.maximum_or_nan(largest, ptx.shuffle_xor(largest, 2))
            largest = ptx.maximum_or_nan(largest, ptx.shuffle_xor(largest, 4))
            largest = ptx.maximum_or_nan(largest, ptx.shuffle_xor(largest, 8))
            to_digits = float32(0)
            if largest > float32(TINY):
                to_digits = ptx.div(float32(INPUT_LEVELS), largest)
            magic = float32(MAGIC)
            d0, d1 = ptx.float_bits(ptx.fma(e0, to_digits, magic)), ptx.float_bits(ptx.fma(e1, to_digits, magic))
            d2, d3 = ptx.float_bits(ptx.fma(e2, to_digits, magic)), ptx.float_bits(ptx.fma(e3, to_digits, magic))
            d4, d5 = ptx.float_bits(ptx.fma(e4, to_digits, magic)), ptx.float_bits(ptx.fma(e5, to_digits, magic))
            d6, d7 = ptx.float_bits(ptx.fma(e6, to_digits, magic)), ptx.float_bits(ptx.fma(e7, to_digits, magic))
            if sums_per_run > 0:
                total8 = int32(int32(d0 + d1 + d2 + d3) + int32(d4 + d5 + d6 + d7) - int32(8 * MAGIC_BITS & 0x7FFFFFFF))
                total8 = spread(total8, lanes_of_sum)
                if active and (within & uint32(lanes_of_sum - 1)) == uint32(0):
                    index = uint32(token * all_runs * uint32(sums_per_run) + within // uint32(lanes_of_sum))
                    ptx_tile.put_1(shared, uint32(sums_of_x + index), uint32(total8))
            if even_odd:
                d1, d2, d3, d4, d5, d6 = d2, d4, d6, d1, d3, d5
            p0, p1 = ptx.pick_bytes(d0, d1, uint32(0x5140)), ptx.pick_bytes(d2, d3, uint32(0x5140))
            p2, p3 = ptx.pick_bytes(d4, d5, uint32(0x5140)), ptx.pick_bytes(d6, d7, uint32(0x5140))
            if active:
                target = uint32(inputs_at + token * uint32(2) * plane + within * uint32(2))
                high0, high1 = ptx.pick_bytes(p0, p1, uint32(0x7632)), ptx.pick_bytes(p2, p3, uint32(0x7632))
                low0, low1 = ptx.pick_bytes(p0, p1, uint32(0x5410)), ptx.pick_bytes(p2, p3, uint32(0x5410))
                ptx_tile.put_2(shared, target, high0, high1)
                ptx_tile.put_2(
                    shared,
                    uint32(target + plane),
                    uint32(low0 ^ uint32(0x80808080)),
                    uint32(low1 ^ uint32(0x80808080)),
                )
                if (within & uint32(15)) == uint32(0):
                    # infinity less infinity is NaN: a run that holds either makes its token's results NaN
                    unit_step = ptx.mul(ptx.add(largest, ptx.sub(largest, largest)), float32(1.0 / INPUT_LEVELS))
                    place = uint32(scales_of_x + token * all_runs + (within >> uint32(4)))
                    ptx_tile.put_1(shared, place, ptx.float_bits(unit_step))

    return stage_inputs
