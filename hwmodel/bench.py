"""How fast layers are priced: ``python -m hwmodel.bench``.

Three figures, all in layer evaluations for each CPU second: through the ordinary call on a whole model (equal shapes
priced once), the same with a fresh workload for every call, and every layer priced on its own with nothing remembered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from datatypes.catalog import BITMOD_FP4, FP16, INTS_SYMMETRIC, UINT8
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from hwmodel.evaluate import evaluate
from hwmodel.paper import paper_workload
from hwmodel.presets import BITMOD
from hwmodel.workload import Phase, Workload

MODEL = "Llama-2-7B"


@dataclass(frozen=True)
class BenchResult:
    """One figure.

    Args:
        name: what was timed.
        layers: layers priced.
        cpu_s: CPU seconds taken.
    """

    name: str
    layers: int
    cpu_s: float

    @property
    def layers_per_cpu_s(self) -> float:
        """The figure."""
        return self.layers / self.cpu_s


def bitmod4_config() -> LayerConfig:
    """BitMoD-4 in groups of 128 with an 8-bit KV cache for each token."""
    kv = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)
    weight = TensorConfig(BITMOD_FP4, PerGroup(128), ScaleConfig(UINT8, outer=FP16))
    return LayerConfig(weight=weight, key=kv, value=kv)


def bench(cpu_s: float = 1.0) -> list[BenchResult]:
    """Time each way of pricing for about ``cpu_s`` CPU seconds."""
    config = bitmod4_config()
    workload = paper_workload(MODEL, Phase.PREFILL, other_layers=True)
    singles = [Workload(MODEL, Phase.PREFILL, (layer,)) for layer in workload.layers]

    def whole() -> int:
        return len(evaluate(workload, config, BITMOD).layers)

    def fresh() -> int:
        return len(evaluate(paper_workload(MODEL, Phase.PREFILL, other_layers=True), config, BITMOD).layers)

    def alone() -> int:
        return sum(len(evaluate(single, config, BITMOD).layers) for single in singles)

    names: dict[str, Callable[[], int]] = {
        "whole model": whole,
        "workload built anew": fresh,
        "one layer a call": alone,
    }
    return [_timed(name, run, cpu_s) for name, run in names.items()]


def _timed(name: str, run: Callable[[], int], cpu_s: float) -> BenchResult:
    run()  # tables and code tables are read once
    layers, start = 0, time.process_time()
    while (spent := time.process_time() - start) < cpu_s:
        layers += run()
    return BenchResult(name, layers, spent)


def main(cpu_s: float = 1.0) -> None:
    """Print the figures."""
    for result in bench(cpu_s):
        print(f"{result.name}: {result.layers_per_cpu_s:,.0f} layers per CPU second")


if __name__ == "__main__":
    main()
