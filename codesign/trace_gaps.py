"""What transformers refuses to build although a trace does not need it.

Two gaps are closed while a model is built on the meta device (``buildable``), each by structure:

- a tower whose package is not installed (``AutoModel.from_config`` raises ``ImportError``; Gemma 3n's vision tower is
  a timm model). An empty module takes its place: text never reaches it, and an input that does gets a clear message.
- a text model whose layers all reuse the keys and values of another model (the drafting assistants of Gemma 4).
  transformers 5.23 asks every such layer for a layer of its own model that makes the keys, so that it refuses each of
  its own assistants (``kv_sharing_modes``); the rule is lifted where the config says that every layer reuses.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)


class AbsentTower(nn.Module):
    """Stands where a model needs a package that is not installed; has no weights.

    Args:
        config: the tower's.
        reason: what was missing.
    """

    def __init__(self, config: Any, reason: str) -> None:
        super().__init__()
        self.config = config
        self.reason = reason

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Raises ``ImportError`` with the reason."""
        raise ImportError(self.reason)


@contextmanager
def buildable(config: Any) -> Iterator[None]:
    """The gaps above are closed inside the block, for ``config`` and the configs in it."""
    from transformers import AutoModel

    original = AutoModel.from_config  # inherited: taking the replacement away again is enough

    def from_config(part: Any, **kwargs: Any) -> Any:
        try:
            return original(part, **kwargs)
        except ImportError as error:
            reason = " ".join(str(error).split()).partition(". ")[0]
            _warn_once(part.model_type, reason)
            return AbsentTower(part, reason)

    inner = [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
    refused = {type(part) for part in (config, *inner) if _reuses_everywhere(part)}
    rules = {kind: kind.kv_sharing_modes for kind in refused}
    setattr(AutoModel, "from_config", from_config)  # noqa: B010 - a class's method, for as long as the block lasts
    for kind in refused:
        kind.kv_sharing_modes = property(lambda part: ["reuse"] * part.num_hidden_layers)
    try:
        yield
    finally:
        del AutoModel.from_config
        for kind, rule in rules.items():
            kind.kv_sharing_modes = rule


@lru_cache(maxsize=64)
def _warn_once(kind: str, reason: str) -> None:
    logger.warning("a part of type %s is left out of the trace: %s", kind, reason)


def _reuses_everywhere(config: Any) -> bool:
    """Whether a config has a rule of reuse, and reuses in every layer."""
    return (
        isinstance(getattr(type(config), "kv_sharing_modes", None), property)
        and getattr(config, "num_kv_shared_layers", None) == config.num_hidden_layers
    )
