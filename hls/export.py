"""Writing quantized layers as a folder that Vitis HLS takes and that g++ simulates: ``export_layers``.

::

    manifest.json             what was exported, for which device; every file with its size and SHA-256; written last
    HOST.md                   every buffer of every kernel, byte by byte
    Makefile                  make csim, make synth
    include/codesign/*.h      the headers that the layers need
    layers/<identifier>/      one kernel: config.h, kernel.cpp, testbench.cpp, hls_config.cfg, run_hls.tcl,
                              input.bin, output.bin, and image.inc (weights on the chip) or weights.bin (in memory)

Equal layers on equal inputs give equal bytes: nothing depends on time, place or machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datatypes.config_json import config_to_dict
from datatypes.layer_config import LayerConfig
from datatypes.quantized_layer import QuantizedLayer
from hls.ap_types import INCLUDE
from hls.estimate import LayerEstimate, estimate_layer
from hls.export_folder import read_manifest, whole_export, write_file, write_manifest
from hls.golden_runs import GoldenLayer, golden_layer
from hls.host_note import host_note
from hls.layer_config_text import config_text
from hls.layer_options import ON_CHIP_BYTES, LayerOptions
from hls.layer_plan import LayerPlan
from hls.layer_planning import plan_layer
from hls.machine_arithmetic import check_runs
from hls.manifest_entries import describe, format_entries, image_entry, options_entry
from hls.names import identifier_of, naming
from hls.render import IMAGE, KernelText, bench_text, kernel_text, makefile_text, vitis_texts
from hls.weights import image_text, row_beats
from hwmodel.accelerator import Accelerator
from hwmodel.fpga import FpgaDevice
from hwmodel.fpga_calibration import FpgaCalibration
from hwmodel.units import mhz_to_hz

# Parts of the boards, as AMD's board files name them (github.com/Xilinx/XilinxBoardStore).
PARTS: Mapping[str, str] = {
    "u250": "xcu250-figd2104-2L-e",
    "u280": "xcu280-fsvh2892-2L-e",
    "u55c": "xcu55c-fsvh2892-2L-e",
    "zcu104": "xczu7ev-ffvc1156-2-e",
    "kv260": "xck26-sfvc784-2LV-c",
    "vck190": "xcvc1902-vsva2197-2MP-e-S",
    "v80": "xcv80-lsva4737-2MHP-e-S",
    "pynq_z1": "xc7z020clg400-1",
}
_INCLUDE = re.compile(r'^\s*#include "codesign/(\w+\.h)"', re.MULTILINE)

Steps = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class ExportLayer:
    """One layer to export.

    Args:
        name: its name in the model.
        layer: the quantized layer.
        input: float16 ``[tokens, k]``, finite: what the golden outputs are computed from.
        bias: float32 ``[n]``; ``None`` for none.
    """

    name: str
    layer: QuantizedLayer
    input: np.ndarray
    bias: np.ndarray | None = None


@dataclass(frozen=True)
class ExportTarget:
    """What layers are exported for.

    Args:
        device: the board.
        clock_mhz: clock to synthesise for.
        options: how a layer is computed and cut.
        on_chip_bytes: weight images of at most so many bytes are part of their kernels.
        calibration: corrects the estimates; ``None`` for none.
        machine: whose PEs ``options.arithmetic`` stands for: layers must be such that it runs them; ``None`` for any.
    """

    device: FpgaDevice
    clock_mhz: float
    options: LayerOptions = field(default=LayerOptions())
    on_chip_bytes: int = ON_CHIP_BYTES
    calibration: FpgaCalibration | None = None
    machine: Accelerator | None = None

    def __post_init__(self) -> None:
        if self.device.name not in PARTS:
            raise ValueError(f"device must be one that Vitis compiles for ({', '.join(PARTS)}), not {self.device.name}")
        if not 1 <= self.clock_mhz <= 1000:
            raise ValueError(f"clock_mhz must be 1 to 1000, not {self.clock_mhz!r}")
        if self.on_chip_bytes < 0:
            raise ValueError(f"on_chip_bytes must be at least 0, not {self.on_chip_bytes!r}")

    @property
    def part(self) -> str:
        """Part number of the device."""
        return PARTS[self.device.name]

    @property
    def about(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "device": {"name": self.device.name, "part": self.part},
            "clock_mhz": self.clock_mhz,
            "on_chip_bytes": self.on_chip_bytes,
        }

    def estimate(self, plan: LayerPlan, *, on_chip: bool) -> LayerEstimate:
        """What a layer takes as a kernel of its own."""
        clock_hz = mhz_to_hz(self.clock_mhz)
        return estimate_layer(plan, self.device, clock_hz, on_chip=on_chip, calibration=self.calibration)


def check_exportable(names: Iterable[str], layers: Mapping[str, QuantizedLayer], target: ExportTarget) -> None:
    """Make sure that every layer has a name and formats that an export can hold, before anything is written.

    One layer of each encoding and shape is planned.

    Raises:
        ValueError, NotImplementedError: a layer cannot be exported; the message names it.
    """
    seen: set[tuple[LayerConfig, tuple[int, int]]] = set()
    folded: dict[str, str] = {}
    for name in names:
        identifier = identifier_of(name)
        other = folded.setdefault(identifier.lower(), name)
        if other != name:
            raise ValueError(f"layer names must differ in more than the case of letters, not be {other} and {name}")
        layer = layers[name]
        if (layer.config, layer.shape) not in seen:
            seen.add((layer.config, layer.shape))
            with naming(f"layer {name}"):
                describe(layer.config)
                if target.machine is not None:
                    check_runs(layer.config, target.machine)
                plan_layer(layer, options=target.options)


def export_layers(
    folder: Path | str,
    layers: Iterable[ExportLayer],
    target: ExportTarget,
    about: Mapping[str, Any],
    *,
    steps: Steps = lambda what, done, total: None,
    count: int = 0,
) -> dict[str, Any]:
    """Write ``layers`` into ``folder``: all of them, or nothing.

    Args:
        folder: new, empty, or an earlier export that nobody changed, which is replaced.
        layers: made one at a time.
        target: device and options.
        about: what the manifest says of model, recipe and inputs; JSON-able, with a key ``model``.
        steps: told what is being written.
        count: how many layers there will be, for ``steps``.

    Returns:
        The manifest.

    Raises:
        ValueError, NotImplementedError: a layer cannot be exported, or ``folder`` holds something else.
    """
    folder = Path(folder)
    described = {**about, **target.about}
    with whole_export(folder) as made:
        entries: list[dict[str, Any]] = []
        headers: set[str] = set()
        estimates: dict[str, dict[str, Any]] = {}
        for item in layers:
            steps(item.name, len(entries), count)
            with naming(f"layer {item.name}"):
                entries.append(_write_layer(made, item, target, headers, estimates))
        if not entries:
            raise ValueError("an export must hold at least one layer")
        finish_export(made, described, entries, headers, host_note(described, entries))
        steps("", len(entries), count)
    return read_manifest(folder)


def finish_export(
    folder: Path, about: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], headers: Iterable[str], note: str
) -> None:
    """Write what an export has besides its layers: ``headers``, ``HOST.md`` (``note``), and the manifest last."""
    for header in sorted(headers):
        write_file(folder / "include" / "codesign" / header, (INCLUDE / "codesign" / header).read_bytes())
    write_file(folder / "Makefile", makefile_text([entry["identifier"] for entry in entries]))
    write_file(folder / "HOST.md", note)
    write_manifest(folder, {**about, "layers": entries})


def needed_headers(text: str) -> set[str]:
    """Headers of ``include/codesign`` that ``text`` includes, and all that these include.

    >>> sorted(needed_headers('#include "codesign/words.h"'))
    ['types.h', 'words.h']
    """
    found: set[str] = set()
    queue = _INCLUDE.findall(text)
    while queue:
        header = queue.pop()
        if header not in found:
            found.add(header)
            queue += _INCLUDE.findall((INCLUDE / "codesign" / header).read_text(encoding="utf-8"))
    return found


def _write_layer(
    folder: Path, item: ExportLayer, target: ExportTarget, headers: set[str], estimates: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The folder of one layer, and its manifest entry; ``estimates`` are kept for layers alike but for weights."""
    identifier = identifier_of(item.name)
    _check_input(item, target.options)
    golden = golden_layer(item.layer, item.input, item.bias, target.options, on_chip_bytes=target.on_chip_bytes)
    plan, on_chip, data = golden.plan, golden.on_chip, golden.data
    kernel = _kernel(item, identifier, golden)
    config = config_text(plan, identifier)
    texts = {
        "config.h": config,
        "kernel.cpp": kernel_text(kernel),
        "testbench.cpp": bench_text(kernel),
        **({IMAGE: image_text(plan.image)} if on_chip else {}),
    }
    headers |= needed_headers(config + texts["testbench.cpp"])

    def estimated(one: LayerPlan) -> dict[str, Any]:
        alike = f"{on_chip} {one.format_register} {config_text(one, 'layer')}"
        if alike not in estimates:
            estimates[alike] = target.estimate(one, on_chip=on_chip).to_dict()
        return estimates[alike]

    place = f"layers/{identifier}"
    vitis = vitis_texts(identifier, kernel.data, part=target.part, clock_mhz=target.clock_mhz)
    files: dict[str, str | bytes] = {**texts, **vitis, **data}
    for name, content in files.items():
        write_file(folder / place / name, content)
    return {
        "name": item.name,
        "identifier": identifier,
        "folder": place,
        "description": kernel.description,
        "shape": list(item.layer.shape),
        "tokens": len(item.input),
        "options": {"tokens": target.options.tokens, **options_entry(target.options)},
        "arithmetic": [part.arithmetic.type for part in plan.parts],
        "on_chip": on_chip,
        "input_beats": kernel.input_beats,
        "output": golden.outputs.kind,
        "output_beats": golden.outputs.beats,
        "image": image_entry(plan.beats, plan.arrays),
        "bias": item.bias is not None,
        "config": config_to_dict(item.layer.config),
        "bits": item.layer.config.storage_bits(item.layer.shape).total,
        "estimate": estimated(plan),
        **({"formats": format_entries(golden, estimated)} if golden.plans else {}),
        "sources": sorted(f"{place}/{name}" for name in texts),
        "data": sorted(f"{place}/{name}" for name in data),
    }


