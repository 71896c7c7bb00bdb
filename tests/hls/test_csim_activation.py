"""Quantizers, stored scales, whole activation stages and the rotation in C++, bit for bit as ``datatypes`` has them.

Needs ``ap_int.h`` (extra ``hls``) and g++.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from codesign.activation import hadamard_rotate
from datatypes.catalog import (
    BF16,
    E3M2,
    E4M3,
    E5M2,
    E8M0,
    FLINT4,
    FORMATS,
    FP4,
    FP16,
    FP32,
    INTS,
    INTS_SYMMETRIC,
    MINIFLOATS,
    MX_INT8,
    NF4,
    UE4M3,
    UINT8,
)
from datatypes.format import CodebookFormat, FloatFormat, Format, IntFormat
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from datatypes.quantize import encode_with_scale, quantize_tensor
from datatypes.rounding import decode, encode
from datatypes.scale import store_positive
from hls.ap_types import INCLUDE, WARNINGS, compile_program
from hls.c_types import value_type
from hls.layer_config_text import quantizer_type, stage_text, table_text
from hls.stage_planning import plan_stage

FLAGS = ("-O0", *WARNINGS)  # -O0 compiles fastest
TOKENS, COLUMNS = 4, 50

_HEAD = """#include <cstdio>
#include <string>
#include <type_traits>
#include <vector>
#include "codesign/activation.h"

template <class T>
std::vector<T> read(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  std::vector<T> values;
  T value;
  while (std::fread(&value, sizeof value, 1, file) == 1) values.push_back(value);
  std::fclose(file);
  return values;
}

template <class T>
void put(std::FILE* file, T value) { std::fwrite(&value, sizeof value, 1, file); }

// codes and values of a quantizer, codes and values of a stored scale
template <class QUANTIZER>
void quantizer(const std::vector<float>& x, std::FILE* file) {
  for (float value : x) {
    const auto code = QUANTIZER::encode(value);
    put<std::uint32_t>(file, code.to_uint());
    put<float>(file, QUANTIZER::value(code));
  }
}

template <class VALUE>
void scale(const std::vector<float>& x, std::FILE* file) {
  for (float value : x) {
    const auto code = codesign::stored_scale<VALUE>::encode(value);
    put<std::uint32_t>(file, code.to_uint());
    put<float>(file, VALUE::decode(code));
  }
}

// codes (less their zero points), scales and numbers of a stage
template <class STAGE, int TOKENS>
void stage(const std::vector<float>& x, std::FILE* file) {
  static float rows[TOKENS][STAGE::columns];
  static codesign::activations<STAGE, TOKENS> made;
  for (int i = 0; i < TOKENS * STAGE::columns; ++i) rows[i / STAGE::columns][i % STAGE::columns] = x[i];
  codesign::quantize<STAGE, TOKENS>(rows, TOKENS, made);
  for (int token = 0; token < TOKENS; ++token) {
    for (int column = 0; column < STAGE::columns; ++column) {
      put<float>(file, made.value(made.code[token][column]));
      put<float>(file, made.scaled ? made.scale[token][column / STAGE::tile_columns] : 1.0F);
      put<float>(file, made.number(token, column));
    }
  }
}

