"""What the cost model says of one measured GPU kernel: ``predicted_of``, by the record's name and source.

a recipe                        decode GEMV, cut as recorded: ``hwmodel.gpu_gemv``
attention int8, int4            decode attention: ``hwmodel.gpu_attention``
a recipe and "tiles"            prefill on tensor cores straight from codes, cut as recorded: ``hwmodel.gpu_tiles``
a layer of bench_layer          decode GEMV, and branch or outliers beside it: ``hwmodel.gpu_branches``
... "dequantize", "library"     the dequantizer alone, and with the library's product: ``hwmodel.gpu_dequantize``
decode step ...                 a token of a whole model: ``kernels_gpu.decode_floor``
cuBLAS, tinygemm, and so on     kernels of others: the GPU preset's general price
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from codesign.gpu_layers import layer_case_of
from codesign.gpu_records import condition, gpu_of, sheet_name, start_share_s
from datatypes.catalog import FP16, INTS_SYMMETRIC, NF4
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from hwmodel.gpu import Gpu, GpuKernels
from hwmodel.gpu_branches_fit import use_of as use_of_layer
from hwmodel.gpu_dequantize import dequantize_s, library_s
from hwmodel.gpu_gemv_cut import MOST_TOKENS, RESERVED_BYTES, GemvCut, Ring, shared_bytes
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_gemv_fit import GemvCase, use_of
from hwmodel.gpu_kernel_fit import EARLIER, FITTED_GPU
from hwmodel.gpu_narrow import COPY_SHARE
from hwmodel.gpu_price import gpu_price
from hwmodel.gpu_tiles import TileCut
from hwmodel.gpu_tiles_decode import Lookup
from hwmodel.gpu_tiles_fit import TileCase
from hwmodel.gpu_tiles_fit import use_of as use_of_tiles
from hwmodel.options import HONEST
from hwmodel.report import Measurement
from hwmodel.units import BYTE_BITS, cycles_to_s
from hwmodel.workload import LayerKind, LayerSpec
from kernels_gpu.decode_columns import case_of as step_of_column
from kernels_gpu.decode_floor import StepCase, predict
from kernels_gpu.decode_model import LLAMA_2_7B
from kernels_gpu.gemv_recipes import RECIPES

# Kernels of others, by their name in the records, as configs of the cost model
OTHERS: Mapping[str, LayerConfig] = {
    "fp16 cuBLAS": LayerConfig(),
    "tinygemm int4 g128": LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), ScaleConfig(FP16))),
    "bitsandbytes nf4 g64": LayerConfig(weight=TensorConfig((NF4,), PerGroup(64), ScaleConfig(FP16))),
}
OWN, OWN_LAYER, OWN_ATTENTION, OWN_TILES, OWN_DEQUANTIZER, OWN_LIBRARY, OWN_STEP = OWNS = (
    "decode GEMV", "decode layer", "decode attention", "prefill tiles", "dequantizer", "dequantizer and library",
    "decode step",
)  # fmt: skip


def _cache(bits: int) -> LayerConfig:
    tensor = TensorConfig((INTS_SYMMETRIC[bits],), PerChannel(), ScaleConfig(FP16), dynamic=True)
    return LayerConfig(key=tensor, value=tensor)


# Decode attention by its name in the records: the cache, and what the row was to ``hwmodel.gpu_attention``
ATTENTIONS: Mapping[str, tuple[LayerConfig, str]] = {
    "attention int8": (_cache(8), "fitted"), "attention int4": (_cache(4), "format held out"),
    "torch cudnn fp16": (LayerConfig(), "not fitted"), "torch flash fp16": (LayerConfig(), "not fitted"),
}  # fmt: skip
# Rows that the dequantizer's constants were fitted to: ``hwmodel.gpu_dequantize``
_DEQUANTIZER_FORMATS, _DEQUANTIZER_SHAPES = ("int4_g128", "int8"), ((4096, 4096), (28672, 8192))
_NOT_CUT = "torch efficient fp16"  # 137 us where cuDNN takes 29: it leaves most SMs idle
_LAYERS = "bench_layer"  # whole layers, in a record's source
_HEAD_DIM = 128  # kernels_gpu/bench_attention.py
_CASE = re.compile(r"(\d+)x(\d+)x(\d+) at (\d+)")
_CASE_CONDITION = "sequences x key heads x query heads of each at context"
_STEP, _WAY = "decode step ", "way or cut"
_CUT, _REGISTERS = re.compile(r"(\d+)x(\d+)x(\d+)x(\d+)"), re.compile(r"(\d+) registers")
# Models whose constants know nothing of the start of a replay; nor do those of this project's own attention
_FITTED_WITHOUT_STARTS = ("gemv", "layer", "tiles", "dequantizer")
_AHEAD = re.compile(r"(\d+) ahead")
_TEAMS = re.compile(r"(\d+) teams")


@dataclass(frozen=True)
class Predicted:
    """A record's prediction.

    Args:
        kernel: of the table of errors.
        model: that priced it.
        bound: the largest part, where the model says so.
        use: how the row relates to the fit.
        seconds: predicted.
    """

    kernel: str
    model: str
    bound: str
    use: str
    seconds: float


def predicted_of(record: Measurement, sheet: Gpu | None = None) -> Predicted:
    """What the cost model says of a record.

    Args:
        record: the measured kernel.
        sheet: data sheet of its device; ``None`` for the preset that the device's name means.

    Raises:
        ValueError: the record lacks something.
        NotImplementedError: a kernel that the model does not know.
    """
    _check_comparable(record)
    gpu = gpu_of(record.device) if sheet is None else sheet
    made = _predicted_of(record, gpu)
    if made.model not in _FITTED_WITHOUT_STARTS and made.kernel != OWN_ATTENTION:
        return made
    return replace(made, seconds=made.seconds + start_share_s(record, gpu))


def _predicted_of(record: Measurement, gpu: Gpu) -> Predicted:
    """The same, but for the start of a replay."""
    name, _, way = record.name.partition(" ")
    if _LAYERS in record.source:
        return _layer(record, gpu)
    if record.name.startswith(_STEP):
        return _step(record, gpu)
    if record.name in ATTENTIONS:
        return _attention(record, gpu)
    if record.name in OTHERS:
        return _other(record, gpu)
    if name in RECIPES and way:
        return {"tiles": _tiles, "dequantize": _dequantize, "library": _library}.get(way, _unknown)(record, gpu)
    case = case_of(record, gpu)
    time = case.predicted()
    use = EARLIER if of_earlier_kernel(record, name) else use_of(name, case.shape, sheet_name(case.gpu))
    return Predicted(OWN, "gemv", time.bound, use, time.seconds)


def of_earlier_kernel(record: Measurement, recipe: str) -> bool:
    """Whether a kernel was timed that decodes ``recipe`` in more instructions than the one that is predicted.

    Raises:
        ValueError: the version that the record states is no number.
    """
    stated = record.conditions.get("version", "0")
    if not stated.isdecimal():
        raise ValueError(f"version of measurement {record.name} must be a number, as 10, not {stated!r}")
    return int(stated) < encoding_of(RECIPES[recipe]).decoded_since


def _check_comparable(record: Measurement) -> None:
    """Refuse a kernel that was timed alone, and one that no launcher would take."""
    if record.name == _NOT_CUT:
        raise NotImplementedError("the model must have kernels that cut a context among SMs")
    if record.conditions.get("cut", "").endswith("alone"):
        raise NotImplementedError("the model must have overlapped kernels, not ones timed alone")


def _unknown(record: Measurement, gpu: Gpu) -> Predicted:
    raise ValueError(f"way of a measured product must be tiles, dequantize or library, not {record.name!r}")


def _four(record: Measurement, name: str, example: str) -> tuple[int, int, int, int]:
    found = _CUT.match(record.conditions.get(name, ""))
    if found is None:
        raise ValueError(f"conditions of measurement {record.name} must have {name}, as {example}, not "
                         f"{record.conditions.get(name)!r}")  # fmt: skip
    first, second, third, fourth = (int(number) for number in found.groups())
    return first, second, third, fourth


def cut_of(record: Measurement) -> GemvCut:
    """How the work of a decode GEMV was cut.

    Raises:
        ValueError: the record does not say.
    """
    stated = record.conditions.get("cut", "")
    registers, ahead, teams = (
        int(found[1]) if (found := one.search(stated)) else 0 for one in (_REGISTERS, _AHEAD, _TEAMS)
    )
    numbers = _four(record, "cut", "16x2x2x1")
    return GemvCut(*numbers, registers=registers, ring=_ring_of(record), ahead=ahead, teams=teams or 1)


def _ring_of(record: Measurement) -> Ring:
    """How the kernel laid its ring out; records that do not say are of the kernels up to version 4."""
    stated = record.conditions.get("ring", Ring.BANKS.value)
    if stated not in {ring.value for ring in Ring}:
        raise ValueError(f"ring of measurement {record.name} must be one of {', '.join(r.value for r in Ring)}, not "
                         f"{stated!r}")  # fmt: skip
    return Ring(stated)


def _lookup_of(record: Measurement) -> Lookup:
    """How the tile kernel decoded floats of four bits; records that do not say are of its versions up to 2."""
    stated = record.conditions.get("lookup", Lookup.BYTES.value)
    if stated not in {lookup.value for lookup in Lookup}:
        known = ", ".join(lookup.value for lookup in Lookup)
        raise ValueError(f"lookup of measurement {record.name} must be one of {known}, not {stated!r}")
    return Lookup(stated)


def case_of(record: Measurement, gpu: Gpu | None = None) -> GemvCase:
    """A record of the project's own GEMV as the model takes it, on ``gpu`` or what its device means.

    Raises:
        NotImplementedError: an encoding that the model does not know.
        ValueError: no such recipe, too many tokens, or a condition is missing.
    """
    if record.name not in RECIPES:
        raise ValueError(f"name of a measured GEMV must be one of {', '.join(RECIPES)}, not {record.name!r}")
    m, k, n = record.shape
    if m > MOST_TOKENS:
        raise ValueError(f"tokens of measured GEMV {record.name} must be at most {MOST_TOKENS}, not {m!r}")
    sheet, encoding, cut = gpu or gpu_of(record.device), encoding_of(RECIPES[record.name]), cut_of(record)
    needed = shared_bytes(encoding, 1, k, cut) + RESERVED_BYTES
    if needed > sheet.shared_bytes:
        raise ValueError(
            f"cut {record.conditions['cut']} of measured GEMV {record.name}, {n}x{k}, must fit into the "
            f"{sheet.shared_bytes} bytes of shared memory of {sheet.name}, which {needed} do not"
        )
    return GemvCase(
        record.name, encoding, (m, n, k), cut, round(condition(record, "bytes")), sheet,
        condition(record, "copy_bytes_per_s"), record.seconds,
    )  # fmt: skip


def _recipe(record: Measurement) -> tuple[str, float]:
    """Name of a prefill record's encoding, and the bytes of its weight."""
    name, (_, k, n) = record.name.partition(" ")[0], record.shape
    return name, RECIPES[name].storage_bits((n, k)).total / BYTE_BITS


