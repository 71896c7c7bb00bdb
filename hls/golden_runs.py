"""What the testbench of a layer runs: its golden outputs, in its own format or in every one of its format register.

A layer whose weight format is chosen at run time (``LayerOptions.runtime_formats``) has a weight image and golden
outputs for each format: one kernel runs all of them, one after another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datatypes.quantized_layer import QuantizedLayer
from hls.layer_options import LayerOptions
from hls.layer_plan import LayerPlan
from hls.layer_planning import plan_layer
from hls.layer_reference import layer_reference
from hls.output_rows import OutputRows, output_rows
from hls.render import INPUT, OUTPUT, WEIGHTS, GoldenRun
from hls.runtime_formats import in_runtime_formats
from hls.weights import BEAT_BYTES, beat_bytes, row_bytes


@dataclass(frozen=True, eq=False)
class GoldenLayer:
    """A layer with what its kernel must give.

    Args:
        plan: in its own format.
        outputs: of that.
        on_chip: whether the weights are part of the kernel.
        plans: by name, of every format chosen at run time; empty where it is fixed.
        runs: of the testbench.
        data: files that it reads.
    """

    plan: LayerPlan
    outputs: OutputRows
    on_chip: bool
    plans: Mapping[str, LayerPlan]
    runs: tuple[GoldenRun, ...]
    data: Mapping[str, bytes]


def golden_layer(
    layer: QuantizedLayer, x: np.ndarray, bias: np.ndarray | None, options: LayerOptions, *, on_chip_bytes: int
) -> GoldenLayer:
    """Plans, golden outputs and files of a layer.

    Args:
        layer: the layer.
        x: float16 ``[tokens, k]``.
        bias: float32 ``[n]``; ``None`` for none.
        options: how it is computed.
        on_chip_bytes: images of at most so many bytes are part of the kernel, where the format is fixed.

    Raises:
        NotImplementedError, ValueError: something that no header holds.
    """
    if not options.runtime_formats:
        plan = plan_layer(layer, bias=bias, options=options)
        outputs = output_rows(layer_reference(layer, x, bias, options))
        data = {INPUT: row_bytes(x), OUTPUT: outputs.data}
        on_chip = plan.beats * BEAT_BYTES <= on_chip_bytes
        if not on_chip:
            data[WEIGHTS] = beat_bytes(plan.image)
        run = GoldenRun("", 0, "" if on_chip else WEIGHTS, plan.beats, OUTPUT)
        return GoldenLayer(plan, outputs, on_chip, {}, (run,), data)
    layers = in_runtime_formats(layer)
    plans, made, runs, data = {}, {}, [], {INPUT: row_bytes(x)}
    for name, one in layers.items():
        plans[name] = plan_layer(one, bias=bias, options=options)
        made[name] = output_rows(layer_reference(one, x, bias, options))
        run = GoldenRun(
            name, plans[name].format_register, f"weights_{name}.bin", plans[name].beats, f"output_{name}.bin"
        )
        data |= {run.output: made[name].data, run.weights: beat_bytes(plans[name].image)}
        runs.append(run)
    (own,) = (name for name, one in layers.items() if one is layer)
    return GoldenLayer(plans[own], made[own], False, plans, tuple(runs), data)
