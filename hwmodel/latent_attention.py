"""Latent attention (MLA) as engines run it: the cache holds one short vector for each token, shared by all heads.

DeepSeek-AI, DeepSeek-V2 (arXiv 2405.04434), section 2.1: keys and values of every head are products of a cached latent
(512 numbers in DeepSeek-V3) with an up-projection, and a rotary part of the key (64) is cached beside it. A model's own
code expands the latent into keys and values of all heads; while decoding, engines instead multiply queries and outputs
with the up-projection, so that attention reads ``latent + rope`` numbers for each token, once for all heads.
``absorb_latent`` rewrites a traced decode step so. Prompts stay expanded, which takes fewer multiplications there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload


@dataclass(frozen=True)
class LatentAttention:
    """One attention with a latent cache, as traced.

    Args:
        up: name of the projection from the latent to keys and values of all heads.
        scores, softmax, values: names of the products and the softmax between them.
        heads: of queries.
        latent: numbers cached for each token, from which keys and values come.
        rope: numbers cached beside them: the rotary part of the keys.
        value: width of a head's values.
    """

    up: str
    scores: str
    softmax: str
    values: str
    heads: int
    latent: int
    rope: int
    value: int


def latent_attentions(workload: Workload) -> Iterator[LatentAttention]:
    """Attentions whose keys and values come from one projection that gives less than whole keys.

    Structure decides: a linear layer feeds both products, queries come from another one, and it is narrower than keys
    and values of all heads together, because the rotary part comes from elsewhere.
    """
    layers = {layer.name: layer for layer in workload.layers}
    sources: dict[str, list[str]] = {}
    for producer, consumer in workload.edges:
        sources.setdefault(consumer, []).append(producer)

    def linears(name: str) -> set[str]:
        found: set[str] = set()
        for source in sources.get(name, ()):
            if layers[source].kind is LayerKind.LINEAR:
                found.add(source)
            elif layers[source].kind is LayerKind.ACTIVATION:
                found |= linears(source)
        return found

    for values in workload.layers:
        if values.kind is not LayerKind.ATTENTION_PV or values.state or values.weight_of is not None:
            continue
        softmax = next((s for s in sources.get(values.name, ()) if layers[s].kind is LayerKind.SOFTMAX), None)
        scores = next((s for s in sources.get(softmax or "", ()) if layers[s].kind is LayerKind.ATTENTION_QK), None)
        if softmax is None or scores is None or values.copies % workload.batch:
            continue
        heads, keyed = values.copies // workload.batch, linears(scores)
        for name in sorted(linears(values.name) & keyed) if len(keyed) > 1 else ():
            up, width = layers[name], layers[scores].k
            nope = up.n // heads - values.n
            if up.n % heads == 0 and 0 < nope < width:
                yield LatentAttention(name, scores, softmax, values.name, heads, up.k, width - nope, values.n)


def absorb_latent(decode: Workload) -> Workload:
    """A decode step with the up-projection of its latent attentions multiplied into queries and outputs.

    The projection becomes ``heads`` products of the step's own tokens, as many multiplications and weights as both
    halves take. Its key half takes each head's query in and gives one of the latent's width, its value half takes the
    attention's output of that width and gives the head's values (``LayerSpec.absorbed``). Keys are ``latent + rope``
    wide and shared by all heads; values are a part of the keys and are not read again. Workloads without latent
    attention come back as they are.

    Raises:
        ValueError: not a decode workload.
    """
    if decode.phase is not Phase.DECODE:
        raise ValueError(f"workload to absorb a latent in must be a decode workload, not {decode.phase.value}")
    changed: dict[str, LayerSpec] = {}
    for found in latent_attentions(decode):
        up, scores = decode[found.up], decode[found.scores]
        rows = scores.m * found.heads  # one query of each head
        width = up.n // found.heads
        changed[found.up] = replace(
            up, m=decode.batch, n=width, copies=found.heads, shared_weight=False, absorbed=width - found.value
        )
        changed[found.scores] = replace(scores, k=found.latent + found.rope, m=rows, copies=decode.batch, written=1)
        changed[found.softmax] = replace(decode[found.softmax], m=rows, copies=decode.batch)
        changed[found.values] = replace(
            decode[found.values], n=found.latent, weight_of=found.scores, m=rows, copies=decode.batch
        )
    if not changed:
        return decode
    return replace(decode, layers=tuple(changed.get(layer.name, layer) for layer in decode.layers))
