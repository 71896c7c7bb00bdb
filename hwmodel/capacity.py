"""Does it fit: weights, KV cache and activations against the memory of one chip, and the largest batch and context.

The cache is counted as it is stored, scales and zero points included. Activations are those of the layer that needs
most: its input and output in 16 bits (intermediate results of a fused kernel, workspaces of libraries and fragmentation
are left out: leave a share of the memory for them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from datatypes.layer_config import LayerConfig
from hwmodel.gpu import Gpu, Machine
from hwmodel.gpu_operands import cache_shape, cache_tensor, resident_bits
from hwmodel.operands import Config
from hwmodel.pe import WIDE_BITS
from hwmodel.units import BYTE_BITS
from hwmodel.workload import ATTENTION_KINDS, WEIGHT_KINDS, LayerKind, LayerSpec, Phase, Workload, at_context

_FP16_LAYER = LayerConfig()


def cache_elements_per_token(decode: Workload) -> int:
    """Numbers that one more token adds to the KV cache of one sequence; 0 from windows and recurrent states.

    Args:
        decode: a decode step, with latents absorbed (``hwmodel.latent_attention``) where there are any.
    """
    return sum(cache_shape(layer)[1] * layer.copies // decode.batch for layer in decode.layers if _grows(layer, decode))


def cache_bits(decode: Workload, configs: Mapping[str, Config], context: int | None = None) -> int:
    """Stored bits of the KV cache (and of recurrent states) of one sequence.

    Args:
        decode: a decode step at the largest context that is asked for.
        configs: by layer name; attention that is not named is FP16.
        context: tokens in the cache; the workload's own by default.
    """
    step = decode if context is None else at_context(decode, context)
    total = 0
    for layer in step.layers:
        if layer.kind not in ATTENTION_KINDS or layer.weight_of is not None:
            continue
        cache = cache_tensor(layer, configs.get(layer.name, _FP16_LAYER))
        tokens, width = cache_shape(layer)
        bits = cache * tokens * width if isinstance(cache, float) else cache.traffic_bits((tokens, width))
        total += math.ceil(bits) * layer.copies
    return total // step.batch


def _grows(layer: LayerSpec, decode: Workload) -> bool:
    if layer.kind not in ATTENTION_KINDS or layer.state or layer.weight_of is not None:
        return False
    return cache_shape(layer)[0] == decode.context


def weight_bits(workload: Workload, configs: Mapping[str, Config]) -> int:
    """Stored bits of all weights, tied ones once."""
    return resident_bits(workload.select(WEIGHT_KINDS), configs)


def activation_bits(workload: Workload) -> int:
    """16-bit input and output of the layer that needs most of both."""
    return max(
        (
            (layer.k + layer.n) * layer.m * layer.copies * WIDE_BITS
            for layer in workload.layers
            if layer.kind in (LayerKind.LINEAR, LayerKind.CONV) and not layer.head
        ),
        default=0,
    )


@dataclass(frozen=True)
class Capacity:
    """What lies in the memory of one chip.

    Args:
        memory_bits: what may be used.
        weight_bits: of the chip's share of the model.
        activation_bits: of the largest step.
        decode: a decode step of one sequence at the largest context, for the cache.
        configs: by layer name.
    """

    memory_bits: int
    weight_bits: int
    activation_bits: int
    decode: Workload
    configs: Mapping[str, Config]

    @property
    def cache_room_bits(self) -> int:
        """Left for caches; negative where the model itself does not fit."""
        return self.memory_bits - self.weight_bits - self.activation_bits

    def fits(self, batch: int, context: int) -> bool:
        """Whether ``batch`` sequences of ``context`` tokens fit beside the model."""
        return self.cache_room_bits >= batch * cache_bits(self.decode, self.configs, context)

    def largest_batch(self, context: int) -> int:
        """Sequences of ``context`` tokens that fit; 0 where the model does not."""
        if self.cache_room_bits < 0:
            return 0
        each = cache_bits(self.decode, self.configs, context)
        if each == 0:
            raise ValueError(f"layers of {self.decode.model} must keep a cache to have a largest batch, not none")
        return self.cache_room_bits // each

    def largest_context(self, batch: int = 1) -> int:
        """Tokens of context with which ``batch`` sequences fit, at most the context traced; 0 where none do."""
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch!r}")
        low, high = 0, self.decode.context
        while low < high:  # the cache grows with the context
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fits(batch, middle) else (low, middle - 1)
        return low


def memory_bytes_of(machine: Machine, memory_bytes: float | None = None) -> float:
    """Memory of a chip: as given, or the GPU's.

    Raises:
        ValueError: not above 0, or not given for an accelerator, whose presets do not say how much DRAM there is.
    """
    if memory_bytes is None and isinstance(machine, Gpu):
        return machine.memory_bytes
    if memory_bytes is None or not memory_bytes > 0:
        raise ValueError(f"memory of accelerator {machine.name} must be given and above 0 bytes, not {memory_bytes!r}")
    return memory_bytes


def capacity_of(
    step: Workload, decode: Workload, configs: Mapping[str, Config], memory_bytes: float, *, usable: float = 0.9
) -> Capacity:
    """What fits into one chip.

    Args:
        step: the largest step that is run: its weights and activations count.
        decode: a decode step of one sequence at the largest context.
        configs: by layer name; configs of other layers are ignored.
        memory_bytes: of the chip.
        usable: share of it that the model may use (vLLM's gpu_memory_utilization is 0.9 by default).

    Raises:
        ValueError: ``decode`` is not a decode step of one sequence, or ``usable`` is outside 0 to 1.
    """
    if decode.phase is not Phase.DECODE or decode.batch != 1:
        raise ValueError(f"decode must be a decode step of one sequence, not {decode.phase.value} of {decode.batch}")
    if not 0 < usable <= 1:
        raise ValueError(f"usable must be above 0 and at most 1, not {usable!r}")
    memory_bits = int(memory_bytes * usable * BYTE_BITS)
    return Capacity(memory_bits, weight_bits(step, configs), activation_bits(step), decode, configs)
