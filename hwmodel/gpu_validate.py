"""GPUs and their links against measured times: ``gpu_errors`` and ``link_errors``, one row for each ground truth.

Rows say how they relate to the fit: ``fitted`` (all or part of the rows had a part in it), ``held out`` (another GPU or
other rows) or ``not fitted``. Tables that are not part of the project are left out where they are absent.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from datatypes.catalog import FP16, INTS_SYMMETRIC, NF4
from datatypes.granularity import PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from hwmodel.gpu import Gpu
from hwmodel.gpu_gemm import gemm_seconds, wide_work
from hwmodel.gpu_library import DATA
from hwmodel.gpu_presets import A40, A100, GPUS, H100
from hwmodel.gpu_price import gpu_price
from hwmodel.gpu_truth import MEASURED_GPUS, PROJECTIONS, measured, shared_file, vidur_gemms
from hwmodel.link import NVLINK4, all_reduce_s, send_s
from hwmodel.link_fit import LARGE_BYTES, SYSTEMS, AllReduces
from hwmodel.operands import FP16_LAYER
from hwmodel.options import HONEST
from hwmodel.units import cycles_to_s
from hwmodel.workload import LayerKind, LayerSpec

COLUMNS = ("truth", "gpu", "part", "use", "rows", "mean_error", "p95_error", "worst_error", "bias")
# Four projections of a Llama-2-7B layer on an A40, microseconds by tokens: Vidur's tables
_A40_LAYER_US = {1: 727.0, 64: 918.0, 256: 1310.0, 512: 2051.0, 2048: 7452.0}
_LAYER_N, _LAYER_K = (12288, 4096, 22016, 4096), (4096, 4096, 4096, 11008)
_KINDS = {"rms_norm": LayerKind.NORM, "layer_norm": LayerKind.NORM, "softmax": LayerKind.SOFTMAX}
_INT4 = TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), ScaleConfig(FP16))
_NF4 = TensorConfig((NF4,), PerGroup(64), ScaleConfig(FP16))
_US = 1e-6
_LONG_S = 1e-4

Floats = npt.NDArray[np.float64]


def _row(ours: Floats, timed: Floats, **where: str) -> dict[str, object]:
    error = ours / timed - 1
    size = np.abs(error)
    return {
        **where, "rows": len(error), "mean_error": size.mean(), "p95_error": np.quantile(size, 0.95),
        "worst_error": size.max(), "bias": error.mean(),
    }  # fmt: skip


def gpu_errors() -> pd.DataFrame:
    """Relative errors of GPU kernel times, one row for each ground truth and part of it."""
    rows = [] if shared_file("vidur_gemm.csv") is None else _vidur_rows()
    layer_us = [
        gemm_seconds(wide_work(tokens, np.array(_LAYER_N), np.array(_LAYER_K)), A40).sum() / _US
        for tokens in _A40_LAYER_US
    ]
    layer_truth_us = np.array(list(_A40_LAYER_US.values()))
    rows.append(
        _row(np.array(layer_us), layer_truth_us, truth="Vidur", gpu="a40", part="layers, Llama-2-7b", use="held out")
    )
    rows += _llmcompass_rows()
    rows += _low_bit_rows()
    rows += _cublas12_rows()
    for name in MEASURED_GPUS:
        use = "fitted" if name == "h100" else "held out"
        gpu = GPUS[f"{name}_cublas13"]
        table = measured(name)
        ours = gemm_seconds(wide_work(table["m"], table["n"], table["k"]), gpu)
        rows.append(_row(ours, table["seconds"].to_numpy(), truth="own, CUDA 13", gpu=name, part="products", use=use))
        rows += _attention_rows(name, gpu, use)
        rows += _vector_rows(name, gpu)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _vidur_rows() -> list[dict[str, object]]:
    table = vidur_gemms()
    rows = []
    for gpu in (A100, H100):
        for model, part in table[table["gpu"] == gpu.name].groupby("model"):
            part = part.assign(ours=gemm_seconds(wide_work(part["m"], part["n"], part["k"]), gpu))
            where = {"truth": "Vidur", "gpu": gpu.name, "use": "fitted"}
            rows.append(_row(part["ours"].to_numpy(), part["seconds"].to_numpy(), part=f"products, {model}", **where))
            whole = part.groupby(["tensor_parallel", "m"])[["ours", "seconds"]].sum()
            rows.append(_row(whole["ours"].to_numpy(), whole["seconds"].to_numpy(), part=f"layers, {model}", **where))
        rows += _layer_kernel_rows(gpu)
    return rows


def _seconds(spec: LayerSpec, gpu: Gpu) -> float:
    return cycles_to_s(gpu_price(spec, FP16_LAYER, gpu, HONEST).cycles, gpu.frequency_hz)


def attention_seconds(queries: int, heads: int, keys: int, kv_heads: int, batch: int, gpu: Gpu) -> float:
    """Seconds of fused attention with heads of 128; causal for more than one query."""
    rows, copies = queries * (heads // kv_heads), batch * kv_heads
    causal = queries > 1
    score = LayerSpec("qk", LayerKind.ATTENTION_QK, rows, 128, keys, copies, causal=causal)
    value = LayerSpec("pv", LayerKind.ATTENTION_PV, rows, keys, 128, copies, causal=causal)
    return _seconds(score, gpu) + _seconds(value, gpu)


def _attention_rows(name: str, gpu: Gpu, use: str) -> list[dict[str, object]]:
    table = measured(name, "attention")
    rows = []
    for part, chosen in (("attention, prompt", table["m"] > 1), ("attention, one token", table["m"] == 1)):
        cases = table[chosen].astype({"kv_heads": int, "batch": int})
        ours = [
            attention_seconds(m, n, k, kv_heads, batch, gpu)
            for m, n, k, kv_heads, batch in cases[["m", "n", "k", "kv_heads", "batch"]].itertuples(index=False)
        ]
        truth = cases["seconds"].to_numpy()
        rows.append(_row(np.array(ours), truth, truth="own, CUDA 13", gpu=name, part=part, use=use))
    return rows


def _vector_rows(name: str, gpu: Gpu) -> list[dict[str, object]]:
    rows = []
    unfused = replace(HONEST, fused_attention=False)
    for kind, layer in _KINDS.items():
        table = measured(name, kind)
        ours = [
            cycles_to_s(gpu_price(LayerSpec("x", layer, m, 1, n), FP16_LAYER, gpu, unfused).cycles, gpu.frequency_hz)
            for m, n in zip(table["m"], table["n"], strict=True)
        ]
        use = "not fitted" if layer is LayerKind.NORM else "fitted" if name == "h100" else "held out"
        where = {"truth": "own, CUDA 13", "gpu": name, "part": kind, "use": use}
        rows.append(_row(np.array(ours), table["seconds"].to_numpy(), **where))
    return rows


def _llmcompass_rows() -> list[dict[str, object]]:
    """Another laboratory's A100 (PrincetonUniversity/LLMCompass): products from 0.1 ms, with and without throttle.

    Shorter ones hold some 20 microseconds of host time there.
    """
    path = shared_file("llmcompass_measured/matmul_A100.csv")
    if path is None:
        return []
    table = pd.read_csv(path, header=None, names=["m", "k", "n", "ms", "rate"], skipinitialspace=True)
    seconds = table["ms"].str.removesuffix("ms").astype(float).to_numpy() / 1e3
    long = seconds >= _LONG_S
    work = wide_work(table["m"][long], table["n"][long], table["k"][long])
    cool = replace(A100.library, throttle=0.0)
    return [
        _row(
            gemm_seconds(work, A100, library), seconds[long],
            truth="LLMCompass", gpu="a100", part=f"products, {part}", use="held out",
        )
        for part, library in (("as throttled at Vidur's", A100.library), ("no throttle", cool))
    ]  # fmt: skip


def _cublas12_rows() -> list[dict[str, object]]:
    """The library of Vidur's H100 on the project's own; its times, all by one factor, against Vidur's layers.

    The latter says how far two measurements of the same kernels agree.
    """
    table = measured("h100_cublas12")
    ours, truth = gemm_seconds(wide_work(table["m"], table["n"], table["k"]), H100), table["seconds"].to_numpy()
    rows = [_row(ours, truth, truth="own, CUDA 12.1", gpu="h100", part="products", use="held out")]
    if shared_file("vidur_gemm.csv") is None:
        return rows
    vidur = vidur_gemms()
    again = vidur[vidur["gpu"] == "h100"].merge(
        table[["m", "n", "k", "seconds"]], on=["m", "n", "k"], suffixes=("", "_own")
    )
    again["again"] = again["seconds_own"] * (again["seconds"] / again["seconds_own"]).median()
    for model, part in again.groupby("model"):
        layers = part.groupby(["tensor_parallel", "m"])[["again", "seconds"]]
        whole = layers.sum()[layers.size() == len(PROJECTIONS)]
        where = {"truth": "Vidur", "gpu": "h100", "part": f"layers, {model}, timed again", "use": "not fitted"}
        rows.append(_row(whole["again"].to_numpy(), whole["seconds"].to_numpy(), **where))
    return rows


def _low_bit_rows() -> list[dict[str, object]]:
    """Weight-only kernels at one token: batch 1, CUDA graph, weights rotating beyond L2."""
    table = pd.read_csv(DATA / "gpu_lowbit.csv")
    configs = {"integer": LayerConfig(weight=_INT4), "table": LayerConfig(weight=_NF4)}
    rows = []
    for (kernel, gpu), part in table.groupby(["kernel", "gpu"], sort=False):
        ours = [
            cycles_to_s(
                gpu_price(
                    LayerSpec("x", LayerKind.LINEAR, m, k, n), configs[decode], GPUS[f"{gpu}_public"], HONEST
                ).cycles,
                GPUS[gpu].frequency_hz,
            )
            for m, n, k, decode in part[["m", "n", "k", "decode"]].itertuples(index=False)
        ]
        use = "fitted" if gpu == "h100" else "held out"
        where = {"truth": "own, low bits", "gpu": str(gpu), "part": str(kernel), "use": use}
        rows.append(_row(np.array(ours), part["us"].to_numpy() * _US, **where))
    return rows


def _layer_kernel_rows(gpu: Gpu) -> list[dict[str, object]]:
    """Norm and gated activation of Vidur's rows."""
    table = pd.read_csv(shared_file("vidur_gemm.csv"))
    table = table[table["gpu"] == gpu.name]
    rows = []
    for column, layer, widths in (
        ("input_layernorm_ms", LayerKind.NORM, table["n_embd"]),
        ("mlp_act_ms", LayerKind.ACTIVATION, table["n_ffn"] // table["tensor_parallel"]),
    ):
        ours = [_seconds(LayerSpec("x", layer, m, 1, n), gpu) for m, n in zip(table["num_tokens"], widths, strict=True)]
        where = {"truth": "Vidur", "gpu": gpu.name, "part": column.removesuffix("_ms"), "use": "fitted"}
        rows.append(_row(np.array(ours), table[column].to_numpy() / 1e3, **where))
    return rows


def link_errors() -> pd.DataFrame:
    """Relative errors of collectives inside one node; empty where Vidur's table is absent."""
    path = shared_file("vidur_network.csv")
    if path is None:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.read_csv(path)
    rows = []
    for system, link in SYSTEMS:
        inside = table[(table["system"] == system) & (table["num_workers"] == table["devices_per_node"])]
        for (collective, gpus), part in inside.groupby(["collective", "num_workers"]):
            sizes, truth = part["size"].to_numpy(), part["median_ms"].to_numpy() / 1e3
            reduces = collective == "all_reduce"
            ours = np.array([all_reduce_s(s, int(gpus), link) if reduces else send_s(s, link) for s in sizes])
            use = "fitted" if reduces or link is NVLINK4 else "held out"
            where = {"truth": "Vidur", "gpu": link.name, "use": use}
            large = sizes >= LARGE_BYTES
            rows.append(_row(ours[large], truth[large], part=f"{collective}, {gpus} GPUs, from 4 MiB", **where))
            part = f"{collective}, {gpus} GPUs, below"
            if reduces:  # times of two states: the lower one is meant
                lowest = AllReduces(sizes[~large], np.full(sum(~large), int(gpus)), truth[~large]).lowest()
                rows.append(_row(ours[~large][lowest], truth[~large][lowest], part=f"{part}, lowest tenth", **where))
                where["use"] = "not fitted"
            rows.append(_row(ours[~large], truth[~large], part=part, **where))
    return pd.DataFrame(rows, columns=list(COLUMNS))


if __name__ == "__main__":
    print(pd.concat([gpu_errors(), link_errors()]).round(3).to_string(index=False))
