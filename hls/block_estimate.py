"""What an exported decoder block takes on a device, and how long a token lasts: all that is in ``decoder_block.h``.

Layers are priced as kernels of their own (``hls.estimate``), less the ports and the output rows that they do not have
in a block; what lies around them by ``hls.block_estimate_logic`` and ``hls.block_estimate_buffers``; a token by
``hls.block_estimate_cycles``. ``docs/hls_block.md`` says what was compared with what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from hls.block_estimate_buffers import block_buffers, block_streams, stream_memories
from hls.block_estimate_cycles import Clock, TokenCycles, token_cycles
from hls.block_estimate_logic import block_parts
from hls.block_loops import block_loops, records
from hls.block_plan import BlockPlan
from hls.decoder_block import LAYERS
from hls.estimate import Estimate, LayerEstimate, sites_entry
from hls.estimate_buffers import FIFOS, Buffer, layer_fifos
from hls.estimate_cycles import image_bytes_read
from hls.estimate_logic import CONTROL, MASTERS
from hls.layer_loops import layer_loops
from hls.weights import BEAT_BYTES, row_beats
from hwmodel.fpga import NOTHING, FpgaResources, budget
from hwmodel.fpga_accelerator import FpgaPart
from hwmodel.fpga_calibration import FpgaCalibration, calibrated

_PORTS = (MASTERS, CONTROL)  # parts that a block has once for all
_OUTSIDE = ("output floats", "weight image")  # arrays of a kernel that a layer in a block does not have


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockEstimate(Estimate):
    """A block on a device: ``parts`` and ``arrays`` are those around its layers, and streams that are memories.

    Args:
        layers: what each layer takes inside the block.
        layer_parts: of all layers, for the error of the whole.
        first, last: tokens at position 0 and at the last one; ``port_last`` with two ports an array. The last one is
            what is timed: ``macs`` of layers, scores and values, ``bytes_moved`` with the cache.
    """

    layers: Mapping[str, FpgaResources]
    layer_parts: tuple[FpgaPart, ...]
    first: TokenCycles
    last: TokenCycles
    port_last: TokenCycles

    @property
    def latency(self) -> int:
        """Cycles of the last token."""
        return self.last.latency

    @property
    def logic(self) -> tuple[FpgaPart, ...]:
        """Parts of the layers and around them."""
        return (*self.layer_parts, *self.parts)

    @property
    def cycles_a_position(self) -> float:
        """That a token takes longer for each position before it."""
        return (self.last.latency - self.first.latency) / max(self.last.position, 1)

    def to_dict(self) -> dict[str, Any]:
        """For a manifest, by the names of a layer's estimate."""
        cycles = {
            "cycles": _cycles(self.last),
            "cycles_with_two_ports": _cycles(self.port_last),
            "cycles_of_first_token": self.first.latency,
            "cycles_a_position": round(self.cycles_a_position, 2),
        }
        layers = {name: sites_entry(taken) for name, taken in self.layers.items()}
        return self.entry(1, cycles, {"layers": layers})


def _cycles(token: TokenCycles) -> dict[str, Any]:
    return {
        "position": token.position, "latency": token.latency, "interval_of_calls": token.latency, "bound": token.bound,
        "ends": dict(token.ends), "last_weight": token.weights, "attention": asdict(token.attention),
        "work_of_layers": dict(token.work),
    }  # fmt: skip


def _inside(layer: LayerEstimate) -> tuple[list[FpgaPart], list[tuple[Buffer, FpgaResources]]]:
    """Parts and arrays of a layer's kernel that it has in a block too."""
    parts = [part for part in layer.parts if part.name not in _PORTS]
    arrays = [pair for pair in layer.arrays if pair[0].name not in _OUTSIDE]
    return parts, arrays


def _missing(layers: Mapping[str, LayerEstimate], known: list[str]) -> Iterator[str]:
    """What layers leave out beside ``known``, layers that leave out the same named together."""
    who: dict[str, list[str]] = {}
    for name, layer in layers.items():
        for one in layer.missing:
            who.setdefault(one, []).append(name)
    for one, names in who.items():
        if one not in known:
            yield f"{', '.join(names)}: {one}"


def estimate_block(
    plan: BlockPlan,
    layers: Mapping[str, LayerEstimate],
    *,
    on_chip: bool = False,
    calibration: FpgaCalibration | None = None,
) -> BlockEstimate:
    """What a planned block takes, and how long its first and its last token last.

    Args:
        plan: of the block.
        layers: by the names of ``LAYERS``: ``estimate_layer`` of each as a kernel of its own, as ``on_chip`` as here.
        on_chip: whether the weight image is a table of the kernel.
        calibration: from reports of synthesis.
    """
    device, clock_hz = layers["q"].device, layers["q"].clock_hz
    parts, missing = block_parts(plan, on_chip=on_chip)
    shallow, deep = stream_memories(block_streams(plan))
    ultra = device.uram288 > 0
    arrays = [(one, one.resources(ultra_at_hand=ultra)) for one in [*block_buffers(plan, on_chip=on_chip), *deep]]
    taken: dict[str, FpgaResources] = {}
    layer_parts: list[FpgaPart] = []
    for name in LAYERS:
        logic, memories = _inside(layers[name])
        layer_parts += logic
        streams = [one for one in layer_fifos(plan.layers[name]) if one not in FIFOS]  # between its own processes
        used = [*(part.resources for part in logic), *(one for _, one in memories), *(one.resources for one in streams)]
        taken[name] = sum(used, NOTHING)
    total = sum(taken.values(), sum((part.resources for part in parts), NOTHING))
    total = sum((used for _, used in arrays), total)
    total = sum((stream.resources for stream in shallow), total)
    said = ""
    if calibration is not None:
        total, said = calibrated(total, calibration, device.family)
    bandwidth = device.offchip_bytes_per_s
    if bandwidth is None:
        missing.append(f"the memory behind the ports: {device.name} has none whose bandwidth is known")
    clock = Clock(clock_hz, bandwidth or BEAT_BYTES * clock_hz, on_chip)
    position = plan.block.positions - 1
    return BlockEstimate(
        device=device,
        clock_hz=clock_hz,
        layers=taken,
        parts=tuple(parts),
        arrays=tuple(arrays),
        layer_parts=tuple(layer_parts),
        missing=(*missing, *_missing(layers, missing)),
        macs=_macs(plan, layers, position),
        first=token_cycles(plan, layers, 0, clock),
        last=token_cycles(plan, layers, position, clock),
        port_last=token_cycles(plan, layers, position, replace(clock, ports=True)),
        bytes_moved=_bytes(plan, position, on_chip=on_chip),
        resources=total,
        budget=budget(total, device),
        calibration=said,
    )


def _macs(plan: BlockPlan, layers: Mapping[str, LayerEstimate], position: int) -> int:
    """Products of the layers, and of queries and powers with every position."""
    block = plan.block
    return sum(layer.macs for layer in layers.values()) + 2 * (position + 1) * block.heads * block.head_dim


def _bytes(plan: BlockPlan, position: int, *, on_chip: bool) -> int:
    """What a token moves: a record is read for each position before it, and its own is written."""
    beats = (position + 1) * sum(record.beats for record in records(plan)) + 2 * row_beats(plan.block.hidden, 32)
    if on_chip:
        return BEAT_BYTES * beats
    layers = sum(image_bytes_read(layer_loops(layer, 1)) for layer in plan.layers.values())
    return BEAT_BYTES * beats + image_bytes_read(block_loops(plan, 0)) + layers
