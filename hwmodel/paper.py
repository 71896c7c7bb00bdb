"""The published BitMoD figures: models, design points and precisions, and the two versions of the published simulator.

Version 2 (July 2025) is ``evaluate`` with ``PAPER`` options. Version 1 (November 2024, the paper's figures 7 and 8)
differs in its attention products alone, which it flattened: with T query tokens (the context in prefill, 1 in decode),
C tokens of context, H query heads, hidden size D and E = KV heads x head_dim it took, once for each layer,

    QK: weight [T, D], input [H T, E], output [H T, T], reduced over D
    PV: weight [H T, C], input [T, E], output [T, H T], reduced over C

at 16 bits in DRAM, and at the bits and cycles of the layer's weights in the weight buffer and the PE. This was derived
from published results and not read from code: the attention columns of the 30 rows of version 1 in
``data/bitmod_sim_results.csv`` fix it for E = D (cycles equal, energies to 1e-6), and among 256 readings of heads and
sizes for grouped heads it is the only one that gives all sixteen six-model means of the paper's figures 7 and 8 to the
three decimals they are known to (``tests/hwmodel/test_paper.py``).

Sources: model shapes ``data/bitmod_model_shapes.csv`` (every linear layer of the models' public configurations);
precisions "profiled offline", from the simulator's test scripts.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache

from hwmodel.accelerator import Accelerator, Array
from hwmodel.evaluate import Pricer
from hwmodel.memory import DATA
from hwmodel.operands import OperandBits
from hwmodel.options import PAPER
from hwmodel.pe import WIDE_BITS, cycles_of_bits
from hwmodel.presets import ANT, BITMOD, FP16_BASELINE, OLIVE
from hwmodel.price import Price
from hwmodel.report import CostReport, LayerCost
from hwmodel.traffic import Product, price_product, stream, tile_count
from hwmodel.units import ceil_div
from hwmodel.workload import ATTENTION_KINDS, LayerKind, LayerSpec, Phase, Workload


class PaperVersion(Enum):
    """Which published simulator."""

    V1 = "v1"  # November 2024: the paper's figures
    V2 = "v2"  # July 2025, commit e445a5f


@dataclass(frozen=True)
class ModelShape:
    """A model of the paper.

    Args:
        name: as in the paper.
        layers, hidden, heads, kv_heads: of the decoder.
        linears: (name, out_features, in_features) of each linear layer of a block.
        vocabulary: out_features of the head.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    linears: tuple[tuple[str, int, int], ...]
    vocabulary: int

    @property
    def head_dim(self) -> int:
        """Features of one head."""
        return self.hidden // self.heads


