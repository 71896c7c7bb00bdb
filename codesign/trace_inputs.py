"""Meta inputs of a model, as its config and the signature of its forward describe them.

``tokens`` is what the transformer sees of each sequence: text tokens, bytes, audio frames. Images and spectrograms
have the size that the config states, whatever ``tokens`` is.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

CACHE_FIELDS = ("past_key_values", "cache_params", "state")  # where models hand over what a decode step needs
IMAGENET_CROP = 224  # pixels; where a convolutional config names no image size (Krizhevsky et al., NeurIPS 2012)


def model_inputs(
    model: nn.Module,
    batch: int,
    tokens: int,
    example: Tensor | Mapping[str, Tensor] | None = None,
    *,
    source: int | None = None,
) -> dict[str, Any]:
    """Meta inputs of a model: keyword arguments, or one positional argument under the empty name.

    Args:
        model: built on the meta device.
        batch: sequences or images.
        tokens: of each sequence.
        example: inputs by shape, in place of all this.
        source: tokens that an encoder before a decoder reads, where they are not as many as the decoder's.

    Raises:
        ValueError: they do not follow from a config and no example was given.
    """
    if isinstance(example, Tensor):
        return {"": example.to("meta")}
    if example is not None:
        return {key: value.to("meta") for key, value in example.items()}
    config = getattr(model, "config", None)
    main = getattr(model, "main_input_name", None)
    if config is None or main is None:
        raise ValueError(
            f"example must be given for {type(model).__name__}, whose inputs no config describes, not None"
        )
    arguments = inspect.signature(model.forward).parameters
    encoder_decoder = getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in arguments
    if "shared_kv_states" in arguments and "inputs_embeds" in arguments and hasattr(config, "backbone_hidden_size"):
        return _drafting_inputs(config, batch, tokens)
    read = source if encoder_decoder and source is not None else tokens
    if main == "input_ids":
        rows = batch if encoder_decoder else batch * _streams(model)
        inputs: dict[str, Any] = {"input_ids": _ids(rows, read)}
        if "pixel_values" in arguments and _is_dual_encoder(model):
            inputs["pixel_values"] = _image(config, batch)
    elif main == "pixel_values":
        inputs = {main: _image(config, batch)}
    elif main in ("input_features", "input_values"):
        inputs = {main: torch.zeros(batch, *_audio_shape(config, main, read), device="meta")}
    else:
        raise ValueError(f"example must be given for {type(model).__name__}, whose input is {main}, not None")
    if "use_cache" in arguments:
        inputs["use_cache"] = False
    if encoder_decoder:
        inputs["decoder_input_ids"] = _ids(batch * _streams(model), tokens)
    return inputs


def step_inputs(model: nn.Module, inputs: Mapping[str, Any], output: Any, batch: int) -> dict[str, Any]:
    """Inputs of the decode step after a forward pass: one new token for each sequence, and the cache.

    Args:
        model: the model.
        inputs: of the pass before.
        output: of the pass before.
        batch: sequences.

    Raises:
        ValueError: the output holds no cache.
    """
    step: dict[str, Any] = {"use_cache": True}
    for cache in CACHE_FIELDS:
        if getattr(output, cache, None) is not None:
            step[cache] = getattr(output, cache)
    if len(step) == 1:
        raise ValueError(f"{type(model).__name__} returns no KV cache")
    token = _ids(batch * _streams(model), 1)
    if "decoder_input_ids" in inputs:
        return {**step, "decoder_input_ids": token, "encoder_outputs": (output.encoder_last_hidden_state,)}
    return {**step, "input_ids": token}


def _ids(rows: int, tokens: int) -> Tensor:
    return torch.zeros(rows, tokens, dtype=torch.long, device="meta")


def _streams(model: nn.Module) -> int:
    """Rows of token ids for each sequence: several where a list of heads writes as many streams (audio codebooks)."""
    find = getattr(model, "get_output_embeddings", None)
    heads = find() if find is not None else None
    return len(heads) if isinstance(heads, nn.ModuleList) else 1


def _is_dual_encoder(model: nn.Module) -> bool:
    """Whether a model compares a text with an image (CLIP) instead of writing a text about one."""
    config = model.config
    both = all(hasattr(config, name) for name in ("text_config", "vision_config"))
    return both and not bool(getattr(model, "can_generate", lambda: False)())


def _drafting_inputs(config: Any, batch: int, tokens: int) -> dict[str, Any]:
    """Inputs of a model that drafts one token after another for a second model (Gemma 4's assistants).

    It is given the second model's embedding and hidden state of the last token, and its keys and values of all of
    them. So it has no prompt of its own: one drafted token against ``tokens`` in the cache, in both phases.
    """
    text = config.get_text_config()
    cached: dict[str, tuple[Tensor, Tensor]] = {}
    for index, kind in enumerate(text.layer_types):
        layer = text.per_layer_config[index]
        shape = (batch, layer.num_key_value_heads, tokens, layer.head_dim)
        cached[kind] = (torch.zeros(shape, device="meta"), torch.zeros(shape, device="meta"))
    return {
        # an embedding beside a hidden state, each of the second model's width
        "inputs_embeds": torch.zeros(batch, 1, 2 * config.backbone_hidden_size, device="meta"),
        "shared_kv_states": cached,
        "position_ids": _ids(batch, 1),
    }


def _image(config: Any, batch: int) -> Tensor:
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", None) or IMAGENET_CROP
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return torch.zeros(batch, getattr(vision, "num_channels", 3), height, width, device="meta")


def _audio_shape(config: Any, main: str, tokens: int) -> tuple[int, ...]:
    """One audio input: a spectrogram of the config's size, or as many samples as make ``tokens`` frames."""
    if main == "input_features":
        # two frames for each position: the encoder's second convolution has stride 2
        return config.num_mel_bins, 2 * config.max_source_positions
    if hasattr(config, "num_mel_bins") and hasattr(config, "max_length"):
        return config.max_length, config.num_mel_bins
    samples = tokens
    kernels, strides = getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ())
    if isinstance(kernels, (list, tuple)) and isinstance(strides, (list, tuple)):
        for kernel, stride in reversed(list(zip(kernels, strides, strict=True))):
            samples = (samples - 1) * stride + kernel  # the shortest input of a convolution without padding
    return (samples,)
