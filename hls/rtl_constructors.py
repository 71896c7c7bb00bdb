"""Designs by what they compute: one function for each module of ``hls/rtl``, arguments in formats and lanes."""

from __future__ import annotations

import numpy as np

from datatypes.catalog import INT16, INTS, MINIFLOATS, NF3, NF4, UINTS
from datatypes.format import FloatFormat, IntFormat
from hls.rtl_design import Design

GUARD_BITS = 10  # of an accumulator above one product: 1,024 products without overflow


def _integer(bits: int, *, unsigned: bool = False) -> IntFormat:
    """The catalogue's integer of ``bits``: 2 to 8, or 16 signed."""
    return INT16 if bits == INT16.bits and not unsigned else (UINTS if unsigned else INTS)[bits]


def int_multiplier(weight_bits: int, activation_bits: int, *, unsigned: bool = False) -> Design:
    """Combinational product."""
    return Design(
        "int_multiplier",
        (("WEIGHT_BITS", weight_bits), ("ACTIVATION_BITS", activation_bits), ("ACTIVATION_UNSIGNED", int(unsigned))),
        f"w{weight_bits}{'u' if unsigned else 'a'}{activation_bits}",
        _integer(weight_bits).name,
        _integer(activation_bits, unsigned=unsigned).name,
    )


def int_dot(
    weight_bits: int,
    activation_bits: int,
    *,
    lanes: int = 1,
    unsigned: bool = False,
    stages: int = 0,
    accumulator_bits: int | None = None,
) -> Design:
    """MAC or dot product; ``stages`` 1 registers the inputs, 2 the products as well."""
    usual = weight_bits + activation_bits + GUARD_BITS
    accumulator_bits = usual if accumulator_bits is None else accumulator_bits
    label = f"w{weight_bits}{'u' if unsigned else 'a'}{activation_bits}.x{lanes}{'r' * stages}"
    return Design(
        "int_dot",
        (
            ("WEIGHT_BITS", weight_bits),
            ("ACTIVATION_BITS", activation_bits),
            ("ACTIVATION_UNSIGNED", int(unsigned)),
            ("LANES", lanes),
            ("ACCUMULATOR_BITS", accumulator_bits),
            ("INPUT_REGISTER", int(stages > 0)),
            ("PRODUCT_REGISTER", int(stages > 1)),
        ),
        label if accumulator_bits == usual else f"{label}.acc{accumulator_bits}",
        _integer(weight_bits).name,
        _integer(activation_bits, unsigned=unsigned).name,
        "integer",
        accumulator_bits,
        lanes,
        pipeline_stages=1 + stages,
        registered_inputs=stages > 0,
    )


def int_pair_dot(weight_bits: int, activation_bits: int, *, lanes: int = 2, unsigned: bool = False) -> Design:
    """Dot product whose products share multipliers in pairs: what ``int_mapping::dsp_pair`` of the C++ is."""
    accumulator_bits = weight_bits + activation_bits + GUARD_BITS
    return Design(
        "int_pair_dot",
        (
            ("WEIGHT_BITS", weight_bits),
            ("ACTIVATION_BITS", activation_bits),
            ("ACTIVATION_UNSIGNED", int(unsigned)),
            ("LANES", lanes),
            ("ACCUMULATOR_BITS", accumulator_bits),
        ),
        f"w{weight_bits}{'u' if unsigned else 'a'}{activation_bits}.x{lanes}", _integer(weight_bits).name,
        _integer(activation_bits, unsigned=unsigned).name, "integer", accumulator_bits, lanes, pipeline_stages=1,
    )  # fmt: skip


def fixed_product_bits(weight: FloatFormat, activation: FloatFormat) -> int:
    """Width of an exact product in two's complement fixed point."""
    exponents = (1 << weight.exponent_bits) + (1 << activation.exponent_bits)
    return exponents + weight.mantissa_bits + activation.mantissa_bits - 1


