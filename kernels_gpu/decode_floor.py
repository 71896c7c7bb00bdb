"""The floor of a decode step, and its predicted time: bytes, launches, and what the cost model says of each launch.

The bound is the bytes of weights and cache at the measured copy rate. Predicted are products from packed codes
(``hwmodel.gpu_gemv``) and attention (``hwmodel.gpu_attention``); products of libraries by two constants each; what lies
between by the loads that wait for one another. These were stated before any step was measured. That a product's ring
fills while the kernels before it run was said then too, and is counted since (kernels_gpu/NOTES.md); nothing is fitted
to a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from datatypes.layer_config import TensorConfig
from hwmodel.gpu import Gpu
from hwmodel.gpu_attention import decode_attention_s, parts_of_context
from hwmodel.gpu_gemv import gemv_constants, gemv_time
from hwmodel.gpu_gemv_cut import cut_on
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_launch import alone_s
from hwmodel.gpu_narrow import runs_on
from hwmodel.gpu_presets import GPUS
from hwmodel.units import BYTE_BITS
from kernels_gpu.decode_model import LAYER_MATRICES, DecoderShape, Matrix
from kernels_gpu.decode_weights import TINYGEMM_GROUP

HALF_BYTES = 2


@dataclass(frozen=True)
class Library:
    """Time of a library's product: ``start_s`` and its bytes at ``share`` of the copy rate."""

    start_s: float
    share: float


# Through the three shapes of measurements/gemv_h100.json at one token: FP16 cuBLAS 16.6, 34.7, 160.9 us for 33.6, 90.2
# and 469.8 MB; tinygemm 7.1, 14.8, 60.4 us for 8.9, 24.0 and 124.8 MB; copy 2.99 TB/s
CUBLAS = Library(4.6e-6, 1.0)
TINYGEMM = Library(3.7e-6, 0.735)
# ASSUMPTION: loads (or barriers) of a kernel between products that wait for one another, each a latency of memory
EMBEDDING_WAITS, NORM_WAITS, ROTARY_WAITS, GATE_WAITS, ARGMAX_WAITS = 3, 2, 2, 1, 4


