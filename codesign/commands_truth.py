"""Commands on ground truth: validate, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.commands import Json, work
from codesign.outputs import check_output_file

MOST_TOKENS = 16  # of a decode GEMV: kernels_gpu.gemv_launch


def validate(
    measured: Annotated[list[Path] | None, typer.Argument(help="With --gpu: records of codesign bench.")] = None,
    rows: Annotated[Path | None, typer.Option(help="CSV of simulator rows; the published ones by default.")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="GPU kernels by shape, tokens and format.")] = False,
    page: Annotated[
        Path | None, typer.Option(help="With --gpu: an interactive page of predicted and measured.")
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(help="With --gpu: the measured files' GPU, a preset or a YAML data sheet.")
    ] = None,
    details: Annotated[bool, typer.Option(help="All tables behind the one, row by row.")] = False,
    as_json: Json = False,
) -> None:
    """Compare the cost model with published and measured figures."""
    if gpu and rows is not None:
        raise ValueError("rows must be left out with --gpu, which compares records of codesign bench")
    if not gpu and (measured or page is not None):
        raise ValueError("measured files and --page must come with --gpu")
    if sheet is not None and not measured:
        raise ValueError("--sheet must come with --gpu and the measured files of that GPU")
    if page is not None:
        check_output_file(page)
    if gpu:
        files = tuple(measured or ())
        work("cli_validate_gpu").validate_gpu(files, every=details, page=page, as_json=as_json, sheet=sheet)
        return
    work("cli_validate").validate(rows, every=details, as_json=as_json)


def bench(
    out: Annotated[Path, typer.Option("--out", "-o", help="File of the records, JSON.")],
    recipe: Annotated[list[str] | None, typer.Option("--recipe", "-r", help="May be repeated; all by default.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="NxK; may be repeated; three by default.")] = None,
    tokens: Annotated[list[int] | None, typer.Option(min=1, max=MOST_TOKENS, help="May be repeated.")] = None,
    others: Annotated[bool, typer.Option(help="Also cuBLAS, tinygemm and bitsandbytes.")] = True,
    as_json: Json = False,
) -> None:
    """Time decode GEMV kernels on a CUDA GPU; `codesign validate --gpu FILE` compares the records with the model."""
    work("cli_bench").bench(out, recipe, shape or (), tokens or [1], others=others, as_json=as_json)