template <int BLOCK, int COLUMNS>
void rotation(const std::vector<float>& x, std::FILE* file, float root) {
  for (std::size_t first = 0; first + COLUMNS <= x.size(); first += COLUMNS) {
    float row[COLUMNS];
    for (int i = 0; i < COLUMNS; ++i) row[i] = x[first + i];
    codesign::rotate<BLOCK>(row, root);
    for (float value : row) put<float>(file, value);
  }
}
"""


class Bench:
    """One program of many pieces, each fed with floats."""

    def __init__(self, folder: Path, structs: str, pieces: Mapping[str, str]) -> None:
        branches = "".join(f'  if (name == "{name}") {call};\n' for name, call in pieces.items())
        main = (
            "int main(int, char** arguments) {\n  const std::string name = arguments[1];\n"
            "  const std::vector<float> x = read<float>(arguments[2]);\n"
            '  std::FILE* file = std::fopen(arguments[3], "wb");\n'
            f"{branches}  return std::fclose(file);\n}}\n"
        )
        source = folder / "bench.cpp"
        source.write_text(_HEAD + structs + main)
        self.folder, self.program = folder, folder / "bench"
        compile_program([source], self.program, includes=(INCLUDE,), flags=FLAGS)

    def run(self, name: str, x: np.ndarray, columns: int) -> np.ndarray:
        """What a piece put out: uint32 ``[x.size, columns]``."""
        np.ascontiguousarray(x, "<f4").tofile(self.folder / "x.bin")
        paths = (str(self.folder / "x.bin"), str(self.folder / "y.bin"))
        subprocess.run([str(self.program), name, *paths], check=True)
        return np.fromfile(self.folder / "y.bin", "<u4").reshape(-1, columns)


# --- quantizers ------------------------------------------------------------------------------------------------------


def around(points: np.ndarray) -> np.ndarray:
    """Each float32, its neighbours, and their negatives."""
    points = points.astype(np.float32)
    near = [points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf))]
    return np.concatenate([*near, *(-p for p in near)])


def probes(fmt: Format) -> np.ndarray:
    """Decision bounds of a format (of 16 bits, every 97th) with their neighbours, values, what lies beyond, noise."""
    step = 1 if fmt.bits <= 8 else 97
    rng = np.random.default_rng(5)
    spread = rng.normal(size=400) * np.exp2(rng.integers(-150, 100, 400))
    extremes = np.array([0.0, 3e38, 1e-45, 2.0**-126, 65504.0, 65520.0, 1e6])
    return np.concatenate(
        [around(fmt.thresholds[::step]), around(fmt.levels[::step]), around(extremes), spread.astype(np.float32)]
    )


def quantizers(formats: Sequence[Format]) -> tuple[str, dict[str, str]]:
    """Structs and pieces of a bench."""
    structs = "".join(table_text(fmt, f"format_{i}") for i, fmt in enumerate(formats))
    pieces = {
        f"format_{i}": f"quantizer<{quantizer_type(fmt, f'format_{i}')}>(x, file)" for i, fmt in enumerate(formats)
    }
    return structs, pieces


def check_quantizers(bench: Bench, formats: Sequence[Format]) -> None:
    for i, fmt in enumerate(formats):
        x = probes(fmt)
        found = bench.run(f"format_{i}", x, 2)
        codes = encode(torch.from_numpy(x), fmt).to(torch.int64)
        np.testing.assert_array_equal(found[:, 0], codes.numpy(), err_msg=fmt.name)
        np.testing.assert_array_equal(found[:, 1].view("<f4"), decode(codes, fmt).numpy(), err_msg=fmt.name)


QUICK_FORMATS = (INTS_SYMMETRIC[4], MX_INT8, UINT8, E4M3, MINIFLOATS["e3m0"], MINIFLOATS["e2m3_fnuz"], NF4)


def is_stage_format(fmt: Format) -> bool:
    if isinstance(fmt, IntFormat):
        return 2 <= fmt.bits <= 8
    if isinstance(fmt, FloatFormat):
        return fmt.sign_bits == 1 and fmt.bits <= 8
    return isinstance(fmt, CodebookFormat) and fmt.negative_zero_code is None and fmt.bits <= 8


def test_quantizers_round_as_their_formats(bench: Bench) -> None:
    check_quantizers(bench, QUICK_FORMATS)


@pytest.mark.slow
def test_every_quantizer_of_the_catalogue_rounds_as_its_format(needs_compiler: None, tmp_path: Path) -> None:
    formats = [fmt for fmt in FORMATS.values() if is_stage_format(fmt)]
    assert len(formats) > 100
    check_quantizers(Bench(tmp_path, *quantizers(formats)), formats)


def test_unquantized_activations_round_to_fp16(bench: Bench) -> None:
    x = probes(FP16)
    x = x[np.abs(x) < 65520]  # beyond, numpy gives infinity
    found = bench.run("fp16", x, 2)
    np.testing.assert_array_equal(found[:, 0], x.astype(np.float16).view(np.uint16))


# --- scales ----------------------------------------------------------------------------------------------------------


SCALES = {"scale_" + fmt.name: fmt for fmt in (FP32, FP16, BF16, UE4M3, E8M0, UINT8)}


def test_scales_are_stored_as_by_datatypes(bench: Bench) -> None:
    for name, fmt in SCALES.items():
        points = (
            np.array([1e-45, 1e-38, 1.0, 3.3e38])
            if fmt in (FP32, BF16, E8M0)
            else fmt.thresholds[:: 1 if fmt.bits <= 8 else 97]
        )
        points = np.abs(np.concatenate([points, np.exp2(np.arange(-149.0, 128.0)), probes(INTS[8])])).astype(np.float32)
        x = np.abs(around(points))
        x = x[np.isfinite(x)]
        stored = store_positive(torch.from_numpy(x), fmt)
        width = {torch.float16: np.uint16, torch.bfloat16: np.uint16, torch.float32: np.uint32}.get(stored.dtype)
        raw = stored.view(torch.int16).numpy() if fmt.bits == 16 else stored.numpy()
        expected = raw.view(width) if width is not None else raw
        np.testing.assert_array_equal(bench.run(name, x, 2)[:, 0], expected.astype(np.uint32), err_msg=name)


# --- stages ----------------------------------------------------------------------------------------------------------

MX_FLOOR, MX_CEIL = (ScaleConfig(E8M0, rule) for rule in (ScaleRule.POW2_FLOOR, ScaleRule.POW2_CEIL))
STAGES = {
    "int8_token": TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP32), dynamic=True),
    "int4_groups_fp16": TensorConfig((INTS_SYMMETRIC[4],), PerGroup(16), ScaleConfig(FP16), dynamic=True),
    "e4m3_tensor_bf16": TensorConfig((E4M3,), PerTensor(), ScaleConfig(BF16), dynamic=True),
    "mxfp6_floor": TensorConfig((E3M2,), PerGroup(32), MX_FLOOR, dynamic=True),
    "mxfp4_ceil": TensorConfig((FP4,), PerGroup(32), MX_CEIL, dynamic=True),
    "mxint8_lqer": TensorConfig((MX_INT8,), PerGroup(16), ScaleConfig(E8M0, ScaleRule.LQER_CEIL), dynamic=True),
    "nvfp4_tensor": TensorConfig(
        (FP4,), PerGroup(16), ScaleConfig(UE4M3, outer=FP32, outer_granularity=PerTensor()), dynamic=True
    ),
    "nvfp4_token": TensorConfig((FP4,), PerGroup(16), ScaleConfig(UE4M3, outer=FP32), dynamic=True),
    "uint8_zero_token": TensorConfig(
        (UINT8,), PerChannel(), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINT8, dynamic=True
    ),
    "uint8_zero_groups": TensorConfig(
        (UINT8,), PerGroup(16), ScaleConfig(FP32, ScaleRule.RANGE), zero_point=UINT8, dynamic=True
    ),
    "flint4_token": TensorConfig((FLINT4,), PerChannel(), ScaleConfig(FP32), dynamic=True),
    "e5m2_unscaled": TensorConfig((E5M2,), scale=None, dynamic=True),
    "int8_static": TensorConfig((INTS[8],), PerTensor(), ScaleConfig(FP16)),
}
STATIC_SCALE = 0.0123


def tokens(seed: int) -> torch.Tensor:
    """A plain token, one of zeros, one far from zero, one tiny with an outlier; a group of zeros in the first."""
    x = torch.randn(TOKENS, COLUMNS, generator=torch.Generator().manual_seed(seed))
    x = x * torch.tensor([1.0, 0.0, 1.0, 1e-6])[:, None] + torch.tensor([0.0, 0.0, 7.0, 0.0])[:, None]
    x[0, 16:32], x[3, 20] = 0.0, 100.0
    return x.to(torch.float16).to(torch.float32)


QUICK_STAGES = ("int8_token", "mxfp6_floor", "nvfp4_tensor", "uint8_zero_groups", "flint4_token", "int8_static")


def stages(names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Structs and pieces of a bench."""
    structs, pieces = "", {}
    for name in names:
        static = None if STAGES[name].dynamic else STATIC_SCALE
        structs += stage_text(plan_stage(STAGES[name], COLUMNS, TOKENS, static), f"{name}_stage")
        pieces[name] = f"stage<{name}_stage, {TOKENS}>(x, file)"
    return structs, pieces


