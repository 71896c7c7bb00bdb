"""The command that writes layers of a quantized model, or a block of it, as C++ for Vitis HLS."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from codesign.block_table import block_steps
from codesign.console import show_json, show_table
from codesign.export_block import golden_inputs, write_block
from codesign.export_inputs import origin, text_inputs
from codesign.export_options import CONTEXT, POSITIONS, SEEDED
from codesign.machines import accelerators_by_name
from codesign.messages import say
from codesign.outputs import check_output_folder
from codesign.quantized_folder import QuantizedModel, load_quantized
from codesign.steps import progress
from codesign.text import check_text_name, load_text
from codesign.tokens import first_token, tokenize, windows
from codesign.weight_slots import WeightSlot, all_slots
from datatypes.nearest import nearest
from hls.csim import matching
from hls.export import ExportLayer, ExportTarget, check_exportable, export_layers, seeded_input
from hls.export_folder import MANIFEST, check_replaceable
from hls.layer_options import IntMapping, LayerOptions
from hls.machine_arithmetic import arithmetic_of_machine
from hls.weights import BEAT_BYTES
from hwmodel.accelerator import Accelerator
from hwmodel.fpga import FpgaDevice, device_by_name, planning_clock_hz
from hwmodel.fpga_calibration import load_calibration

_MEGA = 1e6


def export(
    model: str, out: Path, *, layers: Sequence[str], block: int | None, positions: int | None, accelerator: str | None,
    device: str, clock: float | None, lanes: int, rows: int, accumulator: str, mapping: IntMapping,
    runtime_formats: bool, tokens: int, inputs: str, seed: int, on_chip: int, calibration: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write layers or a block of a quantized model as C++ for Vitis HLS."""
    if block is None and positions is not None:
        raise ValueError(f"--positions must come with --block, whose KV cache it sizes, not alone as {positions!r}")
    board = device_by_name(device)
    machine = _machine(accelerator)
    machine_name = None if machine is None else machine.name
    options = LayerOptions(
        tokens=tokens, lanes=lanes, tile_rows=rows, accumulator=_float_widths(accumulator), mapping=mapping,
        arithmetic=LayerOptions.arithmetic if machine is None else arithmetic_of_machine(machine),
        runtime_formats=runtime_formats,
    )  # fmt: skip
    target = ExportTarget(
        board, _clock_mhz(board, clock), options, on_chip_bytes=on_chip,
        calibration=None if calibration is None else load_calibration(calibration), machine=machine,
    )  # fmt: skip
    if inputs != SEEDED:
        check_text_name(inputs)
    check_replaceable(out)
    check_output_folder(out)
    source = load_quantized(model)
    if block is not None:
        if layers:
            raise ValueError(f"layers must not be chosen beside block {block}, which has its own")
        golden_block = golden_inputs(source, inputs, positions=positions or POSITIONS, tokens=tokens, seed=seed)
        _show_block(
            write_block(source, block, golden_block, out, target, accelerator=machine_name), out, as_json=as_json
        )
        return
    slots = {slot.name: slot for slot in all_slots(source.skeleton())}
    names = _chosen(source, slots, layers)
    check_exportable(names, source.layers, target)
    with progress("export", len(names)) as bars:

        def show(what: str, done: int, total: int) -> None:
            bars.update(bars.task_ids[0], description=what or "export", completed=done, total=total)

        golden, about = _inputs(source, names, inputs, tokens, seed, show)
        manifest = export_layers(
            out, _layers(source, slots, names, golden, tokens, seed), target, origin(source, machine_name, about),
            steps=show, count=len(names),
        )  # fmt: skip
    if as_json:
        show_json(manifest)
        return
    show_table(_exported(manifest), title=f"{source.name} for {board.name} ({target.part})", as_json=False)
    show_table(estimates(manifest), title=f"Estimates at {target.clock_mhz:g} MHz, a kernel each", as_json=False)
    if any("formats" in layer for layer in manifest["layers"]):
        show_table(_formats(manifest), title="Formats of the register, each with a weight image", as_json=False)
    calibrations = sorted({layer["estimate"]["calibration"] for layer in manifest["layers"]} - {""})
    for said in calibrations:
        say(said)
    _say_next(out)


def _show_block(manifest: Mapping[str, Any], out: Path, *, as_json: bool) -> None:
    if as_json:
        show_json(manifest)
        return
    (block,) = manifest["layers"]
    device = manifest["device"]
    shown = ("name", "heads", "kv_heads", "head_dim", "intermediate", "positions")
    row = {key: block[key] for key in shown} | {
        "encoding": block["description"], "weights": "on chip" if block["on_chip"] else "in memory",
        "image_bytes": block["image"]["beats"] * BEAT_BYTES, "cache_bytes": block["cache_bytes"],
    }  # fmt: skip
    show_table(pd.DataFrame([row]), title=f"{manifest['model']} for {device['name']} ({device['part']})", as_json=False)
    clock, positions = manifest["clock_mhz"], block["positions"]
    title = f"Estimate at {clock:g} MHz, a token at the last of {positions} positions"
    show_table(estimates(manifest), title=title, as_json=False)
    show_table(block_steps(block), title="When each process is done with it, and what layers take", as_json=False)
    made = block["estimate"]
    say(
        f"the first token lasts {made['cycles_of_first_token']:,} cycles, each later one {made['cycles_a_position']:,} "
        f'more; {len(made["missing"])} things are not counted: "missing" in {out / MANIFEST}'
    )
    if made["calibration"]:
        say(made["calibration"])
    _say_next(out)


def _say_next(out: Path) -> None:
    """What to do with an export, as a shell takes it."""
    folder = shlex.quote(str(out))
    say(f"{out.resolve()}: codesign csim {folder}, or make csim in it; HOST.md describes the buffers")


