"""A decoder block of a quantized model as ``hls.block_export`` takes it, and the hidden states that enter it.

The block is read by structure, and then by what it does: the block's own forward, with decoded weights, must give what
a Llama block gives, computed here in float64. So a family that looks alike but scales its residuals, norms differently,
turns other pairs or attends to a window is refused, not exported wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codesign.block_calls import Call
from codesign.blocks import BlockModel, Stream
from codesign.export_inputs import origin
from codesign.export_options import SEEDED
from codesign.quantized_folder import QuantizedModel
from codesign.text import load_text
from codesign.tokens import first_token, tokenize, windows
from hls.block_export import export_block
from hls.decoder_block import DecoderBlock
from hls.export import ExportTarget

MODULES = {  # where transformers' Llama and its relatives keep the layers of a block
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
NORMS = ("input_layernorm", "post_attention_layernorm")
_ANGLES = "position_embeddings"  # what transformers calls the (cosine, sine) that a block is given
_EPSILONS = ("variance_epsilon", "eps")  # names of it in transformers' and torch's RMSNorm
# Of the largest value that the block adds: float32 sums of a few thousand terms lie below 2**12 * 2**-24 = 2**-12,
# another scale, norm or rotation far above.
_SAME = 2.0**-9
_MASK = "attention_mask"  # bool or added to scores, [1, 1, t, t]; ``None`` for all earlier positions
_WINDOWS = ("sliding_window", "attention_chunk_size")  # keys of a config
_FEW = 2  # positions: position 0 is not turned


@dataclass(frozen=True, eq=False)
class GoldenIds:
    """Token ids that a model is run on for golden vectors.

    Args:
        ids: int64 ``[1, positions]``.
        tokens: how many of them the golden vectors cover, from the first on.
        about: where they come from, for the manifest.
    """

    ids: Tensor
    tokens: int
    about: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= self.ids.shape[1]:
            raise ValueError(f"tokens of a block must be 1 to its {self.ids.shape[1]} positions, not {self.tokens}")


def golden_inputs(source: QuantizedModel, inputs: str, *, positions: int, tokens: int, seed: int) -> GoldenIds:
    """Token ids at random (``SEEDED``), or the first of a text (by name or path).

    Raises:
        ValueError: no such text, or one shorter than ``positions``.
    """
    if inputs == SEEDED:
        size = source.skeleton().get_input_embeddings().num_embeddings  # type: ignore[operator]
        drawn = np.random.default_rng(seed).integers(0, size, (1, positions))
        return GoldenIds(torch.from_numpy(drawn), tokens, {"kind": SEEDED, "seed": seed})
    text = load_text(inputs)
    tokenizer = source.tokenizer()
    found = tokenize(text, tokenizer, positions)
    ids = windows(found, positions, bos_token_id=first_token(tokenizer))[:1]
    return GoldenIds(ids, tokens, {"kind": "text", "text": text.name, "sha256": text.hash, "tokens": positions})


def write_block(
    source: QuantizedModel, index: int, golden: GoldenIds, out: Path, target: ExportTarget, *, accelerator: str | None
) -> dict[str, Any]:
    """Export block ``index`` into ``out``; returns the manifest.

    Raises:
        NotImplementedError, ValueError: the block cannot be exported.
    """
    block, x = block_of_model(source, index, golden.ids, tokens=golden.tokens)
    return export_block(out, block, x, target, origin(source, accelerator, golden.about))


def block_of_model(source: QuantizedModel, index: int, ids: Tensor, *, tokens: int) -> tuple[DecoderBlock, np.ndarray]:
    """Block ``index`` of a quantized model, and what enters it.

    Args:
        source: the quantized model.
        index: of the block.
        ids: token ids ``[1, positions]`` that the model is run on up to the block, weights decoded; the block holds as
            many positions.
        tokens: how many of the hidden states are kept, from the first on.

    Returns:
        The block, and float32 ``[tokens, hidden]``.

    Raises:
        NotImplementedError: the block is not of Llama's kind.
        ValueError: no such block, or not all of its layers are quantized.
    """
    walked = BlockModel(source)
    if walked.whole:
        raise NotImplementedError(f"{source.name} must have a list of blocks for one to be exported")
    if not 0 <= index < len(walked):
        raise ValueError(f"block must be 0 to {len(walked) - 1}, not {index}")
    path = walked.paths[index]
    _check_modules(walked.model.get_submodule(path), path)
    names = {role: f"{path}.{module}" for role, module in MODULES.items()}
    for name in names.values():
        if name not in source.layers:
            raise ValueError(f"layer {name} must be quantized for its block to be exported")
    stream = walked.embed([ids])
    for earlier in range(index):
        with walked.block(earlier) as block:
            walked.advance(stream, earlier, block)
    with walked.block(index) as block:
        _check_all_seen(source.name, block, path, stream.calls[0][index])
        made = _read(source, block, path, names, stream.calls[0][index])
        _check_angles_last(made, walked.embed([ids[:, :_FEW]]).calls[0][index])
        _check_same(walked, block, made, stream, index)
    return made, stream.hidden[0][0, :tokens].to(torch.float32).numpy()


def _check_modules(block: nn.Module, path: str) -> None:
    """Make sure that a block, loaded or not, is made of the modules of Llama's and nothing else that has weights."""
    there = dict(block.named_modules())
    wanted = [*NORMS, *MODULES.values()]
    for name in wanted:
        if name not in there:
            raise NotImplementedError(
                f"block {path} must be of Llama's kind to be exported (RMSNorm, separate q, k and v, gated MLP), "
                f"but it has no {name}"
            )
    for name, module in there.items():
        if next(module.parameters(recurse=False), None) is not None and name not in wanted:
            raise NotImplementedError(
                f"block {path} must hold nothing but seven linear layers and two norms, not {name} "
                f"({type(module).__name__})"
            )
    for name in MODULES.values():
        if not isinstance(there[name], nn.Linear):
            raise NotImplementedError(
                f"{name} of block {path} must be a linear layer, not {type(there[name]).__name__}"
            )
    for name in NORMS:
        if not hasattr(there[name], "weight") or getattr(there[name], "bias", None) is not None:
            raise NotImplementedError(
                f"{name} of block {path} must be an RMSNorm with a weight alone, not {type(there[name]).__name__}"
            )
        _epsilon(there[name], f"{name} of block {path}")
    function = getattr(there["mlp"], "act_fn", None)
    probe = torch.linspace(-8.0, 8.0, 65)
    if not isinstance(function, nn.Module) or not torch.allclose(function(probe), F.silu(probe), atol=1e-6):
        raise NotImplementedError(
            f"the MLP of block {path} must have the activation SiLU, not {type(function).__name__}"
        )


