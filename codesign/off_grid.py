"""The default study model: SmolLM2-135M-Instruct moved off its 4-bit grid, built from a GGUF file and an adapter.

The model ships in a package only as a Q4_1 GGUF, whose linear weights lie exactly on a 4-bit grid of groups of 32, so
that round-to-nearest int4 at group 32 has no error at all. The build adds uniform dither of one step and a rank-32
update trained to undo the dither's damage:

    W = W_q4_1 + U + B A,    U ~ uniform(-step/2, step/2)

and takes the trained norm weights. How the adapter was made, what it was trained on and what it scores:
``codesign/data/smollm2_135m_offgrid/README.md``. Same inputs, same bytes.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from codesign.cache import cache_dir, sha256_of_file, whole_folder
from codesign.checkpoint import WEIGHTS_FILE
from codesign.extras import quiet_transformers, require
from codesign.gguf_conversion import open_gguf
from codesign.steps import progress
from codesign.tensor_file import save_tensors

logger = logging.getLogger(__name__)

ADAPTER_FOLDER = Path(__file__).parent / "data" / "smollm2_135m_offgrid"
# README.md in ADAPTER_FOLDER, section "How it was made", step 2
SEED = 20261121
# README.md in ADAPTER_FOLDER, section "Build"
ADAPTER_SHA256 = {
    "adapter-00001-of-00003.safetensors": "433ea7c8167219df278c5bb1388a1ec0c131b17f1ad66b2de77197496de23fb9",
    "adapter-00002-of-00003.safetensors": "0a77205b51884faa34126847490538eed822ab5b6d2399d8191a17054ee3b0a4",
    "adapter-00003-of-00003.safetensors": "bc8de82aa6bf032e586f5de36859bc8a5c66d8c8ad1320e273459aaf837fc7da",
}
OUTPUT_SHA256 = {
    torch.bfloat16: "b15324265c074a6242fdf6659b9fa1f8c10ab0e048e249b953d89e43ef2e9938",
    torch.float32: "4a7091a13f5520b548c4b4f2fa0a6b3b74267e401bd87425f6a86e8f79a59278",
}
# ggml block_q4_1: half d, half m, 32 4-bit codes; https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
Q4_1_GROUP = 32
Q4_1_BYTES = 20
# llama.cpp tensor names, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, section "Standardized tensor names"
MODULE_OF_TENSOR = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
OUTER_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def build_off_grid(gguf_path: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """The Hugging Face folder of the off-grid model, built in the cache if it is not there.

    Args:
        gguf_path: ``SmolLM2-135M-Instruct.Q4_1.gguf``, already checked.
        dtype: of the weights written: bfloat16 or float32.

    Raises:
        ValueError: another dtype, or an adapter file that is missing or not the one the README names.
    """
    if dtype not in OUTPUT_SHA256:
        raise ValueError(f"dtype of the off-grid model must be bfloat16 or float32, not {dtype}")
    target = cache_dir("models") / f"smollm2-135m-offgrid-{str(dtype).removeprefix('torch.')}"
    if target.is_dir():
        return target
    adapter = read_adapter(ADAPTER_FOLDER)
    with whole_folder(target) as temporary, quiet_transformers() as transformers:
        where: dict[str, Any] = {"gguf_file": gguf_path.name, "local_files_only": True}
        config = transformers.AutoConfig.from_pretrained(gguf_path.parent, **where)
        config.architectures, config.dtype = ["LlamaForCausalLM"], str(dtype).removeprefix("torch.")
        weights = build_weights(gguf_path, adapter, config, dtype)
        save_tensors(dict(sorted(weights.items())), temporary / WEIGHTS_FILE, {"format": "pt"})
        config.save_pretrained(temporary)
        transformers.AutoTokenizer.from_pretrained(gguf_path.parent, **where).save_pretrained(temporary)
    got = sha256_of_file(target / WEIGHTS_FILE)
    if got != OUTPUT_SHA256[dtype]:
        logger.warning(
            "the off-grid model built here has sha256 %s, not %s: numpy or torch compute it differently",
            got,
            OUTPUT_SHA256[dtype],
        )
    return target


def read_adapter(folder: Path) -> dict[str, NDArray[Any]]:
    """The factors (``*.lora_A`` ``[32, k]``, ``*.lora_B`` ``[n, 32]``) and norm weights, float16, files checked.

    Raises:
        ValueError: a file is missing or has another SHA-256.
    """
    adapter: dict[str, NDArray[Any]] = {}
    for name, expected in ADAPTER_SHA256.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"adapter file {path} must exist")
        if (got := sha256_of_file(path)) != expected:
            raise ValueError(f"sha256 of {path} must be {expected}, not {got}")
        with safe_open(path, framework="np") as file:
            adapter.update({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 (not a dict)
    return adapter


def build_weights(
    gguf_path: Path, adapter: dict[str, NDArray[Any]], config: Any, dtype: torch.dtype
) -> dict[str, Tensor]:
    """All weights of the model under their transformers names."""
    gguf = require("gguf", "models")
    tensors = {transformers_name(tensor.name): tensor for tensor in open_gguf(gguf_path).tensors}
    linear = sorted(name for name, tensor in tensors.items() if tensor.tensor_type.name == "Q4_1")
    weights: dict[str, Tensor] = {}
    with progress("building the off-grid SmolLM2-135M", total=len(tensors)) as bar:
        for name, tensor in tensors.items():
            blocks = np.asarray(tensor.data)
            if name in linear:
                heads = _rope_heads(name, config)
                base = rope_rows(gguf.dequantize(blocks, tensor.tensor_type), heads)
                step = rope_rows(q4_1_steps(blocks), heads)
                stem = name.removesuffix(".weight")
                update = adapter[f"{stem}.lora_B"].astype(np.float64) @ adapter[f"{stem}.lora_A"].astype(np.float64)
                dithered = base + dither(step, seed=SEED + linear.index(name))
                # In float64 the order of the 32 additions of B A does not show after rounding to float32.
                value = (dithered.astype(np.float64) + update).astype(np.float32)
            elif tensor.tensor_type.name == "F32":
                value = adapter[name].astype(np.float32)
            else:
                value = gguf.dequantize(blocks, tensor.tensor_type)
            weights[name] = torch.from_numpy(np.ascontiguousarray(value)).to(dtype)
            bar.advance(bar.task_ids[0])
    return weights


def transformers_name(name: str) -> str:
    """The transformers name of a GGUF tensor of a Llama-type model.

    >>> transformers_name("blk.7.ffn_up.weight")
    'model.layers.7.mlp.up_proj.weight'
    """
    if name in OUTER_NAMES:
        return OUTER_NAMES[name]
    _, layer, kind, leaf = name.split(".")
    return f"model.layers.{layer}.{MODULE_OF_TENSOR[kind]}.{leaf}"


def q4_1_steps(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Step of each group of 32 weights, ``[n, k / 32]``, from raw Q4_1 rows ``[n, k / 32 * 20]``."""
    grouped = blocks.reshape(blocks.shape[0], -1, Q4_1_BYTES)
    return np.ascontiguousarray(grouped[..., :2]).view(np.float16)[..., 0].astype(np.float32)


def dither(step: NDArray[np.float32], *, seed: int) -> NDArray[np.float32]:
    """Uniform noise within half a step, ``[n, k]`` from steps ``[n, k / 32]``."""
    n, groups = step.shape
    generator = np.random.Generator(np.random.Philox(key=seed))
    noise = generator.random((n, groups * Q4_1_GROUP), dtype=np.float32) - np.float32(0.5)
    return noise * np.repeat(step, Q4_1_GROUP, axis=1)


def rope_rows(rows: NDArray[Any], heads: int | None) -> NDArray[Any]:
    """Rows of a query or key matrix from llama.cpp's order (pairs adjacent) to transformers' (halves apart).

    >>> rope_rows(np.arange(8)[:, None], 2)[:, 0].tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    if heads is None:
        return rows
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def _rope_heads(name: str, config: Any) -> int | None:
    if name.endswith("q_proj.weight"):
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if name.endswith("k_proj.weight") else None