def _minifloat_parameters(weight: FloatFormat, activation: FloatFormat) -> tuple[tuple[str, int], ...]:
    return (
        ("WEIGHT_EXPONENT_BITS", weight.exponent_bits),
        ("WEIGHT_MANTISSA_BITS", weight.mantissa_bits),
        ("ACTIVATION_EXPONENT_BITS", activation.exponent_bits),
        ("ACTIVATION_MANTISSA_BITS", activation.mantissa_bits),
    )


def minifloat_unit(module: str, weight: FloatFormat, activation: FloatFormat) -> Design:
    """``minifloat_multiplier`` or ``minifloat_product``."""
    label = f"{weight.name}.{activation.name}"
    return Design(module, _minifloat_parameters(weight, activation), label, weight.name, activation.name)


def minifloat_dot(weight: FloatFormat, activation: FloatFormat, *, lanes: int = 1, stages: int = 0) -> Design:
    """Kulisch MAC or dot product; ``stages`` as for ``int_dot``."""
    accumulator_bits = fixed_product_bits(weight, activation) + GUARD_BITS
    return Design(
        "minifloat_dot",
        (
            *_minifloat_parameters(weight, activation),
            ("LANES", lanes),
            ("ACCUMULATOR_BITS", accumulator_bits),
            ("INPUT_REGISTER", int(stages > 0)),
            ("PRODUCT_REGISTER", int(stages > 1)),
        ),
        f"{weight.name}.{activation.name}.x{lanes}{'r' * stages}",
        weight.name,
        activation.name,
        "kulisch",
        accumulator_bits,
        lanes,
        pipeline_stages=1 + stages,
        registered_inputs=stages > 0,
    )


def float_mac(
    weight: FloatFormat, activation: FloatFormat, *, exponent_bits: int = 8, mantissa_bits: int = 23
) -> Design:
    """MAC with one rounding into a float of the stated width."""
    return Design(
        "float_mac",
        (
            *_minifloat_parameters(weight, activation),
            ("ACCUMULATOR_EXPONENT_BITS", exponent_bits),
            ("ACCUMULATOR_MANTISSA_BITS", mantissa_bits),
        ),
        f"{weight.name}.{activation.name}.acc_e{exponent_bits}m{mantissa_bits}",
        weight.name,
        activation.name,
        "float",
        1 + exponent_bits + mantissa_bits,
        pipeline_stages=1,
    )


def float_int_mac(weight_bits: int) -> Design:
    """FP16 activation times integer weight (FIGNA), FP32 accumulator."""
    return Design(
        "float_int_mac", (("WEIGHT_BITS", weight_bits),), f"w{weight_bits}.fp16", INTS[weight_bits].name, "fp16",
        "float", 32, pipeline_stages=1,
    )  # fmt: skip


def mx_block_dot(element: str, *, lanes: int, block: int = 32) -> Design:
    """MX block dot product, FP32 accumulator; ``mx_int8`` or a minifloat."""
    exponent_bits, mantissa_bits = (0, 7) if element == "mx_int8" else _fields(element)
    return Design(
        "mx_block_dot",
        (("EXPONENT_BITS", exponent_bits), ("MANTISSA_BITS", mantissa_bits), ("LANES", lanes), ("BLOCK", block)),
        f"{element}.x{lanes}", element, element, "float", 32, lanes, pipeline_stages=1,
    )  # fmt: skip


def nvfp4_block_dot(*, lanes: int) -> Design:
    """NVFP4 block dot product, FP32 accumulator."""
    return Design(
        "nvfp4_block_dot", (("LANES", lanes),), f"x{lanes}", "e2m1", "e2m1", "float", 32, lanes, pipeline_stages=1
    )


def _fields(name: str) -> tuple[int, int]:
    fmt = MINIFLOATS[name]
    return fmt.exponent_bits, fmt.mantissa_bits


# Fixed tables by bits of a code
FIXED_TABLES = {3: NF3, 4: NF4}


def codebook_entries(values: np.ndarray, bits: int) -> tuple[int, ...]:
    """Code-book values in ``[-1, 1]`` as two's complement integers of ``bits`` bits, 1 being the largest."""
    return tuple(int(v) for v in np.rint(np.asarray(values) * ((1 << (bits - 1)) - 1)))


