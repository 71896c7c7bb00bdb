"""Quantized layers as named arrays for files: ``datatypes.packing`` applied to every part of a layer.

The arrays take exactly ``LayerConfig.storage_bits(shape).total / 8`` bytes. What is not an array (the config, the
shape, the notes) is JSON's (``datatypes.config_json``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor

from datatypes.channel_groups import ChannelGroups
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.layer_config import LayerConfig, LowRankConfig, OutlierConfig, OutlierLayout, PartitionedConfig
from datatypes.packing import (
    pack_field,
    pack_flat,
    pack_tensor,
    unpack_field,
    unpack_flat,
    unpack_integers,
    unpack_tensor,
    unpack_values,
)
from datatypes.quantized_layer import Outliers, QuantizedLayer
from datatypes.tensor import QuantizedTensor


def pack_layer(layer: QuantizedLayer) -> dict[str, Tensor]:
    """Everything a quantized layer stores.

    Keys: ``weight.<key>`` (``weight.<part>.<key>`` and ``part_of_column`` for a weight in parts), ``low_rank_a.<key>``,
    ``low_rank_b.<key>``, ``outliers.<key>``, ``permutation``, ``smoothing``, ``activation.<key>`` for channel groups.

    Raises:
        ValueError: the layer holds something that its config does not name, or lacks what it names.
    """
    config = layer.config
    _check_agreement(layer)
    made: dict[str, Tensor] = {}
    if isinstance(layer.weight, tuple):
        assert isinstance(config.weight, PartitionedConfig) and layer.part_of_column is not None
        for index, part in enumerate(layer.weight):
            if part.shape[1] == 0:
                raise ValueError(
                    f"part {index} of a stored weight must have columns, not 0: leave it out of the config"
                )
            _add(made, f"weight.{index}", pack_tensor(part))
        if bits := (len(config.weight.parts) - 1).bit_length():
            made["part_of_column"] = pack_flat(_slab_map(layer.part_of_column, config.weight.slab), bits)
    else:
        _add(made, "weight", pack_tensor(layer.weight))
    for key, factor in (("low_rank_a", layer.low_rank_a), ("low_rank_b", layer.low_rank_b)):
        if factor is not None:
            _add(made, key, pack_tensor(factor))
    if config.outliers is not None and layer.outliers is not None:
        _add(made, "outliers", _pack_outliers(layer.outliers, config.outliers, layer.shape))
    if layer.permutation is not None:
        made["permutation"] = layer.permutation.to(torch.int32)
    if config.smoothing is not None and layer.smoothing is not None:
        made["smoothing"] = pack_field(layer.smoothing, config.smoothing)
    if isinstance(config.activation, ChannelGroupsConfig) and layer.channel_groups is not None:
        _add(made, "activation", _pack_channel_groups(layer.channel_groups, config.activation, layer.shape))
    return made


def unpack_layer(
    tensors: Mapping[str, Tensor],
    config: LayerConfig,
    shape: tuple[int, int],
    *,
    notes: Mapping[str, float | int | str] | None = None,
) -> QuantizedLayer:
    """The inverse of ``pack_layer``.

    Raises:
        ValueError: an array is missing or not of the size the config asks for.
    """
    n, k = shape
    weight: QuantizedTensor | tuple[QuantizedTensor, ...]
    part_of_column: Tensor | None = None
    if config.weight is None:
        raise ValueError("config of a stored layer must have a weight encoding, not None")
    if isinstance(config.weight, PartitionedConfig):
        parts = []
        for index, part in enumerate(config.weight.parts):
            parts.append(unpack_tensor(_under(tensors, f"weight.{index}"), part.config, (n, part.columns)))
        weight = tuple(parts)
        part_of_column = _part_of_column(tensors, config.weight, k)
    else:
        dropped = 0
        if config.outliers is not None and not config.outliers.keep_dense_slot:
            dropped = config.outliers.count(shape)
        weight = unpack_tensor(_under(tensors, "weight"), config.weight, (n, k - dropped))
    low_rank_a, low_rank_b = _unpack_low_rank(tensors, config.low_rank, shape)
    outliers = None
    if config.outliers is not None:
        outliers = _unpack_outliers(_under(tensors, "outliers"), config.outliers, shape)
    smoothing = None
    if config.smoothing is not None:
        smoothing = unpack_values(_one(tensors, "smoothing"), config.smoothing, (k,)).to(torch.float32)
    return QuantizedLayer(
        config=config,
        weight=weight,
        shape=shape,
        part_of_column=part_of_column,
        low_rank_a=low_rank_a,
        low_rank_b=low_rank_b,
        outliers=outliers,
        permutation=_one(tensors, "permutation").to(torch.int64) if config.permuted else None,
        smoothing=smoothing,
        channel_groups=_unpack_channel_groups(_under(tensors, "activation"), config.activation, shape)
        if isinstance(config.activation, ChannelGroupsConfig)
        else None,
        notes=dict(notes or {}),
    )


def _check_agreement(layer: QuantizedLayer) -> None:
    """The layer holds exactly what its config names."""
    config = layer.config
    pairs = {
        "low_rank": (config.low_rank is not None, layer.low_rank_a is not None and layer.low_rank_b is not None),
        "outliers": (config.outliers is not None, layer.outliers is not None),
        "permutation": (config.permuted, layer.permutation is not None),
        "smoothing": (config.smoothing is not None, layer.smoothing is not None),
        "channel_groups": (isinstance(config.activation, ChannelGroupsConfig), layer.channel_groups is not None),
        "part_of_column": (isinstance(config.weight, PartitionedConfig), layer.part_of_column is not None),
    }
    for what, (promised, there) in pairs.items():
        if promised != there:
            raise ValueError(
                f"{what} of a layer must be there exactly when its config says so, "
                f"not {'only in the config' if promised else 'without the config'}"
            )


def _add(made: dict[str, Tensor], prefix: str, arrays: Mapping[str, Tensor]) -> None:
    made |= {f"{prefix}.{key}": value for key, value in arrays.items()}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The arrays below a prefix, the prefix taken off."""
    return {key[len(prefix) + 1 :]: value for key, value in tensors.items() if key.startswith(prefix + ".")}


