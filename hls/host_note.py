"""``HOST.md`` of an export: what a host program must put where, byte by byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hls.render import INPUT, OUTPUT, WEIGHTS, render
from hls.weights import BEAT_BYTES

_OUTPUTS: Mapping[str, str] = {
    "fp32": "FP32 (IEEE 754 binary32)",
    "fp16": "FP16 (IEEE 754 binary16)",
    "codes": "packed codes, then, from the next beat on, FP32 scales of the token's tiles",
}


def host_note(about: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> str:
    """The page.

    Args:
        about: what the manifest says of the whole export.
        layers: its entries of the layers.
    """
    return render(
        "HOST.md",
        {
            "model": about["model"],
            "device": about["device"]["name"],
            "part": about["device"]["part"],
            "clock_mhz": f"{about['clock_mhz']:g}",
            "layers": "\n".join(_section(layer) for layer in layers),
        },
    )


def _section(layer: Mapping[str, Any]) -> str:
    n, k = layer["shape"]
    lines = [
        f"## {layer['name']}",
        "",
        f"Top function `{layer['identifier']}`, in `{layer['folder']}`: {layer['description']}. "
        f"n = {n} outputs, k = {k} inputs, at most {layer['options']['tokens']} tokens a call.",
        "",
        "| port | direction | bytes | what | file |",
        "|---|---|---|---|---|",
    ]
    image = layer["image"]
    formats = layer.get("formats", [])
    for one in formats:
        size = one["image"]["beats"] * BEAT_BYTES
        lines.append(f"| `weights` | read | {size} | the weight image in {one['name']} | `{one['weights']}` |")
    if not layer["on_chip"] and not formats:
        lines.append(f"| `weights` | read | {image['beats'] * BEAT_BYTES} | the weight image, below | `{WEIGHTS}` |")
    golden = formats[0]["output"].replace(formats[0]["name"], "<format>") if formats else OUTPUT
    lines += [
        f"| `input` | read | {layer['input_beats'] * BEAT_BYTES} a token | FP16 `[tokens, {k}]` | `{INPUT}`, "
        f"{layer['tokens']} tokens |",
        f"| `output` | written | {layer['output_beats'] * BEAT_BYTES} a token | {_OUTPUTS[layer['output']]}, "
        f"`[tokens, {n}]` | `{golden}`, {layer['tokens']} tokens |",
        "",
    ]
    if formats:
        lines += [
            "The argument `format`, a 32-bit register before `tokens`, says what the weight image holds. It may change "
            "from call to call:",
            "",
            "| format | `format` | codes from byte | bytes |",
            "|---|---|---|---|",
        ]
        for one in formats:
            codes = one["image"]["arrays"][-1]
            start, size = codes["beat"] * BEAT_BYTES, codes["words"] * 4
            lines.append(f"| {one['name']} | `{one['register']:#09x}` | {start} | {size} |")
        lines += ["", "All arrays before the codes lie at the same place in every format.", ""]
    where = f"part of the kernel (`{layer['folder']}/image.inc`)" if layer["on_chip"] else f"`{WEIGHTS}`"
    if formats:
        where = "in the layer's own format"
    lines += [
        f"The weight image, {where}, {image['beats']} beats of {BEAT_BYTES} bytes:",
        "",
        "| array | first byte | bytes |",
        "|---|---|---|",
        *(f"| `{a['name']}` | {a['beat'] * BEAT_BYTES} | {a['words'] * 4} |" for a in image["arrays"]),
        "",
    ]
    return "\n".join(lines)
