"""What one iteration of a serving engine takes: a mixed batch of decoding sequences and chunks of prompts.

A report is the sum of its layers, so an iteration is the sum of three parts, each priced by the cost model:

    * everything but attention, for all tokens of the batch together (weights are read once);
    * attention of the decoding sequences, at their mean context;
    * attention of each chunk, with the tokens before it.

The first and last are priced as they are asked for and remembered. The second is priced at contexts ``knot`` tokens
apart and interpolated linearly: a price never falls with the context, so the interpolated one is off by no more than
the difference of its two neighbours (``StepPricer.interpolation_bound_s``). Taking the mean context is exact as far as
attention's price is linear in it; the ceilings of tiles and the window of sliding attention are what it misses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hwmodel.evaluate import Pricer
from hwmodel.experts import is_routed, route, top_k_of
from hwmodel.gpu import Machine
from hwmodel.latent_attention import absorb_latent, latent_attentions
from hwmodel.link import Link
from hwmodel.operands import FP16_LAYER, Config
from hwmodel.options import HONEST, ModelOptions
from hwmodel.parallel import tensor_parallel
from hwmodel.parallel_experts import ends_of_experts, expert_parallel, spread
from hwmodel.pe import WIDE_BITS
from hwmodel.serving_chunks import prefill_chunk
from hwmodel.units import ceil_div, cycles_to_s, pj_to_j
from hwmodel.workload import ATTENTION_KINDS, LayerKind, LayerSpec, Phase, Workload, at_context


@dataclass(frozen=True)
class Chunk:
    """Tokens of a prompt that run in an iteration.

    Args:
        tokens: how many.
        past: tokens of the same prompt before them.
        last: whether the prompt ends here, so that its first token is sampled.
    """

    tokens: int
    past: int
    last: bool


@dataclass(frozen=True)
class StepCost:
    """Seconds and joules of an iteration, all chips together."""

    seconds: float
    energy_j: float

    def __add__(self, other: StepCost) -> StepCost:
        return StepCost(self.seconds + other.seconds, self.energy_j + other.energy_j)

    def towards(self, other: StepCost, share: float) -> StepCost:
        """Linear between the two."""
        return StepCost(
            self.seconds + share * (other.seconds - self.seconds),
            self.energy_j + share * (other.energy_j - self.energy_j),
        )


NOTHING = StepCost(0.0, 0.0)


class StepModel(Protocol):
    """Anything that prices iterations."""

    def step(self, decoding: int, context_tokens: int, chunks: Sequence[Chunk]) -> StepCost:
        """One iteration.

        Args:
            decoding: sequences that decode a token.
            context_tokens: tokens in all their caches together, this step's included.
            chunks: of prompts.
        """


class StepPricer:
    """The cost model as a ``StepModel``.

    Args:
        prefill: a prompt of one sequence, at the largest length.
        decode: a decode step of one sequence, at the largest context (latents are absorbed here).
        configs: by layer name; layers that are not named are FP16.
        machine: one chip.
        options: which effects count.
        chips: of tensor parallelism.
        experts: chips that whole experts are spread over, each of which has an iteration of as many tokens as this one
            (``hwmodel.parallel_experts``); energy is one chip's.
        dispatch_bits: of a number sent to an expert.
        link: between them.
        knot: tokens between priced contexts.

    Raises:
        ValueError: workloads of another phase or batch, several chips without a link, experts both whole and cut; also
            what cutting and spreading raise.
    """

    def __init__(
        self,
        prefill: Workload,
        decode: Workload,
        configs: Mapping[str, Config],
        machine: Machine,
        *,
        options: ModelOptions = HONEST,
        chips: int = 1,
        experts: int = 1,
        dispatch_bits: float = WIDE_BITS,
        link: Link | None = None,
        knot: int = 64,
    ) -> None:
        if prefill.phase is not Phase.PREFILL or decode.phase is not Phase.DECODE or prefill.batch * decode.batch != 1:
            raise ValueError("a step must be made of a prefill and a decode workload of one sequence, not others")
        if max(chips, experts) > 1 and link is None:
            raise ValueError(f"{max(chips, experts)} chips must have a link between them")
        check_whole_or_cut(chips, experts)
        expert_parallel(prefill, experts)  # raises what may be wrong with it
        if knot < 1:
            raise ValueError(f"knot must be at least 1 token, not {knot!r}")
        self.machine, self.options, self.chips, self.link, self.knot = machine, options, chips, link, knot
        self.experts, self.dispatch_bits = experts, dispatch_bits
        self._ends = ends_of_experts(prefill) if experts > 1 else None
        self.prefill_split = tensor_parallel(prefill, chips)
        self.decode_split = tensor_parallel(absorb_latent(decode), chips)
        self.prefill, self.decode = self.prefill_split.workload, self.decode_split.workload  # one chip's shares
        self._expanded = {found.up for found in latent_attentions(self.prefill)}
        self._configs = dict(configs)
        self._tokens: dict[tuple[int, bool, bool], StepCost] = {}
        self._decoding: dict[tuple[int, int], StepCost] = {}
        self._chunks: dict[tuple[int, int], StepCost] = {}

    # -- parts -----------------------------------------------------------------------------------------------------

    def step(self, decoding: int, context_tokens: int, chunks: Sequence[Chunk]) -> StepCost:
        """One iteration; see ``StepModel``."""
        tokens = decoding + sum(chunk.tokens for chunk in chunks)
        if tokens < 1:
            return NOTHING
        sampled = decoding + sum(chunk.last for chunk in chunks)
        total = self.tokens_cost(tokens, sampled, decode_only=not chunks)
        if decoding:
            total += self.decoding_cost(decoding, context_tokens / decoding)
        for chunk in chunks:
            total += self.chunk_cost(chunk.tokens, chunk.past)
        return total

    def tokens_cost(self, tokens: int, sampled: int, *, decode_only: bool) -> StepCost:
        """Everything but attention for ``tokens``, the head for ``sampled`` of them, and exchanges between chips."""
        total = self._part(tokens, head=False, decode_only=decode_only)
        return total + self._part(sampled, head=True, decode_only=decode_only) if sampled else total

    def _part(self, tokens: int, *, head: bool, decode_only: bool) -> StepCost:
        """The head alone, or everything but head and attention, for ``tokens``."""
        key = (tokens, head, decode_only)
        if key not in self._tokens:
            split = self.decode_split if decode_only else self.prefill_split
            base, traced = split.workload, _traced(split.workload)
            wanted = [layer for layer in base.layers if layer.head == head and not _attends(layer)]
            layers = tuple(_for_tokens(layer, tokens, traced, self.experts) for layer in wanted)
            cost = self._price(replace(base, layers=layers, edges=(), batch=tokens))
            cost += self._sent_to_experts(wanted, tokens, traced)
            if self.link is not None:
                names = {layer.name for layer in wanted}
                for exchange in split.collectives:
                    if exchange.layer in names:  # a gather is traced for the last token of the one sequence
                        elements = exchange.elements * tokens // (1 if exchange.gather else traced)
                        cost += StepCost(replace(exchange, elements=elements).seconds(self.chips, self.link), 0.0)
            self._tokens[key] = cost
        return self._tokens[key]

    def _sent_to_experts(self, layers: Sequence[LayerSpec], tokens: int, traced: int) -> StepCost:
        """Exchanges around experts that lie on several chips."""
        if self._ends is None or self.link is None:
            return NOTHING
        seconds = sum(
            exchange.seconds(self.experts, self.link)
            for layer in layers
            if is_routed(layer)
            for exchange in self._ends.exchanges(
                layer, top_k_of(layer, traced), tokens, self.experts, self.dispatch_bits
            )
        )
        return StepCost(seconds, 0.0)

    def decoding_cost(self, sequences: int, context: float) -> StepCost:
        """Attention of ``sequences`` that decode at a mean ``context``, interpolated."""
        low = min(int(context) // self.knot * self.knot, self.decode.context)
        high = min(low + self.knot, self.decode.context)
        low_cost = self.decoding_cost_at(sequences, max(low, 1))
        if context <= max(low, 1) or high == low:
            return low_cost
        share = (context - max(low, 1)) / (high - max(low, 1))
        return low_cost.towards(self.decoding_cost_at(sequences, high), min(share, 1.0))

    def decoding_cost_at(self, sequences: int, context: int) -> StepCost:
        """The same at a whole context, priced."""
        key = (sequences, context)
        if key not in self._decoding:
            at = at_context(self.decode, context)
            layers = tuple(_for_sequences(layer, sequences) for layer in at.layers if _attends(layer))
            self._decoding[key] = self._price(replace(at, layers=layers, edges=(), batch=sequences))
        return self._decoding[key]

    def chunk_cost(self, tokens: int, past: int) -> StepCost:
        """Attention of a chunk with ``past`` tokens before it, priced."""
        key = (tokens, past)
        if key not in self._chunks:
            chunk = prefill_chunk(self.prefill, past, tokens)
            layers = [layer for layer in chunk.layers if _attends(layer)]
            for layer in self.prefill.layers if past else ():
                if layer.name in self._expanded:  # latents of the tokens before, made keys and values once more
                    layers.append(replace(layer, m=past))
            self._chunks[key] = self._price(replace(chunk, layers=tuple(layers), edges=()))
        return self._chunks[key]

    def verify_cost(self, tokens: int, context: int) -> StepCost:
        """A step of one sequence over ``tokens`` proposed ones, the cache with them ``context`` tokens long.

        All of them see the whole cache (the mask between them is left out: ``tokens`` out of ``context``).
        """
        key = (-tokens, context)
        if key not in self._decoding:
            at = at_context(self.decode, context)
            layers = tuple(_for_proposals(layer, tokens) for layer in at.layers if _attends(layer))
            self._decoding[key] = self._price(replace(at, layers=layers, edges=()))
        return self.tokens_cost(tokens, tokens, decode_only=True) + self._decoding[key]

    def interpolation_bound_s(self, sequences: int, context: float) -> float:
        """The most that ``decoding_cost`` can be off at ``context``: what its two neighbours differ by."""
        low = max(int(context) // self.knot * self.knot, 1)
        high = min(low // self.knot * self.knot + self.knot, self.decode.context)
        return self.decoding_cost_at(sequences, high).seconds - self.decoding_cost_at(sequences, low).seconds

    # -- prices ----------------------------------------------------------------------------------------------------

    def _price(self, step: Workload) -> StepCost:
        """Price layers of one chip's share on every chip; alike layers once."""
        first: dict[tuple[object, ...], str] = {}
        counts: dict[str, int] = {}
        for layer in step.layers:
            config = self._configs.get(layer.name, FP16_LAYER)
            name = first.setdefault((layer.shape_key, id(config)), layer.name)
            counts[name] = counts.get(name, 0) + 1
        few = replace(step, layers=tuple(layer for layer in step.layers if layer.name in counts), edges=())
        configs = {name: self._configs[name] for name in counts if name in self._configs}
        seconds = energy_j = 0.0
        for cost in Pricer(configs, self.machine, self.options).evaluate(few).layers:
            seconds += counts[cost.layer] * cycles_to_s(cost.cycles, self.machine.frequency_hz)
            energy_j += counts[cost.layer] * pj_to_j(cost.energy_pj)
        return StepCost(seconds, energy_j * self.chips)