def tile_case_of(record: Measurement, gpu: Gpu | None = None) -> TileCase:
    """A record of the tile kernel as the model takes it, on ``gpu`` or what its device means.

    Raises:
        NotImplementedError: an encoding that the model does not know.
        ValueError: a condition is missing.
    """
    (name, weight_bytes), (m, k, n) = _recipe(record), record.shape
    stated = record.conditions.get("registers", "0")
    if not stated.isdecimal():
        raise ValueError(f"registers of measurement {record.name} must be a whole number, not {stated!r}")
    cut = TileCut(
        *_four(record, _WAY, "8x8x1x2"), ring=_ring_of(record), registers=int(stated), lookup=_lookup_of(record)
    )
    return TileCase(
        name, encoding_of(RECIPES[name]), (m, n, k), cut, weight_bytes, gpu or gpu_of(record.device),
        condition(record, "copy_bytes_per_s"), record.seconds,
    )  # fmt: skip


def _layer(record: Measurement, gpu: Gpu) -> Predicted:
    case = layer_case_of(record, gpu)
    return Predicted(OWN_LAYER, "layer", "", use_of_layer(case, sheet_name(case.gpu)), case.predicted_s())


def _tiles(record: Measurement, gpu: Gpu) -> Predicted:
    case = tile_case_of(record, gpu)
    time, (_, n, k) = case.predicted(), case.shape
    use = use_of_tiles(case.name, n, k, sheet_name(case.gpu), case.cut.ring)
    use = EARLIER if of_earlier_kernel(record, case.name) else use
    return Predicted(OWN_TILES, "tiles", time.bound, use, time.seconds)


