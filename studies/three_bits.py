"""What does a 3-bit weight buy, on an H100 as measured and on a BitMoD-like ASIC as modelled?

The linear layers of a block of Llama-2-7B (``hwmodel/data/bitmod_model_shapes.csv``), one decode step, the same formats
on both machines. H100: this project's GEMV kernels and cuBLAS, as measured (``MEASURED``) where a
layer's shape and tokens are recorded, as predicted by ``hwmodel.gpu_gemv`` where not; ``measured_share`` of a
row's time says how much is which. ASIC: the preset ``bitmod``, and ``fp16_baseline`` for FP16, priced by ``evaluate``;
nothing of it is measured. Attention, norms and the head are left out: they are the same for every format.

``python -m studies.three_bits`` writes ``studies/three_bits.csv`` and ``studies/three_bits.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from codesign.cache import whole_file
from codesign.gpu_records import read_measurements, recorded_files
from codesign.gpu_rows import OTHERS
from datatypes.layer_config import FP16_WEIGHT, LayerConfig, TensorConfig
from hwmodel.evaluate import evaluate
from hwmodel.gpu_gemv import gemv_time
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_presets import GPUS
from hwmodel.gpu_price import gpu_price
from hwmodel.options import HONEST
from hwmodel.paper import paper_model
from hwmodel.presets import accelerator_by_name
from hwmodel.report import Measurement
from hwmodel.units import BYTE_BITS, cycles_to_s, pj_to_mj
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload
from kernels_gpu.gemv_launch import choose_shape, tokens_at_once
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES

MODEL = "Llama-2-7B"
FORMATS = ("fp16", "int8", "int4_g128", "bitmod4_g128", "int3_g128", "bitmod3_g128")
TOKENS = (1, 4, 16)
HEAD = "lm_head"
GPU = GPUS["h100_cublas13"]
_ASIC, _CUBLAS = "bitmod ASIC", "fp16 cuBLAS"
_THREE = {"int3_g128": "int4_g128", "bitmod3_g128": "bitmod4_g128"}  # and four bits of the same family
_US = 1e-6
MEASURED = ("gemv_h100.json", "gemv_tokens_h100.json")
RESULT, PAGE = (Path(__file__).with_suffix(suffix) for suffix in (".csv", ".md"))
Records = Mapping[tuple[str, int, int, int], Measurement]


@dataclass(frozen=True)
class Step:
    """A decode step of a block's linear layers in one format: seconds, of which measured; bytes; energy where known."""

    seconds: float
    measured_s: float
    weight_bytes: float
    energy_mj: float | None = None


def records_of(paths: Sequence[Path]) -> Records:
    """Measurements by name, m, n and k; of those measured twice the one that comes first."""
    found = [record for path in paths for record in read_measurements(path)]
    return {(r.name, r.shape[0], r.shape[2], r.shape[1]): r for r in reversed(found)}


def measured_files() -> tuple[Path, ...]:
    """The H100's records of the GEMV and of cuBLAS."""
    return tuple(path for path in recorded_files() if path.name in MEASURED)


def shapes_of(model: str) -> tuple[tuple[str, int, int], ...]:
    """Name, outputs and inputs of the linear layers of a block."""
    return tuple(linear for linear in paper_model(model).linears if linear[0] != HEAD)


def weight_of(name: str) -> TensorConfig:
    """The weight format called ``name``."""
    return FP16_WEIGHT if name == "fp16" else RECIPES[name]


def gpu_step(name: str, tokens: int, layers: Sequence[tuple[str, int, int]], records: Records) -> Step:
    """A step on the H100, layer by layer as measured, else as predicted."""
    seconds = measured_s = moved = 0.0
    for _, n, k in layers:
        weight_bytes = weight_of(name).storage_bits((n, k)).total / BYTE_BITS
        record = records.get((_CUBLAS if name == "fp16" else name, tokens, n, k))
        taken = predicted_s(name, tokens, n, k, _copy_rate(records)) if record is None else record.seconds
        seconds, moved = seconds + taken, moved + weight_bytes
        measured_s += 0.0 if record is None else taken
    return Step(seconds, measured_s, moved)


def predicted_s(name: str, tokens: int, n: int, k: int, copy_bytes_per_s: float) -> float:
    """Seconds of a layer on the H100 that was not measured, cut as the launcher cuts it."""
    if name == "fp16":
        price = gpu_price(LayerSpec(name, LayerKind.LINEAR, tokens, k, n), OTHERS[_CUBLAS], GPU, HONEST)
        return cycles_to_s(price.cycles, GPU.frequency_hz)
    plan = plan_of(RECIPES[name])
    cut = choose_shape(plan, tokens_at_once(plan, tokens, (n, k)), n, k)
    return gemv_time(
        encoding_of(RECIPES[name]), (tokens, n, k), cut,
        weight_bytes=RECIPES[name].storage_bits((n, k)).total / BYTE_BITS, gpu=GPU, copy_bytes_per_s=copy_bytes_per_s,
    ).seconds  # fmt: skip


def _copy_rate(records: Records) -> float:
    return float(next(iter(records.values())).conditions["copy_bytes_per_s"])


def asic_step(name: str, tokens: int, layers: Sequence[tuple[str, int, int]], phase: Phase = Phase.DECODE) -> Step:
    """The same step on the ASIC, as modelled."""
    machine = accelerator_by_name("fp16_baseline" if name == "fp16" else "bitmod")
    specs = tuple(LayerSpec(layer, LayerKind.LINEAR, tokens, k, n) for layer, n, k in layers)
    config = LayerConfig() if name == "fp16" else LayerConfig(weight=weight_of(name))
    report = evaluate(Workload(MODEL, phase, specs, batch=1 if phase is Phase.PREFILL else tokens), config, machine)
    return Step(report.seconds, 0.0, report.storage_bits / BYTE_BITS, pj_to_mj(report.energy_pj))


