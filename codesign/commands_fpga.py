"""Commands on FPGAs: fpga, export, csim, hls-report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.commands import Json, work
from codesign.export_options import POSITIONS, SEEDED
from hls.csim import MAX_WORKERS
from hls.layer_options import MAX_POSITIONS, ON_CHIP_BYTES, IntMapping, LayerOptions

_Board = Annotated[str, typer.Option("--device", "-d", help="Board (codesign fpga lists them).")]
_OPTIONS = LayerOptions()
_TOKENS = 4  # of a call of an export, and of its golden vectors


def fpga(
    accelerator: Annotated[
        str | None, typer.Option("--accelerator", "-a", help="Preset, or a YAML file; without one, list the devices.")
    ] = None,
    device: _Board = "u250",
    dsp: Annotated[bool, typer.Option(help="Integer multiply-adds in DSPs instead of LUTs.")] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="Corrects the estimate: a file that codesign hls-report wrote.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put an accelerator on an FPGA: LUTs, flip-flops, DSPs, memories, what each number is, whether it fits."""
    work("cli_fpga").fpga(accelerator, device=device, dsp=dsp, calibration=calibration, as_json=as_json)


def export(
    model: Annotated[str, typer.Argument(help="Folder that codesign quantize wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the export; an earlier export is replaced.")],
    layers: Annotated[
        list[str] | None, typer.Option("--layers", "-l", help="Layer, or pattern such as '*.q_proj'; may be repeated.")
    ] = None,
    block: Annotated[
        int | None, typer.Option(min=0, help="A whole decoder block, by its number, in place of single layers.")
    ] = None,
    positions: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_POSITIONS, help=f"Positions that the KV cache of a --block holds: {POSITIONS}."),
    ] = None,
    accelerator: Annotated[
        str | None,
        typer.Option("--accelerator", "-a", help="Preset or YAML file whose PEs multiply; by default plain MACs."),
    ] = None,
    device: _Board = "u250",
    clock: Annotated[
        float | None, typer.Option(help="MHz to synthesise for; by default what the device's family is planned with.")
    ] = None,
    lanes: Annotated[int, typer.Option(min=1, help="Inputs multiplied in a cycle.")] = _OPTIONS.lanes,
    rows: Annotated[int, typer.Option(min=1, help="Outputs computed side by side.")] = _OPTIONS.tile_rows,
    accumulator: Annotated[
        str, typer.Option(help="Float that adds products of FP16 activations, by its bits: e8m23, e5m10, ...")
    ] = "e8m23",
    mapping: Annotated[
        IntMapping,
        typer.Option(help="Where products of integers are made: as the tool likes, in LUTs, in DSPs, two in each DSP."),
    ] = _OPTIONS.mapping,
    runtime_formats: Annotated[
        bool,
        typer.Option(help="BitMoD's PE with FP3, FP4, INT4, INT6 and INT8 chosen by an AXI-Lite register at run time."),
    ] = _OPTIONS.runtime_formats,
    tokens: Annotated[
        int, typer.Option(min=1, help="Most tokens of a call, and tokens of the golden vectors.")
    ] = _TOKENS,
    inputs: Annotated[
        str, typer.Option(help="Golden inputs: 'seeded', or a text (name or file) that the model is run on.")
    ] = SEEDED,
    seed: Annotated[int, typer.Option(min=0, help="Of seeded inputs.")] = 0,
    on_chip: Annotated[
        int, typer.Option(min=0, help="Weight images of at most so many bytes become part of their kernels.")
    ] = ON_CHIP_BYTES,
    calibration: Annotated[
        Path | None, typer.Option(help="Corrects the estimates: a file that codesign hls-report wrote.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write layers or a block of a quantized model as C++ for Vitis HLS, with weights, testbench and golden vectors."""
    work("cli_export").export(
        model, out, layers=layers or (), block=block, positions=positions, accelerator=accelerator, device=device,
        clock=clock, lanes=lanes, rows=rows, accumulator=accumulator, mapping=mapping, runtime_formats=runtime_formats,
        tokens=tokens, inputs=inputs, seed=seed, on_chip=on_chip, calibration=calibration, as_json=as_json,
    )  # fmt: skip


def csim(
    folder: Annotated[Path, typer.Argument(help="Folder that codesign export wrote.")],
    layers: Annotated[
        list[str] | None, typer.Option("--layers", "-l", help="Layer or pattern; may be repeated; all by default.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=MAX_WORKERS, help="Layers compiled at a time.")] = MAX_WORKERS,
    mismatches: Annotated[int, typer.Option(min=1, help="Mismatches shown of each layer.")] = 10,
    ap_types: Annotated[
        Path | None, typer.Option(help="Folder of ap_int.h; by default Vitis's, or that of the package hls4ml.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Compile and run an export, and compare every output with its golden one; exit status 1 if any differs."""
    status: int = work("cli_csim").csim(
        folder, layers=layers or (), workers=workers, mismatches=mismatches, ap_types=ap_types, as_json=as_json
    )
    return status


def hls_report(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="csynth.xml, <top>_cosim.rpt, <top>_export.rpt, utilization, timing summary; or those under --export."
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Folder of codesign export whose designs the reports are of.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Write measured over estimated here; a file that is there is completed.")
    ] = None,
    clock: Annotated[float | None, typer.Option(help="MHz that a timing summary without a clock was made for.")] = None,
    as_json: Json = False,
) -> None:
    """Read reports of Vitis HLS and Vivado, compare them with the estimates of an export, write a calibration."""
    work("cli_hls_report").hls_report(
        files or (), export=export, calibration=calibration, clock=clock, as_json=as_json
    )  # fmt: skip
