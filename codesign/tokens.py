"""Texts as tokens, and as windows of tokens.

Perplexity by the usual protocol (Frantar et al. 2022, "GPTQ", section 4): the joined text is tokenized once and cut
into windows of the model's context that do not overlap.

Models that were trained with a first token before every text (Gemma, Llama) get it before every window, if their
tokenizer's configuration says so (``first_token``). GPTQ's own tables tokenize the joined text with it, so there only
the first window has one: leave it out (``--no-bos``) to compare with them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codesign.cache import cache_dir, sha256_of_text, whole_file
from codesign.text import Text


def tokenize(text: Text, tokenizer: Any, limit: int | None = None) -> Tensor:
    """Token ids of a text, without special tokens, int64 ``[tokens]``; kept in the cache.

    Args:
        text: what to tokenize; always all of it, so that ``limit`` changes no token.
        tokenizer: of transformers.
        limit: keep this many from the start; ``None`` for all.

    Raises:
        ValueError: ``limit`` is not positive.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 token, not {limit!r}")
    key = hashlib.sha256(f"{text.hash}|{tokenizer_hash(tokenizer)}".encode()).hexdigest()[:32]
    path = cache_dir("tokens") / f"{key}.npy"
    if path.is_file():
        ids = np.load(path)
    else:
        ids = np.asarray(tokenizer(text.string, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int32)
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.save(file, ids)
    return torch.from_numpy(ids[:limit].astype(np.int64))


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 of all that decides how a tokenizer splits text: its rules where they can be had, else its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return sha256_of_text(backend.to_str())
    return sha256_of_text(type(tokenizer).__name__ + json.dumps(tokenizer.get_vocab(), sort_keys=True))


def bos_token_id(tokenizer: Any) -> int | None:
    """The token that a tokenizer puts before every text, as some models need (Gemma); ``None`` if it puts none."""
    with_special = tokenizer("a")["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    return bos if bos is not None and with_special[:1] == [bos] and plain[:1] != [bos] else None


def first_token(tokenizer: Any, bos: bool | None = None) -> int | None:
    """The token to put before every window; ``None`` for none.

    Args:
        tokenizer: of transformers.
        bos: whether there is one; ``None`` for what the tokenizer's configuration says (``add_bos_token``), or does.

    Raises:
        ValueError: it is asked for, and the tokenizer has no such token.
    """
    if bos is None:
        said = getattr(tokenizer, "init_kwargs", {}).get("add_bos_token")
        wanted = said if isinstance(said, bool) else bos_token_id(tokenizer) is not None
        return tokenizer.bos_token_id if wanted else None
    if bos and tokenizer.bos_token_id is None:
        raise ValueError("the tokenizer must have a first token (bos_token) to put before windows, but it has none")
    return tokenizer.bos_token_id if bos else None


def windows(token_ids: Tensor, context: int, *, bos_token_id: int | None = None) -> Tensor:
    """Windows that do not overlap, int64 ``[w, context]``; what is left at the end is dropped.

    Args:
        token_ids: ``[tokens]``.
        context: tokens in a window.
        bos_token_id: put before every window, which then holds ``context - 1`` tokens of text; ``None`` for none.

    Raises:
        ValueError: the text is shorter than one window, or ``context`` is under 2.

    >>> windows(torch.arange(7), 3).tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    if context < 2:
        raise ValueError(f"context must be at least 2 tokens, not {context!r}")
    length = context if bos_token_id is None else context - 1
    count = len(token_ids) // length
    if not count:
        raise ValueError(f"text must be at least one window of {length} tokens long, not {len(token_ids)}")
    cut = token_ids[: count * length].reshape(count, length)
    if bos_token_id is None:
        return cut
    return torch.cat([torch.full((count, 1), bos_token_id, dtype=cut.dtype), cut], dim=1)
