"""Machines against what their authors published: cycle laws, areas, powers, speed-ups. Nothing here is fitted.

Each function is one ground truth; ``validate_machines`` is the table of all. Those of unit costs and of quantization
methods are in ``hwmodel.validate_costs``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from datatypes.catalog import INT16, INTS
from datatypes.format import IntFormat
from datatypes.granularity import PerChannel
from datatypes.layer_config import LayerConfig, TensorConfig
from hwmodel.accelerator import Accelerator, Array
from hwmodel.check import Check, Standing, checks_frame
from hwmodel.evaluate import evaluate
from hwmodel.event_options import Feed, SimulationOptions
from hwmodel.event_simulator import simulate
from hwmodel.options import PAPER
from hwmodel.presets import (
    ANT_INT,
    BISMO_PYNQ,
    BISMO_ULTRA96,
    BITLET,
    BITVERT,
    FP16_BASELINE,
    LOOM,
    OLIVE_INT,
    PRAGMATIC,
    STRIPES,
)  # fmt: skip
from hwmodel.presets_fused import BITFUSION, BITFUSION_PE
from hwmodel.presets_serial import BISMO_PE
from hwmodel.unit_cost import recorded
from hwmodel.unit_cost_design import design
from hwmodel.unit_cost_truth import unit_cost_checks
from hwmodel.validate_costs import lqer, nodes, weight_traffic
from hwmodel.validate_memory import sram_checks
from hwmodel.validate_serving import serving_checks
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

_BITFUSION = "Sharma et al., BitFusion, ISCA 2018; synthesis table in its repository, 45 nm, 500 MHz"
_BISMO = "Umuroglu et al., BISMO, FPL 2018; TRETS 12(3), 2019"
_SHEET = "sheet of the authors of BitMoD for BBS, MICRO 2024 (github.com/yc2367/BitMoD, July 2024)"
_ANT = "simulator results in github.com/clevercool/ANT-Quantization (Guo et al., ANT, MICRO 2022), geometric means"


def bitfusion() -> Iterator[Check]:
    """BitFusion's table of fixed and fused units against sums of its parts."""
    brick, shift_add, registers = 369.0, 934.0, 91.0  # table: 16 bricks, shift-add trees, registers of one unit, um2
    fused = BITFUSION_PE.area_um2
    yield Check(
        "BitFusion", "area of a 4x4 array of 8/2 units, um2", 27753.0, 16 * fused, Standing.REBUILT, _BITFUSION,
        "16 units of 1733.1 um2",
    )  # fmt: skip
    yield Check(
        "BitFusion", "dynamic power of a 4x4 array of 8/2 units, mW", 3.67,
        16 * BITFUSION_PE.energy_pj_per_cycle * 500e6 * 1e-9, Standing.OPEN, _BITFUSION,
        "16 units of 280.0 uW; in the array a unit takes 229 uW on the same area (row above), so less of it switches: "
        "of what activity either figure is, is not published",
    )  # fmt: skip
    yield Check(
        "BitFusion", "area of a spatially fused unit, um2", 1393.7, brick + shift_add + registers, Standing.INPUT,
        _BITFUSION, "bricks, shift-add trees and registers: the table's own parts of this figure",
    )  # fmt: skip
    # one accumulator bit in Nangate45: (INT8 multiply-add - multiplier) of sky130, 3140.5 - 1696.6 over 26 bits, by the
    # ratio of the INT8 multiply-add in both, 647 over 3140.5 (synthesised for this project, Yosys 0.70)
    bit_um2 = (3140.5 - 1696.6) / 26 * 647 / 3140.5
    temporal = 16 * (brick / 16 + 20 * bit_um2)
    spatial = brick + shift_add + registers
    yield Check(
        "BitFusion", "area, temporal over spatial fusion of 16 bricks", 4905.3 / 1393.7, temporal / spatial,
        Standing.REBUILT, f"{_BITFUSION} (printed 3.5)",
        "16 of the table's bricks with an own accumulator of 20 bits each (16-bit product and 4 guard bits) over its "
        "spatial unit. Without shifters, a lower end: each needs three levels of two-way multiplexers over 8, 12 and "
        "16 bits for shifts of 0 to 12 bits; 36 of them at sky130's 11.26 um2, scaled, would make it 3.85 (+9 %)",
    )  # fmt: skip
    yield Check(
        "BitFusion", "power, temporal over spatial fusion of 16 bricks", 1712.0 / 538.0, temporal / spatial,
        Standing.REBUILT, f"{_BITFUSION} (printed 3.2)", "power by area; with shifters as above 3.85 (+21 %)",
    )  # fmt: skip
    # INT2, INT4 and INT8 multiply-adds in Nangate45, Booth, Yosys 0.70, synthesised for this project
    for bits, theirs, ours in ((2, 124.9, 178.0), (4, 282.2, 302.0), (8, 687.6, 647.0)):
        note = f"INT{bits} multiply-add with {2 * bits + 10} accumulator bits, synthesised in Nangate45"
        if bits == 2:
            note += f"; {(ours - theirs) / bit_um2:.1f} of them fewer would give theirs, whose width is not published"
        standing = Standing.OPEN if bits == 2 else Standing.REBUILT
        yield Check("BitFusion", f"area of a fixed {bits}x{bits} unit, um2", theirs, ours, standing, _BITFUSION, note)
    for bits, products in ((2, 16), (4, 4), (8, 1)):
        unit = replace(BITFUSION, prefill_array=Array(1, 1), decode_array=Array(1, 1))
        yield Check(
            "BitFusion", f"{bits}x{bits}-bit products of a unit in a cycle", products,
            _macs_per_cycle(unit, bits, bits, m=64), Standing.LAW, _BITFUSION,
        )  # fmt: skip


