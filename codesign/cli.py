"""``codesign``: the command line. Every command takes ``--json``; a mistake is one sentence and exit status 2."""

from __future__ import annotations

import importlib.metadata
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from codesign import (
    cli_bench,
    cli_bits,
    cli_explore,
    cli_export,
    cli_fpga,
    cli_hls_report,
    cli_lists,
    cli_serving,
    cli_simulate,
    cli_validate_gpu,
    cli_work,
)
from codesign.console import EXIT_BAD_INPUT, EXIT_INTERRUPTED, say, sentence, show_json, show_table
from hwmodel.event_options import Arbiter, Refill
from hwmodel.options import HONEST

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Model = Annotated[str, typer.Argument(help="Folder with config.json, GGUF file, or name of a packaged model.")]
Recipe = Annotated[str, typer.Option("--recipe", "-r", help="A recipe (codesign recipes), such as bitmod4_g128.")]
Device = Annotated[str, typer.Option(help="Torch device that blocks run on.")]
WholeTiles = Annotated[bool, typer.Option("--whole-tiles", help="A tile without room is fetched again at every use.")]
FillAndDrain = Annotated[
    bool,
    typer.Option("--fill-and-drain", help="Array, memory and vector unit wait where tiles and blocks begin and end."),
]

app = typer.Typer(
    name="codesign", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Which number formats, at which precision, on which hardware: quantize, evaluate, estimate, compare.",
    rich_markup_mode="rich",
)  # fmt: skip


def _show_version(wanted: bool) -> None:
    """Print the installed version, and stop."""
    if not wanted:
        return
    try:
        found = importlib.metadata.version("codesign")
    except importlib.metadata.PackageNotFoundError:
        found = "from a checkout that is not installed"
    typer.echo(f"codesign {found}")
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version, and stop.")
    ] = False,
) -> None:
    pass


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="study.yaml")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page and the tables.")] = Path("results"),
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Quantize, evaluate and price every recipe of a study; write its page and tables."""
    cli_work.study(file, out, device=device, as_json=as_json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished study.")],
    as_json: Json = False,
) -> None:
    """Show a finished study again and redraw its page."""
    cli_work.report(folder, as_json=as_json)


@app.command()
def quantize(
    model: Model,
    recipe: Recipe,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the quantized model; a stopped run goes on.")],
    calibration_text: Annotated[str, typer.Option(help="Text that calibrates.")] = "lambada",
    calibration_tokens: Annotated[int, typer.Option(min=1)] = 8192,
    context: Annotated[int, typer.Option(min=2, help="Tokens in a window.")] = 512,
    sequential: Annotated[bool, typer.Option(help="Calibrate on the quantized prefix, as GPTQ does.")] = True,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Quantize a model into a folder, layer by layer."""
    cli_work.quantize(
        model, recipe, out, calibration_text=calibration_text, calibration_tokens=calibration_tokens, context=context,
        sequential=sequential, device=device, as_json=as_json,
    )  # fmt: skip


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model, or folder of a quantized model.")],
    text: Annotated[str, typer.Option(help="Held-out text: a name or a file.")] = "boolq-validation",
    tokens: Annotated[int, typer.Option(min=2)] = 8192,
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
    cli_work.evaluate(
        model, text=text, tokens=tokens, context=context, tasks=tuple(task or ()), limit=limit, bos=bos, device=device,
        as_json=as_json,
    )  # fmt: skip


@app.command()
def estimate(
    model: Annotated[str, typer.Argument(help="Model, quantized model, or just a folder with config.json.")],
    accelerator: Annotated[str, typer.Option("--accelerator", "-a", help="Preset, or a YAML file.")] = "bitmod",
    recipe: Recipe = "bitmod4_g128",
    batch: Annotated[int, typer.Option(min=1)] = 1,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 256,
    generate: Annotated[int, typer.Option(min=1, help="Tokens generated after it.")] = 256,
    whole_tiles: WholeTiles = False,
    fill_and_drain: FillAndDrain = False,
    layers: Annotated[bool, typer.Option(help="Every layer, not groups of equal ones.")] = False,
    as_json: Json = False,
) -> None:
    """Price a model on an accelerator from its shapes alone: cycles, seconds, energy, area, bits, bounds."""
    cli_work.estimate(
        model, accelerator=accelerator, recipe_name=recipe, batch=batch, prompt=prompt, generate=generate,
        options=replace(HONEST, whole_tiles=whole_tiles, fill_and_drain=fill_and_drain), every_layer=layers,
        as_json=as_json,
    )  # fmt: skip


@app.command()
def simulate(
    model: Annotated[str, typer.Argument(help="Model, quantized model, or just a folder with config.json.")],
    accelerator: Annotated[str, typer.Option("--accelerator", "-a", help="Preset, or a YAML file.")] = "bitmod",
    recipe: Recipe = "bitmod4_g128",
    batch: Annotated[int, typer.Option(min=1)] = 1,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 256,
    generate: Annotated[int, typer.Option(min=1, help="Tokens generated after it; their middle is simulated.")] = 256,
    dram_timing: Annotated[bool, typer.Option(help="Simulate DRAM rows, refresh and turnaround.")] = False,
    prefetch: Annotated[bool, typer.Option(help="Fetch weights of the next layers as soon as there is room.")] = False,
    systolic: Annotated[bool, typer.Option(help="Operands go from PE to PE: fill and drain for each tile.")] = False,
    arbiter: Annotated[Arbiter, typer.Option(help="Stream that a DRAM channel serves next.")] = Arbiter.EARLIEST,
    refill: Annotated[Refill, typer.Option(help="When freed room of a buffer is filled again.")] = Refill.SLOT,
    bank_conflicts: Annotated[
        int | None, typer.Option(min=1, help="Banks of single-ported buffers; two ports by default.")
    ] = None,
    whole_tiles: WholeTiles = False,
    fill_and_drain: FillAndDrain = False,
    layers: Annotated[bool, typer.Option(help="Every layer, not groups of equal ones.")] = False,
    as_json: Json = False,
) -> None:
    """Simulate a model tile by tile, event by event, beside the closed form: cycles, and where they went."""
    machine = cli_simulate.Machine(
        dram_timing, prefetch, systolic, whole_tiles, fill_and_drain, arbiter, refill, bank_conflicts
    )  # fmt: skip
    cli_simulate.simulate_model(
        model, accelerator=accelerator, recipe_name=recipe, batch=batch, prompt=prompt, generate=generate,
        machine=machine, every_layer=layers, as_json=as_json,
    )  # fmt: skip