def _dequantize(record: Measurement, gpu: Gpu) -> Predicted:
    (name, weight_bytes), (_, k, n) = _recipe(record), record.shape
    encoding = encoding_of(RECIPES[name])
    seconds = dequantize_s(encoding, weight_bytes, (n, k), gpu, condition(record, "copy_bytes_per_s"))
    if sheet_name(gpu) != FITTED_GPU:
        use = "other GPU"
    else:
        use = "fitted" if name in _DEQUANTIZER_FORMATS and (n, k) in _DEQUANTIZER_SHAPES else "held out"
    return Predicted(OWN_DEQUANTIZER, "dequantizer", "memory", use, seconds)


def _library(record: Measurement, gpu: Gpu) -> Predicted:
    (name, weight_bytes), (m, k, n) = _recipe(record), record.shape
    encoding = encoding_of(RECIPES[name])
    seconds = library_s(encoding, weight_bytes, (m, n, k), gpu, condition(record, "copy_bytes_per_s"))
    return Predicted(OWN_LIBRARY, "dequantizer", "", "not fitted", seconds)


def step_case_of(record: Measurement) -> StepCase:
    """What a recorded decode step computed.

    Raises:
        NotImplementedError: another model, or a vocabulary that is not in 16 bits.
        ValueError: no such column.
    """
    batch, context, layers = record.shape
    model, head = record.conditions.get("model"), record.conditions.get("vocabulary")
    if model != LLAMA_2_7B.name or head != "16 bits":
        raise NotImplementedError(f"a decode step must be of {LLAMA_2_7B.name} with a 16-bit vocabulary, not {model}")
    column = record.name.removeprefix(_STEP)
    if column not in RECIPES and column not in OTHERS:
        raise ValueError(f"weights of a decode step must be one of {', '.join((*RECIPES, *OTHERS))}, not {column!r}")
    bits = round(condition(record, "cache_bits"))
    return step_of_column(column, StepCase(replace(LLAMA_2_7B, layers=layers), None, batch, context, bits))