def fixed_entries(code_bits: int, entry_bits: int) -> tuple[int, ...]:
    """Entries of the fixed table whose codes have ``code_bits`` bits."""
    return codebook_entries(FIXED_TABLES[code_bits].code_values, entry_bits)


def table_constant(entries: tuple[int, ...], bits: int) -> str:
    """Verilog constant of a table, entry 0 lowest."""
    total = sum((entry & ((1 << bits) - 1)) << (bits * code) for code, entry in enumerate(entries))
    return f"{bits * len(entries)}'h{total:x}"


def codebook_dot(
    *, programmable: bool, code_bits: int = 4, entry_bits: int = 8, activation_bits: int = 8, lanes: int = 1
) -> Design:
    """Integer codebook: NF4 or NF3 rounded to ``entry_bits``, or a table that is written at run time."""
    parameters: list[tuple[str, int | str]] = [
        ("CODE_BITS", code_bits),
        ("ENTRY_BITS", entry_bits),
        ("ACTIVATION_BITS", activation_bits),
        ("LANES", lanes),
        ("PROGRAMMABLE", int(programmable)),
    ]
    if not programmable:
        parameters.append(("TABLE", table_constant(fixed_entries(code_bits, entry_bits), entry_bits)))
    kind = f"table{code_bits}" if programmable else FIXED_TABLES[code_bits].name
    return Design(
        "codebook_dot", tuple(parameters), f"{kind}_e{entry_bits}.a{activation_bits}.x{lanes}",
        f"codebook{code_bits}" if programmable else kind, INTS[activation_bits].name, "integer",
        entry_bits + activation_bits + GUARD_BITS, lanes, pipeline_stages=1,
    )  # fmt: skip


def codebook_float_mac(*, programmable: bool) -> Design:
    """FP16 codebook entries and activations, FP32 accumulator."""
    entries = tuple(int(v) for v in NF4.code_values.astype(np.float16).view(np.uint16))
    parameters: tuple[tuple[str, int | str], ...] = (("PROGRAMMABLE", int(programmable)),)
    if not programmable:
        parameters += (("TABLE", table_constant(entries, 16)),)
    return Design(
        "codebook_float_mac", parameters, f"{'table4' if programmable else 'nf4'}.fp16",
        "codebook4" if programmable else "nf4", "fp16", "float", 32, pipeline_stages=1,
    )  # fmt: skip


def flint_int_dot(bits: int, activation_bits: int, *, lanes: int = 1) -> Design:
    """Signed flint weights, integer activations."""
    accumulator_bits = 2 * bits + activation_bits + 7
    return Design(
        "flint_int_dot", (("BITS", bits), ("ACTIVATION_BITS", activation_bits), ("LANES", lanes)),
        f"flint{bits}.a{activation_bits}.x{lanes}", f"flint{bits}", INTS[activation_bits].name, "integer",
        accumulator_bits, lanes, pipeline_stages=1,
    )  # fmt: skip


def flint_flint_dot(bits: int, *, lanes: int = 1) -> Design:
    """Signed flints on both sides (ANT)."""
    return Design(
        "flint_flint_dot", (("BITS", bits), ("LANES", lanes)), f"flint{bits}.x{lanes}", f"flint{bits}", f"flint{bits}",
        "integer", 4 * bits + 8, lanes, pipeline_stages=1,
    )  # fmt: skip


def olive_dot(*, flint: bool, lanes: int) -> Design:
    """Outlier-victim pairs on both sides."""
    fmt = "olive4_flint" if flint else "olive4_int"
    return Design(
        "olive_dot", (("FLINT", int(flint)), ("LANES", lanes)), f"{fmt}.x{lanes}", fmt, fmt, "integer", 32, lanes,
        pipeline_stages=1,
    )  # fmt: skip


def decoder(module: str, parameters: tuple[tuple[str, int], ...], label: str, weight_format: str) -> Design:
    """A decoder alone."""
    return Design(module, parameters, label, weight_format, "none")


