"""Quantizing a model layer by layer, block by block, as a stream of finished layers.

Sequential mode (GPTQ's, arXiv 2210.17323, section 4): the inputs that an algorithm sees in a block are what the blocks
before it, already quantized, really produce; all layers of one block see the inputs of the unquantized block. Parallel
mode reads statistics that were gathered once from the unquantized model (``codesign.calibrate_model``). Gradient
statistics always come from there. Where no algorithm needs an input, no token is run at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from codesign.algorithms.base import Algorithm
from codesign.apply import KVFormats, RoundingCache, install
from codesign.blocks import BlockModel, Stream
from codesign.calibrate_model import GRADIENTS, batches_of, observe
from codesign.calibration import LayerCalibration, Statistic
from codesign.steps import NO_STEPS, Steps
from codesign.stream_file import StreamFile
from codesign.weight_slots import WeightSlot
from datatypes.layer_config import LayerConfig
from datatypes.quantized_layer import QuantizedLayer

NO_KV = KVFormats()


@dataclass(frozen=True)
class LayerJob:
    """What to do with one layer.

    Args:
        algorithm: how it is quantized.
        config: into what.
    """

    algorithm: Algorithm
    config: LayerConfig


@dataclass(frozen=True, eq=False)
class CalibrationPlan:
    """Where algorithms get their statistics from.

    Args:
        gathered: statistics of the unquantized model by layer (``CalibrationFolder``), for parallel mode and gradients.
        windows: calibration tokens ``[w, t]`` for sequential mode; ``None`` for parallel mode.
        keep_inputs: rows kept for ``Statistic.INPUTS`` in sequential mode.
    """

    gathered: Mapping[str, LayerCalibration] = field(default_factory=dict)
    windows: Tensor | None = None
    keep_inputs: int = 512


def quantize_blocks(
    model: BlockModel,
    jobs: Mapping[str, LayerJob],
    plan: CalibrationPlan,
    *,
    known: Mapping[str, QuantizedLayer] | None = None,
    kv: KVFormats = NO_KV,
    steps: Steps = NO_STEPS,
    kept: StreamFile | None = None,
) -> Iterator[tuple[str, QuantizedLayer]]:
    """Quantize the layers named in ``jobs``, in the model's order, those outside the blocks last.

    Args:
        model: the walked model.
        jobs: by layer name.
        plan: where statistics come from.
        known: layers that are finished already: not yielded, but run in sequential mode.
        kv: formats of the KV cache that later blocks see in sequential mode.
        kept: where hidden states are kept between blocks in sequential mode; they are used again where all layers
            before them are known.

    Yields:
        (layer name, quantized layer), each as soon as it is finished.

    Raises:
        ValueError: ``jobs`` names a layer that the model has not, or what an algorithm raises.
    """
    outer = model.outer_slots()
    unknown = set(jobs) - set(model.layer_names()) - {slot.name for slot in outer}
    if unknown:
        raise ValueError(f"layers to quantize must be linear layers of {model.source.name}, not {min(unknown)}")
    known = {} if known is None else known
    last = _last_block_with_inputs(model, jobs, plan, known)
    stream = None if last < 0 or plan.windows is None else model.embed(batches_of(plan.windows))
    passed = 0 if stream is None else _passed(model, stream, jobs, known, kept)
    for index in range(passed, len(model)):
        names = [slot.name for slot in model.slots(index) if slot.name in jobs]
        running = stream is not None and index <= last
        if not running and all(name in known for name in names):
            continue
        with model.block(index) as block:
            wanted = _wanted(jobs, [name for name in names if name not in known])
            seen: Mapping[str, LayerCalibration] = {}
            if running and stream is not None and wanted:
                seen = observe(model, stream, index, block, wanted, keep_inputs=plan.keep_inputs)
            finished: dict[str, QuantizedLayer] = {}
            for slot in model.slots(index):
                if slot.name not in jobs:
                    continue
                if slot.name in known:
                    finished[slot.name] = known[slot.name]
                    continue
                finished[slot.name] = _quantize(slot, jobs[slot.name], seen, plan)
                yield slot.name, finished[slot.name]
            if running and stream is not None and index < last:
                install(block, model.paths[index], finished, device=model.device)
                cache = RoundingCache(kv, model.paths[index]) if kv else None
                model.advance(stream, index, block, cache=cache)
                if kept is not None:
                    kept.save(stream, index + 1)
        steps("quantize", index + 1, len(model))
    for slot in outer:
        if slot.name in jobs and slot.name not in known:
            yield slot.name, _quantize(slot, jobs[slot.name], {}, plan)


def _passed(
    model: BlockModel,
    stream: Stream,
    jobs: Mapping[str, LayerJob],
    known: Mapping[str, QuantizedLayer],
    kept: StreamFile | None,
) -> int:
    """How many blocks ``stream`` need not run again: as many as the kept states have passed, if all there is known."""
    if kept is None:
        return 0
    before = list(stream.hidden)
    passed = kept.load(stream) or 0
    if all(slot.name in known or slot.name not in jobs for index in range(passed) for slot in model.slots(index)):
        return passed
    stream.hidden = before
    return 0


def _last_block_with_inputs(
    model: BlockModel, jobs: Mapping[str, LayerJob], plan: CalibrationPlan, known: Mapping[str, QuantizedLayer]
) -> int:
    """The last block for which tokens must run; -1 for none."""
    if plan.windows is None:
        return -1
    for index in reversed(range(len(model))):
        for slot in model.slots(index):
            if slot.name in jobs and slot.name not in known and jobs[slot.name].algorithm.needs - GRADIENTS:
                return index
    return -1


def _wanted(jobs: Mapping[str, LayerJob], names: list[str]) -> frozenset[Statistic]:
    """Input statistics that the algorithms of ``names`` need."""
    return frozenset(statistic for name in names for statistic in jobs[name].algorithm.needs - GRADIENTS)


def _quantize(
    slot: WeightSlot, job: LayerJob, seen: Mapping[str, LayerCalibration], plan: CalibrationPlan
) -> QuantizedLayer:
    """One layer, with what was seen in this block put over what was gathered before."""
    gathered = plan.gathered.get(slot.name) if job.algorithm.needs else None
    now = seen.get(slot.name)
    statistics = {
        **(gathered.statistics if gathered is not None else {}),
        **(now.statistics if now is not None else {}),
    }
    tokens = max(c.tokens for c in (gathered, now) if c is not None) if gathered or now else 0
    calibration = LayerCalibration(slot.name, tokens, statistics)
    return job.algorithm.quantize(slot.matrix(), calibration, job.config)
