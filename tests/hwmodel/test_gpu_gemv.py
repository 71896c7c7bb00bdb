"""The GEMV model: instruction counts by hand and by the disassembly, laws, refusals."""

from dataclasses import asdict, replace

import pytest

from codesign.gpu_truth import case_of, read_measurements, recorded_files
from datatypes.catalog import E4M3, FP16, INTS_SYMMETRIC
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, TensorConfig
from hwmodel.gpu_gemv import (
    FITTED,
    GemvCut,
    encoding_of,
    gemv_constants,
    gemv_time,
    instructions,
    shared_bytes,
)
from hwmodel.gpu_presets import H100
from hwmodel.units import BYTE_BITS
from kernels_gpu.gemv_launch import Shape, choose_shape, spec_of, tokens_at_once
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES

CUT = GemvCut(16, 2, 2)
COPY = 3.0e12  # kernels_gpu/NOTES.md: H100
MODELLED = [name for name, config in RECIPES.items() if config.formats[0].bits <= 4 or name[:4] in ("int8", "uint")]
MODELLED = [name for name in MODELLED if not name.startswith(("learned", "uint5", "uint6", "uint7"))]


def time_of(name="int4_g128", shape=(1, 4096, 4096), cut=CUT, gpu=H100, copy=COPY):
    _, n, k = shape
    weight_bytes = RECIPES[name].storage_bits((n, k)).total / BYTE_BITS
    return gemv_time(encoding_of(RECIPES[name]), shape, cut, weight_bytes=weight_bytes, gpu=gpu, copy_bytes_per_s=copy)


@pytest.mark.parametrize("name", MODELLED)
def test_an_encoding_is_what_the_kernel_is_compiled_for(name):
    ours, plan = encoding_of(RECIPES[name]), plan_of(RECIPES[name])
    assert (ours.bits, ours.digits, ours.group, ours.parts) == (plan.bits, plan.digits, plan.group, plan.parts)
    assert ours.digits * ours.tables == plan.sets
    assert ours.selector == (plan.selector_bits > 0) and ours.zero_point == (plan.zero_bits > 0)


def test_decoding_takes_the_instructions_that_the_kernel_states():
    # kernels_gpu/gemv_decode.py: nibbles 3/8; table of 2 bits 11/16, 3 bits 17/16, 4 bits 7/8, two digits 11/8
    stated = {
        "int8": 0,
        "int4_g128": 3 / 8,
        "int2_g64": 11 / 16,
        "int3_g128": 17 / 16,
        "fp4_g128": 7 / 8,
        "nf4_g64": 11 / 8,
    }
    assert {name: encoding_of(RECIPES[name]).decode for name in stated} == stated


def test_instructions_of_a_run_by_hand_and_in_the_disassembly():
    # INT4, one token, 64 weights a lane: 24 to decode; 4 to join and convert; loads 2 of codes, 2 of inputs, 1 of their
    # scale; 4 products; 4 for group scales; 4 to scale and add; 4 copies and places
    work = instructions(encoding_of(RECIPES["int4_g128"]), 1)
    assert (work.instructions, work.half_wide, work.products) == (24 + 4 + 5 + 4 + 4 + 4 + 4, 28, 4)
    # NOTES.md: 10.4 M warp instructions on the half-wide pipe for BitMoD-3 at 28672 x 8192, counted by ncu
    runs = 28672 // 16 * 8192 // 128
    assert instructions(encoding_of(RECIPES["bitmod3_g128"]), 1).half_wide * runs == pytest.approx(10.4e6, rel=0.15)


def test_groups_below_a_run_take_more_columns():
    products = {
        name: instructions(encoding_of(RECIPES[name]), 4).products for name in ("int4_g128", "int2_g64", "mxfp4")
    }
    # four tensor-core products for four tokens, eight in groups of 64; of 32: sixteen, for both tables of sixteen
    assert products == {"int4_g128": 4, "int2_g64": 8, "mxfp4": 32}