def _clock_mhz(board: FpgaDevice, clock: float | None) -> float:
    if clock is not None:
        return clock
    planned = planning_clock_hz(board)
    if planned is None:
        raise ValueError(f"clock must be given for device {board.name}, as no published one of its family is known")
    return planned / _MEGA


def _machine(accelerator: str | None) -> Accelerator | None:
    if accelerator is None:
        return None
    (machine,) = accelerators_by_name((accelerator,)).values()
    if not isinstance(machine, Accelerator):
        raise ValueError(f"accelerator must be an array of PEs to be exported, not the GPU {machine.name}")
    return machine


def _float_widths(accumulator: str) -> tuple[int, int]:
    widths = re.fullmatch(r"e(\d{1,3})m(\d{1,3})", accumulator)
    if widths is None:
        raise ValueError(f"accumulator must be the bits of a float such as e8m23, not {accumulator!r}")
    return int(widths[1]), int(widths[2])


def _chosen(source: QuantizedModel, slots: Mapping[str, WeightSlot], patterns: Sequence[str]) -> list[str]:
    """Names of the layers to export: those that are matrix products among those that match.

    Raises:
        ValueError: the model has no quantized layer, a pattern matches nothing, a layer is none of the model's, or none
            of what matches is a matrix product.
    """
    if not source.layers:
        raise ValueError(f"a model to export must have quantized layers, and {source.name} has none")
    matched = matching(source.layers, patterns)
    kept: list[str] = []
    left: list[str] = []
    for name in matched:
        if name not in slots:
            near = nearest(name, slots)
            raise ValueError(
                f"layer {name} must be a weight matrix of {source.name}, which has none of this name{near}"
            )
        slot = slots[name]
        product = not slot.experts and not isinstance(slot.module, nn.Embedding)
        (kept if product else left).append(name)
    if not kept:
        raise ValueError(
            f"layers to export must be matrix products, not {left[0]}: embeddings are looked up, fused experts chosen"
        )
    if left:
        say(f"left out, being no single matrix products: {', '.join(left)}")
    return kept


def _inputs(
    source: QuantizedModel, names: Sequence[str], inputs: str, tokens: int, seed: int, steps: Any
) -> tuple[Mapping[str, np.ndarray], dict[str, Any]]:
    """Golden inputs that come from a text (none for seeded ones), and what the manifest says about them."""
    if inputs == SEEDED:
        return {}, {"kind": SEEDED, "seed": seed}
    text = load_text(inputs)
    tokenizer = source.tokenizer()
    first = first_token(tokenizer)
    ids = windows(tokenize(text, tokenizer, max(CONTEXT, 2 * tokens)), CONTEXT, bos_token_id=first)
    about = {"kind": "text", "text": text.name, "sha256": text.hash, "tokens": int(ids.numel())}
    return text_inputs(source, names, ids, tokens, steps=steps), about


def _layers(
    source: QuantizedModel,
    slots: Mapping[str, WeightSlot],
    names: Sequence[str],
    golden: Mapping[str, np.ndarray],
    tokens: int,
    seed: int,
) -> Iterator[ExportLayer]:
    """The layers one at a time, with bias and golden input."""
    for name in names:
        layer = source.layers[name]
        bias = None
        if slots[name].bias is not None:
            bias = source.tensor(f"{name}.bias").to(torch.float32).numpy()
        x = golden[name] if name in golden else seeded_input(name, (tokens, layer.shape[1]), seed)
        yield ExportLayer(name, layer, x, bias)


def _exported(manifest: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "layer": layer["name"], "n": layer["shape"][0], "k": layer["shape"][1],
                "encoding": layer["description"], "weights": "on chip" if layer["on_chip"] else "in memory",
                "image_bytes": layer["image"]["beats"] * BEAT_BYTES, "folder": layer["folder"],
            }
            for layer in manifest["layers"]
        ]
    )  # fmt: skip


def _formats(manifest: Mapping[str, Any]) -> pd.DataFrame:
    """One row for each layer and format that is chosen at run time."""
    return pd.DataFrame(
        [
            {
                "layer": layer["name"], "format": one["name"], "register": f"{one['register']:#09x}",
                "image_bytes": one["image"]["beats"] * BEAT_BYTES, "cycles": one["cycles"],
            }
            for layer in manifest["layers"]
            for one in layer.get("formats", ())
        ]
    )  # fmt: skip


def estimates(manifest: Mapping[str, Any]) -> pd.DataFrame:
    """One row for each layer: what it takes, how long a call lasts and needs from memory, whether it fits."""
    rows = []
    for layer in manifest["layers"]:
        made = layer["estimate"]
        taken, cycles = made["resources"], made["cycles"]
        need, there = made["bytes_per_s"], made["device_bytes_per_s"]
        rows.append(
            {
                "layer": layer["name"], "luts": round(taken["luts"]), "flip_flops": round(taken["flip_flops"]),
                "dsps": round(taken["dsps"]), "bram36": taken["bram36"], "uram288": taken["uram288"],
                "fits": made["fits"], "cycles": cycles["latency"],
                "cycles_two_ports": made["cycles_with_two_ports"]["latency"],
                "macs_per_cycle": made["macs"] / cycles["latency"], "bound": cycles["bound"],
                "bandwidth": None if there is None else need / there,
                "lut_error": _error(made["lut_error"], made["luts_of_known_error"]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _error(lut_error: float | None, share: float) -> str:
    """Expected error of the LUTs whose error is known, and how many of all these are."""
    return "not known" if lut_error is None else f"{lut_error:.1%} of {share:.0%}"