@dataclass(frozen=True)
class StepCase:
    """What a step is priced for.

    Args:
        shape: of the decoder.
        weights: of the layers' matrices; ``None`` for 16-bit floats.
        head: of the vocabulary; ``None`` for 16-bit floats.
        batch, context: sequences, and tokens of each in the cache.
        cache_bits: of keys and values.
        tinygemm: the layers' matrices are those of torch's int4 kernel instead.
    """

    shape: DecoderShape
    weights: TensorConfig | None
    batch: int
    context: int
    cache_bits: int
    head: TensorConfig | None = None
    tinygemm: bool = False

    def matrix_bytes(self, which: Matrix) -> float:
        """Bytes of one weight."""
        n, k = self.shape.matrix(which)
        if self.tinygemm and which is not Matrix.HEAD:
            return n * k / 2 + n * k / TINYGEMM_GROUP * 4  # a bfloat16 scale and offset each group
        config = self.head if which is Matrix.HEAD else self.weights
        return n * k * HALF_BYTES if config is None else config.storage_bits((n, k)).total / BYTE_BITS

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights that a step reads."""
        layer = sum(self.matrix_bytes(which) for which in LAYER_MATRICES)
        return self.shape.layers * layer + self.matrix_bytes(Matrix.HEAD)

    @property
    def layer_cache_bytes(self) -> float:
        """Bytes of keys and values of a layer: codes, and an FP16 scale for each token and head."""
        rows = 2 * self.batch * self.shape.key_heads * self.context
        return rows * (self.shape.head_dim * self.cache_bits / BYTE_BITS + HALF_BYTES)

    @property
    def step_bytes(self) -> float:
        """Bytes that set the bound."""
        return self.weight_bytes + self.shape.layers * self.layer_cache_bytes

    def bound_s(self, copy_bytes_per_s: float) -> float:
        """Seconds of the bytes at the copy rate."""
        return self.step_bytes / copy_bytes_per_s


@dataclass(frozen=True)
class StepPrediction:
    """Seconds by part, and launches of a step."""

    parts: Mapping[str, float]
    launches: int

    @property
    def seconds(self) -> float:
        """Of the step."""
        return sum(self.parts.values())


def predict(case: StepCase, gpu: Gpu, copy_bytes_per_s: float) -> StepPrediction:
    """Predicted time of a step.

    Args:
        case: what is computed.
        gpu: its data sheet.
        copy_bytes_per_s: measured, read plus written.

    Raises:
        NotImplementedError: an encoding without a kernel, or tinygemm beyond the one token of its constants.
        ValueError: inputs of one token do not fit into shared memory.
    """
    if case.tinygemm and case.batch > 1:
        raise NotImplementedError(f"sequences of a step by tinygemm must be 1 to be predicted, not {case.batch!r}")
    constants, layers, more_s = gemv_constants(), case.shape.layers, alone_s(gpu)

    def waits(count: int) -> float:
        return constants.launch_s + more_s + count * constants.memory_latency_s

    before = {
        Matrix.QKV: waits(NORM_WAITS), Matrix.GATE_UP: waits(NORM_WAITS), Matrix.DOWN: waits(GATE_WAITS),
        Matrix.OUT: _idle_beside_attention(case, gpu, copy_bytes_per_s, merge_s=waits(0)),
    }  # fmt: skip
    products, product_launches = 0.0, 0
    for which in LAYER_MATRICES:
        seconds, launches = _product(case, which, gpu, copy_bytes_per_s, before[which])
        products, product_launches = products + seconds, product_launches + launches
    head_s, head_launches = _product(case, Matrix.HEAD, gpu, copy_bytes_per_s)
    attention_s, attention_launches = _attention(case, gpu, copy_bytes_per_s)
    between = 2 * waits(NORM_WAITS) + waits(ROTARY_WAITS) + waits(GATE_WAITS)
    ends = waits(EMBEDDING_WAITS) + waits(NORM_WAITS) + waits(ARGMAX_WAITS)
    parts = {
        "products": layers * products,
        "vocabulary": head_s,
        "attention": layers * (attention_s + attention_launches * more_s),
        "between": layers * between + ends,
    }
    return StepPrediction(parts, layers * (product_launches + attention_launches + 4) + head_launches + 3)


def _product(
    case: StepCase, which: Matrix, gpu: Gpu, copy_bytes_per_s: float, before_s: float = 0.0
) -> tuple[float, int]:
    """Seconds and launches of one product, ``before_s`` after the kernel before it began."""
    config = case.head if which is Matrix.HEAD else case.weights
    size = case.matrix_bytes(which)
    library = TINYGEMM if case.tinygemm and which is not Matrix.HEAD else CUBLAS if config is None else None
    if library is not None:
        return library.start_s + size / copy_bytes_per_s / library.share, 1
    assert config is not None
    n, k = case.shape.matrix(which)
    encoding = encoding_of(config)
    if not runs_on(encoding, gpu):
        raise NotImplementedError(f"{gpu.name} must have the instructions of kernels for {config.formats[0].name}")
    chosen = cut_on(gpu, encoding, (case.batch, n, k))
    if chosen is None:
        raise ValueError(f"k must be so small that one token's inputs fit into shared memory, not {k!r}")
    found = gemv_time(
        encoding, (case.batch, n, k), chosen[0], weight_bytes=size, gpu=gpu, copy_bytes_per_s=copy_bytes_per_s,
        ahead_s=before_s,
    )  # fmt: skip
    return found.seconds, found.launches


def _attention(case: StepCase, gpu: Gpu, copy_bytes_per_s: float) -> tuple[float, int]:
    """Seconds and launches of a layer's attention."""
    parts = parts_of_context(case.batch * case.shape.key_heads, case.context, gpu)
    return decode_attention_s(case.layer_cache_bytes, parts, copy_bytes_per_s), 1 if parts == 1 else 2


def _idle_beside_attention(case: StepCase, gpu: Gpu, copy_bytes_per_s: float, *, merge_s: float) -> float:
    """Seconds of memory that a layer's attention leaves to the product after it.

    One part for each context leaves the multiprocessors without a block idle, and the memory but for the cache. Of
    several parts, which fill the device, the merge.
    """
    blocks = case.batch * case.shape.key_heads
    if parts_of_context(blocks, case.context, gpu) > 1:
        return merge_s
    cache_s = case.layer_cache_bytes / copy_bytes_per_s
    idle = max(0.0, 1 - blocks / gpu.multiprocessors)
    return (decode_attention_s(case.layer_cache_bytes, 1, copy_bytes_per_s) - cache_s) * idle


def data_sheet(device: str) -> Gpu | None:
    """The GPU preset that a driver's device name means, by its first word; ``None`` where there is none.

    >>> data_sheet("NVIDIA H200").name, data_sheet("NVIDIA H100 80GB HBM3").name, data_sheet("Quadro")
    ('h200', 'h100', None)
    """
    words = device.lower().replace("-", " ").split()
    return next((gpu for name, gpu in GPUS.items() if name in words), None)
