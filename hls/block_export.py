"""Writing a decoder block as a folder that Vitis HLS takes and that g++ simulates: ``export_block``.

The folder is that of ``hls.export`` with one kernel in it, which ``hls.csim`` runs in the same way::

    manifest.json, HOST.md, Makefile, include/codesign/*.h
    layers/<identifier>/      config.h, kernel.cpp, testbench.cpp, hls_config.cfg, run_hls.tcl,
                              input.bin, output.bin, cache.bin, and image.inc or weights.bin
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datatypes.config_json import config_to_dict
from hls.block_estimate import estimate_block
from hls.block_plan import BlockPlan, block_config_text, plan_block
from hls.block_reference import block_reference
from hls.decoder_block import LAYERS, DecoderBlock
from hls.estimate import LayerEstimate
from hls.export import ExportTarget, finish_export, needed_headers
from hls.export_folder import read_manifest, whole_export, write_file
from hls.layer_config_text import config_text
from hls.machine_arithmetic import check_runs
from hls.manifest_entries import describe, image_entry, options_entry
from hls.names import identifier_of, naming
from hls.render import IMAGE, INPUT, OUTPUT, WEIGHTS, render, vitis_texts, weights_texts
from hls.weights import BEAT_BYTES, beat_bytes, image_text, row_beats, row_bytes

CACHE = "cache.bin"


@dataclass(frozen=True, eq=False)
class _Kernel:
    """What the generated files say."""

    name: str
    plan: BlockPlan
    target: ExportTarget
    tokens: int
    on_chip: bool
    description: str
    record_beats: tuple[int, int]  # of a position's keys, and of keys and values

    @property
    def ports(self) -> Mapping[str, tuple[str, int]]:
        """C++ type and beats behind each pointer, in order."""
        block = self.plan.block
        row = row_beats(block.hidden, 32)
        read, written = "const ap_uint<512>*", "ap_uint<512>*"
        ports = {
            "cache": (written, block.positions * self.record_beats[1]),
            "input": (read, self.tokens * row),
            "output": (written, self.tokens * row),
        }
        return ports if self.on_chip else {"weights": (read, self.plan.beats), **ports}

    @property
    def parameters(self) -> str:
        """Of the top function."""
        return ", ".join([*(f"{kind} {name}" for name, (kind, _) in self.ports.items()), "int position", "int tokens"])

    @property
    def data(self) -> tuple[str, ...]:
        """Files that the testbench reads."""
        return (INPUT, OUTPUT, CACHE) if self.on_chip else (INPUT, OUTPUT, CACHE, WEIGHTS)


def export_block(
    folder: Path | str, block: DecoderBlock, x: np.ndarray, target: ExportTarget, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Write ``block`` into ``folder``, whole or not at all.

    Args:
        folder: new, empty, or an earlier export that nobody changed, which is replaced.
        block: what is exported.
        x: float32 ``[tokens, hidden]``: what enters it at positions 0, 1, ...; golden outputs are computed from it.
        target: device and options; the block runs token by token, whatever ``options.tokens`` says.
        about: what the manifest says of model, recipe and inputs; JSON-able, with a key ``model``.

    Returns:
        The manifest.

    Raises:
        ValueError, NotImplementedError: the block cannot be exported, or ``folder`` holds something else.
    """
    folder = Path(folder)
    identifier = identifier_of(block.name)
    descriptions = {name: describe(block.layers[name].config) for name in LAYERS}
    for name in LAYERS:
        if target.machine is not None:
            with naming(f"layer {name} of {block.name}"):
                check_runs(block.layers[name].config, target.machine)
    plan = plan_block(block, target.options)
    golden = block_reference(block, x, target.options)
    formats = {role: block.cache_config(role).formats[0].name for role in ("key", "value")}
    words = BEAT_BYTES // 4
    keys = golden.key_words // words
    kernel = _Kernel(
        name=identifier, plan=plan, target=target, tokens=len(x),
        on_chip=plan.beats * BEAT_BYTES <= target.on_chip_bytes,
        description=f"{_summary(descriptions)}, keys {formats['key']}, values {formats['value']}",
        record_beats=(keys, golden.cache.shape[1] // words),
    )  # fmt: skip
    texts = _texts(kernel, formats)
    data = {INPUT: row_bytes(x), OUTPUT: row_bytes(golden.output), CACHE: row_bytes(golden.cache)}
    if not kernel.on_chip:
        data[WEIGHTS] = beat_bytes(plan.image)
    place = f"layers/{identifier}"
    vitis = vitis_texts(identifier, kernel.data, part=target.part, clock_mhz=target.clock_mhz)
    with whole_export(folder) as made:
        files: dict[str, str | bytes] = {**texts, **vitis, **data}
        for name, content in files.items():
            write_file(made / place / name, content)
        headers = needed_headers(texts["config.h"] + texts["testbench.cpp"])
        entry = _entry(kernel, place, sorted(texts), sorted(data))
        note = _host_note(kernel, formats, str(about["model"]))
        finish_export(made, {**about, **target.about}, [entry], headers, note)
    return read_manifest(folder)


def layer_estimates(plan: BlockPlan, target: ExportTarget, *, on_chip: bool) -> dict[str, LayerEstimate]:
    """What each layer of a block takes as a kernel of its own, one token in a call; equal ones are estimated once."""
    made: dict[str, LayerEstimate] = {}
    estimates: dict[str, LayerEstimate] = {}
    for name in LAYERS:
        alike = config_text(plan.layers[name], "layer")
        if alike not in made:
            made[alike] = target.estimate(plan.layers[name], on_chip=on_chip)
        estimates[name] = made[alike]
    return estimates


def _summary(descriptions: Mapping[str, str]) -> str:
    """The layers' encodings, equal ones named together."""
    of_each: dict[str, list[str]] = {}
    for name, text in descriptions.items():
        of_each.setdefault(text, []).append(name)
    if len(of_each) == 1:
        return next(iter(of_each))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in of_each.items())