@pytest.mark.parametrize("name", ["int4_g128", "bitmod3_g128", "int2_g64", "int8", "uint4_g128"])
@pytest.mark.parametrize(("tokens", "k"), [(1, 4096), (8, 8192)])
def test_shared_memory_is_the_kernels_to_a_twentieth(name, tokens, k):
    theirs = spec_of(plan_of(RECIPES[name]), tokens, (4096, k), Shape(8, 2, 2)).shared_bytes
    assert shared_bytes(encoding_of(RECIPES[name]), tokens, k, GemvCut(8, 2, 2)) == pytest.approx(theirs, rel=0.05)


@pytest.mark.parametrize("tokens", [1, 8, 16])
def test_launches_are_those_of_the_launcher(tokens):
    for k in (4096, 8192, 11008):
        plan = plan_of(RECIPES["int4_g128"])
        at_once = tokens_at_once(plan, tokens, (4096, k))
        cut = choose_shape(plan, at_once, 4096, k)
        ours = time_of(shape=(tokens, 4096, k), cut=GemvCut(cut.warps, cut.runs, cut.depth))
        assert ours.launches == -(-tokens // at_once)


@pytest.mark.parametrize("name", MODELLED)
def test_time_follows_the_laws(name):
    shapes = [(1, 1024, 4096), (1, 4096, 4096), (1, 4096, 8192), (4, 4096, 8192), (16, 4096, 8192), (16, 28672, 8192)]
    times = [time_of(name, shape) for shape in shapes]
    assert [t.seconds for t in times] == sorted(t.seconds for t in times)  # more of anything never takes less
    constants = gemv_constants()
    for shape, time in zip(shapes, times, strict=True):
        moved = time.launches * RECIPES[name].storage_bits(shape[1:]).total / BYTE_BITS
        assert time.seconds > moved / COPY / constants.read_over_copy  # never above the memory's rate
        faster = time_of(name, shape, copy=1.4 * COPY)
        assert time.seconds / 1.4 < faster.seconds <= time.seconds  # a faster memory helps at most by its factor
        more = replace(H100, multiprocessors=264)
        assert time_of(name, shape, gpu=more).seconds <= time.seconds * (1 + 1e-12)
        assert max(time.launch_s, time.inputs_s, time.memory_s, time.chain_s) <= time.seconds


def test_the_largest_part_is_the_bound():
    assert time_of("int8", (1, 28672, 8192), GemvCut(8, 4, 2)).bound == "memory"
    assert time_of("int4_g128", (1, 16, 128)).bound == "launch"
    assert time_of("nf4_g64", (1, 4096, 4096), GemvCut(8, 2, 1)).bound == "chain"


def test_every_recorded_shape_of_memory_is_in_the_formats_bytes():
    for path in recorded_files():
        for record in read_measurements(path):
            if record.name in RECIPES:
                _, k, n = record.shape
                counted = RECIPES[record.name].storage_bits((n, k)).total / BYTE_BITS
                assert 0 <= case_of(record).weight_bytes - counted < 64  # arrays end in whole words


def test_what_the_model_does_not_know_is_refused():
    half = ScaleConfig(FP16)
    for fmt in (INTS_SYMMETRIC[5], E4M3):
        with pytest.raises(NotImplementedError, match=f"2 to 4 bits or 8-bit integers, not {fmt.name}"):
            encoding_of(TensorConfig((fmt,), PerGroup(128), half))
    with pytest.raises(ValueError, match="warps, runs and depth of a cut must be at least 1"):
        GemvCut(0, 2, 1)
    with pytest.raises(ValueError, match="must be above 0, not \\(0, 16, 128\\)"):
        time_of(shape=(0, 16, 128))
    with pytest.raises(ValueError, match="one token's inputs fit into shared memory, not 200000"):
        time_of(shape=(1, 16, 200000))


def test_constants_come_from_the_table_or_not_at_all(tmp_path):
    assert set(asdict(gemv_constants())) == set(FITTED)
    path = tmp_path / "constants.csv"
    path.write_text("constant,value,source\nlaunch_s,1e-6,test\n")
    with pytest.raises(ValueError, match="constants of the GEMV model must be a CSV table with launch_s, "):
        gemv_constants(path)
