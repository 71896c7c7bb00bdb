"""Prompts in chunks: each chunk of tokens attends to all tokens before it (Agrawal et al., Sarathi-Serve, OSDI 2024).

``prefill_chunk`` turns the workload of a whole prompt into that of some of its tokens. Linear layers and vector
operations follow the tokens, caches the tokens so far, experts the tokens that are routed; the product with a KV cache
keeps the keys that were there as ``LayerSpec.past``. A chunk that is the whole prompt is the prompt's own workload.
Layers traced with a sliding window shorter than the prompt are cut to it. Recurrent states are not chunked. Latent
attention expands the latents of all tokens so far for each chunk (as vLLM does), so its up-projection is done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hwmodel.evaluate import Configs, Pricer
from hwmodel.experts import is_routed, route, top_k_of
from hwmodel.gpu import Machine
from hwmodel.latent_attention import latent_attentions
from hwmodel.options import HONEST, ModelOptions
from hwmodel.price import Price, sum_prices
from hwmodel.report import CostReport
from hwmodel.units import ceil_div
from hwmodel.workload import ATTENTION_KINDS, LayerKind, LayerSpec, Phase, Workload


def prefill_chunk(prefill: Workload, start: int, tokens: int) -> Workload:
    """The workload of ``tokens`` tokens of a prompt, ``start`` of which are in the KV cache.

    Args:
        prefill: the whole prompt.
        start: tokens before the chunk.
        tokens: of the chunk, for each sequence.

    Raises:
        ValueError: not a prefill workload, or a chunk outside the prompt.
        NotImplementedError: a layer has a recurrent state.
    """
    if prefill.phase is not Phase.PREFILL:
        raise ValueError(f"workload of a chunk must be a prefill workload, not {prefill.phase.value}")
    if start < 0 or tokens < 1 or start + tokens > prefill.context:
        raise ValueError(
            f"a chunk must lie in the prompt of {prefill.context} tokens, not {tokens!r} tokens from {start!r}"
        )
    if tokens == prefill.context:
        return prefill
    expanded = {found.up for found in latent_attentions(prefill)}
    layers = tuple(_chunk_of(layer, prefill, start, tokens, layer.name in expanded) for layer in prefill.layers)
    return replace(prefill, layers=layers, context=start + tokens)


def _chunk_of(layer: LayerSpec, prefill: Workload, start: int, tokens: int, expanded: bool) -> LayerSpec:
    whole, seen = prefill.context, start + tokens
    if expanded:
        return replace(layer, m=ceil_div(layer.m * seen, whole))
    if layer.state:
        raise NotImplementedError(
            f"a prompt in chunks must have attention with a KV cache in every layer, not the state of {layer.name}"
        )
    if is_routed(layer):
        return route(layer, top_k_of(layer, whole * prefill.batch), tokens * prefill.batch)
    m = ceil_div(layer.m * tokens, whole)
    if layer.kind not in ATTENTION_KINDS and layer.kind is not LayerKind.SOFTMAX:
        return replace(layer, m=m)
    reduced = layer.kind is LayerKind.ATTENTION_PV
    traced = layer.k if reduced else layer.n
    keys = min(traced, seen) if traced <= whole else traced  # beyond the prompt: keys from elsewhere, always there
    causal = keys == seen and traced <= whole and (layer.causal or seen < whole)
    if not layer.causal and traced == whole:  # every token sees every other: not a language model's prompt
        keys, causal = traced, False
    past = start if causal and start else None
    written = layer.written
    if written is not None and traced <= whole:
        written = ceil_div(written * tokens, whole)
    elif written is not None and start:
        written = 0  # keys from elsewhere were written with the first chunk
    made = replace(layer, m=m, causal=causal, past=past, written=written)
    return replace(made, k=keys) if reduced else replace(made, n=keys)


def prefill_chunks(prefill: Workload, chunk: int) -> Iterator[Workload]:
    """The chunks of a prompt, in order; the last one may be shorter.

    Raises:
        ValueError: ``chunk`` below 1. Also what ``prefill_chunk`` raises.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 token, not {chunk!r}")
    for start in range(0, prefill.context, chunk):
        yield prefill_chunk(prefill, start, min(chunk, prefill.context - start))


def chunked_prefill_cost(
    prefill: Workload, chunk: int, configs: Configs, machine: Machine, options: ModelOptions = HONEST
) -> CostReport:
    """Price a prompt in chunks of ``chunk`` tokens, one after another.

    With ``options.last_token_head`` the vocabulary projection is computed in the last chunk alone.

    Returns:
        A report whose layers are the sums over all chunks; for one chunk it is ``evaluate``'s.
    """
    pricer = Pricer(configs, machine, options)
    reports = [pricer.evaluate(part) for part in prefill_chunks(prefill, chunk)]
    last = reports[-1]
    summed: dict[tuple[int, ...], Price] = {}
    layers = []
    for index, cost in enumerate(last.layers):
        once = prefill.layers[index].head and options.last_token_head
        prices = [cost.price] if once else [report.layers[index].price for report in reports]
        key = tuple(id(price) for price in prices)
        if key not in summed:
            summed[key] = prices[0] if len(prices) == 1 else sum_prices(prices)
        layers.append(replace(cost, price=summed[key]))
    return replace(last, layers=tuple(layers))
