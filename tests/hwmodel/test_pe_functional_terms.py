"""Every code of every format that the cost model runs on a bit-serial PE, term by term."""

import numpy as np
import pytest

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FORMATS, FP4, INTS, NF4, TERNARY, UINTS, bitmod
from datatypes.format import Format
from datatypes.layer_config import LayerConfig, TensorConfig
from hwmodel.operands import products_of
from hwmodel.options import HONEST
from hwmodel.pe_functional_terms import MAX_EXPONENT, MAX_SIGNIFICANCE, term_table
from hwmodel.presets import ANT_PE, BITMOD, BITMOD_PE
from hwmodel.workload import LayerKind, LayerSpec

FOUR = LayerSpec("x", LayerKind.LINEAR, m=1, k=BITMOD_PE.lanes, n=1)


def priced(fmt: Format) -> float | None:
    """Cycles of one step in the cost model; ``None`` where it says that the array cannot take the format."""
    config = LayerConfig(weight=TensorConfig((fmt,), scale=None))
    try:
        (product,) = products_of(FOUR, config, BITMOD, BITMOD.decode_array, HONEST)
    except NotImplementedError:
        return None
    return product.compute_cycles or None


@pytest.mark.parametrize("name", [name for name, fmt in FORMATS.items() if fmt.bits <= 8 and fmt.dim == 1])
def test_same_formats_and_cycles_as_the_cost_model(name: str) -> None:
    fmt = FORMATS[name]
    try:
        table = term_table(fmt, BITMOD_PE)
    except NotImplementedError:
        assert priced(fmt) is None
        return
    assert table.cycles == priced(fmt)
    assert np.array_equal(table.values(), fmt.code_values + 0.0)
    assert set(np.unique(table.signs)) <= {-1, 0, 1}
    assert table.exponents.max() <= MAX_EXPONENT and max(table.significances) <= MAX_SIGNIFICANCE
    assert (table.exponents[table.signs == 0] == 0).all()
    assert list(table.significances) == sorted(table.significances)


@pytest.mark.parametrize("magnitude", [i / 2 for i in range(32) if i.bit_count() <= 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_every_special_value_of_two_terms(magnitude: float, sign: int) -> None:
    """Special values beyond the paper's four, as far as I3..F0 reach."""
    fmt = bitmod(4, sign * magnitude or 5.0)
    table = term_table(fmt, BITMOD_PE)
    assert np.array_equal(table.values(), fmt.code_values)


def test_five_is_not_counted_twice() -> None:
    """0101.0: both detectors would find the four; the lower one must take the one."""
    fmt = BITMOD_FP4[0]
    table = term_table(fmt, BITMOD_PE)
    # I2..F0 with the 4 taken out: I0 is its position 1; I3..I0: I2 is its position 2, one more significant
    assert (table.signs[8].tolist(), table.exponents[8].tolist(), table.significances) == ([1, 1], [1, 2], (0, 1))


def test_terms_of_integers_by_hand() -> None:
    table = term_table(INTS[8], BITMOD_PE)
    # 127 = 128 - 1: digits -1, 0, 0, 2
    assert (table.signs[127].tolist(), table.exponents[127].tolist()) == ([-1, 0, 0, 1], [0, 0, 0, 1])
    assert table.significances == (0, 2, 4, 6)
    assert [term_table(fmt, BITMOD_PE).cycles for fmt in (INTS[2], INTS[5], INTS[6], UINTS[4], TERNARY)] == [
        1,
        3,
        3,
        3,
        1,
    ]
    assert {term_table(fmt, BITMOD_PE).cycles for fmt in (FP4, *BITMOD_FP3, *BITMOD_FP4)} == {2}


def test_refusals() -> None:
    with pytest.raises(NotImplementedError, match="decodes integers and FP3/FP4 with one special value, not nf4"):
        term_table(NF4, BITMOD_PE)
    with pytest.raises(NotImplementedError, match="takes integers of up to 8 bits, not uint8"):
        term_table(UINTS[8], BITMOD_PE)
    with pytest.raises(ValueError, match="pe must take terms bit by bit, not 'ant'"):
        term_table(INTS[4], ANT_PE)
