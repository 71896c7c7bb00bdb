"""Cuts of launches: those that the launcher chooses, and their shared memory."""

import pytest

from hwmodel.gpu_gemv_cut import RESERVED_BYTES, GemvCut, choose_cut, shared_bytes
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_presets import H100
from kernels_gpu.gemv_launch import Shape, choose_shape, spec_of, tokens_at_once
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES

LIMIT = H100.shared_bytes - RESERVED_BYTES
SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008), (28672, 8192), (32000, 4096), (1024, 4096), (576, 576), (64, 256))


@pytest.mark.parametrize("name", RECIPES)
def test_cuts_and_launches_are_the_launchers(name):
    encoding, plan = encoding_of(RECIPES[name]), plan_of(RECIPES[name])
    for n, k in SHAPES:
        for m in (1, 2, 4, 5, 8, 16):
            at_once = tokens_at_once(plan, m, (n, k))
            theirs = choose_shape(plan, at_once, n, k)
            wanted = GemvCut(theirs.warps, theirs.runs, theirs.depth, theirs.blocks_per_multiprocessor)
            assert choose_cut(encoding, (m, n, k), LIMIT) == (wanted, -(-m // at_once)), (n, k, m)


@pytest.mark.parametrize("name", RECIPES)
def test_shared_memory_is_the_kernels(name):
    encoding, plan = encoding_of(RECIPES[name]), plan_of(RECIPES[name])
    for tokens, k, cut in ((1, 4096, (8, 2, 2)), (8, 8192, (16, 2, 1)), (3, 1000, (4, 4, 3)), (16, 11008, (2, 2, 1))):
        theirs = spec_of(plan, tokens, (4096, k), Shape(*cut)).shared_bytes
        assert shared_bytes(encoding, tokens, k, GemvCut(*cut)) == theirs


def test_what_does_not_fit_has_no_cut():
    assert choose_cut(encoding_of(RECIPES["int4_g128"]), (1, 16, 200000), LIMIT) is None
    with pytest.raises(ValueError, match="warps, runs and depth of a cut must be at least 1"):
        GemvCut(0, 2, 1)