@cache
def paper_models() -> Mapping[str, ModelShape]:
    """The six models by name."""
    rows: dict[str, list[dict[str, str]]] = {}
    with (DATA / "bitmod_model_shapes.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["model"], []).append(row)
    models = {}
    for name, lines in rows.items():
        linears = [(r["linear"], int(r["out_features"]), int(r["in_features"])) for r in lines]
        first = lines[0]
        models[name] = ModelShape(
            name, int(first["layers"]), int(first["hidden"]), int(first["heads"]), int(first["kv_heads"]),
            tuple(linear for linear in linears if linear[0] != "lm_head"),
            next(out for linear, out, _ in linears if linear == "lm_head"),
        )  # fmt: skip
    return models


def paper_model(name: str) -> ModelShape:
    """The model called ``name``.

    Raises:
        ValueError: no such model; the message names the nearest ones.
    """
    models = paper_models()
    if name in models:
        return models[name]
    near = ", ".join(difflib.get_close_matches(name, list(models), n=3)) or ", ".join(models)
    raise ValueError(f"model must be one of the paper's, not {name!r}; nearest: {near}")


def paper_workload(
    model: str, phase: Phase, *, batch: int = 1, context: int = 256, other_layers: bool = False
) -> Workload:
    """One phase of one of the paper's models.

    Args:
        model: name as in the paper (``Llama-2-7B``).
        phase: prefill of ``context`` tokens, or one decode step with ``context`` tokens in the cache.
        batch: sequences.
        context: tokens (the paper's figures: 256).
        other_layers: add the embedding (counted as a table of its own), norms, softmax and activation functions, which
            the published simulator leaves out.
    """
    shape = paper_model(model)
    prefill = phase is Phase.PREFILL
    tokens, copies = (context, batch) if prefill else (batch, 1)
    grouped = shape.heads // shape.kv_heads
    rows = grouped * (context if prefill else 1)
    kv = batch * shape.kv_heads
    intermediate = max(out for _, out, _ in shape.linears)

    def linear(name: str, n: int, k: int, *, head: bool = False) -> LayerSpec:
        return LayerSpec(name, LayerKind.LINEAR, tokens, k, n, copies, shared_weight=True, head=head)

    def vector(name: str, kind: LayerKind, m: int, n: int, many: int, *, causal: bool = False) -> LayerSpec:
        return LayerSpec(name, kind, m, n, n, many, causal=causal)

    def attention(name: str, kind: LayerKind, k: int, n: int) -> LayerSpec:
        return LayerSpec(name, kind, rows, k, n, kv, causal=prefill, written=context if prefill else 1)

    layers: list[LayerSpec] = []
    if other_layers:
        layers.append(LayerSpec("embedding", LayerKind.EMBEDDING, tokens, shape.vocabulary, shape.hidden, copies))
    for i in range(shape.layers):
        at = f"layers.{i}"
        if other_layers:
            layers.append(vector(f"{at}.input_norm", LayerKind.NORM, tokens, shape.hidden, copies))
        layers += [linear(f"{at}.{name}", n, k) for name, n, k in shape.linears]
        layers.append(attention(f"{at}.attention_qk", LayerKind.ATTENTION_QK, shape.head_dim, context))
        layers.append(attention(f"{at}.attention_pv", LayerKind.ATTENTION_PV, context, shape.head_dim))
        if other_layers:
            layers.append(vector(f"{at}.softmax", LayerKind.SOFTMAX, rows, context, kv, causal=prefill))
            layers.append(vector(f"{at}.mlp_norm", LayerKind.NORM, tokens, shape.hidden, copies))
            layers.append(vector(f"{at}.activation", LayerKind.ACTIVATION, tokens, intermediate, copies))
    if other_layers:
        layers.append(vector("final_norm", LayerKind.NORM, tokens, shape.hidden, copies))
    layers.append(linear("lm_head", shape.vocabulary, shape.hidden, head=True))
    return Workload(shape.name, phase, tuple(layers), batch=batch, context=context)


# Simulator's test scripts: average weight bits "profiled offline".
_ANT_V1 = {"OPT-1.3B": 5, "Phi-2B": 5, "Yi-6B": 5.25, "Llama-2-7B": 5, "Llama-2-13B": 5, "Llama-3-8B": 4.5}  # decode
_OLIVE_V1 = {"OPT-1.3B": 3.875, "Phi-2B": 4, "Yi-6B": 4.25, "Llama-2-7B": 3.75, "Llama-2-13B": 3.75, "Llama-3-8B": 3.5}
_ANT_V2 = {"OPT-1.3B": 5, "Phi-2B": 5, "Yi-6B": 5.25, "Llama-2-7B": 5, "Llama-2-13B": 4, "Llama-3-8B": 5}
_OLIVE_V2 = {"OPT-1.3B": 4, "Phi-2B": 4, "Yi-6B": 4, "Llama-2-7B": 4, "Llama-2-13B": 4, "Llama-3-8B": 4.5}
_V1_PREFILL = {"ANT": 5.5, "OliVe": 4.5}  # all models

DESIGNS: Mapping[str, Accelerator] = {
    "FP16 baseline": FP16_BASELINE,
    "BitMoD lossless": BITMOD,
    "ANT": ANT,
    "OliVe": OLIVE,
    "BitMoD lossy": BITMOD,
}


def paper_bits(model: str, design: str, phase: Phase, version: PaperVersion = PaperVersion.V2) -> OperandBits:
    """Weight and KV bits of a design point.

    Raises:
        ValueError: no such design point.
    """
    v1, prefill = version is PaperVersion.V1, phase is Phase.PREFILL
    if design == "FP16 baseline":
        return OperandBits(16, 16)
    if design == "BitMoD lossless":
        return OperandBits(6.0625, 16 if v1 else 8)  # test_bitmod.py: INT6 with 8-bit scales for groups of 128
    if design == "BitMoD lossy":
        return OperandBits(4.0625 if prefill else 3.0625, 16 if v1 else 8)  # test_bitmod.py: BitMoD-4, BitMoD-3
    if design not in DESIGNS:
        raise ValueError(f"design must be one of {', '.join(DESIGNS)}, not {design!r}")
    if v1 and prefill:
        return OperandBits(_V1_PREFILL[design], 16)
    table = {"ANT": (_ANT_V1, _ANT_V2), "OliVe": (_OLIVE_V1, _OLIVE_V2)}[design][0 if v1 else 1]
    return OperandBits(table[model], 16)


def paper_report(
    model: str,
    design: str,
    phase: Phase,
    *,
    batch: int = 1,
    context: int = 256,
    version: PaperVersion = PaperVersion.V2,
) -> CostReport:
    """What the published simulator says about one of its design points.

    Args:
        model, design: names as in the paper (``Llama-2-7B``, ``BitMoD lossy``).
        phase: prefill, or one decode step.
        batch, context: as in ``paper_workload``; version 1 knows batch 1 alone.
        version: which simulator.

    Raises:
        ValueError: unknown model or design, or a batch above 1 in version 1.
    """
    bits = paper_bits(model, design, phase, version)
    return published_report(model, DESIGNS[design], bits, phase, batch=batch, context=context, version=version)


def published_report(
    model: str,
    accelerator: Accelerator,
    bits: OperandBits,
    phase: Phase,
    *,
    batch: int = 1,
    context: int = 256,
    version: PaperVersion = PaperVersion.V2,
) -> CostReport:
    """What the published simulator says about any accelerator and precision; arguments as in ``paper_report``."""
    report = Pricer(bits, accelerator, PAPER).evaluate(paper_workload(model, phase, batch=batch, context=context))
    if version is PaperVersion.V2:
        return report
    if batch != 1:
        raise ValueError(f"batch must be 1 in version 1, not {batch!r}")
    shape = paper_model(model)
    flattened = {
        kind: flattened_attention(kind, shape, accelerator, phase, context=context, bits=bits.weight)
        for kind in ATTENTION_KINDS
    }
    return replace(report, layers=tuple(_replace_price(layer, flattened) for layer in report.layers))


def _replace_price(layer: LayerCost, prices: Mapping[LayerKind, Price]) -> LayerCost:
    return replace(layer, price=prices[layer.kind]) if layer.kind in prices else layer


def flattened_attention(
    kind: LayerKind, shape: ModelShape, accelerator: Accelerator, phase: Phase, *, context: int, bits: float
) -> Price:
    """One attention product of version 1 (see the module's docstring).

    Args:
        kind: which product.
        shape: the model.
        accelerator, phase: on what.
        context: tokens in the KV cache.
        bits: of the layer's weights; sets the cycles and the port.
    """
    queries = context if phase is Phase.PREFILL else 1
    array: Array = accelerator.array(phase)
    flat = shape.heads * queries
    n, k, m = (queries, shape.hidden, flat) if kind is LayerKind.ATTENTION_QK else (flat, context, queries)
    steps = ceil_div(k, accelerator.pe.lanes) * tile_count(n, m, array)
    product = Product(
        macs=m * n * k,
        tile_steps=steps,
        compute_cycles=steps * cycles_of_bits(bits, accelerator.pe),
        weight=replace(stream(n, k, WIDE_BITS), buffer_words=stream(n, k, bits).buffer_words),
        input=stream(m, shape.head_dim * shape.kv_heads, WIDE_BITS),
        output=stream(m, n, WIDE_BITS),
        weight_port_bits=accelerator.weight_port_bits(bits, array),
        input_port_bits=accelerator.input_port_bits(array),
    )
    return price_product(product, accelerator, PAPER)