def bismo() -> Iterator[Check]:
    """BISMO's binary peaks; LUTs of its arrays from our own RTL of a unit, since the presets' are its cost model's."""
    netlist = recorded(design("bit_bit_dot", LANES=BISMO_PE.lanes, ACCUMULATOR_BITS=32), "lut6")
    assert netlist is not None and netlist.luts is not None
    unit = float(netlist.luts)
    for machine, printed, luts in ((BISMO_PYNQ, 6.55, 29.7e3), (BISMO_ULTRA96, 15.36, 46.4e3)):
        tops = 2 * _macs_per_cycle(machine, 1, 1, m=machine.prefill_array.columns) * machine.frequency_hz * 1e-12
        yield Check(machine.name, "binary TOPS", printed, tops, Standing.LAW, _BISMO, "2 Dm Dn Dk f, priced as a layer")
        yield Check(
            machine.name, "LUTs of the array", luts, machine.pe_count * unit, Standing.REBUILT,
            f"{_BISMO}; version 2's cost model",
            f"{machine.pe_count} netlists of {unit:g} LUTs of our own unit; the preset keeps theirs",
        )  # fmt: skip
    yield Check(
        "bismo_ultra96", "effective TOPS at 4x4 bits", 0.96,
        2 * _macs_per_cycle(BISMO_ULTRA96, 4, 4, m=10) * 300e6 * 1e-12, Standing.LAW, _BISMO,
    )  # fmt: skip


def serial_laws() -> Iterator[Check]:
    """Ideal speed-ups of Stripes and Loom over 16-bit parallel machines of their peak."""
    stripes, loom = "Judd et al., Stripes, MICRO 2016", "Sharify et al., Loom, DAC 2018"
    for bits in (4, 8, 13):
        ours = _speed_up(STRIPES, 16, bits, Phase.PREFILL)
        yield Check(
            "Stripes", f"speed-up at {bits}-bit activations, convolution", 16 / bits, ours, Standing.LAW, stripes
        )
    yield Check("Stripes", "speed-up at 8-bit activations, fully connected", 1.0,
                _speed_up(STRIPES, 16, 8, Phase.DECODE), Standing.LAW, stripes)  # fmt: skip
    for w, a in ((4, 8), (8, 8), (3, 5)):
        ours = _speed_up(LOOM, w, a, Phase.PREFILL)
        yield Check(
            "Loom", f"speed-up at {w}-bit weights, {a}-bit activations, convolution", 256 / (w * a), ours,
            Standing.LAW, loom,
        )  # fmt: skip
    yield Check("Loom", "speed-up at 4-bit weights, fully connected", 4.0, _speed_up(LOOM, 4, 8, Phase.DECODE),
                Standing.LAW, loom)  # fmt: skip


