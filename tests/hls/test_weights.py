"""Images and rows as beats, compared with struct and with datatypes.packing."""

import re
import struct

import numpy as np
import pytest

from datatypes.packing import pack, unpack
from hls.weights import beat_bytes, image_text, row_beats, row_bytes

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
def test_an_image_is_its_words_little_endian_to_whole_beats(count):
    words = RNG.integers(0, 2**32, count, dtype=np.uint32)
    data = beat_bytes(words)
    assert data == struct.pack(f"<{count}I", *words.tolist()) + bytes(-4 * count % 64)


@pytest.mark.parametrize("count", [0, 1, 16, 100])
def test_the_text_holds_the_bytes(count):
    words = RNG.integers(0, 2**32, count, dtype=np.uint32)
    text = image_text(words)
    values = [int(word, 16) for word in re.findall("0x[0-9a-f]{16}", text)]
    assert struct.pack(f"<{len(values)}Q", *values) == beat_bytes(words)
    assert len(text.splitlines()) == -(-count // 16)  # one beat of 16 words on a line


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_codes_come_back_from_an_image(bits):
    codes = RNG.integers(0, 1 << bits, (3, 45))
    words = pack(codes, bits)
    back = np.frombuffer(beat_bytes(words.reshape(-1)), "<u4")[: words.size].reshape(words.shape)
    assert (unpack(back.astype(np.uint32), bits, 45) == codes).all()


@pytest.mark.parametrize(("dtype", "code"), [(np.float16, "e"), (np.float32, "f"), (np.uint16, "H"), (np.uint32, "I")])
@pytest.mark.parametrize("columns", [1, 16, 31, 32, 33])
def test_each_row_starts_a_beat(dtype, code, columns):
    rows = (RNG.random((2, columns)) * 1000).astype(dtype)
    beats = row_beats(columns, 8 * rows.itemsize)
    expected = b"".join(struct.pack(f"<{columns}{code}", *row.tolist()).ljust(64 * beats, b"\0") for row in rows)
    assert row_bytes(rows) == expected


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="words of an image must be a vector of uint32, not int32"):
        beat_bytes(np.zeros(3, np.int32))
    with pytest.raises(TypeError, match="rows must be a matrix of float16, float32, uint16 or uint32, not float64"):
        row_bytes(np.zeros((1, 3)))
