"""Optional dependencies: imported when first needed, with one sentence that says what to install."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def require(module: str, extra: str) -> Any:
    """The imported ``module``, which the optional dependencies ``extra`` bring.

    Raises:
        ValueError: it is not installed.

    >>> require("math", "models").gcd(12, 18)
    6
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise ValueError(
            f"{module} must be installed for this: run pip install 'codesign[{extra}]', which brings it"
        ) from None


@contextmanager
def quiet_transformers() -> Iterator[Any]:
    """The transformers package, with its progress bars and all but errors silenced inside the block."""
    transformers = require("transformers", "models")
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
