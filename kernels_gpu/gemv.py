"""Decode GEMV: ``out[m, n] = x[m, k] @ weight[n, k].T`` for few tokens, straight from packed codes.

Versions
    rows_of_a_warp     half-precision fma, two rows a warp, loads through registers: a sketch, 44 us at 28672 x 8192
    digits_and_tiles   this file: integer tensor cores on tiles of 16 rows, a ring of stages in shared memory

How it works. The warps of a block, or of one of its teams, share a tile of 16 rows: each takes every so-many-th stage
of ``runs`` times 128 inputs, and their sums are added up at its end. Teams have tiles and barriers of their own, and
the block's inputs in common: more stages of a tile for each warp, and ends of tiles that do not coincide. Codes,
scales, zero points and selectors of a stage come by ``cp.async`` into a ring of ``depth`` stages, so that loads in
flight cost no registers. It fills stage by stage while the kernel before this one runs: all at once, the copies would
keep its results and this one's inputs waiting in the memory's queues. Rows begin at whole sectors of 32 bytes: shared
memory fills half as fast at odd places (``gemv_spec``). Blocks stay and walk over tiles.

The inputs become two signed bytes each, ``x = scale * (256 * high + low)`` with one scale for each run of 128 inputs
of a token: 16-bit fixed point, an error of at most 2**-16 of the run's largest magnitude. Both bytes are columns of
the right operand of ``mma.m16n8k32``, whose eight columns would be idle anyway: four tokens cost what one costs.
Weights are signed bytes too (``gemv_plan``), so sums are exact integers until one float32 multiplication by both
scales a run.

Lane ``4 g + c`` of a warp holds codes of rows g and g + 8: block ``4 run + c`` of 32 codes. Where a group has fewer
than 128 inputs, the right operand is block-diagonal: a column stands for a token, a digit and a part of the run (half
or quarter), and is zero but for the blocks of that part. A token then takes four columns or all eight. One token has
columns to spare: there a lane takes four blocks next to one another, a group or two of its own (``gemv_gathered``).
Codes of 4 bits may become bytes before the kernel before this one has ended, those of a first stage (``gemv_ahead``).

Left out: more than 16 tokens.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import cuda, float32, int32, uint32

from hwmodel.units import ceil_div
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.dequantize_scales import load_of_scale, make_scale_of_bits
from kernels_gpu.gemv_ahead import HELD_WORDS, make_ahead
from kernels_gpu.gemv_branch import make_branch
from kernels_gpu.gemv_copies import make_copy_stage
from kernels_gpu.gemv_decode import make_decoders
from kernels_gpu.gemv_fields import make_fields, make_row_pair
from kernels_gpu.gemv_gathered import make_step_stage
from kernels_gpu.gemv_inputs import make_stage_inputs
from kernels_gpu.gemv_learned import make_learned_tables
from kernels_gpu.gemv_plan import BLOCK, RUN, TILE_ROWS, ScaleKind
from kernels_gpu.gemv_planes import load_swapped, make_load_inputs
from kernels_gpu.gemv_spec import WARP, GemvSpec

ARGUMENTS = "ppppppp" + "iiiiiii" + "pppppp"


def make_body(spec: GemvSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``."""
    plan, k = spec.plan, spec.k
    bits, tokens, warps, runs, depth = plan.bits, spec.tokens, spec.warps, spec.runs, spec.depth
    parts, group = plan.parts, plan.group if plan.group else 1 << 30
    part_lanes = 4 // parts  # lanes whose blocks make a part of a run; also tokens of a tile of columns
    halves = 2 if plan.group == 16 else 1
    half_tables = halves == 2 and plan.candidates > 1  # each half of a block has a candidate of its own
    column_tiles = spec.column_tiles
    results = 2 * column_tiles  # of a lane: rows g and g + 8 of each tile of columns
    slots, stages = spec.slots, spec.stages
    teams, team_warps, team_threads = spec.teams, spec.team_warps, spec.team_warps * WARP
    rounds_of_results = ceil_div(tokens * TILE_ROWS, team_threads)
    pitch, stage_words, whole = spec.pitch, spec.stage_words, spec.whole_stages
    fields = make_fields(spec)
    stage_fields = fields.stage_fields
    table_words = sum(plan.tables, ()) or (0,)
    one_table = len(plan.tables) <= 1
    table_total = len(table_words) if plan.tables and (one_table or plan.patched_bytes is None) else 0
    tables_at, inputs_at, plane, all_runs = spec.tables_at, spec.inputs_at, spec.plane, spec.all_runs
    scales_of_x, sums_of_x = spec.input_scales_at, spec.input_sums_at
    ring_at, reduction_at, sums_per_run = spec.ring_at, spec.reduction_at, spec.sums_per_run
    outer, outer_by_row = plan.outer is not None, plan.outer_by_row
    step, bfloat = float32(plan.step), spec.bfloat
    gathered, swapped = spec.gathered, spec.swapped
    decoders = make_decoders(plan, tables_at, merged=spec.merged, products=tokens == 1)
    load_block, zero_step = decoders.load_block, plan.zero_step
    outer_kind = plan.outer or ScaleKind.FP32  # without outer scales none is read
    load_outer, outer_of_bits = load_of_scale(outer_kind), make_scale_of_bits(outer_kind)
    accumulate, finish, no_sums = decoders.accumulate, decoders.finish, decoders.no_sums
    of_inputs = make_stage_inputs(spec)
    stage_inputs, fetch_first, stage_fetched = of_inputs.stage, of_inputs.fetch_first, of_inputs.stage_fetched
    copy_stage = make_copy_stage(spec)
    zeros_count = spec.zeros
    learned, as_halves, block_words = plan.learned, plan.halves, spec.block_words
    learned_at, learned_pitch, learned_words = spec.learned_at, spec.learned_pitch, plan.learned_words
    learned_tables = make_learned_tables(spec)
    fetch_codebooks, build_tables, held_words = learned_tables.fetch, learned_tables.build, learned_tables.words
    wait_for_stage, wait_for_all = ptx_tile.wait_all_but(depth - 1), ptx_tile.wait_all_but(0)
    row_pair, load_inputs = make_row_pair(spec, decoders, fields), make_load_inputs(plan.halves)
    tables_of_rows, steps_of_rows, zeros_of_rows = row_pair.tables, row_pair.steps, row_pair.zeros
    step_stage = make_step_stage(spec, decoders, row_pair) if gathered else None
    sums_of_lanes = 4 if gathered else parts  # lanes of a row with sums of their own
    ahead, held_codes, all_begin = spec.ahead, HELD_WORDS * spec.ahead, team_warps <= spec.stages or ptx.SIMULATED
    decode_ahead = add_ahead = None
    if ahead:
        made_ahead = make_ahead(spec, decoders, fields)
        decode_ahead, add_ahead = made_ahead.decode, made_ahead.add
    branched = spec.branch is not None
    fetch_a = read_tag = project = arrive = gather = fetch_b = expand = sum_of_branch = None
    if spec.branch is not None:
        beside = make_branch(spec.branch, tokens, warps, (spec.branch_at, spec.reduction_at), bfloat=bfloat)
        fetch_a, read_tag, project = beside.fetch_a, beside.read_tag, beside.project
        arrive, gather = beside.arrive, beside.gather
        fetch_b, expand, sum_of_branch = beside.fetch_b, beside.expand, beside.sum_of
    elements_of_b, wait_for_a = spec.branch.held(tokens, warps) if spec.branch else 0, ptx_tile.wait_all_but(1)

    @cuda.jit(device=True)
    def fetch_outer(outers, row0, rows, thread):
        """Bits of the outer scale of a row of a tile to come: a load at its end would keep the last results waiting."""
        bits = uint32(0)
        if thread < uint32(tokens * TILE_ROWS):
            row = uint32(row0 + (thread & uint32(TILE_ROWS - 1)))
            row = row if row < rows else uint32(rows - uint32(1))
            bits = load_outer(outers, row if outer_by_row else uint32(0))
        return bits

    @cuda.jit(device=True)
    def sync_team(team):
        if teams == 1:
            cuda.syncthreads()
        elif team_warps == 1:
            ptx.sync_warp()
        else:
            ptx_tile.sync_some(uint32(team + uint32(1)), uint32(team_threads))

    def make_step_run(first_half, past_half):
        @cuda.jit(device=True)
        def step_run(
            shared, s, stage, first, at, row0, lane, upper_scale_at, lower_scale_at, upper_set, lower_set,
            own_tables, y,
        ):  # fmt: skip
            """Add the products of a run of 128 inputs, or of these halves of its blocks, to ``y``."""
            g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
            upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
            run = uint32(stage * uint32(runs) + s)
            place = uint32(at + c * uint32(bits) + g * uint32(pitch) + s * uint32(4 * bits))
            if swapped:
                upper_codes = load_swapped(shared, place, g)
                lower_codes = load_swapped(shared, uint32(place + uint32(8 * pitch)), g)
            else:
                upper_codes = load_block(shared, place)
                lower_codes = load_block(shared, uint32(place + uint32(8 * pitch)))
            own = uint32(run * uint32(RUN) + c * uint32(BLOCK))  # of the codes; a run's candidates may differ by lane
            of_codes = uint32(own // uint32(group) - first)
            upper_tables, lower_tables = tables_of_rows(
                shared, at, upper, lower, g, first, of_codes, upper_set, lower_set, own_tables
            )
            # this lane's sums: token c // parts, part c % parts
            part = uint32(c & uint32(parts - 1))
            input0 = uint32(run * uint32(RUN) + part * uint32(RUN // parts))
            field = uint32(input0 // uint32(group) - first)
            digit, column = uint32((lane >> uint32(2)) & uint32(1)), uint32(lane >> uint32(3))
            # inputs that a lane hands in: those of a token's digit, or zeros where its blocks are not of the column's
            # part
            idle = uint32(c // uint32(part_lanes)) != uint32(column & uint32(parts - 1))
            for half in range(first_half, past_half):
                here = uint32(field + uint32(half))
                if half_tables:
                    of_half = uint32(of_codes + uint32(half))
                    upper_tables, lower_tables = tables_of_rows(
                        shared, at, upper, lower, g, first, of_half, upper_set, lower_set, own_tables
                    )
                inside = whole or uint32(input0 + uint32(16 * half)) < uint32(k)
                upper_step, lower_step = steps_of_rows(shared, upper_scale_at, lower_scale_at, here)
                upper_zero, lower_zero = zeros_of_rows(shared, at, upper, lower, g, first, here)
                for t in range(column_tiles):
                    # columns of tokens that there are not are computed and dropped
                    token = uint32(t * part_lanes + column // uint32(parts))
                    of_sum = uint32(t * part_lanes + c // uint32(parts))
                    if tokens % part_lanes != 0:
                        token = token if token < uint32(tokens) else uint32(0)
                        of_sum = of_sum if of_sum < uint32(tokens) else uint32(0)
                    if as_halves:
                        source = uint32(
                            uint32(inputs_at) + token * uint32(plane) + c * uint32(block_words)
                            + run * uint32(4 * block_words)
                        )  # fmt: skip
                    else:
                        source = uint32(
                            uint32(inputs_at) + (token * uint32(2) + digit) * uint32(plane) + c * uint32(8)
                            + run * uint32(32)
                        )  # fmt: skip
                    if parts > 1:
                        source = uint32(0) if idle else source
                    inputs = load_inputs(shared, source)
                    zero_sum = int32(0)
                    if sums_per_run > 0:
                        sum_at = uint32((of_sum * uint32(all_runs) + run) * uint32(sums_per_run))
                        sum_at = uint32(sum_at + part * uint32(halves) + uint32(half))
                        found = ptx_tile.shared_1(shared, uint32(uint32(sums_of_x) + sum_at))
                        zero_sum = int32(ptx.signed(found) * int32(zero_step))
                    sums = accumulate(upper_codes, lower_codes, upper_tables, lower_tables, inputs, half, no_sums())
                    upper_sum, lower_sum = finish(
                        sums, int32(int32(upper_zero) * zero_sum), int32(int32(lower_zero) * zero_sum)
                    )
                    x_step = ptx.bits_float(
                        ptx_tile.shared_1(shared, uint32(uint32(scales_of_x) + of_sum * uint32(all_runs) + run))
                    )
                    if inside:
                        y[2 * t] = ptx.fma(ptx.mul(upper_step, x_step), upper_sum, y[2 * t])
                        y[2 * t + 1] = ptx.fma(ptx.mul(lower_step, x_step), lower_sum, y[2 * t + 1])

        return step_run

    if halves == 2 and column_tiles > 1:
        # both in one function, their loop would stay one at run time and issue the products of both in every turn
        step_first, step_second = make_step_run(0, 1), make_step_run(1, 2)

        @cuda.jit(device=True)
        def step_run(
            shared, s, stage, first, at, row0, lane, upper_scale_at, lower_scale_at, upper_set, lower_set,
            own_tables, y,
        ):  # fmt: skip
            step_first(
                shared, s, stage, first, at, row0, lane, upper_scale_at, lower_scale_at, upper_set, lower_set,
                own_tables, y,
            )  # fmt: skip
            step_second(
                shared, s, stage, first, at, row0, lane, upper_scale_at, lower_scale_at, upper_set, lower_set,
                own_tables, y,
            )  # fmt: skip
    else:
        step_run = make_step_run(0, halves)

    def kernel(
        words, scales, zeros, selectors, outers, x, out, n, tiles, scale_words, zero_words, low_base,
        lowest_base, selector_words, a, a_scales, b, b_scales, branch_x, branch_work,
    ):  # fmt: skip
        shared = ptx_tile.shared_words()
        thread = uint32(cuda.threadIdx.x)
        lane, warp = uint32(thread & uint32(31)), uint32(thread >> uint32(5))
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        blocks, all_tiles, rows = uint32(cuda.gridDim.x), uint32(tiles), uint32(n)
        mine = uint32(uint32(ring_at) + warp * uint32(depth * stage_words))
        last = uint32(mine + uint32((depth - 1) * stage_words))
        ptx_tile.start()
        y = cuda.local.array(results, float32)
        for i in range(results):
            y[i] = float32(0)
        held = cuda.local.array(held_words, uint32)
        team, member, team_thread = uint32(0), uint32(warp), uint32(thread)
        if teams > 1:
            team = uint32(warp // uint32(team_warps))
            member, team_thread = uint32(warp - team * uint32(team_warps)), uint32(thread - team * uint32(team_threads))
        step_tiles = uint32(blocks * uint32(teams))  # from a team's tile to its next
        tile, slot, at = uint32(cuda.blockIdx.x + blocks * team), uint32(0), uint32(mine)
        # the simulator's teams take as many turns as the first, for its barriers are of all threads
        lag = uint32(blocks * team) if ptx.SIMULATED else uint32(0)
        done_tile, done_slot, done_at, parity = uint32(tile), uint32(0), uint32(mine), uint32(0)
        outer_bits = uint32(0)
        if outer:
            outer_bits = fetch_outer(outers, uint32(tile * uint32(TILE_ROWS)), rows, team_thread)
        team_tables = uint32(uint32(learned_at) + team * uint32(2 * TILE_ROWS * learned_pitch))
        filled, taken = uint32(0), uint32(0)  # ``taken``: the stage of this turn's is in ``y`` already
        if ahead > 0:
            ahead_codes = cuda.local.array(held_codes, uint32)
        if branched:
            block = uint32(cuda.blockIdx.x)
            tag = uint32(0)
            first_b, steps_of_first = cuda.local.array(elements_of_b, uint32), cuda.local.array(elements_of_b, uint32)
            held_b, steps_of_b = cuda.local.array(elements_of_b, uint32), cuda.local.array(elements_of_b, uint32)
            fetch_a(shared, a, a_scales, block, blocks, warp, lane)
            ptx_tile.commit()
            fetch_b(b, b_scales, uint32(block * uint32(TILE_ROWS)), rows, thread, first_b, steps_of_first)
            fetch_b(b, b_scales, uint32((block + blocks) * uint32(TILE_ROWS)), rows, thread, held_b, steps_of_b)
        # a team without a tile stages its part of the inputs
        while uint32(done_tile - lag) < all_tiles or (teams > 1 and filled < uint32(depth)):
            steady = filled == uint32(depth)
            row0 = uint32(done_tile * uint32(TILE_ROWS))
            if steady:
                wait_for_stage()
                ptx.sync_warp()
                stage = uint32(member + done_slot * uint32(team_warps))
                if (stage < uint32(stages) or ptx.SIMULATED) and taken == uint32(0):
                    first, upper_scale_at, lower_scale_at, upper_set, lower_set = stage_fields(
                        shared, stage, done_at, row0, lane
                    )
                    own_tables = uint32(team_tables + parity * uint32(TILE_ROWS * learned_pitch))
                    if gathered:
                        step_stage(
                            shared, stage, first, done_at, row0, lane, upper_scale_at, lower_scale_at, upper_set,
                            lower_set, own_tables, y,
                        )  # fmt: skip
                    for pair in range(
                        0 if gathered else runs // 2
                    ):  # two at a time, so that one waits while the other computes
                        step_run(
                            shared, uint32(2 * pair), stage, first, done_at, row0, lane,
                            upper_scale_at, lower_scale_at, upper_set, lower_set, own_tables, y,
                        )  # fmt: skip
                        step_run(
                            shared, uint32(2 * pair + 1), stage, first, done_at, row0, lane,
                            upper_scale_at, lower_scale_at, upper_set, lower_set, own_tables, y,
                        )  # fmt: skip
                taken = uint32(0)
                ptx.sync_warp()

            # the next stage goes where the last one has just been read
            if depth > 1 and not steady and filled > uint32(0):
                wait_for_all()  # inputs, and results of the kernel before, would queue behind copies of a whole ring
            if tile < all_tiles:
                stage = uint32(member + slot * uint32(team_warps))
                if stage < uint32(stages):
                    copy_stage(
                        shared, at, stage, uint32(tile * uint32(TILE_ROWS)), lane, g, c, words, scales, zeros,
                        selectors, rows, scale_words, zero_words, low_base, lowest_base, selector_words,
                    )  # fmt: skip
                slot = uint32(slot + uint32(1))
                if slot == uint32(slots):
                    slot, tile = uint32(0), uint32(tile + step_tiles)
                at = uint32(mine) if at == last else uint32(at + uint32(stage_words))
            ptx_tile.commit()

            if not steady:
                filled = uint32(filled + uint32(1))
                if filled == uint32(depth):
                    if ahead > 0:
                        wait_for_stage()
                        ptx.sync_warp()
                        if all_begin or member < uint32(stages):
                            decode_ahead(shared, member, mine, row0, lane, ahead_codes)
                    # only now is anything read that the kernel before may have written
                    if thread == uint32(0):
                        for i in range(zeros_count):
                            ptx_tile.put_1(shared, uint32(i), uint32(0))
                        for i in range(table_total):
                            ptx_tile.put_1(shared, uint32(tables_at + i), uint32(table_words[i]))
                    if learned:
                        fetch_codebooks(outers, row0, rows, team_thread, held)
                        build_tables(shared, team_tables, team_thread, held)
                        if done_tile + step_tiles < all_tiles:
                            next_row = uint32(row0 + step_tiles * uint32(TILE_ROWS))
                            fetch_codebooks(outers, next_row, rows, team_thread, held)
                    if ahead > 0:
                        ptx_tile.wait_for_previous_in_a_loop(uint32(rows >> uint32(31)))
                    else:
                        ptx_tile.wait_for_previous()
                    if branched:
                        first_inputs = fetch_first(x, thread)
                        tag = read_tag(branch_work, blocks)
                        wait_for_a()  # its copies are older than the last stage's
                        ptx.sync_warp()
                        project(shared, a, a_scales, branch_x, branch_work, tag, block, blocks, warp, lane)
                        stage_fetched(shared, x, thread, first_inputs)
                    else:
                        stage_inputs(shared, x, thread)
                    cuda.syncthreads()
                    if branched:
                        arrive(branch_work, thread, blocks)
                    if ahead > 0:
                        if all_begin or member < uint32(stages):
                            add_ahead(shared, member, mine, row0, lane, ahead_codes, y)
                        taken = uint32(1)
                continue
            done_at = uint32(mine) if done_at == last else uint32(done_at + uint32(stage_words))
            done_slot = uint32(done_slot + uint32(1))
            if done_slot < uint32(slots):
                continue
            buffer = uint32(uint32(reduction_at) + parity * uint32(warps * TILE_ROWS * tokens))
            buffer = uint32(buffer + team * uint32(team_warps * TILE_ROWS * tokens))
            own_tables = uint32(team_tables + parity * uint32(TILE_ROWS * learned_pitch))
            done_slot, parity, done_tile = uint32(0), uint32(parity ^ uint32(1)), uint32(done_tile + step_tiles)
            upper_unit, lower_unit = float32(1), float32(1)
            if branched and row0 == uint32(block * uint32(TILE_ROWS)):
                gather(shared, branch_work, tag, thread)
                expand(shared, row0, rows, thread, first_b, steps_of_first, parity)
            if learned:
                # read before the barrier: after it other threads may make tables for the tile after the next one
                step_at = uint32(own_tables + g * uint32(learned_pitch) + uint32(learned_words))
                upper_unit = ptx.bits_float(ptx_tile.shared_1(shared, step_at))
                lower_unit = ptx.bits_float(ptx_tile.shared_1(shared, uint32(step_at + uint32(8 * learned_pitch))))
                next_tables = uint32(team_tables + parity * uint32(TILE_ROWS * learned_pitch))
                # at its end a block would wait for values that nobody needs, and the next kernel for the block
                if done_tile < all_tiles:
                    build_tables(shared, next_tables, team_thread, held)
                if done_tile + step_tiles < all_tiles:
                    next_row = uint32((done_tile + step_tiles) * uint32(TILE_ROWS))
                    fetch_codebooks(outers, next_row, rows, team_thread, held)
            for t in range(column_tiles):
                upper_y, lower_y = y[2 * t], y[2 * t + 1]
                y[2 * t], y[2 * t + 1] = float32(0), float32(0)
                token = uint32(t * (4 // sums_of_lanes) + c // uint32(sums_of_lanes))
                if sums_of_lanes > 1:
                    upper_y = ptx.add(upper_y, ptx.shuffle_xor(upper_y, 1))
                    lower_y = ptx.add(lower_y, ptx.shuffle_xor(lower_y, 1))
                if sums_of_lanes > 2:
                    upper_y = ptx.add(upper_y, ptx.shuffle_xor(upper_y, 2))
                    lower_y = ptx.add(lower_y, ptx.shuffle_xor(lower_y, 2))
                if learned:
                    upper_y, lower_y = ptx.mul(upper_y, upper_unit), ptx.mul(lower_y, lower_unit)
                if token < uint32(tokens) and (c & uint32(sums_of_lanes - 1)) == uint32(0):
                    target = uint32(buffer + (member * uint32(tokens) + token) * uint32(TILE_ROWS) + g)
                    ptx_tile.put_1(shared, target, ptx.float_bits(upper_y))
                    ptx_tile.put_1(shared, uint32(target + uint32(8)), ptx.float_bits(lower_y))
            sync_team(team)
            for i in range(rounds_of_results):
                item = uint32(team_thread + uint32(i * team_threads))
                row = uint32(row0 + (item & uint32(15)))
                if item < uint32(tokens * TILE_ROWS) and row < rows:
                    total = float32(0)
                    for w in range(team_warps):
                        part = ptx_tile.shared_1(shared, uint32(buffer + uint32(w * tokens * TILE_ROWS) + item))
                        total = ptx.add(total, ptx.bits_float(part))
                    total = ptx.mul(total, step)
                    if outer:
                        total = ptx.mul(total, outer_of_bits(outer_bits))
                    if branched:
                        total = ptx.add(total, sum_of_branch(shared, item, parity))
                    made = ptx.to_bfloat(total) if bfloat else ptx.to_half(total)
                    ptx_tile.store_half(out, uint32((item >> uint32(4)) * rows + row), made)
            if outer and done_tile < all_tiles:
                outer_bits = fetch_outer(outers, uint32(done_tile * uint32(TILE_ROWS)), rows, team_thread)
            if branched and done_tile < all_tiles:
                # the next tile's, while its codes are under way
                next_row = uint32(done_tile * uint32(TILE_ROWS))
                expand(shared, next_row, rows, thread, held_b, steps_of_b, uint32(parity ^ uint32(1)))
                next_row = uint32(next_row + blocks * uint32(TILE_ROWS))
                fetch_b(b, b_scales, next_row, rows, thread, held_b, steps_of_b)

    return kernel
