"""A model over the chips that serve it: the share of each, stages, what fits, and the price of an iteration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codesign.models import resolve_model
from codesign.pricing import Generation, configs_by_layer, configs_by_own_layer, configs_of, trace_generation
from codesign.recipes import Recipe
from datatypes.layer_config import LayerConfig
from hwmodel.capacity import Capacity, cache_bits, capacity_of, memory_bytes_of
from hwmodel.evaluate import evaluate
from hwmodel.gpu import Gpu, Machine
from hwmodel.link import LINKS, Link
from hwmodel.parallel import TensorParallel, tensor_parallel
from hwmodel.parallel_experts import ExpertParallel, expert_parallel
from hwmodel.parallel_pipeline import Pipeline, pipeline
from hwmodel.pe import WIDE_BITS
from hwmodel.serving_step import StepPricer
from hwmodel.workload import Workload

GB = 1e9


@dataclass(frozen=True)
class Chips:
    """How the model lies on chips.

    Args:
        machine: one of them.
        tensor, stages: chips that share each layer, and stages one after another.
        experts: chips that whole experts are spread over, each with users of its own.
        dispatch_bits: of a number sent to an expert.
        link: between them; ``None`` for one chip.
        memory_bytes: of each.
    """

    machine: Machine
    tensor: int
    stages: int
    link: Link | None
    memory_bytes: float
    experts: int = 1
    dispatch_bits: float = WIDE_BITS

    @property
    def count(self) -> int:
        """All of them."""
        return self.tensor * self.stages * self.experts

    def share(self, workload: Workload) -> TensorParallel | ExpertParallel:
        """One chip's of a stage: all of it, a part of each layer, or the busiest one's experts."""
        if self.experts > 1:
            return expert_parallel(workload, self.experts, dispatch_bits=self.dispatch_bits)
        return tensor_parallel(workload, self.tensor)


def chips_of(
    machine: Machine, cut: tuple[int, int, int], link: str | None, memory_gb: float | None, dispatch_bits: float
) -> Chips:
    """Chips of tensor parallelism, stages and chips of experts in ``cut``; other arguments as on the command line."""
    tensor, stages, experts = cut
    if link is not None and link not in LINKS:
        raise ValueError(f"link must be one of {', '.join(LINKS)}, not {link!r}")
    found = None
    if tensor * stages * experts > 1:
        name = link if link is not None else machine.link if isinstance(machine, Gpu) else None
        if name is None:
            raise ValueError(f"link between several {machine.name} must be given: {', '.join(LINKS)}")
        found = LINKS[name]
    if memory_gb is None and not isinstance(machine, Gpu):
        raise ValueError(f"memory of {machine.name} must be given with --memory-gb: presets do not say how much it has")
    memory_bytes = memory_bytes_of(machine, None if memory_gb is None else memory_gb * GB)
    return Chips(machine, tensor, stages, found, memory_bytes, experts, dispatch_bits)


@dataclass(frozen=True)
class Shapes:
    """A model's shapes for one sequence, at the longest prompt and answer, with the recipe's configs."""

    name: str
    generation: Generation
    last_step: Workload
    configs: Mapping[str, LayerConfig]

    @classmethod
    def of(cls, model: str, made: Recipe, prompt: int, generate: int) -> Shapes:
        source = resolve_model(model)
        generation = trace_generation(source, prompt=prompt, tokens=generate)
        if generation.last_step is None:
            raise ValueError(f"{source.name} must write tokens to be served, which it does not")
        configs = configs_of(made, generation)
        both = configs_by_layer(generation.prefill, configs) | configs_by_own_layer(generation.last_step, configs)
        return cls(source.name, generation, generation.last_step, both)

    def steps(self, chips: Chips) -> StepPricer:
        return StepPricer(
            self.generation.prefill, self.last_step, self.configs, chips.machine, chips=chips.tensor, link=chips.link,
            experts=chips.experts, dispatch_bits=chips.dispatch_bits,
        )  # fmt: skip

    def stages(self, workload: Workload, chips: Chips) -> Pipeline:
        """Stages of one chip's share; balanced by time."""
        share = chips.share(workload).workload
        names = {layer.name for layer in share.layers}
        configs = {name: config for name, config in self.configs.items() if name in names}
        return pipeline(share, evaluate(share, configs, chips.machine), chips.stages, chips.link)

    def capacities(self, chips: Chips, tokens: int) -> list[Capacity]:
        """What fits into a chip of each stage; activations of an iteration of ``tokens`` tokens.

        Layers that a prompt alone runs through (an encoder) lie on the first stage.
        """
        prefill = self.generation.prefill
        step = chips.share(prefill).workload
        steps = {layer.name for layer in self.last_step.layers}
        there = steps | {layer.weight_of for layer in step.layers if layer.name in steps}  # tied: counted in the steps
        made = []
        for place, stage in enumerate(self.stages(self.last_step, chips).stages):
            names = {layer.name for layer in stage.layers}
            alone = tuple(layer for layer in step.layers if place == 0 and layer.name not in there)
            kept = tuple(layer for layer in step.layers if layer.name in names) + alone
            held = Workload(step.model, stage.phase, stage.layers + alone)
            one = capacity_of(held, stage, self.configs, chips.memory_bytes)
            largest = capacity_of(Workload(step.model, step.phase, kept), stage, self.configs, chips.memory_bytes)
            scale = tokens / prefill.context
            made.append(
                Capacity(one.memory_bits, one.weight_bits, round(largest.activation_bits * scale), stage, self.configs)
            )
        return made


def cache_tokens(held: list[Capacity], shapes: Shapes) -> int:
    """Tokens that the caches of all stages hold; bits for each token as at the longest context."""
    context = shapes.last_step.context
    room = []
    for capacity in held:
        each = cache_bits(capacity.decode, capacity.configs)
        if capacity.cache_room_bits < 0:
            return 0
        if each:
            room.append(capacity.cache_room_bits * context // each)
    return min(room, default=context * (1 << 20))
