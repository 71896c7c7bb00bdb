"""Compares a netlist of ``hls/rtl`` with what its module must compute: ``check``; ``REFERENCES`` by module.

The vectors come from ``datatypes`` (and from ``hwmodel.pe_functional`` for BitMoD): ``rtl_vectors`` for integers,
minifloats, codebooks and shift-MACs, ``rtl_vectors_float`` for floats and blocks, ``rtl_vectors_books`` for mixtures
and vector codebooks, ``rtl_vectors_serial`` for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hls import rtl_vectors, rtl_vectors_books, rtl_vectors_float, rtl_vectors_serial
from hls.rtl_design import Design
from hls.rtl_simulation import Netlist, integers_of
from hls.rtl_vectors import Vectors

REFERENCES: Mapping[str, Callable[[Design, np.random.Generator], Vectors]] = {
    "int_multiplier": rtl_vectors.product,
    "int_dot": rtl_vectors.format_dot,
    "int_pair_dot": rtl_vectors.int_pair_dot,
    "minifloat_multiplier": rtl_vectors.minifloat_multiplier,
    "minifloat_product": rtl_vectors.product,
    "minifloat_dot": rtl_vectors.format_dot,
    "codebook_dot": rtl_vectors.codebook_dot,
    "flint_decode": rtl_vectors.flint_decode,
    "flint_int_dot": rtl_vectors.flint_int_dot,
    "flint_flint_dot": rtl_vectors.format_dot,
    "olive_decode": rtl_vectors.olive_decode,
    "olive_dot": rtl_vectors.olive_dot,
    "tender_dot": rtl_vectors.tender_dot,
    "mixture_dot": rtl_vectors_books.mixture_dot,
    "mixture_float_mac": rtl_vectors_books.mixture_float_mac,
    "vector_dot": rtl_vectors_books.vector_dot,
    "vector_codebook_dot": rtl_vectors_books.vector_codebook_dot,
    "float_mac": rtl_vectors_float.float_mac,
    "float_int_mac": rtl_vectors_float.float_mac,
    "codebook_float_mac": rtl_vectors_float.codebook_float_mac,
    "mx_block_dot": rtl_vectors_float.block_dot,
    "nvfp4_block_dot": rtl_vectors_float.block_dot,
    "bit_serial_dot": rtl_vectors_serial.bit_serial_dot,
    "bit_bit_dot": rtl_vectors_serial.bit_bit_dot,
    "term_serial_dot": rtl_vectors_serial.term_serial_dot,
    "bitmod_term_encoder": rtl_vectors_serial.bitmod_term_encoder,
    "bitmod_group_accumulator": rtl_vectors_serial.bitmod_group_accumulator,
    "bitmod_dequantizer": rtl_vectors_serial.bitmod_dequantizer,
    "bitmod_pe": rtl_vectors_serial.bitmod_pe,
    "bitmod_int_accumulator": rtl_vectors_serial.bitmod_int_accumulator,
}


def check(design: Design, netlist: Netlist, rng: np.random.Generator) -> int:
    """Compares ``netlist`` with the reference and returns how many output values were compared.

    Raises:
        NotImplementedError: no reference for the module.
        ValueError: a difference; the message names port, cycle, case and both values.
    """
    if design.module not in REFERENCES:
        raise NotImplementedError(f"no reference is written for {design.module}")
    vectors = REFERENCES[design.module](design, rng)
    found = netlist.run(vectors.stimulus)
    count = 0
    for port, expected in vectors.expected.items():
        got = integers_of(found[port], vectors.signed and port not in vectors.unsigned_ports)
        compared = vectors.compared_ports.get(port, vectors.compared)
        compared = np.ones(got.shape, bool) if compared is None else compared
        wrong = np.argwhere((got != expected).astype(bool) & compared)
        if len(wrong):
            cycle, case = wrong[0]
            raise ValueError(
                f"{port} of {design.name} must equal its reference, not differ in {len(wrong)} of {compared.sum()} "
                f"values: {got[cycle, case]} instead of {expected[cycle, case]} in cycle {cycle}, case {case}"
            )
        count += int(compared.sum())
    return count
