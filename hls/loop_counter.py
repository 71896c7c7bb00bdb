"""How often each loop of a simulated layer really runs: the headers copied with a counter in every loop's condition.

The C simulation says nothing about time, but its loops are the ones that a tool schedules; ``hls.layer_loops`` says
how often they run in closed form, and this counts it. Loops that a pragma unrolls are hardware, not time, and are left
out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np

from hls.ap_types import INCLUDE
from hls.layer_csim import compile_plans, simulate_plan
from hls.layer_plan import LayerPlan

_FILES = (
    "activation.h", "attention.h", "branches.h", "code_tiles.h", "decoder_block.h", "elementwise.h", "kv_cache.h",
    "layer.h", "layer_output.h", "layer_part.h", "layer_parts.h", "layer_tile.h", "norm.h", "part_scale.h", "streams.h",
)  # fmt: skip
_VARIABLE = "CODESIGN_LOOP_COUNTS"
_LOOP = re.compile(
    r"(?P<label>\b\w+):(?P<gap>\n\s*)for \((?P<first>[^;]*);(?P<while>[^;]*);(?=(?P<rest>[^\n]*\n\s*[^\n]*))"
)
_COUNTER = """
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
namespace codesign {
struct loop_counter {
  std::map<std::string, long long> count;
  bool hit(const char* name) { ++count[name]; return true; }
  ~loop_counter() {
    const char* path = std::getenv("%s");
    std::FILE* file = path ? std::fopen(path, "w") : nullptr;
    if (!file) return;
    for (const auto& entry : count) std::fprintf(file, "%%s %%lld\\n", entry.first.c_str(), entry.second);
    std::fclose(file);
  }
};
inline loop_counter loops;
}  // namespace codesign
"""


def counted_header(text: str) -> str:
    """A header whose rolled, labelled loops count their iterations.

    >>> print(counted_header("beats:\\n  for (int i = 0; i < n; ++i) {\\n    go(i);"))
    beats:
      for (int i = 0; ( i < n) && codesign::loops.hit("beats"); ++i) {
        go(i);
    """

    def counted(match: re.Match[str]) -> str:
        if "UNROLL" in match["rest"]:
            return match.group()
        condition = f' ({match["while"]}) && codesign::loops.hit("{match["label"]}")'
        return f"{match['label']}:{match['gap']}for ({match['first']};{condition};"

    return _LOOP.sub(counted, text)


def count_loops(plan: LayerPlan, x: np.ndarray, folder: Path) -> Mapping[str, int]:
    """Iterations by label, all loops of a label together, of one call of a layer.

    Args:
        plan: the layer.
        x: float16 ``[tokens, k]``, at most the tokens of one call.
        folder: to work in.

    Raises:
        ValueError: more tokens than one call takes.
        FileNotFoundError: no compiler or no ``ap_int.h``.
    """
    if len(x) > plan.options.tokens:
        raise ValueError(f"inputs of one call must be at most {plan.options.tokens} tokens, not {len(x)}")
    headers = write_counted_headers(folder / "counted")
    compile_plans({"counted": plan}, folder / "program", flags=("-O0", "-I", str(headers)))
    with counts_of(folder / "loops.txt") as counts:
        simulate_plan(folder / "program", "counted", plan, x)
    return counts


def write_counted_headers(folder: Path) -> Path:
    """All headers, those of ``_FILES`` with counters; returns ``folder``, to be included before any other."""
    headers = folder / "codesign"
    headers.mkdir(parents=True, exist_ok=True)
    for path in sorted((INCLUDE / "codesign").glob("*.h")):
        text = path.read_text(encoding="utf-8")
        if path.name in _FILES:
            text = counted_header(text)
        if path.name == "types.h":
            text = text.replace("#include <hls_stream.h>\n", f"#include <hls_stream.h>\n{_COUNTER % _VARIABLE}", 1)
        (headers / path.name).write_text(text, encoding="utf-8")
    return folder


@contextmanager
def counts_of(written: Path) -> Iterator[dict[str, int]]:
    """Iterations by label of what runs inside, known when it has ended."""
    counts: dict[str, int] = {}
    with patch.dict(os.environ, {_VARIABLE: str(written)}):
        yield counts
    lines = written.read_text(encoding="utf-8").split("\n")
    counts.update({name: int(count) for name, count in (line.split() for line in lines if line)})
