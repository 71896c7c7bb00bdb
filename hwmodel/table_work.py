"""What tables beside the multipliers cost: loading them into the rows, or looking up in the weight buffer.

A row loads one entry a cycle, all rows together. A table of a fixed codebook is loaded once, a learned one again for
each tile of rows and each tile of its granularity along the columns. Tables of weights and of their residual are held
at the same time; where a row has no room for both, they lie in the weight buffer, and each vector of weights takes two
look-ups there, one in each table (``hwmodel.array_path_blocks`` decides where they lie).
"""

from __future__ import annotations

from dataclasses import dataclass

from datatypes.layer_config import TensorConfig
from hwmodel.accelerator import Accelerator, Array
from hwmodel.array_path_blocks import BANKS
from hwmodel.pe import WIDE_BITS
from hwmodel.side_work import Slab
from hwmodel.units import WORD_BITS, ceil_div
from hwmodel.workload import LayerSpec


@dataclass(frozen=True)
class Table:
    """One table of a slab, before the array is known.

    Args:
        entries: values to load into each row's table.
        along: loads of it for each tile of rows; 0 for a fixed codebook, which is loaded once.
        lookups: in the weight buffer for each pass over the columns; 0 where the row holds the table.
        port_bits: of such a look-up.
        room_bytes: weight buffer that all tables of the slab need at least.
    """

    entries: int = 0
    along: int = 0
    lookups: int = 0
    port_bits: float = WORD_BITS
    room_bytes: int = 0


@dataclass(frozen=True)
class TableWork:
    """Waits and reads of tables in one copy.

    Args:
        load_cycles: to fill the tables of the rows.
        lookup_cycles: that the weight buffer needs for look-ups, beside the array.
        read_pj: of loading and looking up.
    """

    load_cycles: int = 0
    lookup_cycles: int = 0
    read_pj: float = 0.0


def tables_of(spec: LayerSpec, slab: Slab) -> tuple[Table, ...]:
    """The tables of a slab's weights: none, one, or a second one of their residual."""
    path, config = slab.path, slab.config
    if path is None or not path.table_entries or config is None:
        return ()
    held: list[tuple[TensorConfig, int, int]] = [(config, path.table_entries - path.residual_entries, path.vector)]
    if config.residual is not None:
        held.append((config.residual, path.residual_entries, path.residual_vector))
    if path.buffer_lookup_bits:
        return tuple(
            Table(
                lookups=ceil_div(spec.n * slab.columns, vector),
                port_bits=max(vector * path.buffer_lookup_bits, float(WORD_BITS)),
                room_bytes=2 * (path.table_entries * WIDE_BITS // 8),  # the other half is for the codes
            )
            for _, entries, vector in held
            if entries
        )
    return tuple(Table(entries, _loads_along(tensor, spec, slab)) for tensor, entries, _ in held if entries)


def _loads_along(tensor: TensorConfig, spec: LayerSpec, slab: Slab) -> int:
    """Loads of a learned table for each tile of rows; 0 for a fixed one."""
    if tensor.codebook is None:
        return 0
    return ceil_div(slab.columns, tensor.codebook.granularity.tile((spec.n, slab.columns))[1])


def table_work(spec: LayerSpec, slab: Slab, accelerator: Accelerator, array: Array) -> TableWork:
    """What the tables of one slab cost.

    Raises:
        NotImplementedError: the tables fit neither a row nor half of the weight buffer; the reason alone.
    """
    load_cycles = lookup_cycles = 0
    read_pj = 0.0
    for table in tables_of(spec, slab):
        if table.room_bytes > accelerator.weight_buffer.capacity_bytes:
            assert slab.config is not None
            raise NotImplementedError(
                f"its rows hold tables of {accelerator.pe.table_bits} bits and half of its weight buffer "
                f"{accelerator.weight_buffer.capacity_bytes // 2} bytes, "
                f"and the codebook of {slab.config.formats[0].name} takes {table.room_bytes // 2} bytes"
            )
        loads = ceil_div(spec.n, array.rows) * table.along if table.along else 1
        words = table.entries * WIDE_BITS * min(array.rows, spec.n) * loads / WORD_BITS
        lookups = table.lookups * ceil_div(spec.m, array.columns)
        load_cycles += table.entries * loads
        lookup_cycles += ceil_div(lookups, BANKS)
        read_pj += words * accelerator.weight_buffer.at(WORD_BITS).read_pj
        read_pj += lookups * accelerator.weight_buffer.at(table.port_bits).read_pj
    return TableWork(load_cycles, lookup_cycles, read_pj)
