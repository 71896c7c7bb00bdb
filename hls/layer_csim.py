"""Planned layers compiled with g++ and run: several of them as one program, outputs read back as arrays.

What tests and tools use to see what a config computes, without a whole export around it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datatypes.packing import unpack
from datatypes.planes import row_words
from hls.ap_types import INCLUDE, compile_program
from hls.layer_config_text import config_text
from hls.layer_plan import LayerPlan
from hls.weights import BEAT_BYTES, beat_bytes, row_beats, row_bytes

_MAIN = """#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "codesign/beat_file.h"
{includes}
using codesign::beat_t;

struct table {{  // on the chip: the words of the image at hand
  static inline const std::uint64_t* words = nullptr;
  static std::uint64_t word(int index) {{ return words[index]; }}
}};

template <class CONFIG>
static int run(const std::string& folder, int tokens, int input_beats, int output_beats, int beats, unsigned format) {{
  std::vector<beat_t> weights, input;
  if (!codesign::read_beats((folder + "/weights.bin").c_str(), beats, weights)) return 3;
  if (!codesign::read_beats((folder + "/input.bin").c_str(), tokens * input_beats, input)) return 3;
  std::vector<std::uint64_t> words;  // of the table on the chip: the same image
  for (const beat_t& beat : weights) {{
    for (int i = 0; i < 8; ++i) words.push_back(ap_uint<64>(beat.range(64 * i + 63, 64 * i)).to_uint64());
  }}
  std::vector<beat_t> output(tokens * output_beats);
  for (int first = 0; first < tokens; first += CONFIG::tokens) {{
    const int call = tokens - first < CONFIG::tokens ? tokens - first : CONFIG::tokens;
    const beat_t* from = input.data() + first * input_beats;
    beat_t* to = output.data() + first * output_beats;
    table::words = words.data();
    const codesign::memory_image memory = weights.data();
    if (first == 0) codesign::run_layer<CONFIG>(memory, from, to, call, format);
    else codesign::run_layer<CONFIG>(codesign::rom_image<table>(), from, to, call, format);
  }}
  std::FILE* file = std::fopen((folder + "/output.bin").c_str(), "wb");
  if (!file) return 3;
  for (const beat_t& beat : output) {{
    unsigned char bytes[64];
    for (int i = 0; i < 64; ++i) bytes[i] = ap_uint<8>(beat.range(8 * i + 7, 8 * i)).to_uint();
    if (std::fwrite(bytes, 1, 64, file) != 64) return 3;
  }}
  return std::fclose(file) ? 3 : 0;
}}

int main(int, char** arguments) {{
  const std::string name = arguments[1], folder = arguments[2];
  const int tokens = std::stoi(arguments[3]);
  const int input_beats = std::stoi(arguments[4]), output_beats = std::stoi(arguments[5]);
  const int beats = std::stoi(arguments[6]);
  const unsigned format = static_cast<unsigned>(std::stoul(arguments[7]));
{branches}  return 2;
}}
"""


@dataclass(frozen=True, eq=False)
class SimulatedOutput:
    """What a simulated layer wrote.

    Args:
        values: ``[m, n]``: float32, float16, or codes.
        scales: float32 ``[m, tiles]`` beside codes; ``None`` else.
    """

    values: np.ndarray
    scales: np.ndarray | None = None


def compile_plans(plans: Mapping[str, LayerPlan], program: Path, *, flags: Sequence[str] = ("-O1",)) -> None:
    """One program for all ``plans``, by name (C++ identifiers).

    Raises:
        FileNotFoundError: no compiler or no ``ap_int.h``.
        CompileError: the compiler refused.
    """
    folder = program.parent
    for name, plan in plans.items():
        (folder / f"{name}_config.h").write_text(config_text(plan, name))
    includes = "".join(f'#include "{name}_config.h"\n' for name in plans)
    branches = "".join(
        f'  if (name == "{name}")\n'
        f"    return run<{name}_config>(folder, tokens, input_beats, output_beats, beats, format);\n"
        for name in plans
    )
    source = folder / f"{program.name}.cpp"
    source.write_text(_MAIN.format(includes=includes, branches=branches))
    compile_program([source], program, includes=(INCLUDE, folder), flags=flags)


def simulate_plan(program: Path, name: str, plan: LayerPlan, x: np.ndarray) -> SimulatedOutput:
    """Run layer ``name`` of a program on float16 ``[m, k]``.

    The first call takes the weights from memory, later ones from a table on the chip.

    Raises:
        ValueError: the program does not end as it should.
    """
    folder = program.parent / f"{name}_data"
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(beat_bytes(plan.image))
    (folder / "input.bin").write_bytes(row_bytes(x))
    output_beats = sum(plan.output_beats)
    numbers = (len(x), row_beats(x.shape[1], 16), output_beats, plan.beats, plan.format_register)
    command = [str(program), name, str(folder), *(str(number) for number in numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise ValueError(
            f"the simulation of layer {name} must end by itself, not with status {done.returncode}: {said}"
        )
    raw = np.fromfile(folder / "output.bin", np.uint8).reshape(len(x), output_beats * BEAT_BYTES)
    return _outputs(plan, raw)


def _outputs(plan: LayerPlan, raw: np.ndarray) -> SimulatedOutput:
    n = plan.shape[0]
    if plan.output is None:
        return SimulatedOutput(raw.view("<f2" if plan.fp16_output else "<f4")[:, :n])
    bits, words = plan.output.format.bits, raw.view("<u4")
    first = plan.output_beats[0] * BEAT_BYTES // 4
    codes = unpack(np.ascontiguousarray(words[:, : row_words(n, bits)]), bits, n)
    return SimulatedOutput(codes, raw.view("<f4")[:, first : first + plan.output.tiles])
