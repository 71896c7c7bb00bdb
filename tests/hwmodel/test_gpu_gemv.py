"""The GEMV model: instruction counts by hand and by the disassembly, laws, refusals."""

from dataclasses import asdict, replace

import pytest

from codesign.gpu_records import read_measurements, recorded_files
from codesign.gpu_rows import case_of
from hwmodel.gpu_gemv import FITTED, gemv_constants, gemv_time
from hwmodel.gpu_gemv_cut import GemvCut, Ring
from hwmodel.gpu_gemv_encoding import encoding_of, registers
from hwmodel.gpu_presets import H100
from hwmodel.units import BYTE_BITS
from kernels_gpu.gemv_launch import choose_shape, tokens_at_once
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES

CUT = GemvCut(16, 2, 2)
COPY = 3.0e12  # kernels_gpu/NOTES.md: H100


def time_of(name="int4_g128", shape=(1, 4096, 4096), cut=CUT, gpu=H100, copy=COPY, ahead_s=0.0):
    _, n, k = shape
    weight_bytes = RECIPES[name].storage_bits((n, k)).total / BYTE_BITS
    return gemv_time(
        encoding_of(RECIPES[name]), shape, cut, weight_bytes=weight_bytes, gpu=gpu, copy_bytes_per_s=copy,
        ahead_s=ahead_s,
    )  # fmt: skip


@pytest.mark.parametrize("tokens", [1, 8, 16])
def test_launches_are_those_of_the_launcher(tokens):
    for k in (4096, 8192, 11008):
        plan = plan_of(RECIPES["int4_g128"])
        at_once = tokens_at_once(plan, tokens, (4096, k))
        cut = choose_shape(plan, at_once, 4096, k)
        ours = time_of(shape=(tokens, 4096, k), cut=GemvCut(cut.warps, cut.runs, cut.depth))
        assert ours.launches == -(-tokens // at_once)


@pytest.mark.parametrize("name", RECIPES)
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
    assert time_of("int4_g128", (1, 16, 128), GemvCut(1, 2, 1)).bound == "launch"
    assert time_of("int4_g128", (1, 16, 8192), GemvCut(1, 2, 1)).bound == "chain"  # one block waits for itself
    assert time_of("int4_g128", (16, 16, 4096)).bound == "inputs"
    assert time_of("nvfp4", (4, 4096, 4096), GemvCut(8, 2, 1)).bound == "chain"


def test_every_recorded_shape_of_memory_is_in_the_formats_bytes():
    for path in recorded_files():
        for record in read_measurements(path):
            if "cut" in record.conditions and record.name in RECIPES:
                _, k, n = record.shape
                counted = RECIPES[record.name].storage_bits((n, k)).total / BYTE_BITS
                assert 0 <= case_of(record).weight_bytes - counted < 64  # arrays end in whole words


def test_bad_sizes_are_refused():
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


def test_rows_at_odd_places_fill_shared_memory_more_slowly():
    shape, endless = (1, 28672, 8192), 1e15
    # 16 bytes a cycle of 132 SMs at 1.83 GHz: rows of 8 bits begin at multiples of 16 bytes, of 6 bits at ones of 32
    bytes_of_8 = RECIPES["int8"].storage_bits(shape[1:]).total / BYTE_BITS
    banks = GemvCut(8, 4, 2, ring=Ring.BANKS)
    filled = bytes_of_8 / (16 * 132 * 1.83e9)
    assert time_of("int8", shape, banks, copy=endless).memory_s == pytest.approx(filled, rel=1e-6)
    assert time_of("int6_g128", shape, replace(banks, runs=2), copy=endless).memory_s < 1e-6
    assert time_of("int8", shape, GemvCut(8, 4, 2), copy=endless).memory_s < 1e-6  # at whole sectors
    # a memory of 3 TB/s, 12.7 bytes a cycle when reading alone, is hardly slower for it
    slow = time_of("int8", shape, banks).memory_s * COPY * gemv_constants().read_over_copy / bytes_of_8
    assert 1 < slow < 1.035


def test_more_registers_leave_fewer_blocks():
    # kernels_gpu/measurements: the recorded registers, 256 threads a block of eight warps, and 65536 of an SM
    same, rows = 0, 0
    for path in recorded_files():
        for record in read_measurements(path):
            if record.name in RECIPES and {"cut", "registers"} <= set(record.conditions):
                case = case_of(record)
                tokens = -(-case.shape[0] // case.predicted().launches)
                gathered = case.cut.gathers(case.encoding, tokens)
                ours = registers(case.encoding, tokens, gathered=gathered, ahead=case.cut.ahead)
                found = ours, -(-int(record.conditions["registers"]) // 8) * 8
                ours, recorded = (min(65536 // (r * 32 * case.cut.warps), 3) for r in found)
                same, rows = same + (ours == recorded), rows + 1
    assert rows > 300 and same > 0.7 * rows


def test_a_ring_filled_ahead_takes_memory_off_and_leaves_the_chain():
    shape, cut = (1, 28672, 8192), GemvCut(16, 2, 2)
    alone = time_of("int4_g128", shape, cut)
    ahead = time_of("int4_g128", shape, cut, ahead_s=2e-6)
    assert alone.memory_s - ahead.memory_s == pytest.approx(2e-6)
    assert ahead.chain_s == alone.chain_s and alone.seconds - 2e-6 < ahead.seconds < alone.seconds
    # no more than two stages of 2 x 128 inputs of 16 rows, 16 warps, on every SM, 4 bits each
    rate = COPY * gemv_constants().read_over_copy
    blocks = round((alone.memory_s - time_of("int4_g128", shape, cut, ahead_s=1.0).memory_s) * rate / 8.65e6, 2)
    assert blocks in (1.0, 2.0, 3.0)
    # where the chain is longer than memory, little is gained
    slow, cut = time_of("nvfp4", (4, 4096, 4096), GemvCut(8, 2, 1)), GemvCut(8, 2, 1)
    faster = time_of("nvfp4", (4, 4096, 4096), cut, ahead_s=1.0)
    assert slow.bound == "chain" and 0.9 * slow.seconds < faster.seconds < slow.seconds
    assert faster.seconds > faster.chain_s
