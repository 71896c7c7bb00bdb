"""What commands share: options that several take, and the loading of what they do.

A command's options stand in a light file (``commands_*``), so that help, wrong usage and the version are there at once;
its work stands in ``cli_*`` and is imported when the command runs, for torch alone takes longer than most of them.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer

Accelerator = Annotated[str, typer.Option("--accelerator", "-a", help="Preset, or a YAML file.")]
Batch = Annotated[int, typer.Option(min=1, help="Sequences at once.")]
Device = Annotated[str, typer.Option(help="Torch device that blocks run on.")]
EveryLayer = Annotated[bool, typer.Option("--layers", help="Every layer, not groups of equal ones.")]
FillAndDrain = Annotated[
    bool,
    typer.Option("--fill-and-drain", help="Array, memory and vector unit wait where tiles and blocks begin and end."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Model = Annotated[str, typer.Argument(help="Folder with config.json, GGUF file, or name of a packaged model.")]
Prompt = Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")]
Recipe = Annotated[str, typer.Option("--recipe", "-r", help="A recipe (codesign recipes), such as bitmod4_g128.")]
OwnRecipe = Annotated[
    str | None,
    typer.Option("--recipe", "-r", help="A recipe, bitmod4_g128 by default; a quantized model keeps its own."),
]
ShapesOf = Annotated[str, typer.Argument(help="Model, quantized model, or just a folder with config.json.")]
WholeTiles = Annotated[bool, typer.Option("--whole-tiles", help="A tile without room is fetched again at every use.")]


def work(name: str) -> Any:
    """The module ``codesign.<name>``, imported when it is first asked for.

    >>> work("steps").NO_STEPS("layer", 1, 2)
    """
    return importlib.import_module(f"codesign.{name}")