app.command()(cli_serving.serving)


@app.command()
def validate(
    measured: Annotated[list[Path] | None, typer.Argument(help="With --gpu: records of codesign bench.")] = None,
    rows: Annotated[Path | None, typer.Option(help="CSV of simulator rows; the published ones by default.")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="GPU kernels by shape, tokens and format.")] = False,
    page: Annotated[
        Path | None, typer.Option(help="With --gpu: an interactive page of predicted and measured.")
    ] = None,
    details: Annotated[bool, typer.Option(help="All tables behind the one, row by row.")] = False,
    as_json: Json = False,
) -> None:
    """Compare the cost model with published and measured figures."""
    if gpu and rows is not None:
        raise ValueError("rows must be left out with --gpu, which compares records of codesign bench")
    if not gpu and (measured or page is not None):
        raise ValueError("measured files and --page must come with --gpu")
    if gpu:
        cli_validate_gpu.validate_gpu(tuple(measured or ()), every=details, page=page, as_json=as_json)
        return
    cli_lists.validate(rows, every=details, as_json=as_json)


app.command()(cli_bench.bench)


@app.command()
def effects(
    model: Annotated[str, typer.Argument(help="One of the published models (Llama-2-7B, ...).")] = "Llama-2-7B",
    accelerator: Annotated[str, typer.Option("--accelerator", "-a")] = "bitmod",
    recipe: Recipe = "bitmod4_g128",
    as_json: Json = False,
) -> None:
    """What each omission of the published simulator is worth, switched on one by one."""
    cli_lists.effects(model, accelerator, as_json=as_json, recipe_name=recipe)


@app.command()
def bits(
    model: Annotated[str, typer.Argument(help="Model, or folder of a quantized model.")],
    recipe: Recipe = "int8_channel",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File for all counts, as JSON.")] = None,
    layers: Annotated[bool, typer.Option(help="Every layer, not groups of equal ones.")] = False,
    as_json: Json = False,
) -> None:
    """Count terms and bit planes of encoded weights: what machines that skip zeros have left to do."""
    cli_bits.bits(model, recipe_name=recipe, out=out, every_layer=layers, as_json=as_json)


app.command()(cli_fpga.fpga)
app.command()(cli_export.export)
app.command()(cli_export.csim)
app.command(name="hls-report")(cli_hls_report.hls_report)
app.command(name="explore")(cli_explore.explore_space)


@app.command()
def formats(
    name: Annotated[str | None, typer.Argument(help="One format: its table of codes and values.")] = None,
    as_json: Json = False,
) -> None:
    """List the number formats with range, special codes, tie rule and source; or every code of one."""
    if name is not None:
        cli_lists.format_codes(name, as_json=as_json)
        return
    show_table(cli_lists.formats(), title="Formats", as_json=as_json, columns=cli_lists.FORMAT_COLUMNS)


@app.command()
def accelerators(as_json: Json = False) -> None:
    """List the accelerator presets."""
    show_table(cli_lists.accelerators(), title="Accelerators", as_json=as_json)


@app.command()
def algorithms(as_json: Json = False) -> None:
    """List the quantization algorithms with what they need and their source."""
    show_table(cli_lists.algorithms(), title="Algorithms", as_json=as_json)


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the named recipes; other names follow a grammar."""
    show_table(cli_lists.recipes(), title=f"Recipes (others: {cli_lists.GRAMMAR})", as_json=as_json)


@app.command()
def models(as_json: Json = False) -> None:
    """List the models and texts that come in packages."""
    tables: dict[str, pd.DataFrame] = {"models": cli_lists.models(), "texts": cli_lists.texts()}
    if as_json:
        show_json({name: table.to_dict(orient="records") for name, table in tables.items()})
        return
    for name, table in tables.items():
        show_table(table, title=name.capitalize(), as_json=False)


USAGE_ERROR: Any = typer.BadParameter.__base__  # typer exports no base class of its usage errors


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; mistakes become one sentence on standard error."""
    warnings.filterwarnings("ignore", module=r"(torch|transformers)\b.*")
    try:
        # not standalone: typer would end the program by itself, without a word after an interrupt
        status = app(arguments, standalone_mode=False)
    except USAGE_ERROR as error:
        text = error.format_message()
        if text:  # none where no argument was given and the help was shown
            say(f"codesign: {sentence(ValueError(text))} (codesign --help)")
        sys.exit(EXIT_BAD_INPUT)
    except (ValueError, TypeError, NotImplementedError, OSError, MemoryError) as error:
        say(f"codesign: {sentence(error)}")
        sys.exit(EXIT_BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        status = EXIT_INTERRUPTED
    if status == EXIT_INTERRUPTED:
        say("codesign: interrupted; run the same command again to go on")
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
