"""Models on the meta device: from a config.json, a config or a module.

A config.json that leaves out what fixes a model's size is refused, because transformers would fill it in silently.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codesign import trace_attention
from codesign.extras import require
from codesign.trace_gaps import buildable

# sizes that a config must state itself, wherever its class has a default for them
NEEDED_KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def read_config(path: Path) -> Any:
    """The transformers config in ``path``, a config.json or its folder.

    Raises:
        ValueError: no such file, not a JSON object, unknown model_type, missing key.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"config must be a readable file, not {str(file)!r} ({error.strerror})") from error
    except ValueError as error:  # bad JSON, bad UTF-8
        raise ValueError(f"config {file} must be JSON, not text with an error: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"config {file} must be a JSON object, not {type(data).__name__}")
    return config_from_dict(data, str(file))


def config_from_dict(data: Mapping[str, Any], source: str = "config") -> Any:
    """A transformers config from the contents of a config.json.

    Args:
        data: the JSON object; quantization settings in it are dropped, because formats come from a LayerConfig.
        source: where it comes from, for messages.

    Raises:
        ValueError: see ``read_config``.
    """
    from_mapping = _transformers().CONFIG_MAPPING
    kind = data.get("model_type")
    if kind is None:
        raise ValueError(f"config {source} must have the key model_type, not only {', '.join(sorted(data)[:8])}")
    if kind not in from_mapping:
        raise ValueError(f"model_type in {source} must be one that transformers knows, not {kind!r}")
    cls = from_mapping[kind]
    missing = _missing_keys(cls, data)
    if missing:
        raise ValueError(f"config {source} of a {kind} model must have the key {missing[0]}, not leave it out")
    values = {key: value for key, value in data.items() if key != "quantization_config"}
    try:
        return cls.from_dict(values)
    except Exception as error:
        raise ValueError(f"config {source} must hold values that fit a {kind} model, not: {_line(error)}") from error


def _missing_keys(cls: Any, data: Mapping[str, Any]) -> list[str]:
    """Sizes that the class would fill in with a default of its own."""
    if getattr(cls, "sub_configs", None):
        return []  # configs of several models state their sizes inside, and often only where they differ
    defaults = {k: p.default for k, p in inspect.signature(cls.__init__).parameters.items()}
    names: dict[str, str] = dict(getattr(cls, "attribute_map", {}) or {})
    missing = []
    for key in NEEDED_KEYS:
        own = names.get(key, key)
        default = getattr(cls, own, defaults.get(own))
        if isinstance(default, int) and not isinstance(default, bool) and key not in data and own not in data:
            missing.append(own)
    return missing


def build_on_meta(model: Any) -> nn.Module:
    """A copy of ``model`` (config or module) without weights, whose attention can be recorded."""
    if isinstance(model, nn.Module):
        tensors = [*model.parameters(), *model.buffers()]
        memo: dict[int, Any] = {}
        for tensor in tensors:
            empty = torch.empty_like(tensor, device="meta")
            memo[id(tensor)] = nn.Parameter(empty, False) if isinstance(tensor, nn.Parameter) else empty
        meta: nn.Module = copy.deepcopy(model, memo)
        for module in meta.modules():
            _use_recorded_attention(getattr(module, "config", None))
    else:
        transformers = _transformers()
        if not isinstance(model, transformers.PretrainedConfig):
            raise TypeError(f"model must be a transformers config or a torch module, not {model!r}")
        meta = _build(transformers, copy.deepcopy(model))
    _move_strays(meta)
    return meta.eval()


def _move_strays(model: nn.Module) -> None:
    """Puts what a constructor made on the CPU on the meta device, shared parameters once."""
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if not buffer.is_meta:
                setattr(module, name, buffer.to("meta"))
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.is_meta:
                empty = nn.Parameter(torch.empty_like(parameter, device="meta"), False)
                setattr(module, name, moved.setdefault(id(parameter), empty))


def _build(transformers: Any, config: Any) -> nn.Module:
    from transformers.initialization import no_init_weights

    cls = model_class(config)
    if type(config) is not cls.config_class:  # the causal part of a model of several kinds
        inner = [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
        config = next((part for part in inner if type(part) is cls.config_class), config)
    reasons = []
    for implementation in (trace_attention.IMPLEMENTATION, "eager"):
        trace_attention.register()
        try:
            with torch.device("meta"), no_init_weights(), buildable(config):
                model = cls._from_config(copy.deepcopy(config), attn_implementation=implementation, dtype=torch.float32)
                model.tie_weights()
                return model
        except Exception as error:
            reasons.append(_line(error))
    raise ValueError(f"config of a {config.model_type} model must build {cls.__name__}, not stop with: {reasons[-1]}")


def model_class(config: Any) -> Any:
    """The class a config is for: the one it names, else the causal language model, else the bare model."""
    transformers = _transformers()
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    for name in getattr(config, "architectures", None) or ():
        cls = getattr(transformers, name, None)
        if inspect.isclass(cls) and issubclass(cls, transformers.PreTrainedModel):
            return cls
    kind = type(config)
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING and (kind not in MODEL_FOR_MASKED_LM_MAPPING or config.is_decoder):
        return MODEL_FOR_CAUSAL_LM_MAPPING[kind]
    if kind in transformers.MODEL_MAPPING:
        return transformers.MODEL_MAPPING[kind]
    raise ValueError(f"model_type must be one that transformers has a model for, not {config.model_type!r}")


def _use_recorded_attention(config: Any) -> None:
    if config is None or not hasattr(config, "_attn_implementation"):
        return
    trace_attention.register()
    config._attn_implementation = trace_attention.IMPLEMENTATION


def _transformers() -> Any:
    return require("transformers", "models")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
