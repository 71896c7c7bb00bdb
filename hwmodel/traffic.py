"""Tiles, refetching and the price of one matrix product on the array.

A ``Product`` is a matrix product with everything about formats already resolved to bits and cycles; ``price_product``
turns it into a ``Price``. Formulas: BitMoD simulator version 2 (restated from its description): output-stationary tiles
of ``rows`` outputs by ``columns`` tokens, one step of ``lanes`` weights after another, both operands fetched from DRAM
once, or one of them again for each buffer-full of the other when neither fits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hwmodel.accelerator import Accelerator, Array
from hwmodel.options import ModelOptions
from hwmodel.price import Price
from hwmodel.tile_schedule import fetch_times, seen_steps
from hwmodel.units import BYTE_BITS, WORD_BITS, ceil_div, leakage_pj
from hwmodel.workload import LayerSpec


@dataclass(frozen=True)
class Stream:
    """One operand on its way between DRAM and a buffer, all copies together.

    Args:
        dram_bits: moved over the DRAM bus, once.
        buffer_words: 64-bit words written into the buffer, once.
        buffer_bytes: room taken in the buffer by what one pass needs.
    """

    dram_bits: int
    buffer_words: int
    buffer_bytes: int


def stream(rows: int, columns: int, bits: float, copies: int = 1) -> Stream:
    """``copies`` matrices ``[rows, columns]`` of ``bits`` an element; each row padded to bytes and to words.

    >>> stream(2, 3, 3.0625)  # 9.1875 bits a row: 2 bytes, 1 word
    Stream(dram_bits=32, buffer_words=2, buffer_bytes=4)
    """
    row_bytes = math.ceil(columns * bits / BYTE_BITS)
    words = math.ceil(columns * bits / WORD_BITS) * rows * copies
    return Stream(row_bytes * rows * copies * BYTE_BITS, words, row_bytes * rows * copies)


NOTHING = Stream(0, 0, 0)


@dataclass(frozen=True)
class Product:
    """A matrix product as the array sees it.

    Args:
        macs: multiply-accumulates that are wanted.
        tile_steps: steps of ``lanes`` weights over all tiles; each reads both buffers once.
        compute_cycles: of the array.
        weight, input, output: the operands.
        weight_port_bits, input_port_bits: widths of the buffers' ports.
        busy: share of the columns that have work, 0 to 1.
        vector_operations: multiply-adds done by the vector unit, beside the array.
        energy_cycles: ``compute_cycles`` weighted with the energy of their mode; ``None`` where all weigh one.
        load_operations: decodings while weights are loaded, in energies of a vector operation; they take no time.
        side_read_pj: of SRAM reads beside the steps: metadata, gathers, tables.
    """

    macs: int
    tile_steps: int
    compute_cycles: int
    weight: Stream
    input: Stream
    output: Stream
    weight_port_bits: float
    input_port_bits: float
    busy: float = 1.0
    vector_operations: int = 0
    energy_cycles: float | None = None
    load_operations: int = 0
    side_read_pj: float = 0.0


def tile_count(n: int, m: int, array: Array) -> int:
    """Tiles that cover ``n`` outputs by ``m`` tokens."""
    return ceil_div(n, array.rows) * ceil_div(m, array.columns)


def causal_positions(keys: int, rows: int, past: int | None = None) -> tuple[int, int, int]:
    """Heads that share the keys, query positions, and keys that were there before the first query.

    >>> causal_positions(512, 2048), causal_positions(512, 1024, past=256)  # 4 heads: a prompt of 512, its second half
    ((4, 512, 0), (4, 256, 256))
    """
    if past is not None:
        positions = keys - past
        return ceil_div(rows, positions), positions, past
    heads = max(rows // keys, 1)
    positions = ceil_div(rows, heads)
    return heads, positions, keys - min(keys, positions)


def causal_tile_steps(
    keys: int, rows: int, array: Array, *, width: int, lanes: int, reduced: bool, past: int | None = None
) -> int:
    """Steps of a causal attention product of one copy, tiles above the diagonal skipped.

    Rows are ordered by query position, grouped heads of one position together, so tile ``j`` of the rows needs the keys
    up to its last position.

    Args:
        keys: positions attended to.
        rows: query rows: positions times grouped heads.
        array: the array.
        width: the dimension that is not cut: head_dim.
        lanes: weights in a step.
        reduced: keys are the reduced dimension (P V) rather than the outputs (Q K).
        past: keys that were there before the first query; ``None`` to tell it from ``rows``.
    """
    heads, _, offset = causal_positions(keys, rows, past)
    along, across = (lanes, array.rows) if reduced else (array.rows, lanes)
    return int(seen_steps(along, array.columns, rows, keys, heads, offset)) * ceil_div(width, across)


def causal_share(keys: int, rows: int, past: int | None = None) -> float:
    """Share of the scores of one copy that lie at or below the diagonal.

    >>> causal_share(4, 4)  # 1 + 2 + 3 + 4 of 16
    0.625
    """
    _, positions, offset = causal_positions(keys, rows, past)
    wanted = positions * offset + positions * (positions + 1) // 2
    return min(wanted / (positions * keys), 1.0)


def vector_elements(spec: LayerSpec, options: ModelOptions) -> int:
    """Numbers that a vector operation takes, all copies; of causal scores those at or below the diagonal."""
    elements = spec.m * spec.n * spec.copies
    if spec.causal and options.causal_mask:
        return math.ceil(elements * causal_share(spec.n, spec.m, spec.past))
    return elements


def fetches(weight: Stream, inputs: Stream, accelerator: Accelerator, copies: int) -> tuple[int, int]:
    """How often weights and inputs come from DRAM.

    Args:
        weight, inputs: the operands.
        accelerator: whose buffers.
        copies: passes one after another that share the buffers, each with its share of both operands.
    """
    weight_bytes, input_bytes = ceil_div(weight.buffer_bytes, copies), ceil_div(inputs.buffer_bytes, copies)
    weight_times, input_times = fetch_times(
        weight.dram_bits, inputs.dram_bits, weight_bytes, input_bytes,
        accelerator.weight_buffer.capacity_bytes, accelerator.activation_buffer.capacity_bytes,
    )  # fmt: skip
    return weight_times, input_times


def dram_cycles(bits: int, accelerator: Accelerator, options: ModelOptions) -> int:
    """Cycles to move ``bits``: whole cycles at peak bandwidth in the published model, rounded up otherwise."""
    if not options.dram_efficiency:
        return int(bits / accelerator.dram.bits_per_cycle(accelerator.frequency_hz, sustained=False))
    return math.ceil(bits / accelerator.dram.bits_per_cycle(accelerator.frequency_hz, sustained=True))


def price_product(
    product: Product,
    accelerator: Accelerator,
    options: ModelOptions,
    copies: int = 1,
    *,
    times: tuple[int, int] | None = None,
) -> Price:
    """Cycles and energy of one product, leakage left out.

    Args:
        product: what to price.
        accelerator: on what.
        options: which effects count.
        copies: passes one after another (see ``fetches``).
        times: how often weights and inputs come; ``None`` to ask ``fetches``.
    """
    weight_times, input_times = times or fetches(product.weight, product.input, accelerator, copies)
    weight_bits = product.weight.dram_bits * weight_times
    input_bits = product.input.dram_bits * input_times
    moved = weight_bits + input_bits + product.output.dram_bits
    weight_sram = accelerator.weight_buffer.at(product.weight_port_bits)
    input_sram = accelerator.activation_buffer.at(product.input_port_bits)
    weight_words = product.weight.buffer_words * weight_times
    input_words = product.input.buffer_words * input_times + product.output.buffer_words
    write_pj = weight_words * weight_sram.write_pj * WORD_BITS / product.weight_port_bits
    write_pj += input_words * input_sram.write_pj * WORD_BITS / product.input_port_bits
    layout = accelerator.technology.layout_energy_factor
    busy = product.busy if options.column_gating else 1.0
    vector = product.vector_operations
    array_cycles = product.compute_cycles if product.energy_cycles is None else product.energy_cycles
    return Price(
        macs=product.macs,
        compute_cycles=product.compute_cycles,
        dram_cycles=dram_cycles(moved, accelerator, options),
        vector_cycles=ceil_div(vector, accelerator.vector.lanes),
        weight_bits=weight_bits,
        input_bits=input_bits,
        output_bits=product.output.dram_bits,
        compulsory_bits=product.weight.dram_bits + product.input.dram_bits + product.output.dram_bits,
        pe_pj=layout * accelerator.pe.energy_pj_per_cycle * accelerator.pe_count * array_cycles * busy,
        encoder_pj=encoder_energy_pj(product, accelerator, options),
        vector_pj=layout
        * accelerator.vector.energy_pj_per_operation
        * (vector + product.load_operations * weight_times),
        sram_read_pj=product.tile_steps * (weight_sram.read_pj + input_sram.read_pj) + product.side_read_pj,
        sram_write_pj=write_pj,
        dram_pj=accelerator.dram.energy_pj_per_bit * moved,
        weight_port_bits=product.weight_port_bits,
        input_port_bits=product.input_port_bits,
    )


def encoder_energy_pj(product: Product, accelerator: Accelerator, options: ModelOptions) -> float:
    """Energy of the term encoders while the array computes; they feed every column, so gating does not help."""
    if accelerator.encoder is None or not options.encoder_energy:
        return 0.0
    factor = accelerator.technology.layout_energy_factor
    return factor * accelerator.encoder.energy_pj_per_cycle * product.compute_cycles


def with_leakage(price: Price, accelerator: Accelerator, options: ModelOptions) -> Price:
    """``price`` with the leakage of its cycles, and the clock of PEs that wait in them."""
    idle_pj = 0.0
    if options.clock_idle:
        idle_pj = accelerator.idle_pj_per_cycle * (price.cycles - price.compute_cycles)
    if not options.leakage:
        return replace(price, idle_pj=idle_pj) if idle_pj else price
    sram_mw = accelerator.weight_buffer.at(price.weight_port_bits).leakage_mw
    sram_mw += accelerator.activation_buffer.at(price.input_port_bits).leakage_mw
    power_mw = accelerator.logic_leakage_mw + sram_mw
    leaked_pj = leakage_pj(power_mw, price.cycles, accelerator.frequency_hz)
    return replace(price, leakage_pj=leaked_pj, idle_pj=idle_pj)
