"""What an input in channel groups (Tender) asks of a machine: waits between groups, vector operations, stored bits.

Simple, stated models:
    * a PE with a shifter (``PE.channel_groups`` above 1) shifts the sum of a tile by one between two groups, which
      takes a cycle in which nothing is multiplied (Lee et al., Tender, ISCA 2024, section IV); a group without channels
      is shifted over too, so that the number of groups alone counts. Where a layer's config gives no groups, the
      machine's own number holds, as for bare bit widths of a published study.
    * elsewhere, and where groups have scales that no shift brings together, an array of encoded activations hands out
      one partial sum for each group, and the vector unit scales and adds it.
    * arrays that multiply FP16 decode the input on the way in, in any order.
    * a bias takes one operation for each input and one for each output.
    * of what calibration stores, the chunks that the tokens of a call fill move with the weight; the order of the
      channels is read once for each pass of tokens (ASSUMPTION: into Tender's index buffer, whose own reads are not
      counted).
"""

from __future__ import annotations

from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.granularity import PerTensor
from datatypes.layer_config import ActivationConfig, LayerConfig, ScaleConfig, TensorConfig
from datatypes.storage_bits import field_bits
from hwmodel.options import ModelOptions
from hwmodel.pe import PE
from hwmodel.workload import LayerSpec


def plain_activation(activation: ActivationConfig | None) -> TensorConfig | None:
    """The same codes under one static scale: an input in channel groups without what this file prices."""
    if isinstance(activation, ChannelGroupsConfig):
        return TensorConfig(activation.formats, PerTensor(), ScaleConfig(activation.scale))
    return activation


def shifts_groups(activation: ChannelGroupsConfig, pe: PE) -> bool:
    """Whether sums of the groups meet inside the PE."""
    return activation.halved and pe.channel_groups > 1


def group_waits(activation: ActivationConfig | None, pe: PE, options: ModelOptions) -> int:
    """Cycles that each tile waits for shifts between groups of channels."""
    if not options.requantization_bubbles:
        return 0
    if isinstance(activation, ChannelGroupsConfig):
        return activation.groups - 1 if shifts_groups(activation, pe) else 0
    return pe.channel_groups - 1


def group_operations(spec: LayerSpec, activation: ActivationConfig | None, pe: PE, *, on_array: bool) -> int:
    """Vector operations of one copy beside those of ``plain_activation``.

    Args:
        spec: the layer.
        activation: its input's encoding.
        pe: of the array.
        on_array: whether the array multiplies any of the layer.
    """
    if not isinstance(activation, ChannelGroupsConfig):
        return 0
    inputs, outputs = spec.m * spec.row_inputs, spec.m * spec.row_outputs
    operations = (inputs + outputs) * activation.biased
    if pe.encoded_activations and on_array and not shifts_groups(activation, pe):
        operations += outputs * (activation.groups - 1)
    return operations


def moved_bits(spec: LayerSpec, config: LayerConfig) -> tuple[int, int]:
    """Stored bits that move for one copy of a layer, and those of them that are read again in each pass of tokens."""
    activation = config.activation
    if not isinstance(activation, ChannelGroupsConfig):
        return 0, 0
    bits = activation.storage_bits((spec.n, spec.k), activation.chunks_of(spec.m))
    return bits, field_bits(spec.k, activation.index.bits)
