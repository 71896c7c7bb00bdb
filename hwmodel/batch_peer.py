"""A peer's speed on a layer of the same model: ZigZag (PyPI: ``zigzag-dse``), in an environment of its own.

ZigZag is no dependency of this project: give the Python of an environment that has it, made for example by
``python -m venv zz && zz/bin/pip install zigzag-dse six`` (its package does not name ``six``, which it imports). What
runs: the seven linear layers of one Llama-2-7B block as a workload of the Python API (loops B, K, C; 8-bit weights and
activations), the bundled ``tpu_like`` accelerator and mapping, latency as goal.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 900
_SCRIPT = """
import json, logging, os, sys, time
import zigzag
from zigzag.api import get_hardware_performance_zigzag
logging.disable(logging.CRITICAL)
inputs = os.path.join(os.path.dirname(zigzag.__file__), "inputs")
asked = json.loads(sys.argv[1])
layers = [
    {"id": i, "name": name, "operator_type": "Gemm", "equation": "O[b][k]+=W[k][c]*I[b][c]",
     "loop_dims": ["B", "K", "C"], "loop_sizes": [asked["tokens"], n, k],
     "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8}, "operand_source": {"I": i, "W": i}}
    for i, (name, n, k) in enumerate(asked["linears"])
]
start = time.process_time()
energy, latency, _ = get_hardware_performance_zigzag(
    layers, os.path.join(inputs, "hardware", "tpu_like.yaml"), os.path.join(inputs, "mapping", "tpu_like.yaml"),
    opt="latency", lpf_limit=asked["limit"], dump_folder=asked["folder"], loma_show_progress_bar=False)
print("RESULT " + json.dumps({"cpu_s": time.process_time() - start, "cycles": latency, "energy_pj": energy}))
"""


@dataclass(frozen=True)
class PeerRun:
    """What one run took and said.

    Args:
        tokens: rows of each product.
        limit: of ZigZag's search for loop orders.
        layers: priced.
        cpu_s: CPU seconds, start of Python left out.
        cycles: its answer for the block.
    """

    tokens: int
    limit: int
    layers: int
    cpu_s: float
    cycles: float

    @property
    def layers_per_cpu_s(self) -> float:
        """The figure."""
        return self.layers / self.cpu_s


def run_zigzag(python: str, linears: tuple[tuple[str, int, int], ...], *, tokens: int, limit: int = 4) -> PeerRun:
    """Price the linear layers (name, outputs, inputs) of a block once.

    Args:
        python: of the environment that has ZigZag.
        linears: as in ``hwmodel.paper.ModelShape``.
        tokens: rows of each product.
        limit: of the search for loop orders; the smaller the faster.

    Raises:
        ValueError: that Python cannot run it; with the last line it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = json.dumps({"linears": linears, "tokens": tokens, "limit": limit, "folder": str(Path(folder) / "out")})
        try:
            done = subprocess.run(
                [python, "-c", _SCRIPT, asked], capture_output=True, text=True, timeout=_TIMEOUT_S, cwd=folder
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ValueError(f"the peer's Python must run within {_TIMEOUT_S} s, not {python!r} ({error})") from None
    said = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not said:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise ValueError(f"the peer's Python must have zigzag-dse and six, not {python!r}, which said: {last}")
    result = json.loads(said[-1].removeprefix("RESULT "))
    return PeerRun(tokens, limit, len(linears), result["cpu_s"], result["cycles"])
