"""How launches of the decode GEMV are cut for the shared memory of a block."""

import pytest

from kernels_gpu.gemv_launch import choose_shape, spec_of, tokens_at_once
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.native import MAX_SHARED_BYTES, SHARED_BYTES

SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008), (28672, 8192), (8192, 28672), (64, 96))


@pytest.mark.parametrize("limit", sorted({*SHARED_BYTES.values(), MAX_SHARED_BYTES}))
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_launch_fits_into_the_shared_memory_of_its_device(recipe, limit):
    plan = plan_of(RECIPES[recipe])
    for n, k in SHAPES:
        for tokens in (1, 3, 8, 16):
            at_once = tokens_at_once(plan, tokens, (n, k), limit)
            assert 1 <= at_once <= tokens
            spec = spec_of(plan, at_once, (n, k), choose_shape(plan, at_once, n, k, limit))
            assert spec.shared_bytes <= limit


def test_less_shared_memory_takes_fewer_tokens_at_once():
    plan = plan_of(RECIPES["int4_g128"])
    limits = sorted({*SHARED_BYTES.values(), MAX_SHARED_BYTES})
    found = [tokens_at_once(plan, 16, (28672, 8192), limit) for limit in limits]
    assert found == sorted(found) and found[0] < found[-1]


def test_a_row_too_long_for_one_token_is_refused():
    with pytest.raises(NotImplementedError, match="one token's inputs fit into shared memory, not 200000"):
        tokens_at_once(plan_of(RECIPES["int4_g128"]), 4, (64, 200000), min(SHARED_BYTES.values()))
