"""Which arithmetic of the headers an accelerator's PEs are, and whether they take a layer.

``arithmetic_of_machine``: by the kind of PE. ``check_runs``: what ``hwmodel.array_path`` says of the layer's formats,
and that inputs which meet FP16 multipliers are FP16: exported stages hand on codes, they decode none.
"""

from __future__ import annotations

from collections.abc import Mapping

from datatypes.layer_config import LayerConfig, PartitionedConfig, TensorConfig
from hwmodel.accelerator import Accelerator
from hwmodel.array_path import array_path
from hwmodel.pe import PE, PeKind
from hwmodel.presets import ACCELERATORS
from hwmodel.unit_cost_design import Arithmetic

ARITHMETICS: Mapping[PeKind, Arithmetic] = {
    PeKind.BIT_SERIAL: Arithmetic.BITMOD,  # bitmod_array.h
    PeKind.INT_MULTIPLIER: Arithmetic.PARALLEL,  # float_accumulate.h: integers and decoded formats beside FP16
    PeKind.FP16_MAC: Arithmetic.PARALLEL,
    PeKind.TABLE_LOOKUP: Arithmetic.PARALLEL,  # codebook.h
    PeKind.FUSED_BRICKS: Arithmetic.PARALLEL,  # of decoders and shifters alone: shift_mac.h
    PeKind.ACTIVATION_SERIAL: Arithmetic.ACTIVATION_SERIAL,  # serial.h
    PeKind.BOTH_SERIAL: Arithmetic.BOTH_SERIAL,
    PeKind.TERM_SKIPPING: Arithmetic.TERM_SERIAL,
    PeKind.BLOCK_DOT: Arithmetic.BLOCK,  # block_dot.h
}


def has_pe(pe: PE) -> bool:
    """Whether a header has this kind of PE: of fused bricks those that decode (ANT, OliVe) or shift sums (Tender)."""
    return pe.kind is not PeKind.FUSED_BRICKS or bool(pe.decoders) or pe.channel_groups > 1


def arithmetic_of_machine(machine: Accelerator) -> Arithmetic:
    """The arithmetic of an accelerator's PEs.

    Raises:
        ValueError: no header has such PEs; the message names the presets that can be exported.

    >>> from hwmodel.presets import accelerator_by_name
    >>> arithmetic_of_machine(accelerator_by_name("stripes")).value
    'activation_serial'
    """
    if not has_pe(machine.pe):
        there = ", ".join(name for name, one in ACCELERATORS.items() if has_pe(one.pe))
        raise ValueError(
            f"accelerator must have PEs that a header computes ({there}), not the fused bricks of {machine.name}"
        )
    return ARITHMETICS[machine.pe.kind]


def check_runs(config: LayerConfig, machine: Accelerator) -> None:
    """Make sure that an accelerator's PEs take the formats of a layer.

    Raises:
        NotImplementedError: they do not; the message says why.
    """
    if config.weight is None:
        return
    activation = config.activation
    inputs = None if activation is None else activation.formats
    plain = inputs is None or (isinstance(activation, TensorConfig) and activation.scale is None)
    if not machine.pe.encoded_activations and machine.pe.kind is not PeKind.BIT_SERIAL and not plain:
        assert inputs is not None
        raise NotImplementedError(f"PEs of {machine.name} multiply FP16 inputs, not {inputs[0].name}")
    weight = config.weight
    parts = [part.config for part in weight.parts] if isinstance(weight, PartitionedConfig) else [weight]
    for part in parts:
        if part is None:
            continue
        try:
            array_path(part.formats, machine.pe, None if plain else inputs)
        except NotImplementedError as reason:
            raise NotImplementedError(f"accelerator {machine.name} does not run it: {reason}") from None
