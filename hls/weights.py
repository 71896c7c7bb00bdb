"""The files that kernels and testbenches read: weight images, inputs and outputs as 512-bit beats, little-endian.

A weight image is the arrays of ``datatypes.layer_packing``, bit for bit, each from a beat on (``LayerPlan.image``).
Small ones become text that a kernel includes (``image_text``), large ones a file that a host puts in memory
(``beat_bytes``).
"""

from __future__ import annotations

import numpy as np

BEAT_BYTES = 64  # of an AXI port of 512 bits


def beat_bytes(words: np.ndarray) -> bytes:
    """Words of an image, uint32 ``[words]``, as bytes: little-endian, zeros to the end of the last beat.

    >>> beat_bytes(np.array([0x04030201], np.uint32))[:6].hex()
    '010203040000'

    Raises:
        TypeError: not uint32.
    """
    if words.dtype != np.uint32 or words.ndim != 1:
        raise TypeError(f"words of an image must be a vector of uint32, not {words.dtype} of {words.ndim} dimensions")
    data = words.astype("<u4").tobytes()
    return data + bytes(-len(data) % BEAT_BYTES)


def image_text(words: np.ndarray) -> str:
    """An image as the elements of a C array of uint64: one beat of eight on a line, the lowest first.

    >>> image_text(np.array([1, 2, 3], np.uint32)).splitlines()[0]
    '0x0000000200000001, 0x0000000000000003, 0x0000000000000000, 0x0000000000000000, 0x0000000000000000, \
0x0000000000000000, 0x0000000000000000, 0x0000000000000000,'
    """
    beats = np.frombuffer(beat_bytes(words), "<u8").reshape(-1, 8)
    return "".join(", ".join(f"0x{int(word):016x}" for word in beat) + ",\n" for beat in beats)


def row_bytes(rows: np.ndarray) -> bytes:
    """Rows ``[tokens, columns]`` of FP16, FP32 or unsigned codes as bytes, each row from a beat on.

    >>> len(row_bytes(np.zeros((2, 33), np.float16)))  # 66 bytes are two beats
    256

    Raises:
        TypeError: not a matrix of float16, float32, uint16 or uint32.
    """
    if rows.ndim != 2 or rows.dtype not in (np.float16, np.float32, np.uint16, np.uint32):
        raise TypeError(f"rows must be a matrix of float16, float32, uint16 or uint32, not {rows.dtype}")
    little = np.ascontiguousarray(rows).astype(rows.dtype.newbyteorder("<"))
    as_bytes = little.view(np.uint8).reshape(len(rows), -1)
    padding = np.zeros((len(rows), -as_bytes.shape[1] % BEAT_BYTES), np.uint8)
    return np.concatenate([as_bytes, padding], axis=1).tobytes()


def row_beats(columns: int, bits: int) -> int:
    """Beats of one row of ``columns`` values of ``bits`` bits.

    >>> row_beats(33, 16)
    2
    """
    return -(-columns * bits // (8 * BEAT_BYTES))