def _traced(workload: Workload) -> int:
    """Tokens that a workload of one sequence was traced with."""
    return workload.context if workload.phase is Phase.PREFILL else 1


def _attends(layer: LayerSpec) -> bool:
    return layer.kind in ATTENTION_KINDS or layer.kind is LayerKind.SOFTMAX


def check_whole_or_cut(tensor: int, experts: int) -> None:
    """Refuse experts that are both cut and whole.

    Raises:
        ValueError: both above 1.
    """
    if tensor > 1 and experts > 1:
        raise ValueError(
            f"expert_parallel must be 1 where tensor_parallel cuts each expert over {tensor} chips, not {experts}"
        )


def _for_tokens(layer: LayerSpec, tokens: int, traced: int, chips: int) -> LayerSpec:
    """A layer traced with ``traced`` tokens of one sequence, for ``tokens`` of several; of experts that lie on several
    chips the busiest one's."""
    if is_routed(layer):
        top_k = top_k_of(layer, traced)
        return route(layer, top_k, tokens) if chips == 1 else spread(layer, top_k, tokens, chips)
    if layer.head:
        return replace(layer, m=tokens)
    return replace(layer, m=ceil_div(layer.m * tokens, traced))


def _for_proposals(layer: LayerSpec, tokens: int) -> LayerSpec:
    """A layer traced for one token of one sequence, for ``tokens`` of it."""
    return replace(layer, m=layer.m * tokens, written=tokens if layer.kind in ATTENTION_KINDS else None)


def _for_sequences(layer: LayerSpec, sequences: int) -> LayerSpec:
    return replace(layer, copies=layer.copies * sequences)