def _step(record: Measurement, gpu: Gpu) -> Predicted:
    made = predict(step_case_of(record), gpu, condition(record, "copy_bytes_per_s"))
    column = record.name.removeprefix(_STEP)
    kernel = OWN_STEP if column in RECIPES else f"{OWN_STEP}, products by others"
    largest = max(made.parts, key=lambda part: made.parts[part])
    use = EARLIER if column in RECIPES and of_earlier_kernel(record, column) else "not fitted"
    return Predicted(kernel, "step", largest, use, made.seconds)


def _other(record: Measurement, gpu: Gpu) -> Predicted:
    m, k, n = record.shape
    spec, public = LayerSpec("x", LayerKind.LINEAR, m, k, n), replace(gpu, kernels=GpuKernels.PUBLIC)
    seconds = cycles_to_s(gpu_price(spec, OTHERS[record.name], public, HONEST).cycles, gpu.frequency_hz)
    return Predicted(record.name, "general", "", "not fitted", seconds)


def _attention(record: Measurement, gpu: Gpu) -> Predicted:
    config, relation = ATTENTIONS[record.name]
    own = relation != "not fitted"
    use = "other GPU" if own and sheet_name(gpu) != FITTED_GPU else relation
    kernel = OWN_ATTENTION if own else record.name
    return Predicted(kernel, "attention", "", use, _attention_s(record, config, gpu, own=own))


def _attention_s(record: Measurement, config: LayerConfig, gpu: Gpu, *, own: bool) -> float:
    """Predicted time of both products of a decode attention.

    Raises:
        ValueError: the record does not say how many heads there were.
    """
    stated = next((text for name, text in record.conditions.items() if name.startswith(_CASE_CONDITION)), "")
    found = _CASE.match(stated)
    if found is None:
        raise ValueError(f"conditions of measurement {record.name} must have {_CASE_CONDITION}, not {stated!r}")
    sequences, heads, queries, context = (int(number) for number in found.groups())
    copies = sequences * heads
    if own:  # the device's copy rate, as for every kernel of this project
        rate = condition(record, "copy_bytes_per_s") / COPY_SHARE
        gpu = replace(gpu, dram=replace(gpu.dram, bytes_per_s=rate))
    halves = (
        LayerSpec("qk", LayerKind.ATTENTION_QK, queries, _HEAD_DIM, context, copies),
        LayerSpec("pv", LayerKind.ATTENTION_PV, queries, context, _HEAD_DIM, copies),
    )
    return cycles_to_s(sum(gpu_price(half, config, gpu, HONEST).cycles for half in halves), gpu.frequency_hz)
