"""Device functions by which the decode GEMV takes a low-rank branch along: ``y = W x + B (A x)`` in one launch.

``project``: warps of many blocks share ``t = A x``, each a part of a row and some tokens. Its codes come to shared
memory while the kernel before still runs; partial sums go to global memory, each with the launch's tag.
``gather``: at the end of its first tile a block reads all partial sums, again where the tag is not there yet, and adds
them up in a fixed order.
``expand``: ``B t`` for the 16 rows of a tile, which the kernel adds to the dense sums before its one rounding. Elements
of B are loaded a tile ahead, and the products made while the tile's codes are still under way.

The tag is 1 or 2 in turn: each block counts itself in once it has read the count, from 0 to twice the number of blocks
and again. All blocks must be on the device at once, as the launcher sees to. Products are float32 as in ``low_rank``;
results are the same in every launch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import cuda, float32, int32, uint32

from kernels_gpu import ptx, ptx_grid, ptx_tile
from kernels_gpu.dequantize_scales import BYTE_SCALES, HALF_SCALES, make_scale_of_bits
from kernels_gpu.gemv_branch_spec import COUNT, LANES, PARTIAL, BranchSpec
from kernels_gpu.gemv_plan import TILE_ROWS
from kernels_gpu.lanes import lane_sum
from kernels_gpu.low_rank import make_values
from kernels_gpu.low_rank_spec import UNIT, Factor, FactorKind
from kernels_gpu.pairs import CHUNK, chunk_functions, pair_functions

SUMS_AT_ONCE = 8  # partial sums that a thread has under way


@dataclass(frozen=True)
class BranchFunctions:
    """Device functions of one kernel; see the module docstring."""

    fetch_a: Any  # (shared, a, a_scales, block, blocks, warp, lane): starts copies
    read_tag: Any  # (work, blocks) -> the launch's tag
    project: Any  # (shared, a, a_scales, x, work, tag, block, blocks, warp, lane)
    arrive: Any  # (work, thread, blocks): behind a barrier that follows the last ``read_tag``
    gather: Any  # (shared, work, tag, thread): t to shared memory; ends with a barrier
    fetch_b: Any  # (b, b_scales, row0, rows, thread, held, steps)
    expand: Any  # (shared, row0, rows, thread, held, steps, parity)
    sum_of: Any  # (shared, item, parity) -> a row's sum


def _make_bits(kind: Any) -> tuple[Any, Any]:
    """Device functions: the raw bits of a stored scale by index, and their value."""
    if kind is None:

        @cuda.jit(device=True)
        def no_bits(address, index):
            return uint32(0)

        @cuda.jit(device=True)
        def one(bits, index):
            return float32(1)

        return no_bits, one
    of_bits = make_scale_of_bits(kind)
    load, bytewise = ptx_tile.load_word, kind in BYTE_SCALES
    if kind in HALF_SCALES:
        load = ptx_tile.load_half

    @cuda.jit(device=True)
    def raw(address, index):
        return load(address, uint32(index >> uint32(2)) if bytewise else index)

    @cuda.jit(device=True)
    def value(bits, index):
        if bytewise:
            bits = uint32((bits >> uint32((index & uint32(3)) << uint32(3))) & uint32(0xFF))
        return of_bits(bits)

    return raw, value


def _make_element(factor: Factor) -> tuple[Any, Any]:
    """Device functions: the raw bits of an element by row and column, and its value."""
    columns = factor.columns
    row_words = -(-columns // 32) * 8  # of 8-bit codes, in blocks of 32
    low = pair_functions(factor.kind is FactorKind.BF16).low
    if factor.kind is FactorKind.INT8:

        @cuda.jit(device=True)
        def raw(codes, row, column):
            return ptx_tile.load_word(codes, uint32(row * uint32(row_words) + (column >> uint32(2))))

        @cuda.jit(device=True)
        def value(bits, column):
            up = uint32(uint32(24) - ((column & uint32(3)) << uint32(3)))
            return float32(int32(ptx.signed(uint32(bits << up))) >> 24)
    elif factor.kind is FactorKind.FP32:

        @cuda.jit(device=True)
        def raw(codes, row, column):
            return ptx_tile.load_word(codes, uint32(row * uint32(columns) + column))

        @cuda.jit(device=True)
        def value(bits, column):
            return ptx.bits_float(bits)
    else:

        @cuda.jit(device=True)
        def raw(codes, row, column):
            return ptx_tile.load_half(codes, uint32(row * uint32(columns) + column))

        @cuda.jit(device=True)
        def value(bits, column):
            return low(bits)

    return raw, value


def make_branch(
    branch: BranchSpec, tokens: int, warps: int, places: tuple[int, int], *, bfloat: bool
) -> BranchFunctions:
    """The functions of a branch; ``places`` are the words where its shared memory and what warps keep of A begin."""
    a, b, rank = branch.a, branch.b, branch.rank
    at, kept_at = places
    loads, chunk, splits = branch.loads(tokens), branch.chunk(tokens), branch.splits(tokens)
    batch = branch.batch(tokens)
    batches = -(-tokens // batch)
    held_inputs, spread = 4 * loads * batch, branch.spread
    items, item_warps, words, columns = branch.items(tokens), branch.item_warps(tokens, warps), a.words, a.columns
    row_words = -(-columns // 32) * 8 if a.kind is FactorKind.INT8 else columns // 2
    vector, scaled = a.vector, a.scale is not None
    load_chunk = chunk_functions(columns, branch.vector).load
    group, groups = a.group if a.group else 1 << 30, a.groups
    t_at = at + 4
    sums_at = t_at + -(-tokens * rank // 4) * 4
    kept_words = branch.kept_words(tokens)
    scales_at = LANES * loads * words  # of a warp's part
    threads = warps * LANES
    lanes, teams, held_count = (
        branch.row_lanes(tokens, warps),
        branch.row_teams(tokens, warps),
        branch.held(tokens, warps),
    )
    b_group, b_groups = b.group if b.group else 1 << 30, b.groups
    a_step, b_step, b_scaled = a.step, b.step, b.scale is not None
    _, scale_of_a = _make_bits(a.scale)
    scale_bits_of_b, scale_of_b = _make_bits(b.scale)
    raw_of_a, value_of_a = _make_element(a)
    raw_of_b, value_of_b = _make_element(b)
    pair = pair_functions(bfloat)
    x_low, x_high = pair.low, pair.high
    values_of_a = make_values(a)
    adders = branch.adders(tokens, warps)
    own_sums = -(-splits // adders)  # of a thread, for an element of t
    under_way = min(SUMS_AT_ONCE, own_sums)
    summed, summed_row, added_up = lane_sum(LANES), lane_sum(lanes), lane_sum(adders)
    bytewise, eight_bits = a.scale in BYTE_SCALES, a.kind is FactorKind.INT8
    wide_scale = scaled and not bytewise and a.scale not in HALF_SCALES
    wait_for_all = ptx_tile.wait_all_but(0)

    @cuda.jit(device=True)
    def item_of(block, blocks, warp):
        """A warp's first part: neighbouring ones in different blocks, or in one of the first."""
        return uint32(warp * blocks + block) if spread else uint32(block * uint32(item_warps) + warp)

    @cuda.jit(device=True)
    def place_of_item(item):
        """Row, split and first token of a part."""
        of_row = uint32(item // uint32(batches))
        row = uint32(of_row // uint32(splits))
        return row, uint32(of_row - row * uint32(splits)), uint32((item - of_row * uint32(batches)) * uint32(batch))

    @cuda.jit(device=True)
    def fetch_item(shared, codes, scales, item, warp, lane):
        row, split, _ = place_of_item(item)
        first = uint32(split * uint32(chunk))
        kept = uint32(uint32(kept_at) + warp * uint32(kept_words))
        for i in range(loads):
            at_unit = uint32(lane + uint32(i * LANES))
            column = uint32(first + at_unit * uint32(UNIT))
            inside = column < uint32(columns)
            safe = column if inside else uint32(0)
            target = uint32(kept + at_unit * uint32(words))
            if eight_bits:
                place = ptx_tile.place_of(codes, uint32(row * uint32(row_words) + (safe >> uint32(2))))
                ptx_tile.copy_async_4(shared, target, place, uint32(0), uint32(4) if inside else uint32(0))
                ptx_tile.copy_async_4(shared, target, place, uint32(1), uint32(4) if inside else uint32(0))
            else:
                place = ptx_tile.place_of(codes, uint32(row * uint32(row_words) + (safe >> uint32(1))))
                ptx_tile.copy_async_16_if(shared, target, place, uint32(0), uint32(16) if inside else uint32(0))
            if scaled:
                index = uint32(row * uint32(groups) + safe // uint32(group))
                if bytewise:
                    index = uint32(index >> uint32(2))
                elif not wide_scale:
                    index = uint32(index >> uint32(1))
                place = ptx_tile.place_of(scales, index)
                ptx_tile.copy_async_4(shared, uint32(kept + uint32(scales_at) + at_unit), place, uint32(0), uint32(4))

    @cuda.jit(device=True)
    def fetch_a(shared, codes, scales, block, blocks, warp, lane):
        """Start to copy this warp's first part of A."""
        item = item_of(block, blocks, warp)
        if vector and warp < uint32(item_warps) and item < uint32(items):
            fetch_item(shared, codes, scales, item, warp, lane)

    @cuda.jit(device=True)
    def eight_of_a(shared, target):
        return values_of_a(ptx_tile.shared_2(shared, target) if eight_bits else ptx_tile.shared_4(shared, target))

    @cuda.jit(device=True)
    def inputs_at(x, token, column):
        """Eight inputs of a token, zeros beyond the last."""
        zero = uint32(0)
        found = (zero, zero, zero, zero)
        if column < uint32(columns) and token < uint32(tokens):
            found = load_chunk(x, token, uint32(column // uint32(CHUNK)))
        return found

    @cuda.jit(device=True)
    def dot(values, found, total):
        total = ptx.fma(values[0], x_low(found[0]), total)
        total = ptx.fma(values[1], x_high(found[0]), total)
        total = ptx.fma(values[2], x_low(found[1]), total)
        total = ptx.fma(values[3], x_high(found[1]), total)
        total = ptx.fma(values[4], x_low(found[2]), total)
        total = ptx.fma(values[5], x_high(found[2]), total)
        total = ptx.fma(values[6], x_low(found[3]), total)
        return ptx.fma(values[7], x_high(found[3]), total)

    @cuda.jit(device=True)
    def product(values, step, found, total):
        return ptx.fma(step, dot(values, found, float32(0)), total) if scaled else dot(values, found, total)

    @cuda.jit(device=True)
    def step_of_unit(shared, kept, at_unit, row, column):
        index = uint32(row * uint32(groups) + column // uint32(group))
        bits = ptx_tile.shared_1(shared, uint32(kept + uint32(scales_at) + at_unit))
        if not bytewise and not wide_scale:
            bits = uint32((bits >> uint32((index & uint32(1)) << uint32(4))) & uint32(0xFFFF))
        step = scale_of_a(bits, index)
        return ptx.mul(step, float32(a_step))

    @cuda.jit(device=True)
    def put_partial(work, tag, split, token, row, lane, totals, there):
        """Lane i stores the sum of the i-th token."""
        mine = float32(0)
        for i in range(batch):
            total = summed(totals[i])
            mine = total if lane == uint32(i) else mine
        at_token = uint32(token + lane)
        if there and lane < uint32(batch) and at_token < uint32(tokens):
            place = uint32((at_token * uint32(rank) + row) * uint32(splits) + split)
            ptx_grid.put_tagged(work, uint32(uint32(PARTIAL) + place), ptx.float_bits(mine), tag)

    @cuda.jit(device=True)
    def project_units(shared, x, row, split, token, warp, lane, totals):
        first, kept = uint32(split * uint32(chunk)), uint32(uint32(kept_at) + warp * uint32(kept_words))
        held = cuda.local.array(held_inputs, uint32)
        for i in range(loads):
            column = uint32(first + (lane + uint32(i * LANES)) * uint32(UNIT))
            for t in range(batch):
                found, place = inputs_at(x, uint32(token + uint32(t)), column), 4 * (batch * i + t)
                held[place], held[place + 1], held[place + 2], held[place + 3] = found
        for i in range(loads):
            at_unit = uint32(lane + uint32(i * LANES))
            column = uint32(first + at_unit * uint32(UNIT))
            values = eight_of_a(shared, uint32(kept + at_unit * uint32(words)))
            step = float32(1)
            if scaled:
                step = step_of_unit(shared, kept, at_unit, row, column if column < uint32(columns) else uint32(0))
            for t in range(batch):
                place = 4 * (batch * i + t)
                found = (held[place], held[place + 1], held[place + 2], held[place + 3])
                totals[t] = product(values, step, found, totals[t])

    @cuda.jit(device=True)
    def project_elements(codes, x, row, split, token, lane, totals):
        for i in range(loads):
            column = uint32(split * uint32(chunk) + lane + uint32(i * LANES))
            if column < uint32(columns):
                value = value_of_a(raw_of_a(codes, row, column), column)
                for t in range(batch):
                    at_token = uint32(token + uint32(t))
                    if at_token < uint32(tokens):
                        found = ptx_tile.load_half(x, uint32(at_token * uint32(columns) + column))
                        totals[t] = ptx.fma(value, x_low(found), totals[t])

    @cuda.jit(device=True)
    def project(shared, codes, scales, x, work, tag, block, blocks, warp, lane):
        """This warp's parts of ``A x``; its first part of A has come."""
        done, again = uint32(0), False
        totals = cuda.local.array(batch, float32)
        while done < uint32(items):
            item = uint32(done + item_of(block, blocks, warp))
            there = warp < uint32(item_warps) and item < uint32(items)
            if there or ptx.SIMULATED:  # whose shuffles wait for the whole block
                row, split, token = place_of_item(item if there else uint32(0))
                own = warp if there else uint32(0)
                for t in range(batch):
                    totals[t] = float32(0)
                if vector:
                    if again:
                        ptx.sync_warp()
                        if there:
                            fetch_item(shared, codes, scales, item, warp, lane)
                        ptx_tile.commit()
                        wait_for_all()
                        ptx.sync_warp()
                    project_units(shared, x, row, split, token, own, lane, totals)
                else:
                    project_elements(codes, x, row, split, token, lane, totals)
                put_partial(work, tag, split, token, row, lane, totals, there)
            done, again = uint32(done + blocks * uint32(item_warps)), True

    @cuda.jit(device=True)
    def read_tag(work, blocks):
        """1 or 2: the last launch's was the other one."""
        return uint32(2) if ptx_grid.relaxed_word(work, uint32(COUNT)) >= blocks else uint32(1)

    @cuda.jit(device=True)
    def arrive(work, thread, blocks):
        """Behind a barrier that follows the last ``read_tag``: this block needs the count no longer."""
        if thread == uint32(0):
            ptx_grid.count_up(work, uint32(COUNT), uint32(uint32(2) * blocks - uint32(1)))

    @cuda.jit(device=True)
    def gather(shared, work, tag, thread):
        """Leave t in shared memory, ``[tokens, rank]``, as soon as all blocks' sums are there."""
        bits, tags = cuda.local.array(under_way, uint32), cuda.local.array(under_way, uint32)
        for i in range((tokens * rank * adders + threads - 1) // threads):
            item = uint32(thread + uint32(i * threads))
            place, adder = uint32(item // uint32(adders)), uint32(item & uint32(adders - 1))
            safe = place if place < uint32(tokens * rank) else uint32(0)
            first = uint32(uint32(PARTIAL) + safe * uint32(splits))
            total = float32(0)
            for p in range((own_sums + under_way - 1) // under_way):
                for s in range(under_way):
                    split = uint32(adder + uint32((p * under_way + s) * adders))
                    split = split if split < uint32(splits) else adder
                    bits[s], tags[s] = ptx_grid.tagged(work, uint32(first + split))
                for s in range(under_way):
                    split = uint32(adder + uint32((p * under_way + s) * adders))
                    if split < uint32(splits):
                        found, seen = bits[s], tags[s]
                        while seen != tag:
                            found, seen = ptx_grid.tagged(work, uint32(first + split))
                        total = ptx.add(total, ptx.bits_float(found))
            total = added_up(total)
            if place < uint32(tokens * rank) and adder == uint32(0):
                ptx_tile.put_1(shared, uint32(uint32(t_at) + place), ptx.float_bits(total))
        ptx_grid.sync_block()

    @cuda.jit(device=True)
    def fetch_b(codes, scales, row0, rows, thread, held, steps):
        """Load this lane's elements of a tile's rows of B."""
        row = uint32(row0 + uint32(thread // uint32(lanes)) % uint32(TILE_ROWS))
        row = row if row < rows else uint32(rows - uint32(1))
        for i in range(held_count):
            column = uint32((thread & uint32(lanes - 1)) + uint32(i * lanes))
            column = column if column < uint32(rank) else uint32(0)
            held[i] = raw_of_b(codes, row, column)
            steps[i] = scale_bits_of_b(scales, uint32(row * uint32(b_groups) + column // uint32(b_group)))

    @cuda.jit(device=True)
    def expand(shared, row0, rows, thread, held, steps, parity):
        """``B t`` of a tile's rows, in the buffer ``parity``."""
        team, lane = uint32(thread // uint32(lanes)), uint32(thread & uint32(lanes - 1))
        of_tile = uint32(team % uint32(TILE_ROWS))
        row = uint32(row0 + of_tile)
        row = row if row < rows else uint32(rows - uint32(1))
        values = cuda.local.array(held_count, float32)
        for j in range(held_count):
            column = uint32(lane + uint32(j * lanes))
            values[j] = value_of_b(held[j], column)
            if b_scaled:
                index = uint32(row * uint32(b_groups) + column // uint32(b_group))
                values[j] = ptx.mul(values[j], ptx.mul(scale_of_b(steps[j], index), float32(b_step)))
        for i in range((tokens + teams - 1) // teams):
            token = uint32(uint32(team // uint32(TILE_ROWS)) + uint32(i * teams))
            t_row = uint32(uint32(t_at) + (token if token < uint32(tokens) else uint32(0)) * uint32(rank))
            total = float32(0)
            for j in range(held_count):
                column = uint32(lane + uint32(j * lanes))
                if column < uint32(rank):
                    t_value = ptx.bits_float(ptx_tile.shared_1(shared, uint32(t_row + column)))
                    total = ptx.fma(values[j], t_value, total)
            total = summed_row(total)
            if lane == uint32(0) and token < uint32(tokens):
                place = uint32(uint32(sums_at) + (parity * uint32(tokens) + token) * uint32(TILE_ROWS) + of_tile)
                ptx_tile.put_1(shared, place, ptx.float_bits(total))

    @cuda.jit(device=True)
    def sum_of(shared, item, parity):
        place = uint32(uint32(sums_at) + parity * uint32(TILE_ROWS * tokens) + item)
        return ptx.bits_float(ptx_tile.shared_1(shared, place))

    return BranchFunctions(fetch_a, read_tag, project, arrive, gather, fetch_b, expand, sum_of)