def _one(tensors: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in tensors:
        raise ValueError(f"arrays of a layer must hold {key}, not only {', '.join(sorted(tensors))}")
    return tensors[key]


def _slab_map(part_of_column: Tensor, slab: int) -> Tensor:
    by_slab = part_of_column[::slab]
    if not torch.equal(by_slab.repeat_interleave(slab)[: len(part_of_column)], part_of_column):
        raise ValueError(f"part_of_column must be constant over slabs of {slab} columns, not change within one")
    return by_slab


def _part_of_column(tensors: Mapping[str, Tensor], config: PartitionedConfig, k: int) -> Tensor:
    bits = (len(config.parts) - 1).bit_length()
    if not bits:
        return torch.zeros(k, dtype=torch.int64)
    by_slab = unpack_flat(_one(tensors, "part_of_column"), bits, -(-k // config.slab))
    return by_slab.to(torch.int64).repeat_interleave(config.slab)[:k]


def _unpack_low_rank(
    tensors: Mapping[str, Tensor], config: LowRankConfig | None, shape: tuple[int, int]
) -> tuple[QuantizedTensor | None, QuantizedTensor | None]:
    if config is None:
        return None, None
    n, k = shape
    rank = min(config.rank, n, k)
    return (
        unpack_tensor(_under(tensors, "low_rank_a"), config.a, (rank, k)),
        unpack_tensor(_under(tensors, "low_rank_b"), config.b, (n, rank)),
    )


def _pack_outliers(outliers: Outliers, config: OutlierConfig, shape: tuple[int, int]) -> dict[str, Tensor]:
    n, k = shape
    count = config.count(shape)
    if len(outliers.columns) != count:
        raise ValueError(f"outliers must be {count}, as fraction {config.fraction!r} says, not {len(outliers.columns)}")
    made = {"values": pack_field(outliers.values, config.format)}
    if config.layout is OutlierLayout.BITMAP:
        bitmap = torch.zeros(shape, dtype=torch.uint8)
        bitmap[_rows(outliers, n), outliers.columns.cpu()] = 1
        made["bitmap"] = pack_flat(bitmap, 1)
        return made
    if config.index.bits < 32 and k > 1 << config.index.bits:
        raise ValueError(f"index of outliers must hold columns up to {k - 1}, not be {config.index.name}")
    made["columns"] = pack_field(outliers.columns, config.index)
    if config.layout is OutlierLayout.CSR:
        assert outliers.row_pointers is not None
        made["row_pointers"] = pack_field(outliers.row_pointers, config.row_pointer)
    return made


def _rows(outliers: Outliers, n: int) -> Tensor:
    """Row of each element-wise outlier, on the CPU."""
    if outliers.row_pointers is None:
        raise ValueError("element-wise outliers must have row_pointers, not None")
    return torch.repeat_interleave(torch.arange(n), outliers.row_pointers.diff().cpu())


def _unpack_outliers(stored: Mapping[str, Tensor], config: OutlierConfig, shape: tuple[int, int]) -> Outliers:
    n, k = shape
    count = config.count(shape)
    if config.layout is OutlierLayout.COLUMNS:
        columns = unpack_field(_one(stored, "columns"), config.index, (count,)).to(torch.int64)
        return Outliers(unpack_values(_one(stored, "values"), config.format, (n, count)), columns)
    values = unpack_values(_one(stored, "values"), config.format, (count,))
    if config.layout is OutlierLayout.BITMAP:
        place = unpack_flat(_one(stored, "bitmap"), 1, n * k).reshape(n, k)
        pointers = torch.cat([torch.zeros(1, dtype=torch.int64), place.sum(1, dtype=torch.int64).cumsum(0)])
        return Outliers(values, place.nonzero()[:, 1], pointers)
    columns = unpack_field(_one(stored, "columns"), config.index, (count,)).to(torch.int64)
    pointers = unpack_integers(_one(stored, "row_pointers"), config.row_pointer, (n + 1,)).to(torch.int64)
    return Outliers(values, columns, pointers)


def _pack_channel_groups(
    groups: ChannelGroups, config: ChannelGroupsConfig, shape: tuple[int, int]
) -> dict[str, Tensor]:
    config.check_index(shape[1])
    _check_channel_groups(groups, config, shape)
    made = {
        "order": pack_field(groups.order, config.index),
        "sizes": pack_field(groups.sizes, config.index),
        "scale": pack_field(groups.scale, config.scale),
    }
    if config.bias is not None and groups.bias is not None and groups.correction is not None:
        made["bias"] = pack_field(groups.bias, config.bias)
        made["correction"] = pack_field(groups.correction, config.bias)
    return made


def _channel_group_shapes(config: ChannelGroupsConfig, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Shapes of all that channel groups store for a layer ``[n, k]``."""
    (n, k), chunks = shape, config.chunks
    shapes: dict[str, tuple[int, ...]] = {
        "order": (chunks, k),
        "sizes": (chunks, config.groups),
        "scale": (chunks,) if config.halved else (chunks, config.groups),
    }
    return shapes if config.bias is None else {**shapes, "bias": (chunks, k), "correction": (chunks, n)}


def _check_channel_groups(groups: ChannelGroups, config: ChannelGroupsConfig, shape: tuple[int, int]) -> None:
    """The groups are as many and as long as their config and their layer say."""
    wanted = _channel_group_shapes(config, shape)
    for field in fields(groups):
        tensor, expected = getattr(groups, field.name), wanted.get(field.name)
        found = None if tensor is None else tuple(tensor.shape)
        if found != expected:
            raise ValueError(
                f"{field.name} of channel groups must have the shape {expected} by the config, not {found}"
            )


def _unpack_channel_groups(
    stored: Mapping[str, Tensor], config: ChannelGroupsConfig, shape: tuple[int, int]
) -> ChannelGroups:
    shapes = _channel_group_shapes(config, shape)
    bias = correction = None
    if config.bias is not None:
        bias = unpack_values(_one(stored, "bias"), config.bias, shapes["bias"]).to(torch.float32)
        correction = unpack_values(_one(stored, "correction"), config.bias, shapes["correction"]).to(torch.float32)
    return ChannelGroups(
        order=unpack_field(_one(stored, "order"), config.index, shapes["order"]).to(torch.int64),
        sizes=unpack_field(_one(stored, "sizes"), config.index, shapes["sizes"]).to(torch.int64),
        scale=unpack_values(_one(stored, "scale"), config.scale, shapes["scale"]).to(torch.float32),
        bias=bias,
        correction=correction,
    )
