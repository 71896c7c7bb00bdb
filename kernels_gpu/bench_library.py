"""Times of the GPU's own library at 16 bits: ``python -m kernels_gpu.bench_library --output FOLDER``.

Ground truth for ``hwmodel.gpu_library``: matrix products through torch (cuBLAS), attention and element-wise kernels, on
random data, weights rotating among buffers beyond L2. Times are kernel durations as the profiler reads them, so gaps
between launches are left out. Two tables: ``library_<gpu>.csv`` with a row for each shape, and ``device_<gpu>.json``
with driver, clocks, power limit and versions.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

# (n, k) of fused QKV, output, gate with up, and down projections. Llama-2-7B and CodeLlama-34B at tensor parallel 1
# to 8 (arXiv 2307.09288, 2308.12950), Llama-3-8B and 70B (2407.21783), Qwen2.5-0.5B and 7B (2412.15115), phi-2.
_EMBEDDING, _FFN = (4096, 8192), (11008, 22016)
SHAPES = tuple(
    dict.fromkeys(
        [(3 * 4096 // tp, 4096) for tp in (1, 2, 4, 8)]
        + [(10240 // tp, 8192) for tp in (1, 2, 4, 8)]
        + [(width, width // tp) for width in _EMBEDDING for tp in (1, 2, 4, 8)]
        + [(2 * ffn // tp, width) for width, ffn in zip(_EMBEDDING, _FFN, strict=True) for tp in (1, 2, 4, 8)]
        + [(width, ffn // tp) for width, ffn in zip(_EMBEDDING, _FFN, strict=True) for tp in (1, 2, 4, 8)]
        + [(6144, 4096), (28672, 4096), (4096, 14336), (57344, 8192), (8192, 28672), (32000, 4096)]
        + [(1152, 896), (9728, 896), (896, 4864), (4608, 3584), (37888, 3584), (3584, 18944)]
        + [(7680, 2560), (2560, 2560), (10240, 2560), (2560, 10240)]
        + [(8192, 8320), (8192, 5504), (4096, 4160)]
    )
)
TOKENS = (1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128, 136, 160, 192, 224, 256, 264, 320, 384, 448, 512, 520, 640, 768,
          896, 1024, 1152, 1280, 1536, 1792, 2048, 2560, 3072, 4096)  # fmt: skip
WIDTHS = (1024, 4096, 8192, 11008)
VECTOR_TOKENS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096)
CONTEXTS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_LEAST_S = 0.02  # of timed work for each shape
_ROTATED_BYTES = 1 << 28
COLUMNS = ("kind", "m", "n", "k", "batch", "kv_heads", "us", "spread", "calls", "kernels")

Call = Callable[[int], object]  # i: which buffers


def _in_turn(inputs: list[Tensor], of: Callable[[Tensor], Tensor]) -> Call:
    return lambda i: of(inputs[i % len(inputs)])


def _sums(inputs: list[Tensor]) -> Call:
    return lambda i: inputs[i % len(inputs)] + inputs[(i + 1) % len(inputs)]


def _attention(q: Tensor, caches: list[Tensor]) -> Call:
    """Of keys and values ``[2, batch, kv_heads, context, 128]``; causal where there are many queries."""
    causal, grouped = q.shape[2] > 1, q.shape[1] != caches[0].shape[2]

    def call(i: int) -> object:
        key, value = caches[i % len(caches)]
        return functional.scaled_dot_product_attention(q, key, value, is_causal=causal, enable_gqa=grouped)

    return call


def _gemms(n: int, k: int) -> Iterator[tuple[dict[str, object], Call]]:
    copies = max(2, min(64, _ROTATED_BYTES // (2 * n * k)))
    weights = [torch.randn(n, k, dtype=torch.float16, device="cuda") / k**0.5 for _ in range(copies)]
    for m in TOKENS:
        x = torch.randn(m, k, dtype=torch.float16, device="cuda")
        yield {"kind": "gemm", "m": m, "n": n, "k": k}, _in_turn(weights, partial(functional.linear, x))


def _vectors(width: int) -> Iterator[tuple[dict[str, object], Call]]:
    gain = torch.ones(width, dtype=torch.float16, device="cuda")
    for m in VECTOR_TOKENS:
        count = max(2, min(64, _ROTATED_BYTES // (2 * m * width)))
        xs = [torch.randn(m, width, dtype=torch.float16, device="cuda") for _ in range(count)]
        at = {"m": m, "n": width, "k": 1}
        yield {"kind": "add", **at}, _sums(xs)
        yield {"kind": "softmax", **at}, _in_turn(xs, lambda x: torch.softmax(x, -1))
        yield {"kind": "rms_norm", **at}, _in_turn(xs, lambda x: functional.rms_norm(x, (width,), gain))
        yield {"kind": "layer_norm", **at}, _in_turn(xs, lambda x: functional.layer_norm(x, (width,), gain))
        yield {"kind": "silu", **at}, _in_turn(xs, functional.silu)


def _attentions(context: int) -> Iterator[tuple[dict[str, object], Call]]:
    """Prefill (m = context, causal) and decode (m = 1) of ``n`` heads of 128, ``k`` keys; ``kv_heads`` beside it."""
    for batch, heads, kv_heads, queries in (
        (1, 32, 32, context), (1, 32, 8, context), (1, 64, 8, context),
        (1, 32, 32, 1), (1, 32, 8, 1), (8, 32, 32, 1), (8, 32, 8, 1), (32, 32, 8, 1),
    ):  # fmt: skip
        size = batch * kv_heads * context * 128 * 4
        if size > 2**33:
            continue
        count = max(2, min(32, _ROTATED_BYTES // size))
        q = torch.randn(batch, heads, queries, 128, dtype=torch.float16, device="cuda")
        kv = [torch.randn(2, batch, kv_heads, context, 128, dtype=torch.float16, device="cuda") for _ in range(count)]
        where = {"kind": "attention", "m": queries, "n": heads, "k": context, "kv_heads": kv_heads, "batch": batch}
        yield where, _attention(q, kv)


def _measure(cases: Iterator[tuple[dict[str, object], Call]]) -> Iterator[dict[str, object]]:
    """Median kernel time of each case; a case's calls are found by their correlation with the host's annotation."""
    marker = torch.ones(7, device="cuda", dtype=torch.float64)
    done: list[tuple[dict[str, object], int]] = []
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        for where, call in cases:
            for i in range(3):
                call(i)
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for i in range(4):
                call(i)
            stop.record()
            stop.synchronize()
            calls = max(12, min(100, int(_LEAST_S / (start.elapsed_time(stop) / 4e3))))
            marker.erfinv_()  # nobody else launches this kernel: it opens and closes the timed calls
            for i in range(calls):
                call(i)
            marker.erfinv_()
            done.append((where, calls))
        torch.cuda.synchronize()
    kernels = sorted(
        (e for e in record.events() if e.device_type is not DeviceType.CPU and e.device_time > 0),
        key=lambda e: e.time_range.start,
    )
    groups: list[list[tuple[str, float]]] = []
    inside = False
    for event in kernels:
        if "erfinv" in event.name:
            inside = not inside
            if inside:
                groups.append([])
        elif inside:
            groups[-1].append((event.name, event.device_time))
    for (where, calls), group in zip(done, groups, strict=True):
        each = len(group) // calls
        times = [sum(t for _, t in group[i : i + each]) for i in range(0, each * calls, each)]
        lower, middle, upper = statistics.quantiles(times, n=4)
        names = " + ".join(name for name, _ in group[:each])
        yield {
            **where,
            "us": round(middle, 3),
            "spread": round((upper - lower) / middle, 4),
            "calls": calls,
            "kernels": names[:300],
        }


def write_table(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows of ``COLUMNS`` as CSV, whole or not at all; what a row does not say is empty."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    output: Path = parser.parse_args().output
    if not torch.cuda.is_available():
        print(f"a CUDA device and its driver must be there to time its library; torch {torch.__version__} finds none",
              file=sys.stderr)  # fmt: skip
        sys.exit(2)
    name = torch.cuda.get_device_name().lower().split()[1]
    rows: list[dict[str, object]] = []
    for n, k in SHAPES:
        rows += _measure(_gemms(n, k))
    for width in WIDTHS:
        rows += _measure(_vectors(width))
    for context in CONTEXTS:
        rows += _measure(_attentions(context))
    smi = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm,clocks.max.mem", "--format=csv"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    facts = {
        "device": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda,
        "cublas": str(torch.backends.cuda.preferred_blas_library()).removeprefix("_BlasBackend."), "smi": smi.stdout,
    }  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    (output / f"device_{name}.json").write_text(json.dumps(facts, indent=1))
    write_table(output / f"library_{name}.csv", rows)


if __name__ == "__main__":
    main()
