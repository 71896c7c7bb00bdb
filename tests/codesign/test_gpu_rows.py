"""A record's name and source say which model prices it; what it lacks is said, and its cut is what was run."""

from dataclasses import replace

import pytest

from codesign.gpu_layers import layer_case_of
from codesign.gpu_records import RECORDED, read_measurements, recorded_files
from codesign.gpu_rows import (
    ATTENTIONS,
    OTHERS,
    OWN,
    OWN_ATTENTION,
    OWN_DEQUANTIZER,
    OWN_LAYER,
    OWN_LIBRARY,
    OWN_STEP,
    OWN_TILES,
    OWNS,
    case_of,
    cut_of,
    predicted_of,
    step_case_of,
    tile_case_of,
)
from hwmodel.gpu_gemv_cut import GemvCut, Ring
from hwmodel.gpu_tiles_decode import Lookup
from hwmodel.report import Measurement
from kernels_gpu.gemv_recipes import RECIPES

H100, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA H200"
COPY = 3e12  # bytes a second, about an H100's: half of them read, half written
PEAK = 3.35e12  # bytes a second of its memory: NVIDIA H100 SXM data sheet
CASE = "sequences x key heads x query heads of each at context, blocks"


def record(name, shape, device=H100, source="made up", **conditions):
    """A record by hand."""
    return Measurement(name, shape, device, 1e-5, 30, {"copy_bytes_per_s": str(COPY), **conditions}, source)


def gemv(name="int4_g128", m=1, device=H100):
    # 4 bits and an FP16 scale for 128 weights
    return record(name, (m, 4096, 4096), device, bytes="8650752", cut="16x2x2x1", ring="sectors")


def tiles(name="int4_g128 tiles", device=H100):
    return record(name, (64, 4096, 4096), device, **{"way or cut": "8x8x1x2", "ring": "sectors"})


def prefill(name, device=H100, shape=(64, 4096, 4096)):
    return record(name, shape, device, **{"way or cut": ""})


def attention(name="attention int8", device=H100):
    return record(name, (1, 32, 4096), device, **{CASE: "1x32x1 at 4096, 8 blocks of 8 warps"})


def layer(name="lqer32_fp16"):
    return record(name, (1, 4096, 4096), source="python -m kernels_gpu.bench_layer")


def step(name="decode step int8", **conditions):
    known = {"model": "Llama-2-7B", "vocabulary": "16 bits", "cache_bits": "8"}
    return record(name, (1, 256, 32), **{**known, **conditions})


@pytest.mark.parametrize(
    ("measured", "kernel", "model", "use"),
    [
        (gemv(), OWN, "gemv", "fitted"),
        (gemv(device=H200), OWN, "gemv", "other GPU"),
        (gemv(device="NVIDIA A100-SXM4-80GB"), OWN, "gemv", "other GPU"),
        (layer(), OWN_LAYER, "layer", "fitted"),
        (layer("int4_g128"), OWN_LAYER, "layer", "nothing beside"),
        (attention(), OWN_ATTENTION, "attention", "fitted"),
        (attention(device=H200), OWN_ATTENTION, "attention", "other GPU"),
        (attention("attention int4"), OWN_ATTENTION, "attention", "format held out"),
        (attention("torch flash fp16"), "torch flash fp16", "attention", "not fitted"),
        (tiles(), OWN_TILES, "tiles", "fitted"),
        (tiles(device=H200), OWN_TILES, "tiles", "other GPU"),
        (prefill("int8 dequantize"), OWN_DEQUANTIZER, "dequantizer", "fitted"),
        (prefill("int8 dequantize", H200), OWN_DEQUANTIZER, "dequantizer", "other GPU"),
        (prefill("int8 dequantize", shape=(0, 4096, 11008)), OWN_DEQUANTIZER, "dequantizer", "held out"),
        (prefill("bitmod3_g128 dequantize"), OWN_DEQUANTIZER, "dequantizer", "held out"),
        (prefill("int8 library"), OWN_LIBRARY, "dequantizer", "not fitted"),
        (step(), OWN_STEP, "step", "not fitted"),
        (step("decode step fp16 cuBLAS"), f"{OWN_STEP}, products by others", "step", "not fitted"),
        (record("fp16 cuBLAS", (1, 4096, 4096)), "fp16 cuBLAS", "general", "not fitted"),
    ],
    ids=lambda value: f"{value.name} {value.device} {value.shape}" if isinstance(value, Measurement) else "",
)
def test_name_and_source_say_which_model_prices_a_record(measured, kernel, model, use):
    found = predicted_of(measured)
    assert (found.kernel, found.model, found.use) == (kernel, model, use)
    assert 1e-7 < found.seconds < 1e-2


