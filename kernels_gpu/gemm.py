"""Prefill GEMM: ``out[m, n] = x[m, k] @ weight[n, k].T`` for more tokens than a GEMV takes, straight from packed codes.

How it works. A block makes a tile of ``row_warps`` times 16 rows and up to 128 tokens. Inputs and packed weights of a
stage come by ``cp.async`` into a ring in shared memory; inputs stay half precision. A warp decodes its 16 rows, a run
of 128 inputs at a time, in registers (``gemm_decode``), and multiplies them with all tokens of the block by
``mma.m16n8k16``: decoded weights are never stored, and decoding is paid once for 128 tokens. Lane ``4 g + c`` holds
codes of rows g and g + 8, block ``4 run + c`` of 32 codes, as in the GEMV; since the order of inputs within a product
is free, the inputs that it must hand in are the same block of its token, 64 bytes without gaps. ``k_warps`` warps may
share rows, each with a part of every stage; they are added in a fixed order. Sums are float32.

The copies of weights begin before the kernel before has ended (``griddepcontrol``).

Left out: bfloat16, learned codebooks, scales that are no halves: ``gemm_launch`` dequantizes these and hands them to
the library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda, float32, uint32

from datatypes.planes import WORD_BITS
from hwmodel.units import BYTE_BITS
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemm_decode import make_scaled, make_values, result_factor
from kernels_gpu.gemm_halves import half_block, half_table
from kernels_gpu.gemm_signed import magnitudes, make_factors, signed_block, signed_words
from kernels_gpu.gemm_spec import BLOCK_WORDS, RESULT_PITCH, RUNS, TILE_TOKENS, GemmSpec
from kernels_gpu.gemv_copies import make_copy_stage
from kernels_gpu.gemv_decode import make_decoders, make_scale
from kernels_gpu.gemv_plan import BLOCK, RUN, TILE_ROWS, ScaleKind
from kernels_gpu.gemv_planes import load_swapped

ARGUMENTS = "ppppppp" + "iiiiiiii"
STAGE_INPUTS = RUNS * RUN  # of a warp's part of a stage


def make_fields(spec: GemmSpec) -> tuple[Any, Any, Any]:
    """Device functions for what goes with a row's group in a stage: ``scale``, ``zero`` (float32) and ``choice``.

    Each takes ``(shared, at, row, g, first, field)``: the stage's word, the row, its place in the tile, the stage's
    first group, and the group counted from there.
    """
    plan, side = spec.plan, spec.side
    groups = side.groups
    scale_field, *zero_fields, choice_field = side.fields
    scale_bits, scale_at, scale_window = scale_field.bits, scale_field.at, scale_field.words
    choice_bits, choice_at, choice_window = choice_field.bits, choice_field.at, choice_field.words
    (b0, a0, w0), (b1, a1, w1), (b2, a2, w2) = ((f.bits, f.at, f.words) for f in zero_fields)
    scale_value, scaled = make_scale(plan.scale), plan.scale is not None

    @cuda.jit(device=True)
    def position(row, first, bits):
        """Bit of a row's first field in its window."""
        return uint32(uint32(uint32(row * uint32(groups) + first) * uint32(bits)) & uint32(31))

    @cuda.jit(device=True)
    def small(shared, at, row, first, field, bits):
        """A field of at most 8 bits of the window that begins at word ``at``."""
        bit = uint32(position(row, first, bits) + field * uint32(bits))
        byte = ptx_tile.shared_byte(shared, uint32(at * uint32(4) + (bit >> uint32(3))))
        return uint32((byte >> uint32(bit & uint32(7))) & uint32((1 << bits) - 1))

    @cuda.jit(device=True)
    def scale(shared, at, row, g, first, field):
        if not scaled:
            return float32(1)
        byte = uint32((at + uint32(scale_at) + g * uint32(scale_window)) * uint32(4))
        byte = uint32(byte + (position(row, first, scale_bits) >> uint32(3)))
        return scale_value(shared, uint32(byte + field * uint32(scale_bits // 8)))

    @cuda.jit(device=True)
    def zero(shared, at, row, g, first, field):
        made = uint32(0)
        if w0 > 0:
            made = small(shared, uint32(at + uint32(a0) + g * uint32(w0)), row, first, field, b0)
        if w1 > 0:
            low = small(shared, uint32(at + uint32(a1) + g * uint32(w1)), row, first, field, b1)
            made = uint32((made << uint32(b1)) | low)
        if w2 > 0:
            low = small(shared, uint32(at + uint32(a2) + g * uint32(w2)), row, first, field, b2)
            made = uint32((made << uint32(b2)) | low)
        return float32(made)

    @cuda.jit(device=True)
    def choice(shared, at, row, g, first, field):
        if choice_window == 0:
            return uint32(0)
        return small(shared, uint32(at + uint32(choice_at) + g * uint32(choice_window)), row, first, field, choice_bits)

    return scale, zero, choice


def make_stored(spec: GemmSpec) -> Any:
    """Device function ``(shared, at, row, g, first, field, own)``: a stored scale's bits, 0 beyond the last input.

    ``own``: the first input of a block; the rest as above. In groups of 16 two scales, one for each half of the block:
    two bytes of one word, the first one lower, or two words.
    """
    side, plan, k = spec.side, spec.plan, spec.k
    groups, field_bits, scale_at, window = side.groups, side.fields[0].bits, side.fields[0].at, side.fields[0].words
    is_byte, two_groups = field_bits == BYTE_BITS, plan.group == 16
    # of a warp that has a part of a stage, no block lies beyond the last input; the simulator's have parts always
    guarded = k % STAGE_INPUTS != 0 or ptx.SIMULATED
    # the first scales of all rows and stages begin words
    whole_words = plan.group > 0 and STAGE_INPUTS % plan.group == 0 and groups * field_bits % WORD_BITS == 0
    whole_words = whole_words and STAGE_INPUTS // plan.group * field_bits % WORD_BITS == 0
    load = ptx_tile.shared_byte if is_byte else ptx_tile.shared_half

    @cuda.jit(device=True)
    def place_of(at, row, g, first, field):
        byte = uint32((at + uint32(scale_at) + g * uint32(window)) * uint32(4) + field * uint32(field_bits // 8))
        if whole_words:
            return byte
        bit = uint32(uint32(uint32(row * uint32(groups) + first) * uint32(field_bits)) & uint32(31))
        return uint32(byte + (bit >> uint32(3)))

    @cuda.jit(device=True)
    def one(shared, at, row, g, first, field, own):
        if guarded and own >= uint32(k):
            return uint32(0)
        return uint32(load(shared, place_of(at, row, g, first, field)))

    @cuda.jit(device=True)
    def stored(shared, at, row, g, first, field, own):
        if not two_groups:
            return one(shared, at, row, g, first, field, own), uint32(0)
        if is_byte and k % BLOCK == 0:  # at an even byte
            if guarded and own >= uint32(k):
                return uint32(0), uint32(0)
            return uint32(ptx_tile.shared_half(shared, place_of(at, row, g, first, field))), uint32(0)
        low = one(shared, at, row, g, first, field, own)
        high = one(shared, at, row, g, first, uint32(field + uint32(1)), uint32(own + uint32(16)))
        if is_byte:
            return uint32(low | uint32(high << uint32(8))), uint32(0)
        return low, high

    return stored


@cuda.jit(device=True)
def moved_granules(token, block):
    """What the place of a granule in its block is turned by: a load's two tokens and four blocks then meet all banks.

    Pairs of granules stay within aligned 32 bytes: shared memory fills half as fast where they do not.
    """
    return uint32((token & uint32(1)) | (block & uint32(2)))


def make_copy_inputs(spec: GemmSpec) -> Any:
    """Device function that starts copying a stage's inputs, zeros beyond the last token and the last input."""
    threads, token_words, padded_k, stage_inputs = spec.threads, spec.token_words, spec.padded_k, spec.stage_inputs
    granules = stage_inputs // 8  # of a token
    items = spec.tokens * granules

    @cuda.jit(device=True)
    def copy_inputs(shared, at, x, token0, m, stage, thread):
        for i in range((items + threads - 1) // threads):
            item = uint32(thread + uint32(i * threads))
            token = uint32(item // uint32(granules))
            granule = uint32(item - token * uint32(granules))
            column = uint32(stage * uint32(stage_inputs) + granule * uint32(8))
            if items % threads == 0 or item < uint32(items):
                block = uint32(granule >> uint32(2))
                target = uint32(at + token * uint32(token_words) + block * uint32(BLOCK_WORDS))
                target = uint32(target + uint32((granule & uint32(3)) ^ moved_granules(token, block)) * uint32(4))
                there = uint32(token0 + token) < m and column < uint32(padded_k)
                # where there is nothing, an address inside
                word = uint32(((token0 + token) * uint32(padded_k) + column) >> uint32(1)) if there else uint32(0)
                ptx_tile.copy_async_16_if(
                    shared, target, ptx_tile.place_of(x, word), uint32(0), uint32(16) if there else uint32(0)
                )

    return copy_inputs


def make_body(spec: GemmSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``."""
    plan, side, k = spec.plan, spec.side, spec.k
    bits, group = plan.bits, plan.group if plan.group else 1 << 30
    two_groups = plan.group == 16  # of a block of 32
    token_tiles, tokens, threads = spec.token_tiles, spec.tokens, spec.threads
    k_warps, depth, stages, side_stages = spec.k_warps, spec.depth, spec.stages, side.stages
    pitch, side_words, stage_words, input_words = side.pitch, side.stage_words, spec.stage_words, spec.input_words
    token_words, ring_at, tables_at = spec.token_words, spec.ring_at, spec.tables_at
    swapped = side.swapped
    copy_stage, copy_inputs = make_copy_stage(side), make_copy_inputs(spec)
    scale_of, zero_of, choice_of = make_fields(spec)
    decoders = make_decoders(plan, tables_at)
    load_block, tables_of, outer_value = decoders.load_block, decoders.tables_of, decoders.outer_value
    values, scaled = make_values(plan), make_scaled(plan)
    product = ptx_tile.product_half
    table_words = sum(plan.tables, ()) or (0,)
    halves, signed = half_table(plan), magnitudes(plan) is not None
    if halves is not None:
        table_words = halves.low + halves.high
    if signed:
        table_words = signed_words(plan)
    table_total = len(table_words) if plan.tables else 0
    apart = two_groups and (plan.candidates > 1 or plan.zero_bits > 0)
    outer, outer_by_row = plan.outer is not None, plan.outer_by_row
    factor = float(result_factor(plan) if halves is None else halves.factor)
    results = 4 * token_tiles
    result_words, block_rows = spec.result_words, spec.rows
    items = tokens * block_rows
    wait_for_stage = ptx_tile.wait_all_but(depth - 2)

    @cuda.jit(device=True)
    def copy_weights(
        shared, at, part, row0, lane, words, scales, zeros, selectors, rows, scale_words, zero_words, low_base,
        lowest_base, selector_words,
    ):  # fmt: skip
        """Start copying a warp's part of a stage, if there is one."""
        if part < uint32(side_stages):
            g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
            copy_stage(
                shared, at, part, row0, lane, g, c, words, scales, zeros, selectors, rows, scale_words, zero_words,
                low_base, lowest_base, selector_words,
            )  # fmt: skip

    @cuda.jit(device=True)
    def decoded(shared, at, place, row, g, first, own):
        """Sixteen words of a row's block of 32 codes, the input ``own`` the first."""
        field = uint32(own // uint32(group) - first)
        codes = load_swapped(shared, place, g) if swapped else load_block(shared, place)
        tables = tables_of(shared, choice_of(shared, at, row, g, first, field))
        made = values(codes, tables, zero_of(shared, at, row, g, first, field))
        if apart:  # the second half of a block has a candidate and a zero point of its own
            other = uint32(field + uint32(1))
            tables = tables_of(shared, choice_of(shared, at, row, g, first, other))
            made = made[:8] + values(codes, tables, zero_of(shared, at, row, g, first, other))[8:]
        one = scale_of(shared, at, row, g, first, field) if own < uint32(k) else float32(0)
        two = one
        if two_groups:
            two = float32(0)
            if uint32(own + uint32(16)) < uint32(k):
                two = scale_of(shared, at, row, g, first, uint32(field + uint32(1)))
        return scaled(made, one, two)

    if signed or halves is not None:
        stored, factors = make_stored(spec), make_factors(plan)

        @cuda.jit(device=True)
        def factors_of(shared, at, row, g, first, own):
            """What multiplies both halves of a block."""
            bits, more = stored(shared, at, row, g, first, uint32(own // uint32(group) - first), own)
            return factors(bits, more)

        if signed:
            is_power = plan.scale is ScaleKind.E8M0
            two_sizes = two_groups and is_power

            @cuda.jit(device=True)
            def sized(words, is_small):
                if not is_power:
                    return words[0], words[1]
                return (words[2] if is_small else words[0]), (words[3] if is_small else words[1])

            @cuda.jit(device=True)
            def decoded(shared, at, place, row, g, first, own):
                one, two = factors_of(shared, at, row, g, first, own)
                words = ptx_tile.shared_4(shared, uint32(tables_at))
                t = sized(words, one[1])
                u = sized(words, two[1]) if two_sizes else t
                return signed_block(load_block(shared, place), one[0], t, two[0], u)
        else:

            @cuda.jit(device=True)
            def decoded(shared, at, place, row, g, first, own):
                one, two = factors_of(shared, at, row, g, first, own)
                return half_block(load_block(shared, place), one[0], two[0], tables_of(shared, uint32(0)))

    @cuda.jit(device=True)
    def step_run(shared, s, stage, at, inputs, row0, lane, y):
        """Add the products of a run of 128 inputs with all tokens to ``y``; ``s``: the run in the warp's part."""
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        first = uint32(stage * uint32(RUNS * RUN) // uint32(group))
        own = uint32(stage * uint32(RUNS * RUN) + s * uint32(RUN) + c * uint32(BLOCK))
        place = uint32(at + c * uint32(bits) + g * uint32(pitch) + s * uint32(4 * bits))
        a = decoded(shared, at, place, uint32(row0 + g), g, first, own)
        lower = uint32(g + uint32(8))
        b = decoded(shared, at, uint32(place + uint32(8 * pitch)), uint32(row0 + lower), lower, first, own)
        source = uint32(inputs + g * uint32(token_words) + (s * uint32(4) + c) * uint32(BLOCK_WORDS))
        turned = uint32(moved_granules(g, c) * uint32(4))
        source0, source1 = uint32(source + turned), uint32(source + (turned ^ uint32(4)))
        source2, source3 = uint32(source + (turned ^ uint32(8))), uint32(source + (turned ^ uint32(12)))
        for t in range(token_tiles):
            here = uint32(t * TILE_TOKENS * token_words)
            total = (y[4 * t], y[4 * t + 1], y[4 * t + 2], y[4 * t + 3])
            x = ptx_tile.shared_4(shared, uint32(source0 + here))
            total = product(a[0], b[0], a[1], b[1], x[0], x[1], total)
            total = product(a[2], b[2], a[3], b[3], x[2], x[3], total)
            x = ptx_tile.shared_4(shared, uint32(source1 + here))
            total = product(a[4], b[4], a[5], b[5], x[0], x[1], total)
            total = product(a[6], b[6], a[7], b[7], x[2], x[3], total)
            x = ptx_tile.shared_4(shared, uint32(source2 + here))
            total = product(a[8], b[8], a[9], b[9], x[0], x[1], total)
            total = product(a[10], b[10], a[11], b[11], x[2], x[3], total)
            x = ptx_tile.shared_4(shared, uint32(source3 + here))
            total = product(a[12], b[12], a[13], b[13], x[0], x[1], total)
            total = product(a[14], b[14], a[15], b[15], x[2], x[3], total)
            y[4 * t], y[4 * t + 1], y[4 * t + 2], y[4 * t + 3] = total[0], total[1], total[2], total[3]

    def kernel(
        words, scales, zeros, selectors, outers, x, out, m, n, token_blocks, scale_words, zero_words, low_base,
        lowest_base, selector_words,
    ):  # fmt: skip
        shared = ptx_tile.shared_words()
        thread, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        lane, warp = uint32(thread & uint32(31)), uint32(thread >> uint32(5))
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        row_warp = uint32(warp // uint32(k_warps))
        k_warp = uint32(warp - row_warp * uint32(k_warps))
        row_block = uint32(block // uint32(token_blocks))
        token0 = uint32((block - row_block * uint32(token_blocks)) * uint32(tokens))
        block_row0 = uint32(row_block * uint32(block_rows))
        row0 = uint32(block_row0 + row_warp * uint32(TILE_ROWS))
        rows, all_tokens = uint32(n), uint32(m)
        own_weights = uint32(uint32(input_words) + warp * uint32(side_words))
        ptx_tile.start()
        if thread == uint32(0):
            for i in range(table_total):
                ptx_tile.put_1(shared, uint32(tables_at + i), uint32(table_words[i]))
        y = cuda.local.array(results, float32)
        for i in range(results):
            y[i] = float32(0)
        # weights of the first stages, then their inputs, which the kernel before may still write
        for i in range(depth - 1):
            if i < stages:
                base = uint32(ring_at + i * stage_words)
                copy_weights(
                    shared, uint32(base + own_weights), uint32(uint32(i * k_warps) + k_warp), row0, lane, words, scales,
                    zeros, selectors, rows, scale_words, zero_words, low_base, lowest_base, selector_words,
                )  # fmt: skip
        ptx_tile.wait_for_previous()
        for i in range(depth - 1):
            if i < stages:
                copy_inputs(shared, uint32(ring_at + i * stage_words), x, token0, all_tokens, uint32(i), thread)
            ptx_tile.commit()
        stage, here, last = uint32(0), uint32(ring_at), uint32(ring_at + (depth - 1) * stage_words)
        base = uint32(last)
        while stage < uint32(stages):
            wait_for_stage()
            cuda.syncthreads()
            # the stage that was computed last makes room for the one that comes ``depth - 1`` later
            ahead = uint32(stage + uint32(depth - 1))
            if ahead < uint32(stages):
                copy_weights(
                    shared, uint32(base + own_weights), uint32(ahead * uint32(k_warps) + k_warp), row0, lane, words,
                    scales, zeros, selectors, rows, scale_words, zero_words, low_base, lowest_base, selector_words,
                )  # fmt: skip
                copy_inputs(shared, base, x, token0, all_tokens, ahead, thread)
            ptx_tile.commit()
            part = uint32(stage * uint32(k_warps) + k_warp)
            if part < uint32(side_stages) or ptx.SIMULATED:
                inputs = uint32(here + k_warp * uint32(RUNS * RUN // BLOCK * BLOCK_WORDS))
                for s in range(RUNS):
                    step_run(shared, uint32(s), part, uint32(here + own_weights), inputs, row0, lane, y)
            base = uint32(here)
            here = uint32(ring_at) if here == last else uint32(here + uint32(stage_words))
            stage = uint32(stage + uint32(1))
        cuda.syncthreads()
        mine = uint32(uint32(ring_at) + warp * uint32(result_words))
        for t in range(token_tiles):
            target = uint32(mine + (uint32(t * TILE_TOKENS) + c * uint32(2)) * uint32(RESULT_PITCH) + g)
            ptx_tile.put_1(shared, target, ptx.float_bits(y[4 * t]))
            ptx_tile.put_1(shared, uint32(target + uint32(RESULT_PITCH)), ptx.float_bits(y[4 * t + 1]))
            ptx_tile.put_1(shared, uint32(target + uint32(8)), ptx.float_bits(y[4 * t + 2]))
            ptx_tile.put_1(shared, uint32(target + uint32(RESULT_PITCH + 8)), ptx.float_bits(y[4 * t + 3]))
        cuda.syncthreads()
        for i in range((items + threads - 1) // threads):
            item = uint32(thread + uint32(i * threads))
            token = uint32(item // uint32(block_rows))
            within = uint32(item - token * uint32(block_rows))
            row = uint32(block_row0 + within)
            if item < uint32(items) and row < rows and uint32(token0 + token) < all_tokens:
                source = uint32((within >> uint32(4)) * uint32(k_warps * result_words) + uint32(ring_at))
                source = uint32(source + token * uint32(RESULT_PITCH) + (within & uint32(15)))
                total = float32(0)
                for w in range(k_warps):
                    found = ptx_tile.shared_1(shared, uint32(source + uint32(w * result_words)))
                    total = ptx.add(total, ptx.bits_float(found))
                if factor != 1.0:
                    total = ptx.mul(total, float32(factor))
                if outer:
                    total = ptx.mul(total, outer_value(outers, row if outer_by_row else uint32(0)))
                ptx_tile.store_half(out, uint32((token0 + token) * rows + row), ptx.to_half(total))

    return kernel
