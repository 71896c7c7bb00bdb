"""C++ identifiers for layer names, and layer names in messages.

A layer name is a module path such as ``model.layers.0.self_attn.q_proj``. It becomes an identifier, a folder name and
the name of an IP by one mapping that loses nothing: dots become underscores, and a hexadecimal number at the end says
which underscores were dots. No word that C++ or Verilog keeps for itself begins as it does. Anything that is not
letters, digits, single dots and single underscores (a path, an operator, a quotation mark) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

# Longest identifier: with its endings it must stay a file name, of at most 255 bytes on Linux, macOS and Windows.
MAX_LENGTH = 160
_PREFIX = "layer_"
_WORD = re.compile(r"[A-Za-z0-9]+([._][A-Za-z0-9]+)*")


def identifier_of(layer: str) -> str:
    """The identifier of a layer name: the same name always gives the same one, and no two names share one.

    >>> identifier_of("model.layers.0.self_attn.q_proj")
    'layer_model_layers_0_self_attn_q_proj_x3a'
    >>> identifier_of("lm_head"), identifier_of("lm.head")
    ('layer_lm_head_x0', 'layer_lm_head_x1')

    Raises:
        ValueError: the name is not of letters, digits, single dots and single underscores, or is too long.
    """
    if not _WORD.fullmatch(layer):
        raise ValueError(
            f"a layer name must be letters and digits joined by single dots or underscores to become a C++ name, "
            f"not {layer!r}"
        )
    dots = 0
    for character in layer:
        if character in "._":
            dots = dots << 1 | (character == ".")
    made = f"{_PREFIX}{layer.replace('.', '_')}_x{dots:x}"
    if len(made) > MAX_LENGTH:
        raise ValueError(f"a layer name must give a C++ name of at most {MAX_LENGTH} letters, not {len(made)}: {layer}")
    return made


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Puts ``what``, which is to be exported, before what is said about it."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError) as error:
        raise type(error)(f"{what} cannot be exported: {error}") from None