def test_own_kernels_have_names_of_their_own():
    assert len(set(OWNS)) == len(OWNS) and not set(OWNS) & (OTHERS.keys() | ATTENTIONS.keys())
    assert not RECIPES.keys() & (OTHERS.keys() | ATTENTIONS.keys())  # a name means one kernel


@pytest.mark.parametrize(
    ("measured", "moved_bytes"),
    [
        (gemv(), 4096 * 4096 * (4 + 16 / 128) / 8),
        (layer("int4_g128"), 4096 * 4096 * (4 + 16 / 128) / 8),
        (attention(), 2 * 32 * 4096 * (128 + 2)),  # INT8 keys and values with an FP16 scale for each token and head
        (attention("attention int4"), 2 * 32 * 4096 * (64 + 2)),
        (prefill("int8 dequantize"), 4096 * 4096 * (1 + 2)),  # codes in, FP16 out
        (prefill("int8 library"), 4096 * 4096 * (1 + 2)),
        # blocks of Llama-2-7B in 8 bits, its vocabulary in 16
        (step(), 32 * (4 * 4096**2 + 3 * 4096 * 11008) + 2 * 32000 * 4096),
    ],
    ids=lambda value: value.name if isinstance(value, Measurement) else "",
)
def test_own_kernels_take_longer_than_their_bytes_do_at_the_rate_that_was_measured(measured, moved_bytes):
    seconds = predicted_of(measured).seconds
    assert seconds > moved_bytes / PEAK
    slower = replace(measured, conditions={**measured.conditions, "copy_bytes_per_s": str(COPY / 4)})
    assert predicted_of(slower).seconds > max(seconds, 4 * moved_bytes / PEAK)


@pytest.mark.parametrize(
    ("measured", "moved_bytes"),
    [
        (record("fp16 cuBLAS", (1, 4096, 28672)), 2 * 4096 * 28672),
        (record("tinygemm int4 g128", (1, 4096, 28672)), 4096 * 28672 * (4 + 16 / 128) / 8),
        (record("bitsandbytes nf4 g64", (1, 4096, 28672)), 4096 * 28672 * (4 + 16 / 64) / 8),
        (attention("torch cudnn fp16"), 2 * 32 * 4096 * 256),
    ],
    ids=lambda value: value.name if isinstance(value, Measurement) else "",
)
def test_kernels_of_others_are_priced_by_the_data_sheet(measured, moved_bytes):
    seconds = predicted_of(measured).seconds
    assert seconds > moved_bytes / PEAK
    slower = replace(measured, conditions={**measured.conditions, "copy_bytes_per_s": "1"})
    assert predicted_of(slower).seconds == seconds


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (replace(gemv(), conditions={**gemv().conditions, "cut": "16x2x2x1 alone"}), "overlapped kernels, not ones"),
        (attention("torch efficient fp16"), "kernels that cut a context among SMs"),
        (step(model="Llama-3-8B"), "a decode step must be of Llama-2-7B with a 16-bit vocabulary, not Llama-3-8B"),
        (step(vocabulary="8 bits"), "a decode step must be of Llama-2-7B with a 16-bit vocabulary"),
    ],
    ids=["alone", "idle SMs", "another model", "another vocabulary"],
)
def test_a_kernel_that_the_model_does_not_know_is_told_from_a_mistake(measured, said):
    with pytest.raises(NotImplementedError, match=said):
        predicted_of(measured)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (gemv("int4"), "name of a measured GEMV must be one of int4_g128, .* not 'int4'"),
        (tiles("int8 slabs"), "way of a measured product must be tiles, dequantize or library, not 'int8 slabs'"),
        (prefill("int8 tiles"), "conditions of measurement int8 tiles must have way or cut, as 8x8x1x2, not ''"),
        (step("decode step x"), "weights of a decode step must be one of int4_g128, .* not 'x'"),
        (step(cache_bits="few"), "must have cache_bits, a number above 0, not 'few'"),
        (record("attention int8", (1, 32, 4096)), f"attention int8 must have {CASE.partition(',')[0]}, not ''"),
        (layer("lqer64"), "name of a measured layer must be one of int4_g128, .* not 'lqer64'"),
    ],
)
def test_a_record_that_lacks_something_is_refused(measured, said):
    with pytest.raises(ValueError, match=said):
        predicted_of(measured)


