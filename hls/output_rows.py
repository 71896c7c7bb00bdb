"""Expected outputs of a layer as its kernel writes them: beats of FP32, FP16, or packed codes and their scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from datatypes.catalog import FP16
from datatypes.packing import pack
from hls.layer_reference import LayerOutput
from hls.weights import BEAT_BYTES, row_bytes

WORD_BITS = 32


@dataclass(frozen=True)
class OutputRows:
    """Golden outputs.

    Args:
        kind: ``fp32``, ``fp16``, or ``codes``: packed codes of a token, then, from the next beat on, the float32
            scales of its tiles.
        data: all tokens; each starts on a beat.
        beats: of one token.
        rows: values of a token that are compared: outputs, or words of 32 bits where they are codes.
        row_bits: of one of these.
    """

    kind: str
    data: bytes
    beats: int
    rows: int
    row_bits: int


def output_rows(output: LayerOutput) -> OutputRows:
    """The golden outputs ``[m, n]`` in the layer's output format.

    Raises:
        NotImplementedError: codes with a zero point, or wider than packed rows hold.
    """
    m, n = output.values.shape
    if output.coded is None:
        return _plain("fp32", output.values, m, n)
    codes = output.coded.codes
    if output.coded.config.formats == (FP16,) and codes.dtype == torch.float16:
        return _plain("fp16", codes.numpy(), m, n)
    fmt = output.coded.config.formats[0]
    if output.coded.zero_point is not None or codes.dtype.is_floating_point or fmt.bits > 8 or fmt.dim > 1:
        raise NotImplementedError(f"outputs are FP32, FP16 or codes of up to 8 bits without zero point, not {fmt.name}")
    data = row_bytes(pack(codes.numpy(), fmt.bits))
    parts = [np.frombuffer(data, np.uint8).reshape(m, -1)]
    scale = output.coded.effective_scale()
    if scale is not None:
        rows = output.coded.config.granularity.tile((m, n))[0]
        per_token = np.repeat(scale.numpy(), rows, axis=0)[:m]
        parts.append(np.frombuffer(row_bytes(per_token), np.uint8).reshape(m, -1))
    joined = np.concatenate(parts, axis=1)
    beats = joined.shape[1] // BEAT_BYTES
    return OutputRows("codes", joined.tobytes(), beats, beats * BEAT_BYTES * 8 // WORD_BITS, WORD_BITS)


def _plain(kind: str, values: np.ndarray, tokens: int, outputs: int) -> OutputRows:
    data = row_bytes(values)
    return OutputRows(kind, data, len(data) // tokens // BEAT_BYTES, outputs, 8 * values.itemsize)