def _check_input(item: ExportLayer, options: LayerOptions) -> None:
    k = item.layer.shape[1]
    x = item.input
    if x.dtype != np.float16 or x.ndim != 2 or x.shape[1] != k or not 1 <= len(x) <= options.tokens:
        raise ValueError(
            f"its golden input must be float16 of 1 to {options.tokens} tokens of {k}, not {x.dtype} of {list(x.shape)}"
        )


def _kernel(item: ExportLayer, identifier: str, golden: GoldenLayer) -> KernelText:
    tokens, plan = len(item.input), golden.plan
    stages = [stage for stage in (plan.input, plan.middle, plan.result, plan.output) if stage is not None]
    shared = any(not (stage.per_token and (stage.outer is None or stage.outer_per_token)) for stage in stages)
    return KernelText(
        layer=item.name,
        name=identifier,
        shape=item.layer.shape,
        description=describe(item.layer.config),
        tokens=tokens,
        beats=max(run.beats for run in golden.runs),
        on_chip=golden.on_chip,
        input_beats=row_beats(item.layer.shape[1], 16),
        output_beats=golden.outputs.beats,
        rows=golden.outputs.rows,
        row_bits=golden.outputs.row_bits,
        calls=(tokens,) if shared or tokens == 1 else (1, tokens),  # a shared scale needs all its tokens
        runs=golden.runs,
    )


def seeded_input(name: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Inputs of a layer for want of real ones, float16 ``[tokens, k]``.

    Normal numbers, each channel with a scale of its own (log-normal, sigma 1: some channels are many times larger than
    others, as in language models: Dettmers et al., LLM.int8(), arXiv 2208.07339, section 4). They depend on the name
    and the seed alone.

    Args:
        name: of the layer.
        shape: (tokens, k).
        seed: of the generator.
    """
    entropy = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    rng = np.random.default_rng([seed, entropy])
    scales = np.exp(rng.standard_normal(shape[1]))
    return (rng.standard_normal(shape) * scales).astype(np.float16)
