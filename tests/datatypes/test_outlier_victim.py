"""OliVe's pairs: every pair code, and the rules for outliers and victims by hand."""

import numpy as np
import pytest
import torch

from datatypes import rounding
from datatypes.catalog import OLIVE4_FLINT, OLIVE4_INT
from datatypes.outlier_victim import IDENTIFIER, OutlierVictimFormat

FORMATS = pytest.mark.parametrize("fmt", [OLIVE4_INT, OLIVE4_FLINT], ids=lambda fmt: fmt.name)


@FORMATS
def test_every_pair_of_levels_is_encoded_by_both_encoders_alike(fmt):
    levels = np.concatenate([fmt.levels, fmt.levels * 1.03, [0.0, 1e4, -1e4]]).astype(np.float32)
    pairs = np.stack(np.meshgrid(levels, levels), axis=-1).reshape(1, -1)
    codes = fmt.encode(pairs)
    np.testing.assert_array_equal(rounding.encode(torch.from_numpy(pairs), fmt).numpy(), codes)
    decoded = fmt.decode(codes)
    np.testing.assert_array_equal(fmt.encode(decoded), codes)  # what comes out goes in again
    np.testing.assert_array_equal(rounding.decode(torch.from_numpy(codes), fmt).numpy(), decoded)


@FORMATS
def test_only_a_victim_is_the_identifier(fmt):
    rng = np.random.default_rng(5)
    codes = fmt.encode((rng.standard_normal((1, 4096)) * 8).astype(np.float32)).astype(int)
    low, high = codes & 15, codes >> 4
    assert not ((low == IDENTIFIER) & (high == IDENTIFIER)).any()
    assert ((low == IDENTIFIER) | (high == IDENTIFIER)).any()


def test_pairs_by_hand():
    # int4 with bias 2: normal to 7, smallest abfloat 12, so outliers begin beyond 9.5
    x = np.array([[3.4, -6.6, 9.4, 1.0, 40.0, 5.0, 40.0, -200.0, -50.0, 50.0]], dtype=np.float32)
    # 40 lies between 32 and 48: the midpoint goes to the even code (32 is code 4, 48 code 5)
    assert OLIVE4_INT.decode(OLIVE4_INT.encode(x)).tolist() == [[3, -7, 7, 1, 32, 0, 0, -96, -48, 0]]


def test_what_cannot_be_a_pair_is_refused():
    with pytest.raises(ValueError, match="last axis must be even for olive4_int, not 3"):
        OLIVE4_INT.encode(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="must hold no NaN"):
        OLIVE4_INT.encode(np.array([[np.nan, 0.0]]))
    with pytest.raises(NotImplementedError, match="encodes two elements at once"):
        OLIVE4_INT.encode_scalar(1.0)
    with pytest.raises(NotImplementedError, match="see pair_table"):
        _ = OLIVE4_INT.code_values
    with pytest.raises(ValueError, match="normal_name of format o must be int4 or flint4"):
        OutlierVictimFormat("o", 8, "s", normal_name="int8", abfloat_bias=2)
