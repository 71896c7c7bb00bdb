"""How often each loop of a simulated decoder block really runs: an export compiled with a counter in every loop.

As ``hls.loop_counter`` for layers. The testbench of a block runs its tokens twice, in one call and one by one, unless
there is only one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hls.ap_types import INCLUDE, compile_program
from hls.loop_counter import counts_of, write_counted_headers


def count_block_loops(folder: Path, entry: Mapping[str, Any], work: Path) -> Mapping[str, int]:
    """Iterations by label, all loops of a label together, of everything that an exported block's testbench runs.

    Args:
        folder: of the export.
        entry: of the block in its manifest.
        work: a folder to work in.

    Raises:
        ValueError: outputs differ from the golden ones.
        FileNotFoundError: no compiler or no ``ap_int.h``.
    """
    place = folder / entry["folder"]
    headers = write_counted_headers(work / "counted")
    sources = [place / "kernel.cpp", place / "testbench.cpp"]
    compile_program(sources, work / "run", includes=(headers, INCLUDE, place), flags=("-O0",))
    with counts_of(work / "loops.txt") as counts:
        done = subprocess.run([str(work / "run")], cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"the simulation of block {entry['name']} must end as it should, not with {done.stdout!r}")
    return counts
