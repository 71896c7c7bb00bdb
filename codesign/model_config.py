"""A model folder's config.json as a transformers config, with what fixes its shapes really written there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codesign.checkpoint import read_json
from codesign.extras import quiet_transformers

CONFIG_FILE = "config.json"
# Without them a config class silently falls back to the sizes of its first published model.
SIZE_KEYS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def read_config(folder: Path) -> Any:
    """The transformers config of a folder, with the keys that fix its shapes really there.

    Raises:
        ValueError: missing file, broken JSON, no or unknown ``model_type``, a size key left out.
    """
    path = folder / CONFIG_FILE
    content = read_json(path)
    with quiet_transformers() as transformers:
        known = transformers.CONFIG_MAPPING
        model_type = content.get("model_type")
        if model_type is None:
            raise ValueError(f"{path} must have the key 'model_type'")
        if model_type not in known:
            near = difflib.get_close_matches(str(model_type), known.keys(), n=3)
            hint = f" (nearest: {', '.join(near)})" if near else ""
            raise ValueError(f"model_type in {path} must be one that transformers knows, not {model_type!r}{hint}")
        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # validation errors of several libraries
            raise ValueError(f"{path} must be a valid {model_type} config ({first_line(error)})") from None
    if not getattr(config, "sub_configs", None):
        for key in _missing_sizes(type(config), content):
            raise ValueError(f"{path} must have the key {key!r}")
    return config


def _missing_sizes(config_class: type, content: dict[str, Any]) -> Iterable[str]:
    """Size keys that the class has a default for and ``content`` leaves out, as this class spells them."""
    defaults = config_class()
    renamed: dict[str, str] = getattr(config_class, "attribute_map", {})
    for key in SIZE_KEYS:
        own = renamed.get(key, key)
        if getattr(defaults, own, None) is not None and own not in content and key not in content:
            yield own


def most_positions(config: Any) -> int | None:
    """Tokens that a model of text was made for, as its config says; ``None`` where it says none."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    most = getattr(text, "max_position_embeddings", None)
    return most if isinstance(most, int) and most > 0 else None


def first_line(error: Exception) -> str:
    """The first line of an error's message that is not empty, with the next where it ends in a colon; else its class.

    >>> first_line(ValueError("no such key\\n  at line 3"))
    'no such key'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