def test_stages_encode_as_datatypes_quantizes(bench: Bench) -> None:
    check_stages(bench, QUICK_STAGES)


@pytest.mark.slow
def test_every_stage_encodes_as_datatypes_quantizes(needs_compiler: None, tmp_path: Path) -> None:
    check_stages(Bench(tmp_path, *stages(STAGES)), STAGES)


def check_stages(bench: Bench, names: Iterable[str]) -> None:
    for name in names:
        config = STAGES[name]
        for seed in range(3):
            x = tokens(seed)
            found = bench.run(name, x.numpy(), 3).view("<f4")
            if config.dynamic:
                tensor = quantize_tensor(x, config)
            else:
                scale = torch.full(config.granularity.scale_shape((TOKENS, COLUMNS)), STATIC_SCALE)
                tensor = encode_with_scale(x, config, scale)
            np.testing.assert_array_equal(found[:, 2], tensor.dequantize().numpy().reshape(-1), err_msg=name)
            zero = tensor.effective_zero_point()
            if zero is None:
                np.testing.assert_array_equal(found[:, 0], tensor.values().numpy().reshape(-1), err_msg=name)


ROTATIONS = {"rotation_2": 2, "rotation_8": 8, "rotation_64": 64}


def test_the_rotation_is_that_of_the_model(bench: Bench) -> None:
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
    for name, size in ROTATIONS.items():
        found = bench.run(name, x.numpy(), 64).view("<f4")
        np.testing.assert_array_equal(found, hadamard_rotate(x, size).numpy())