def systolic() -> Iterator[Check]:
    """Cycles of an output-stationary fold in SCALE-Sim, which the event simulator must take for every tile."""
    for rows, columns, steps in ((32, 24, 500), (8, 16, 3)):
        array = Array(rows, columns)
        machine = replace(FP16_BASELINE, prefill_array=array, decode_array=array)
        spec = LayerSpec("x", LayerKind.LINEAR, 3 * columns, steps, 4 * rows)
        folds = simulate(
            Workload("x", Phase.PREFILL, (spec,)), LayerConfig(), machine, SimulationOptions(feed=Feed.SYSTOLIC)
        ).layers[0]
        yield Check(
            "SCALE-Sim", f"cycles of 12 folds of {steps} steps on {rows}x{columns} PEs",
            12 * (2 * rows + columns + steps - 2), folds.compute_cycles + folds.fill_drain_cycles, Standing.LAW,
            "Samajdar et al., SCALE-Sim, ISPASS 2020: 2 R + C + T - 2 a fold",
            "event simulator, operands fed hand to hand",
        )  # fmt: skip


def skipping() -> Iterator[Check]:
    """Cycles of whole vision transformers on BitSim's arrays: Stripes exactly, term skippers from fair coins."""
    # github.com/yc2367/BitSim: Stripes with 8 lanes on the 32 x 16 array that the others have
    stripes = replace(STRIPES, pe=replace(STRIPES.pe, lanes=8), prefill_array=Array(32, 16), decode_array=Array(32, 16))
    published = {  # sheet: cycles
        "Stripes": (stripes, {"ViT-Small": 8755200, "ViT-Base": 34762752}),
        "Bitlet": (BITLET, {"ViT-Small": 6433187, "ViT-Base": 25684881}),
        "Pragmatic": (PRAGMATIC, {"ViT-Small": 7461708, "ViT-Base": 28791192}),
        "BitVert": (BITVERT, {"ViT-Small": 3464160, "ViT-Base": 13582656}),
    }
    notes = {
        "Stripes": "tiles of 32 outputs by 16 tokens, steps of 8 weights and 8 bits, 197 tokens",
        "Bitlet": "fair coins: 32 weights, 32 rows that wait for one another",
        "Pragmatic": "fair coins in two's complement; in what recoding the sheet counts terms is not known",
        "BitVert": "no columns pruned; the sheet's conservative setting prunes 2 of 8 in most channels (at most 2.67x)",
    }
    for name, (machine, cycles) in published.items():
        for model, width in (("ViT-Small", 384), ("ViT-Base", 768)):
            report = evaluate(vision_transformer(width), _int_config(INTS[8], INTS[8]), machine, PAPER)
            standing = {"Stripes": Standing.LAW, "BitVert": Standing.BOUND}.get(name, Standing.REBUILT)
            yield Check(
                name, f"compute cycles of {model}, INT8", cycles[model], report.total.compute_cycles, standing, _SHEET,
                notes[name],
            )  # fmt: skip


def vision_transformer(width: int) -> Workload:
    """Linear layers of a ViT (12 blocks, patches of 16 x 16, 197 tokens) and its patch embedding, row by row."""
    layers = [LayerSpec("patches", LayerKind.CONV, 14, 3 * 16 * 16, width, 14, shared_weight=True)]
    for block in range(12):
        for name, n, k in (
            *((part, width, width) for part in ("query", "key", "value", "out")),
            ("up", 4 * width, width),
            ("down", width, 4 * width),
        ):
            layers.append(LayerSpec(f"{block}.{name}", LayerKind.LINEAR, 197, k, n))
    return Workload(f"vit{width}", Phase.PREFILL, tuple(layers))