def test_rows_of_what_is_decoded_anew_are_of_an_earlier_kernel_unless_they_say():
    def use(made, **conditions):
        return predicted_of(replace(made, conditions={**made.conditions, **conditions})).use

    for made in (gemv("int3_g128"), gemv("bitmod3_g128", device=H200), gemv("int7_g128"), tiles("bitmod3_g128 tiles")):
        assert use(made) == "earlier kernel" != use(made, version="9")
    assert use(step("decode step bitmod3_g128")) == "earlier kernel"
    assert use(step("decode step bitmod3_g128"), version="9") == "not fitted" == use(step())
    assert use(gemv("fp4_g128")) == use(gemv("fp4_g128"), version="9")
    assert use(gemv("e2m3_g128"), version="9") == "earlier kernel" != use(gemv("e2m3_g128"), version="10")
    for stated in ("ten", "-1", "9.5", ""):
        with pytest.raises(
            ValueError, match=f"version of measurement int3_g128 must be a number, as 10, not '{stated}'"
        ):
            use(gemv("int3_g128"), version=stated)


def test_a_branch_in_launches_of_its_own_is_told_by_its_name():
    joined, alone = (layer_case_of(layer(name)) for name in ("lqer32_fp16", "lqer32_fp16_launches"))
    assert joined.fused and not alone.fused and joined.name == alone.name
    assert joined.predicted_s() + 1e-6 < alone.predicted_s()


def test_a_cut_is_read_with_its_registers_and_ring():
    assert cut_of(gemv()) == GemvCut(16, 2, 2, 1, 0, Ring.SECTORS)
    stated = gemv().conditions
    capped = replace(gemv(), conditions={**stated, "cut": "8x4x2x0 64 registers"})
    assert cut_of(capped) == GemvCut(8, 4, 2, 0, 64, Ring.SECTORS)
    for registers in (0, 64):
        cut = GemvCut(8, 4, 2, 1, registers, Ring.SECTORS, ahead=4)
        for teams in (1, 4):
            cut = replace(cut, teams=teams)
            assert cut_of(replace(gemv(), conditions={**stated, "cut": str(cut)})) == cut
    # records that do not say are of the kernels that laid it out bank by bank
    older = replace(gemv(), conditions={key: value for key, value in stated.items() if key != "ring"})
    assert cut_of(older).ring is Ring.BANKS
    with pytest.raises(ValueError, match="ring of measurement int4_g128 must be one of banks, sectors, not 'odd'"):
        cut_of(replace(gemv(), conditions={**stated, "ring": "odd"}))
    with pytest.raises(ValueError, match="must have cut, as 16x2x2x1, not None"):
        cut_of(replace(gemv(), conditions={}))


def test_a_gemv_case_is_what_was_run():
    case = case_of(replace(gemv(m=4), seconds=5e-6))
    assert (case.name, case.shape, case.gpu.name) == ("int4_g128", (4, 4096, 4096), "h100_cublas13")
    wide = case_of(replace(gemv(), shape=(2, 256, 64)))
    assert wide.shape == (2, 64, 256)  # m, n, k of a record's m, k, n
    for value in ("many", "-1", "nan"):
        with pytest.raises(ValueError, match=f"must have bytes, a number above 0, not '{value}'"):
            case_of(replace(gemv(), conditions={**gemv().conditions, "bytes": value}))


def test_a_tile_case_is_what_was_run():
    path = recorded_files()[RECORDED.index("gemm_h100.json")]
    measured = next(r for r in read_measurements(path) if r.name == "int4_g128 tiles" and r.shape == (128, 4096, 11008))
    stated = measured.conditions["way or cut"]
    case = tile_case_of(measured)
    assert case.shape == (128, 11008, 4096) and case.weight_bytes == 11008 * 4096 * (4 + 16 / 128) / 8
    assert "x".join(map(str, (case.cut.token_tiles, case.cut.row_warps, case.cut.k_warps, case.cut.depth))) == stated
    assert case.cut.ring is Ring.SECTORS and case.cut.lookup is Lookup.HALVES
    silent = {name: value for name, value in measured.conditions.items() if name != "lookup"}
    assert tile_case_of(replace(measured, conditions=silent)).cut.lookup is Lookup.BYTES
    with pytest.raises(ValueError, match="lookup of measurement int4_g128 tiles must be one of bytes, halves, not 'x'"):
        tile_case_of(replace(measured, conditions={**measured.conditions, "lookup": "x"}))


def test_a_step_case_is_what_was_run():
    case = step_case_of(replace(step(cache_bits="4"), shape=(3, 512, 2)))
    assert (case.batch, case.context, case.shape.layers, case.cache_bits) == (3, 512, 2, 4)