def rows(records: Records, tokens: Sequence[int] = TOKENS) -> Iterator[dict[str, object]]:
    """One row for each format, machine and number of tokens; ``over_4`` is against four bits of the same family."""
    layers = shapes_of(MODEL)
    for m in tokens:
        steps = {
            (machine, name): gpu_step(name, m, layers, records) if machine == "h100" else asic_step(name, m, layers)
            for machine in ("h100", _ASIC)
            for name in FORMATS
        }
        for (machine, name), step in steps.items():
            four = steps[machine, _THREE.get(name, name)]
            yield {
                "machine": machine, "tokens": m, "format": name,
                "bits": BYTE_BITS * step.weight_bytes / _weights(layers),
                "block_us": step.seconds / _US, "measured_share": step.measured_s / step.seconds,
                "over_fp16": steps[machine, "fp16"].seconds / step.seconds, "over_4": four.seconds / step.seconds,
                "bytes_over_4": four.weight_bytes / step.weight_bytes, "energy_mj": step.energy_mj,
            }  # fmt: skip


def _weights(layers: Sequence[tuple[str, int, int]]) -> int:
    return sum(n * k for _, n, k in layers)


_HEAD = """# What a 3-bit weight buys

Linear layers of a block of Llama-2-7B, one decode step. H100: measured kernels of this project; a layer shape that was
not measured is predicted (`measured`: share of the time that was). BitMoD ASIC: modelled, nothing measured; its memory
moves {gigabytes:.1f} GB/s, so compare gains, not times. `over 4 bits`: time of the same family's 4-bit format over this
one's; `bytes`: what the bytes alone would give. Recorded in `three_bits.csv` by `python -m studies.three_bits`.

| machine | tokens | format | bits a weight | block, µs | measured | over FP16 | over 4 bits | bytes | energy, mJ |
|---|---|---|---|---|---|---|---|---|---|
"""
_CONCLUSION = """
## Conclusion

At one token the bytes promise {bytes:.2f}×. Of that the H100 gives {gpu:.2f}× for BitMoD and {gpu_int:.2f}× for
integers: a 3-bit code takes 25/32 instructions of the half-wide pipe to decode where INT4 takes 3/8 and BitMoD-4 5/8
(`kernels_gpu/gemv_decode.py`), and layers of this size are ruled by launches, inputs and instructions more than by
bytes. The ASIC decodes inside its PEs and waits for DRAM alone: {asic:.2f}× in time and {energy:.2f}× in energy, as the
bytes say. At {most} tokens BitMoD's gain is {gpu_most:.2f}× on the H100 and {asic_most:.2f}× on the ASIC.

So three bits pay on the ASIC for as long as a step is bound by memory. On the H100 they pay in capacity, and in time
for much larger matrices: BitMoD-4 took {large4:.1f} µs and BitMoD-3 {large3:.1f} µs at 28672×8192 ({large:.2f}×).

What was not measured on the H100 carries the model's error on held-out rows (docs/gpu_kernels.md) into the ratio by its
share. The ASIC stands on the published simulator's constants (docs/hardware_model.md), the H100 on the kernels of its
records: cheaper decoding would move its figures, and the bytes are the limit.
"""


def page(table: pd.DataFrame, records: Records) -> str:
    """The answer, said from the table."""

    def of(machine: str, name: str, m: int, column: str = "over_4") -> float:
        found = table[(table["machine"] == machine) & (table["format"] == name) & (table["tokens"] == m)]
        return float(found[column].iloc[0])

    lines = []
    for row in table.to_dict(orient="records"):
        three = str(row["format"]) in _THREE
        energy = "" if pd.isna(row["energy_mj"]) else f"{row['energy_mj']:.3g}"
        gains = [f"{row[name]:.2f}" if three else "" for name in ("over_4", "bytes_over_4")]
        lines.append(
            f"| {row['machine']} | {row['tokens']} | {row['format']} | {row['bits']:.2f} | {row['block_us']:,.1f} | "
            f"{row['measured_share']:.0%} | {row['over_fp16']:.2f} | {gains[0]} | {gains[1]} | {energy} |\n"
        )
    most, three_bits = max(table["tokens"]), "bitmod3_g128"
    large4, large3 = (records[name, 1, 28672, 8192].seconds / _US for name in ("bitmod4_g128", three_bits))
    conclusion = _CONCLUSION.format(
        bytes=of("h100", three_bits, 1, "bytes_over_4"), gpu=of("h100", three_bits, 1), most=most,
        gpu_int=of("h100", "int3_g128", 1), asic=of(_ASIC, three_bits, 1), gpu_most=of("h100", three_bits, most),
        asic_most=of(_ASIC, three_bits, most), large4=large4, large3=large3, large=large4 / large3,
        energy=of(_ASIC, "bitmod4_g128", 1, "energy_mj") / of(_ASIC, three_bits, 1, "energy_mj"),
    )  # fmt: skip
    memory = accelerator_by_name("bitmod").dram
    return _HEAD.format(gigabytes=memory.bytes_per_s / 1e9) + "".join(lines) + conclusion


def main() -> int:
    """Write the table and the page."""
    parser = argparse.ArgumentParser(prog="python -m studies.three_bits", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULT.parent, help="folder of three_bits.csv and three_bits.md")
    folder = parser.parse_args().out
    records = records_of(measured_files())
    table = pd.DataFrame(rows(records))
    with whole_file(folder / RESULT.name) as temporary:
        table.to_csv(temporary, index=False, float_format="%.5g", lineterminator="\n")
    text = page(table, records)
    with whole_file(folder / PAGE.name) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
