"""``codesign``: the command line. Every command takes ``--json``; a mistake is one sentence and exit status 2."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from codesign import commands_fpga, commands_lists, commands_model, commands_price, commands_truth
from codesign.messages import EXIT_BAD_INPUT, EXIT_INTERRUPTED, say, sentence

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


COMMANDS = (  # in the order of the help
    commands_model.study,
    commands_model.report,
    commands_model.quantize,
    commands_model.evaluate,
    commands_price.estimate,
    commands_price.simulate,
    commands_price.serving,
    commands_truth.validate,
    commands_truth.bench,
    commands_price.effects,
    commands_model.bits,
    commands_fpga.fpga,
    commands_fpga.export,
    commands_fpga.csim,
    commands_fpga.hls_report,  # typer calls it hls-report
    commands_price.explore,
    commands_lists.formats,
    commands_lists.accelerators,
    commands_lists.algorithms,
    commands_lists.recipes,
    commands_lists.models,
)
for _command in COMMANDS:
    app.command()(_command)


USAGE_ERROR: Any = typer.BadParameter.__base__  # typer exports no base class of its usage errors


def _not_empty(arguments: list[str]) -> list[str]:
    """The arguments; an empty one, of a variable that is not set, would otherwise mean the current folder as a path.

    Raises:
        ValueError: one is empty.
    """
    for before, argument in zip(["codesign", *arguments], arguments, strict=False):
        if not argument:
            raise ValueError(f"arguments must not be empty, which the one after {before!r} is")
    return arguments


def _open_streams() -> None:
    """Standard output and error that a shell closed (``>&-``) go nowhere: Python has ``None`` in their place."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open until the end


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; mistakes become one sentence on standard error."""
    warnings.filterwarnings("ignore", module=r"(torch|transformers)\b.*")
    _open_streams()
    try:
        # not standalone: typer would end the program by itself, without a word after an interrupt
        status = app(_not_empty(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
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