def _texts(kernel: _Kernel, formats: Mapping[str, str]) -> dict[str, str]:
    """Generated sources by file name."""
    block, plan = kernel.plan.block, kernel.plan
    interfaces = [
        f"#pragma HLS INTERFACE m_axi port = {name} bundle = gmem{index} offset = slave depth = {beats}"
        for index, (name, (_, beats)) in enumerate(kernel.ports.items())
    ]
    interfaces += [
        f"#pragma HLS INTERFACE s_axilite port = {name} bundle = control"
        for name in (*kernel.ports, "position", "tokens", "return")
    ]
    image, weights = weights_texts(kernel.name, plan.beats, on_chip=kernel.on_chip)
    texts = {
        "config.h": block_config_text(plan, kernel.name),
        "kernel.cpp": render(
            "block_kernel.cpp",
            {
                "block": block.name,
                "description": kernel.description,
                "weights_place": "on the chip" if kernel.on_chip else "in memory",
                "image": image,
                "name": kernel.name,
                "parameters": kernel.parameters,
                "interfaces": "\n".join(interfaces),
                "arguments": f"{weights}, cache, input, output, position, tokens",
            },
        ),
        "testbench.cpp": render(
            "block_testbench.cpp",
            {
                "name": kernel.name,
                "parameters": kernel.parameters,
                "tokens": kernel.tokens,
                "hidden": block.hidden,
                "row_beats": row_beats(block.hidden, 32),
                "cache_beats": kernel.record_beats[1],
                "positions": block.positions,
                "declared": "input, expected, records" + ("" if kernel.on_chip else ", weights"),
                "read_weights": "" if kernel.on_chip else f' ||\n      !read_beats("{WEIGHTS}", {plan.beats}, weights)',
                "arguments": ("" if kernel.on_chip else "weights.data(), ") + "cache.data(), in, out, first, step",
            },
        ),
    }
    return {**texts, **({IMAGE: image_text(plan.image)} if kernel.on_chip else {})}


def _host_note(kernel: _Kernel, formats: Mapping[str, str], model: str) -> str:
    block, plan = kernel.plan.block, kernel.plan
    what = {
        "weights": ("read", "the weight image, below", WEIGHTS),
        "cache": ("read and written", "the KV cache", CACHE),
        "input": ("read", "FP32 tokens", INPUT),
        "output": ("written", "FP32 tokens", OUTPUT),
    }
    row = row_beats(block.hidden, 32) * BEAT_BYTES
    ports = []
    for name, (_, beats) in kernel.ports.items():
        size = f"{row} a token" if name in ("input", "output") else str(beats * BEAT_BYTES)
        direction, said, file = what[name]
        ports.append(f"| `{name}` | {direction} | {size} | {said} | `{file}` |")
    return render(
        "BLOCK_HOST.md",
        {
            "block": block.name, "model": model, "device": kernel.target.device.name, "part": kernel.target.part,
            "clock_mhz": f"{kernel.target.clock_mhz:g}", "description": kernel.description, "name": kernel.name,
            "positions": block.positions, "hidden": block.hidden, "ports": "\n".join(ports),
            "cache_beats": kernel.record_beats[1], "key_beats": kernel.record_beats[0], "kv_heads": block.kv_heads,
            "head_dim": block.head_dim, "key_format": formats["key"], "value_format": formats["value"],
            "image_place": f"part of the kernel (`{IMAGE}`)" if kernel.on_chip else f"`{WEIGHTS}`",
            "beats": plan.beats,
            "arrays": "\n".join(f"| `{a.name}` | {a.beat * BEAT_BYTES} | {a.words * 4} |" for a in plan.arrays),
        },
    )  # fmt: skip


def _entry(kernel: _Kernel, place: str, sources: list[str], data: list[str]) -> dict[str, Any]:
    """The manifest's entry."""
    block, plan = kernel.plan.block, kernel.plan
    row = row_beats(block.hidden, 32)
    estimates = layer_estimates(plan, kernel.target, on_chip=kernel.on_chip)
    whole = estimate_block(plan, estimates, on_chip=kernel.on_chip, calibration=kernel.target.calibration)
    return {
        "name": block.name,
        "identifier": kernel.name,
        "folder": place,
        "kind": "decoder block",
        "description": kernel.description,
        "shape": [block.hidden, block.hidden],
        "heads": block.heads,
        "kv_heads": block.kv_heads,
        "head_dim": block.head_dim,
        "intermediate": block.layers["gate"].shape[0],
        "positions": block.positions,
        "tokens": kernel.tokens,
        "options": options_entry(kernel.target.options),
        "on_chip": kernel.on_chip,
        "input_beats": row,
        "output": "fp32",
        "output_beats": row,
        "cache_beats": kernel.record_beats[1],
        "cache_bytes": block.positions * kernel.record_beats[1] * BEAT_BYTES,
        "image": image_entry(plan.beats, plan.arrays),
        "estimate": whole.to_dict(),
        "estimates": {name: estimate.to_dict() for name, estimate in estimates.items()},
        "configs": {name: config_to_dict(block.layers[name].config) for name in LAYERS},
        "bias": sorted(block.biases),
        "bits": sum(layer.config.storage_bits(layer.shape).total for layer in block.layers.values()),
        "sources": [f"{place}/{name}" for name in sources],
        "data": [f"{place}/{name}" for name in data],
    }
