"""Commands on the weights of a model: study, report, quantize, evaluate, bits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from codesign.commands import Device, EveryLayer, Json, Model, Recipe, work


def study(
    file: Annotated[Path, typer.Argument(help="study.yaml")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page and the tables.")] = Path("results"),
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Quantize, evaluate and price every recipe of a study; write its page and tables."""
    work("cli_work").study(file, out, device=device, as_json=as_json)


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished study.")],
    as_json: Json = False,
) -> None:
    """Show a finished study again and redraw its page."""
    work("cli_report").report(folder, as_json=as_json)


def quantize(
    model: Model,
    recipe: Recipe,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the quantized model; a stopped run goes on.")],
    calibration_text: Annotated[str, typer.Option(help="Text that calibrates.")] = "lambada",
    calibration_tokens: Annotated[int, typer.Option(min=1, help="Tokens of it, in all windows.")] = 8192,
    context: Annotated[int, typer.Option(min=2, help="Tokens in a window.")] = 512,
    sequential: Annotated[bool, typer.Option(help="Calibrate on the quantized prefix, as GPTQ does.")] = True,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Quantize a model into a folder, layer by layer."""
    work("cli_work").quantize(
        model, recipe, out, calibration_text=calibration_text, calibration_tokens=calibration_tokens, context=context,
        sequential=sequential, device=device, as_json=as_json,
    )  # fmt: skip


def evaluate(
    model: Annotated[str, typer.Argument(help="Model, or folder of a quantized model.")],
    text: Annotated[str, typer.Option(help="Held-out text: a name or a file.")] = "boolq-validation",
    tokens: Annotated[int, typer.Option(min=2, help="Tokens of the text, in all windows.")] = 8192,
    context: Annotated[int, typer.Option(min=2, help="Tokens in a window.")] = 2048,
    task: Annotated[list[str] | None, typer.Option(help="Zero-shot task instead of text; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions of each task.")] = None,
    bos: Annotated[
        bool | None,
        typer.Option("--bos/--no-bos", help="The tokenizer's first token before every window; by its configuration."),
    ] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Perplexity on held-out text, or zero-shot accuracy."""
    work("cli_work").evaluate(
        model, text=text, tokens=tokens, context=context, tasks=tuple(task or ()), limit=limit, bos=bos, device=device,
        as_json=as_json,
    )  # fmt: skip


def bits(
    model: Annotated[str, typer.Argument(help="Model, or folder of a quantized model.")],
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="A recipe, int8_channel by default; a quantized model keeps its own."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File for all counts, as JSON.")] = None,
    layers: EveryLayer = False,
    as_json: Json = False,
) -> None:
    """Count terms and bit planes of encoded weights: what machines that skip zeros have left to do."""
    work("cli_bits").bits(model, recipe_name=recipe, out=out, every_layer=layers, as_json=as_json)