def _linear(block: nn.Module, role: str) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a layer."""
    module = block.get_submodule(MODULES[role])
    assert isinstance(module, nn.Linear)
    return module.weight, module.bias


def _epsilon(norm: nn.Module, what: str) -> float:
    for name in _EPSILONS:
        value = getattr(norm, name, None)
        if isinstance(value, float):
            return value
    raise NotImplementedError(f"{what} must say its epsilon as {' or '.join(_EPSILONS)}")


def _read(source: QuantizedModel, block: nn.Module, path: str, names: dict[str, str], call: Call) -> DecoderBlock:
    attention = block.get_submodule("self_attn")
    layers = {role: source.layers[name] for role, name in names.items()}
    angles = call.kwargs.get(_ANGLES)
    head_dim, scaling = getattr(attention, "head_dim", None), getattr(attention, "scaling", None)
    if not isinstance(head_dim, int) or not isinstance(scaling, float) or angles is None:
        raise NotImplementedError(
            f"the attention of block {path} must say head_dim and scaling, and be given {_ANGLES}, to be exported"
        )
    cosine, sine = (_one_table(table, head_dim, path) for table in angles)
    found = {role: _linear(block, role)[1] for role in MODULES}
    biases = {role: bias.detach().to(torch.float32).numpy() for role, bias in found.items() if bias is not None}
    norms = [block.get_submodule(name) for name in NORMS]
    weights = [norm.get_parameter("weight").detach().to(torch.float32).numpy() for norm in norms]
    epsilons = {_epsilon(norm, path) for norm in norms}
    if len(epsilons) > 1:
        raise NotImplementedError(f"both norms of block {path} must have one epsilon, not {sorted(epsilons)}")
    return DecoderBlock(
        name=path, layers=layers, biases=biases, attention_norm=weights[0], mlp_norm=weights[1],
        epsilon=epsilons.pop(), heads=layers["q"].shape[0] // head_dim, kv_heads=layers["k"].shape[0] // head_dim,
        cosine=cosine, sine=sine, scaling=scaling, key=source.kv.key, value=source.kv.value,
    )  # fmt: skip


def _one_table(table: Tensor, head_dim: int, path: str) -> np.ndarray:
    """Cosines or sines ``[1, t, head_dim]`` of whole heads, both halves alike, as float32 ``[t, head_dim / 2]``."""
    if table.dim() != 3 or table.shape[0] != 1 or table.shape[2] != head_dim or head_dim % 2:
        raise NotImplementedError(
            f"rotary embedding of block {path} must turn whole heads of {head_dim} elements, not {list(table.shape)}"
        )
    low, high = table[0].to(torch.float32).chunk(2, dim=-1)
    if not torch.equal(low, high):
        raise NotImplementedError(f"rotary embedding of block {path} must turn pairs of elements half a head apart")
    return np.ascontiguousarray(low.numpy())


def _check_angles_last(made: DecoderBlock, few: Call) -> None:
    """Make sure that ``few`` positions are turned by the tables of all, as keys stay in the cache as they were turned.

    Dynamic scaling and LongRoPE take other angles for all positions once a text is longer than those trained on.
    """
    for table, wanted in zip((made.cosine, made.sine), few.kwargs[_ANGLES], strict=True):
        found = _one_table(wanted, made.head_dim, made.name)
        if not np.array_equal(table[: len(found)], found):
            raise NotImplementedError(
                f"rotary embedding of block {made.name} must turn a position by the same angles however many follow, "
                f"not by others where there are {made.positions}: fewer positions (--positions) may do"
            )


def _check_all_seen(model: str, block: nn.Module, path: str, call: Call) -> None:
    """Make sure that a position attends to all before it: a window may change outputs too little to tell."""
    mask = call.kwargs.get(_MASK)
    if not isinstance(mask, Tensor) or mask.dim() != 4:
        return
    positions = mask.shape[-1]
    seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    seen = seen.reshape(-1, positions, positions)
    if bool(seen[:, torch.ones(positions, positions, dtype=torch.bool).tril()].all()):
        return
    most = int(seen.sum(-1).max())
    config = getattr(block.get_submodule("self_attn"), "config", None)
    key = next((key for key in _WINDOWS if getattr(config, key, None) == most), None)
    if key is None:
        raise NotImplementedError(
            f"block {path} must attend to all of its {positions} positions to be exported, not to at most {most}"
        )
    raise NotImplementedError(
        f"{key} of {model} must be at least the {positions} positions of block {path} for it to be exported, not "
        f"{most}: fewer positions (--positions) may do"
    )


# --- what it does ----------------------------------------------------------------------------------------------------


def llama_block(block: nn.Module, made: DecoderBlock, x: Tensor) -> Tensor:
    """A Llama block of ``[t, hidden]`` in float64, with the weights of ``block``; ``made`` says the rest."""

    def linear(role: str, taken: Tensor) -> Tensor:
        weight, bias = _linear(block, role)
        return F.linear(taken, weight.double(), None if bias is None else bias.double())

    def norm(taken: Tensor, weight: np.ndarray) -> Tensor:
        return (
            taken * (taken.square().mean(-1, keepdim=True) + made.epsilon).rsqrt() * torch.from_numpy(weight).double()
        )

    def heads(role: str, taken: Tensor, count: int) -> Tensor:
        return linear(role, taken).reshape(len(x), count, made.head_dim).transpose(0, 1)

    def turned(taken: Tensor) -> Tensor:
        cosine, sine = (torch.from_numpy(table[: len(x)]).double() for table in (made.cosine, made.sine))
        low, high = taken.chunk(2, dim=-1)
        return torch.cat([low * cosine - high * sine, high * cosine + low * sine], dim=-1)

    x = x.double()
    taken = norm(x, made.attention_norm)
    q, k, v = heads("q", taken, made.heads), heads("k", taken, made.kv_heads), heads("v", taken, made.kv_heads)
    group = made.heads // made.kv_heads
    k, v = turned(k).repeat_interleave(group, dim=0), v.repeat_interleave(group, dim=0)
    scores = (turned(q) @ k.transpose(1, 2)) * made.scaling
    later = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    attended = scores.masked_fill(later, -torch.inf).softmax(-1) @ v
    h = x + linear("o", attended.transpose(0, 1).reshape(len(x), -1))
    taken = norm(h, made.mlp_norm)
    return h + linear("down", F.silu(linear("gate", taken)) * linear("up", taken))


def _check_same(walked: BlockModel, block: nn.Module, made: DecoderBlock, stream: Stream, index: int) -> None:
    """Make sure that the model's block does what ``llama_block`` does, over all positions."""
    hidden: Any = stream.hidden[0]
    with torch.no_grad():
        found = walked.run(block, stream.calls[0][index], hidden)[0].double()
        wanted = llama_block(block, made, hidden[0])
    added = float((wanted - hidden[0].double()).abs().max())
    apart = float((found - wanted).abs().max())
    if not apart <= _SAME * added:
        raise NotImplementedError(
            f"block {made.name} must compute what a Llama block does to be exported, but its outputs differ by up to "
            f"{apart:.3g} where the block adds up to {added:.3g}"
        )
