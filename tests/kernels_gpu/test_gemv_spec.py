"""Where a kernel's data lie: no overlaps, no bank conflicts, windows that hold their fields."""

import itertools
from collections import Counter

import pytest

from kernels_gpu.gemv_plan import RUN, TILE_ROWS, plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.gemv_spec import GemvSpec

KS = (200, 1061, 4096, 11008)


def spec_of(name, k=4096, tokens=1, warps=8, runs=4, depth=2):
    return GemvSpec(plan_of(RECIPES[name]), k, tokens, warps, runs, depth, whole_rows=True)


def wavefronts(spec):
    """The most lanes of a load of codes that meet in a bank with different words, over all loads of a run or stage."""
    bits, gathered = spec.plan.bits, spec.gathered
    width = 4 if gathered or bits == 8 else {2: 2, 4: 4, 6: 2}.get(bits, 1)  # words of one load
    lanes_at_once = 32 // width  # shared memory serves 32 words at a time
    most = 0
    for first, load in itertools.product(range(0, 32, lanes_at_once), range((4 if gathered else 1) * bits // width)):
        words = set()
        for lane in range(first, first + lanes_at_once):
            g, c = divmod(lane, 4)
            place = g * spec.pitch + c * (4 * bits if gathered else bits)
            turn = c // 2 if spec.turned else g % 2 if spec.swapped else 0
            words |= {place + (load ^ turn) * width + i for i in range(width)}
        most = max(most, *Counter(word % 32 for word in words).values())
    return most


@pytest.mark.parametrize(("name", "runs"), list(itertools.product(RECIPES, (2, 4))))
def test_lanes_of_a_load_meet_different_banks(name, runs):
    spec = spec_of(name, runs=runs)
    # single words of odd numbers of bits, and rows of 32 or 96 words, cannot but meet in twos at whole sectors
    allowed = 2 if spec.plan.bits in ((2, 6) if spec.gathered else (3, 5, 7)) else 1
    assert wavefronts(spec) == allowed


@pytest.mark.parametrize("name", RECIPES)
def test_everything_that_is_copied_16_bytes_at_a_time_lies_in_whole_sectors(name):
    for k, tokens, (warps, runs, depth) in itertools.product(KS, (1, 5), ((8, 4, 2), (16, 2, 2), (4, 2, 3))):
        spec = spec_of(name, k, tokens, warps, runs, depth)
        assert spec.ring_at % 8 == spec.stage_words % 8 == spec.pitch % 8 == 0  # words of 32 bytes


@pytest.mark.parametrize(("name", "k", "runs"), list(itertools.product(RECIPES, KS, (2, 4))))
def test_windows_hold_the_fields_of_a_stage(name, k, runs):
    spec = spec_of(name, k, runs=runs)
    group = spec.plan.group or k
    for field in spec.fields:
        if field.bits == 0:
            assert field.words == 0
            continue
        for row, stage in itertools.product(range(40), range(spec.stages)):
            first = row * spec.groups + stage * runs * RUN // group
            last_input = min(k, (stage + 1) * runs * RUN) - 1
            last = row * spec.groups + last_input // group
            start = first * field.bits // 32
            assert ((last + 1) * field.bits - 1) // 32 - start < field.words


@pytest.mark.parametrize(
    ("name", "k", "tokens"),
    list(itertools.product(("int4_g128", "uint7_g128", "nvfp4", "e4m3_g128", "learned4"), KS, (1, 5))),
)
def test_regions_follow_one_another(name, k, tokens):
    spec = spec_of(name, k, tokens)
    # two digits of a byte, or a half, for each input of each token
    assert spec.inputs_at + 2 * tokens * spec.all_runs * RUN // 4 <= spec.input_scales_at
    tables = 2 * 16 * spec.learned_pitch if spec.plan.learned else 0  # two buffers of a tile's rows
    assert spec.learned_at + tables <= spec.inputs_at and spec.learned_at % 4 == spec.learned_pitch % 4 == 0
    assert spec.input_scales_at + tokens * spec.all_runs <= spec.input_sums_at
    assert spec.input_sums_at + tokens * spec.sums_per_run * spec.all_runs <= spec.ring_at
    assert spec.ring_at % 4 == spec.stage_words % 4 == spec.inputs_at % 4 == spec.plane % 4 == 0  # 16-byte copies
    assert spec.fields[0].at == TILE_ROWS * spec.pitch and spec.pitch >= spec.stage_row_words
    assert spec.shared_bytes == 4 * (spec.reduction_at + 2 * 8 * 16 * tokens)
    assert spec.all_runs * RUN >= k


def test_an_odd_number_of_runs_is_one_sentence():
    with pytest.raises(ValueError, match="runs must be even, depth at least 1 and warps 1 to 32, not 3, 1 and 8"):
        spec_of("int4_g128", runs=3, depth=1)
