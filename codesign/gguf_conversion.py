"""A GGUF file as a Hugging Face folder of safetensors in the cache, converted once.

The weights are dequantized to float32, which holds every GGUF value as its own decoder computes it. They stay on the
grid of the file: a 4-bit result on a model that came as Q4_1 may be exactly lossless and mean nothing.

Format: GGUF, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Reading is left to the ``gguf`` and
``transformers`` packages.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from codesign.cache import cache_dir, sha256_of_file, whole_file, whole_folder
from codesign.checkpoint import WEIGHTS_FILE, read_json
from codesign.extras import quiet_transformers, require
from codesign.model_config import first_line
from codesign.tensor_file import save_tensors

MAGIC = b"GGUF"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"


def is_gguf(path: Path) -> bool:
    """Whether a file starts as a GGUF file does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def open_gguf(path: Path) -> Any:
    """A ``gguf.GGUFReader`` of a whole file.

    Raises:
        ValueError: not a GGUF file, or a truncated one.
    """
    if not is_gguf(path):
        raise ValueError(f"{path} must be a GGUF file (start with {MAGIC!r})")
    gguf = require("gguf", "models")
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise ValueError(f"{path} must be a whole GGUF file, not a truncated or broken one ({error})") from None


def gguf_grid(path: Path) -> str:
    """The number formats of a file's tensors with their counts, commonest first: ``210 Q4_1, 61 F32, 1 Q8_0``."""
    counts = Counter(tensor.tensor_type.name for tensor in open_gguf(path).tensors)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def gguf_config(path: Path) -> Any:
    """The transformers config that a GGUF file's metadata describe (the file is not converted).

    Raises:
        ValueError: not a whole GGUF file, or an architecture that transformers does not know.
    """
    open_gguf(path)
    with quiet_transformers() as transformers:
        try:
            return transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
        except (ValueError, KeyError, NotImplementedError, OSError) as error:
            raise ValueError(
                f"{path} must be of an architecture that transformers can read ({first_line(error)})"
            ) from None


def convert_gguf(path: Path) -> Path:
    """The Hugging Face folder (config, float32 safetensors, tokenizer) of a GGUF decoder, kept in the cache.

    Needs memory for the whole model in float32, once.

    Raises:
        ValueError: not a whole GGUF file, or an architecture that transformers cannot read.
    """
    reader = open_gguf(path)
    target = cache_dir("models") / f"{path.stem}-{sha256_of_file(path)[:16]}-float32"
    if target.is_dir():
        note_first_token(reader, target)
        return target
    require("accelerate", "models")
    # transformers draws its own progress bar here.
    with whole_folder(target) as temporary, quiet_transformers() as transformers:
        where: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **where)
        except (ValueError, KeyError, NotImplementedError, OSError) as error:
            raise ValueError(f"{path} must be a decoder that transformers can read ({first_line(error)})") from None
        # Not model.save_pretrained: transformers 5.23 refuses to save what it read from a GGUF file. Parameters that
        # share one tensor are stored once; named_parameters leaves the others out.
        tensors = dict(model.named_parameters())
        tensors |= {name: value for name, value in model.named_buffers() if name in model.state_dict()}
        config = model.config
        config.architectures, config.dtype = [type(model).__name__], "float32"
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        config.save_pretrained(temporary)
        tensors = {name: value.detach().contiguous() for name, value in sorted(tensors.items())}
        save_tensors(tensors, temporary / WEIGHTS_FILE, {"format": "pt"})
        # A file may hold no tokenizer; ModelSource.tokenizer says so when one is asked for.
        with suppress(ValueError, KeyError, NotImplementedError, OSError, TypeError):
            transformers.AutoTokenizer.from_pretrained(path.parent, **where).save_pretrained(temporary)
        note_first_token(reader, temporary)
    return target


def note_first_token(reader: Any, folder: Path) -> None:
    """Write into the tokenizer's configuration whether every text starts with a first token, if it is not there.

    transformers 5.23 forgets it; GGUF has it as ``tokenizer.ggml.add_bos_token`` (docs/gguf.md, "Special tokens").
    """
    field = reader.fields.get("tokenizer.ggml.add_bos_token")
    path = folder / TOKENIZER_CONFIG_FILE
    if field is None or not path.is_file():
        return
    content = read_json(path)
    if "add_bos_token" not in content:
        with whole_file(path) as temporary:
            said = {"add_bos_token": bool(field.contents())}
            temporary.write_text(json.dumps(content | said, indent=2) + "\n", encoding="utf-8")
