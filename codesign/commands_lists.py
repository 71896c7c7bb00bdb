"""Commands that list what there is: formats, accelerators, algorithms, recipes, models."""

from __future__ import annotations

from typing import Annotated

import typer

from codesign.commands import Json, work


def formats(
    name: Annotated[str | None, typer.Argument(help="One format: its table of codes and values.")] = None,
    as_json: Json = False,
) -> None:
    """List the number formats with range, special codes, tie rule and source; or every code of one."""
    if name is None:
        work("cli_lists").show_formats(as_json=as_json)
    else:
        work("cli_lists").format_codes(name, as_json=as_json)


def accelerators(as_json: Json = False) -> None:
    """List the accelerator presets."""
    work("cli_lists").show_accelerators(as_json=as_json)


def algorithms(as_json: Json = False) -> None:
    """List the quantization algorithms with what they need and their source."""
    work("cli_recipes").show_algorithms(as_json=as_json)


def recipes(as_json: Json = False) -> None:
    """List the named recipes; other names follow a grammar."""
    work("cli_recipes").show_recipes(as_json=as_json)


def models(as_json: Json = False) -> None:
    """List the models and texts that come in packages."""
    work("cli_lists").show_models(as_json=as_json)
