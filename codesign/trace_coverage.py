"""Which causal language models of transformers trace: ``python -m codesign.trace_coverage [MODEL_TYPE ...]``.

Every config class that transformers maps to a causal language model is shortened to a few layers and traced in both
phases. Beside each stands what share of its matrix parameters the workload holds: what is missing belongs to parts
that text alone does not reach (vision towers, unused embeddings).
"""

from __future__ import annotations

import argparse
import inspect
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from codesign.trace import trace
from codesign.trace_config import build_on_meta
from hwmodel.workload import Phase

LAYERS = (4, 10)  # of a shortened config, tried before its own depth
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_INDEXER = {"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 256}
_INDEXER |= {"indexer_budget": 2048, "indexer_compress_ratio": 16}
_NO_LAYER_INPUTS = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
# what a model needs and its default config leaves open
SETTINGS: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "dbrx": {"attn_config": {"rope_theta": 5e5, "kv_n_heads": 8, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
    # an assistant's text model has no embeddings of its own for each layer (Gemma4AssistantConfig asks for it)
    "gemma4_assistant": {"text_config": {**_NO_LAYER_INPUTS, "model_type": "gemma4_text", "num_hidden_layers": 4}},
    "gemma4_unified_assistant": {"text_config": {"model_type": "gemma4_unified_text", "num_hidden_layers": 4}},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "lfm2_moe": {"layer_types": ["full_attention", "conv"] * 2},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "xmod": {"default_language": "en_XX"},
}
CONTEXT = 96


@dataclass(frozen=True)
class Coverage:
    """How one model type traced: ``prefill`` and ``decode`` are empty or the reason why not."""

    model_type: str
    seconds: float
    prefill: str = ""
    decode: str = ""
    layers: int = 0
    weights: int = 0
    parameters: int = 0

    @property
    def share(self) -> float:
        """Share of the model's matrix parameters in the workload."""
        return self.weights / self.parameters if self.parameters else 0.0


def model_types() -> list[str]:
    """Model types with a causal language model, in alphabetical order."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def short_configs(model_type: str) -> Iterator[Any]:
    """Default configs of a model type as a decoder: with few layers, then with more, then as they are."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    cls = CONFIG_MAPPING[model_type]
    depths: list[dict[str, Any]] = [{"decoder_layers": n, "num_hidden_layers": n} for n in LAYERS]
    for change in ({k: v for k, v in depth.items() if _has(cls, k)} for depth in [*depths, {}]):
        try:
            config = cls(**change, **SETTINGS.get(model_type, {}))
        except Exception:  # a depth that this class refuses
            continue
        if hasattr(config, "is_decoder"):
            config.is_decoder = True
        config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]]
        yield config


def _has(cls: Any, key: str) -> bool:
    if key in (getattr(cls, "attribute_map", None) or {}):
        return True
    return hasattr(cls, key) or key in inspect.signature(cls.__init__).parameters


def cover(model_type: str) -> Coverage:
    """Traces a default config of ``model_type`` in both phases: the shortest that works."""
    start = time.perf_counter()
    best: Coverage | None = None
    for config in short_configs(model_type):
        result = _cover(model_type, config, start)
        if best is None or (bool(result.prefill), bool(result.decode)) < (bool(best.prefill), bool(best.decode)):
            best = result
        if not result.prefill and not result.decode:
            break
    return best or Coverage(model_type, time.perf_counter() - start, "no default config", "no default config")


def _cover(model_type: str, config: Any, start: float) -> Coverage:
    reasons = {Phase.PREFILL: "", Phase.DECODE: ""}
    layers, weights, parameters = 0, 0, 0
    for phase in reasons:
        try:
            workload = trace(config, phase=phase, context=CONTEXT)
        except (ValueError, NotImplementedError) as error:
            reasons[phase] = str(error)
            continue
        if phase is Phase.PREFILL:
            layers, weights = len(workload.layers), workload.weights
            parameters = sum(p.numel() for p in build_on_meta(config).parameters() if p.dim() >= 2)
    return Coverage(
        model_type,
        time.perf_counter() - start,
        reasons[Phase.PREFILL],
        reasons[Phase.DECODE],
        layers,
        weights,
        parameters,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the number of model types that do not trace in prefill."""
    parser = argparse.ArgumentParser(description="Which causal language models of transformers trace.")
    parser.add_argument("model_type", nargs="*", help="only these (default: all)")
    wanted = parser.parse_args(arguments).model_type or model_types()
    console = Console()
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model_type in wanted:
            result = cover(model_type)
            results.append(result)
            state = "ok" if not result.prefill and not result.decode else "FAILS"
            console.print(
                f"{state:6}{model_type:28}{result.layers:5} layers {result.share:7.1%} {result.seconds:6.1f} s",
                markup=False,
                highlight=False,
            )
    table = Table("model type", "phase", "reason", title="not traced")
    for result in results:
        for phase, reason in (("prefill", result.prefill), ("decode", result.decode)):
            if reason:
                table.add_row(result.model_type, phase, reason)
    if table.row_count:
        console.print(table)
    for phase in ("prefill", "decode"):
        done = sum(not getattr(result, phase) for result in results)
        console.print(f"{phase}: {done} of {len(results)} model types trace")
    return sum(bool(result.prefill) for result in results)


if __name__ == "__main__":
    raise SystemExit(main())
