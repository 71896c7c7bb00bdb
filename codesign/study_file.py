"""A study as the user writes it: ``study.yaml`` and its frozen twin ``StudySpec``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign.recipes import Recipe, recipe, recipe_from_dict
from codesign.study import DEFAULT_OBJECTIVES, check_objectives
from hwmodel.yaml_file import check_keys, read_yaml, take


@dataclass(frozen=True)
class StudySpec:
    """What to try, on what, and how to judge it.

    Args:
        name: of the study; no path.
        model: folder, GGUF file or name of a packaged model.
        recipes: names of recipes; the first is the reference that others are compared with.
        accelerators: names of presets, or paths of YAML files.
        text: held-out text; ``tokens`` of it in windows of ``context``.
        calibration_text: for algorithms that need calibration; ``calibration_tokens`` of it.
        batch, prompt, generate: the workload that is priced: sequences, tokens of the prompt, tokens generated.
        objectives: columns of the trials table that span the front.
        seed: of everything random.
        bos: put the tokenizer's first token before every window; ``None`` where its configuration says so.
        own_recipes: recipes written out in the file; their names stand among ``recipes``.
    """

    name: str
    model: str
    recipes: tuple[str, ...]
    accelerators: tuple[str, ...]
    text: str = "boolq-validation"
    tokens: int = 4096
    context: int = 512
    calibration_text: str = "lambada"
    calibration_tokens: int = 8192
    batch: int = 1
    prompt: int = 256
    generate: int = 256
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    seed: int = 0
    bos: bool | None = None
    own_recipes: tuple[Recipe, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable():
            raise ValueError(f"name of a study must be a line of text, not {self.name!r}")
        for key in ("tokens", "context", "calibration_tokens", "batch", "prompt", "generate"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} of study {self.name} must be at least 1, not {getattr(self, key)!r}")
        if self.tokens < self.context:
            raise ValueError(f"tokens of study {self.name} must be at least context {self.context}, not {self.tokens}")
        for key in ("recipes", "accelerators"):
            names = getattr(self, key)
            if not names:
                raise ValueError(f"{key} of study {self.name} must name at least one, not none")
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{key} of study {self.name} must differ, not repeat {', '.join(twice)}")
        check_objectives(self.objectives, self.name)

    def recipe(self, name: str) -> Recipe:
        """The recipe called ``name``: one of the study's own, else by the list and the grammar."""
        return next((made for made in self.own_recipes if made.name == name), None) or recipe(name)


_SECTIONS = {
    "evaluation": ("text", "tokens", "context", "bos"),
    "calibration": ("text", "tokens"),
    "workload": ("batch", "prompt", "generate"),
}
_KINDS = {"text": str, "bos": bool}
_TOP = ("name", "model", "recipes", "accelerators", "objectives", "seed", *_SECTIONS)


def _own_recipe(entry: dict[str, Any], path: Path) -> Recipe:
    try:
        return recipe_from_dict(entry)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: recipes: {error}") from None


def read_study(path: Path) -> StudySpec:
    """The study in a YAML file.

    Raises:
        ValueError: file, key and what must hold.
    """
    data = read_yaml(path)
    check_keys(data, _TOP, ("name", "model", "recipes", "accelerators"), str(path))
    values: dict[str, Any] = {
        "name": take(data, "name", str, str(path)),
        "model": take(data, "model", str, str(path)),
        "seed": take(data, "seed", int, str(path), 0),
    }
    own: list[Recipe] = []
    for key in ("recipes", "accelerators", "objectives"):
        entries = take(data, key, list, str(path))
        if entries is None:
            continue
        names = []
        for entry in entries:
            if key == "recipes" and isinstance(entry, dict):
                own.append(_own_recipe(entry, path))
                names.append(own[-1].name)
            elif isinstance(entry, str):
                names.append(entry)
            else:
                raise ValueError(f"{path}: key {key!r} must list names, not {entry!r}")
        values[key] = tuple(names)
    values["own_recipes"] = tuple(own)
    for section, keys in _SECTIONS.items():
        where = f"{path}: {section}"
        part = take(data, section, dict, str(path), {})
        check_keys(part, keys, (), where)
        for key in keys:
            value = take(part, key, _KINDS.get(key, int), where)
            if value is not None:
                values[f"calibration_{key}" if section == "calibration" else key] = value
    try:
        return StudySpec(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