@pytest.fixture(scope="module")
def bench(needs_compiler: None, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One program with all pieces of the quick tests."""
    structs, pieces = quantizers(QUICK_FORMATS)
    pieces["fp16"] = "quantizer<codesign::fp16_quantizer>(x, file)"
    pieces |= {name: f"scale<{value_type(fmt)}>(x, file)" for name, fmt in SCALES.items()}
    stage_structs, stage_pieces = stages(QUICK_STAGES)
    pieces |= stage_pieces
    for name, size in ROTATIONS.items():
        pieces[name] = f"rotation<{size}, 64>(x, file, {float(np.float32(size**0.5)).hex()}F)"
    return Bench(tmp_path_factory.mktemp("activation"), structs + stage_structs, pieces)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP32, ScaleRule.NORM), dynamic=True), "rule norm"),
        (TensorConfig((INTS[8],), PerGroup(4, along_output=True), dynamic=True), "belong to a token"),
        (TensorConfig((FP16,), PerChannel(), dynamic=True), "fp16 have no scale"),
    ],
    ids=["rule", "tiles", "fp16"],
)
def test_what_no_stage_encodes_is_refused(config: TensorConfig, message: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        plan_stage(config, COLUMNS, TOKENS)


def test_a_static_stage_needs_its_scale() -> None:
    with pytest.raises(ValueError, match="input_scale"):
        plan_stage(STAGES["int8_static"], COLUMNS, TOKENS)