def ant_and_olive() -> Iterator[Check]:
    """Cycles over AdaFloat's in ANT's simulator, and OliVe's speed-ups, from the sizes of the arrays alone."""
    adafloat = 32 * 28  # ANT's simulator: 8-bit PEs of equal area
    four = _macs_per_cycle(ANT_INT, 4, 4, m=64)
    note = "compute alone: {}"
    for name, printed, products, why, standing in (
        ("ANT", 0.25, four, "4 bits in all layers; some need 8", Standing.REBUILT),
        ("BiScaled", 0.37, 32 * 80, "2560 6-bit PEs, 6 bits in all layers", Standing.REBUILT),
        ("OLAccel", 0.81, 16 * 18 * 4, "1152 4-bit PEs; outliers are not counted", Standing.REBUILT),
        (
            "BitFusion", 0.70, _macs_per_cycle(ANT_INT, 8, 8, m=64),
            "8 bits in all layers; its mix is not published, three quarters of the products at 8 bits would give it",
            Standing.OPEN,
        ),
    ):  # fmt: skip
        yield Check(
            name, "cycles over AdaFloat, seven networks", printed, adafloat / products, standing, _ANT,
            note.format(why),
        )  # fmt: skip
    second_hand = "Guo et al., OliVe, ISCA 2023, through a summary of its figures"
    olive = _macs_per_cycle(OLIVE_INT, 4, 4, m=64)
    for name, printed, other in (
        ("ANT", 3.7, _macs_per_cycle(ANT_INT, 8, 8, m=64)), ("AdaFloat", 4.8, adafloat), ("OLAccel", 3.8, 16 * 18 * 4),
    ):  # fmt: skip
        yield Check(
            "OliVe", f"speed-up over {name}", printed, olive / other, Standing.REBUILT, second_hand,
            note.format("OliVe at 4 bits; ANT falls back to 8 bits in large models"),
        )  # fmt: skip


def _format(bits: int) -> IntFormat:
    return INT16 if bits == 16 else INTS[bits] if bits in INTS else IntFormat(f"int{bits}", bits, "here")


def _int_config(weight: IntFormat, activation: IntFormat) -> LayerConfig:
    return LayerConfig(TensorConfig((weight,), PerChannel()), TensorConfig((activation,), PerChannel()))


def _priced(machine: Accelerator, w: int, a: int, spec: LayerSpec, phase: Phase) -> int:
    config = _int_config(_format(w), _format(a))
    return evaluate(Workload("x", phase, (spec,)), config, machine, PAPER).total.compute_cycles


def _macs_per_cycle(machine: Accelerator, w: int, a: int, *, m: int) -> float:
    """Of a layer that fills the array."""
    spec = LayerSpec("x", LayerKind.LINEAR, m, 4096, machine.prefill_array.rows * 8)
    return spec.macs / _priced(machine, w, a, spec, Phase.PREFILL)


def _speed_up(machine: Accelerator, w: int, a: int, phase: Phase) -> float:
    """Over a machine that does as many 16 x 16-bit products in a cycle as this one at 16 bits each."""
    array = machine.array(phase)
    spec = LayerSpec("x", LayerKind.LINEAR, array.columns * 2, 4096, array.rows * 2)
    return _priced(machine, 16, 16, spec, phase) / _priced(machine, w, a, spec, phase)


def validate_machines() -> pd.DataFrame:
    """All checks: subject, quantity, truth, ours, relative error, what agreement means, note, source."""
    checks = [*bitfusion(), *bismo(), *serial_laws(), *systolic(), *skipping(), *ant_and_olive(), *lqer(),
              *weight_traffic(), *nodes(), *sram_checks(), *unit_cost_checks(), *serving_checks()]  # fmt: skip
    return checks_frame(checks)