def tender_dot(weight_bits: int, activation_bits: int, *, lanes: int = 1, unsigned: bool = False) -> Design:
    """Tender's MAC: integers, accumulator of 32 bits with a one-bit shift."""
    activation = (UINTS if unsigned else INTS)[activation_bits]
    return Design(
        "tender_dot",
        (
            ("WEIGHT_BITS", weight_bits),
            ("ACTIVATION_BITS", activation_bits),
            ("ACTIVATION_UNSIGNED", int(unsigned)),
            ("LANES", lanes),
        ),
        f"w{weight_bits}{'u' if unsigned else 'a'}{activation_bits}.x{lanes}", INTS[weight_bits].name, activation.name,
        "integer", 32, lanes, pipeline_stages=1,
    )  # fmt: skip


def bit_serial_dot(parallel_bits: int, serial_bits: int, *, lanes: int, accumulate: bool = True) -> Design:
    """Bit-serial weights of up to ``serial_bits``."""
    accumulator_bits = parallel_bits + serial_bits + GUARD_BITS
    return Design(
        "bit_serial_dot",
        (
            ("PARALLEL_BITS", parallel_bits),
            ("SERIAL_BITS", serial_bits),
            ("LANES", lanes),
            ("ACCUMULATOR_BITS", accumulator_bits),
            ("ACCUMULATE", int(accumulate)),
        ),
        f"w{serial_bits}a{parallel_bits}.x{lanes}{'' if accumulate else '.single'}",
        INTS[serial_bits].name, INTS[parallel_bits].name, "integer", accumulator_bits, lanes, True, serial_bits,
        pipeline_stages=1,
    )  # fmt: skip


def bit_bit_dot(*, lanes: int) -> Design:
    """Both operands bit-serial (Loom, BISMO); cycles are for 8 x 8 bits."""
    return Design(
        "bit_bit_dot", (("LANES", lanes),), f"x{lanes}", "int8", "int8", "integer", 32, lanes, True, 64,
        pipeline_stages=1,
    )  # fmt: skip


def term_serial_dot(activation_bits: int, *, lanes: int, shift_bits: int = 3, stages: int = 0) -> Design:
    """Weights as signed powers of two; cycles are for two terms a weight."""
    accumulator_bits = activation_bits + (1 << shift_bits) + GUARD_BITS
    return Design(
        "term_serial_dot",
        (
            ("ACTIVATION_BITS", activation_bits),
            ("SHIFT_BITS", shift_bits),
            ("LANES", lanes),
            ("ACCUMULATOR_BITS", accumulator_bits),
            ("INPUT_REGISTER", int(stages > 0)),
        ),
        f"a{activation_bits}.s{shift_bits}.x{lanes}{'r' * stages}", "terms", INTS[activation_bits].name, "integer",
        accumulator_bits, lanes, True, 2, pipeline_stages=1 + stages, registered_inputs=stages > 0,
    )  # fmt: skip


def bitmod_part(module: str, *, lanes: int = 4) -> Design:
    """One of BitMoD's modules; cycles are for BitMoD-FP4 (two terms), for the dequantizer those of an 8-bit scale."""
    combinational = module == "bitmod_term_encoder"
    parameters = () if module in ("bitmod_term_encoder", "bitmod_dequantizer") else (("LANES", lanes),)
    kind = {"bitmod_term_encoder": "none", "bitmod_int_accumulator": "integer"}.get(module, "block_float")
    bits = {"bitmod_term_encoder": 0, "bitmod_int_accumulator": 24, "bitmod_group_accumulator": 21}.get(module, 27)
    alone = module in ("bitmod_term_encoder", "bitmod_dequantizer")
    return Design(
        module, parameters, "x1" if alone else f"x{lanes}", "bitmod_fp4",
        {"bitmod_int_accumulator": "int8", "bitmod_term_encoder": "none"}.get(module, "fp16"), kind, bits,
        1 if alone else lanes, True, 8 if module == "bitmod_dequantizer" else 2,
        pipeline_stages=0 if combinational else 1,
    )  # fmt: skip
