"""The front door of the cost model: a workload, a config for each layer and an accelerator or GPU in, a report out.

Layers of equal shape and config are priced once. Nothing is simulated: every figure is a closed form (``traffic``,
``tile_schedule``, ``gpu_price``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from datatypes.layer_config import LayerConfig, PartitionedConfig, TensorConfig
from datatypes.nearest import nearest
from hwmodel.accelerator import Accelerator, Array
from hwmodel.gpu import Gpu, Machine
from hwmodel.gpu_price import gpu_price
from hwmodel.operands import FP16_LAYER, Config, OperandBits, products_of
from hwmodel.options import HONEST, Buffering, ModelOptions
from hwmodel.pe import WIDE_BITS
from hwmodel.price import Price, overlap, sum_prices
from hwmodel.report import CostReport, LayerCost
from hwmodel.side_work import NORM_OPERATIONS
from hwmodel.term_skipping import CountedBits
from hwmodel.tile_choice import schedule_layer
from hwmodel.tile_plan import look_up_cycles
from hwmodel.traffic import Product, dram_cycles, price_product, vector_elements, with_leakage
from hwmodel.units import ceil_div
from hwmodel.workload import GEMM_KINDS, VECTOR_KINDS, WEIGHT_KINDS, LayerKind, LayerSpec, Phase, Workload

Configs = Mapping[str, Config] | Config

# exp: range reduction and a cubic polynomial, 4 multiply-adds; reciprocal: two Newton steps of 2. ASSUMPTION: the
# vector unit has no table; one multiply-add is one operation.
_EXPONENTIAL = 4
_RECIPROCAL = 4
VECTOR_OPERATIONS: Mapping[LayerKind, int] = {
    LayerKind.NORM: NORM_OPERATIONS,
    LayerKind.SOFTMAX: 4 + _EXPONENTIAL,  # maximum, subtract, sum, scale
    LayerKind.ACTIVATION: 3 + _EXPONENTIAL + _RECIPROCAL,  # SiLU and gate: add, two products (residual adds: fewer)
}


def evaluate(
    workload: Workload,
    configs: Configs,
    accelerator: Machine,
    options: ModelOptions = HONEST,
    *,
    bit_stats: Mapping[str, CountedBits] | None = None,
) -> CostReport:
    """Price every layer of a workload.

    Args:
        workload: one phase of a model.
        configs: one config for all GEMM layers, or one for each layer name; layers that are not named are FP16.
        accelerator: what it runs on.
        options: which effects count; ``HONEST`` all of them, ``PAPER`` those of the published simulator.
        bit_stats: ``BitStats`` of the weights by layer name, for accelerators that skip terms; layers that are not
            named are priced with fair coins (``hwmodel.term_skipping``).

    Returns:
        One cost for each layer, in order, and their sum.

    Raises:
        TypeError: a config is of the wrong kind.
        ValueError: ``configs`` names a layer that is not in the workload (with the nearest names).
        NotImplementedError: the accelerator cannot run a format; the message names accelerator, format and layer.
    """
    return Pricer(configs, accelerator, options, bit_stats=bit_stats).evaluate(workload)


def reason_not_runnable(workload: Workload, configs: Configs, accelerator: Machine) -> str | None:
    """Why the accelerator cannot run the configs, or ``None`` if it can."""
    try:
        evaluate(workload, configs, accelerator)
    except NotImplementedError as error:
        return str(error)
    return None


def generate_cost(
    workload_at: Callable[[Phase, int], Workload],
    configs: Configs,
    accelerator: Machine,
    *,
    prompt: int,
    tokens: int,
    options: ModelOptions = HONEST,
    bit_stats: Mapping[str, CountedBits] | None = None,
) -> CostReport:
    """Price the prefill of ``prompt`` tokens and ``tokens`` decode steps.

    Args:
        workload_at: the model's workload in a phase at a context (tokens in the KV cache, this step's included).
        configs: as in ``evaluate``; every phase must have the same layer names.
        accelerator: what it runs on.
        prompt: tokens of prefill.
        tokens: decode steps after it.
        options: which effects count; without ``growing_context`` every step sees ``prompt`` tokens.
        bit_stats: as in ``evaluate``.

    Returns:
        A report of phase ``generate`` whose layers are the sums over all steps.
    """
    if prompt < 1 or tokens < 0:
        raise ValueError(f"prompt must be at least 1 and tokens at least 0, not {prompt!r} and {tokens!r}")
    pricer = Pricer(configs, accelerator, options, bit_stats=bit_stats)
    prefill = pricer.evaluate(workload_at(Phase.PREFILL, prompt))
    names = [cost.layer for cost in prefill.layers]
    contexts = [(prompt + i + 1, 1) for i in range(tokens)] if options.growing_context else [(prompt, tokens)]
    steps: list[tuple[list[Price], int]] = []
    for context, times in contexts if tokens else []:
        step = workload_at(Phase.DECODE, context)
        if [layer.name for layer in step.layers] != names:
            raise ValueError(f"layers of prefill and decode must have the same names in model {prefill.model}")
        steps.append((pricer.prices(step), times))
    summed: dict[tuple[int, ...], Price] = {}
    layers = []
    for index, first in enumerate(prefill.layers):
        prices = [(first.price, 1), *((step[index], times) for step, times in steps)]
        key = tuple(id(price) for price, _ in prices)
        if key not in summed:
            summed[key] = sum_prices(price.times(times) for price, times in prices)
        layers.append(replace(first, price=summed[key]))
    return replace(prefill, phase="generate", layers=tuple(layers), context=prompt + tokens, tokens=tokens)


class Pricer:
    """Prices layers for one set of configs and one accelerator; remembers what it has priced.

    Args:
        configs, accelerator, options, bit_stats: as in ``evaluate``.
    """

    def __init__(
        self,
        configs: Configs,
        accelerator: Machine,
        options: ModelOptions = HONEST,
        *,
        bit_stats: Mapping[str, CountedBits] | None = None,
    ) -> None:
        self.configs = dict(configs) if isinstance(configs, Mapping) else configs  # ids stay those of these objects
        for name, config in self.configs.items() if isinstance(self.configs, dict) else [("every layer", configs)]:
            if not isinstance(config, LayerConfig | OperandBits):
                raise TypeError(f"config of {name} must be a LayerConfig or OperandBits, not {config!r}")
        self.accelerator = accelerator
        self.options = options
        self.bit_stats = dict(bit_stats or {})  # ids stay those of these objects
        self._prices: dict[tuple[Phase, int], dict[tuple[object, ...], Price]] = {}
        self._storage: dict[tuple[int, int, bool, int], int] = {}

    def evaluate(self, workload: Workload) -> CostReport:
        """See the function ``evaluate``."""
        configs = self._configs_of(workload)
        costs = [
            self._cost(layer, config, price)
            for layer, config, price in zip(workload.layers, configs, self._prices_of(workload, configs), strict=True)
        ]
        device = self.accelerator
        return CostReport(
            model=workload.model,
            accelerator=device.name,
            phase=workload.phase.value,
            batch=workload.batch,
            context=workload.context,
            layers=tuple(costs),
            frequency_hz=device.frequency_hz,
            area_mm2=_areas(device, self.options),
        )

    def prices(self, workload: Workload) -> list[Price]:
        """The prices of the layers, in order, alone; raises as ``evaluate`` does."""
        return self._prices_of(workload, self._configs_of(workload))

    def _configs_of(self, workload: Workload) -> list[Config]:
        layers = workload.layers
        named = self.bit_stats or isinstance(self.configs, Mapping)
        names = {layer.name for layer in layers} if named else set()
        check_layer_names(self.bit_stats, names, "bit_stats")
        if isinstance(self.configs, Mapping):
            check_layer_names(self.configs, names, "configs")
            return [self.configs.get(layer.name, FP16_LAYER) for layer in layers]
        return [FP16_LAYER if layer.kind is LayerKind.EMBEDDING else self.configs for layer in layers]

    def _prices_of(self, workload: Workload, configs: Sequence[Config]) -> list[Price]:
        known = self._prices.setdefault((workload.phase, workload.batch), {})
        prices = []
        for spec, config in zip(workload.layers, configs, strict=True):
            stats = self.bit_stats.get(spec.name)
            key = spec.shape_key, id(config), id(stats)
            price = known.get(key)
            if price is None:
                price = known[key] = self._price(spec, config, workload, stats)
            prices.append(price)
        return prices

    def _cost(self, spec: LayerSpec, config: Config, price: Price) -> LayerCost:
        if spec.kind not in WEIGHT_KINDS or spec.weight_of is not None:
            return LayerCost(spec.name, spec.kind, price)
        embedding = spec.kind is LayerKind.EMBEDDING
        stored = (spec.n, spec.k, embedding, id(config))
        bits = self._storage.get(stored)
        if bits is None:
            shape = (spec.k, spec.n) if embedding else (spec.n, spec.k)
            bits = self._storage[stored] = storage_bits(shape, config)
        return LayerCost(spec.name, spec.kind, price, bits * spec.weights // (spec.n * spec.k), spec.weights)

    def _price(self, spec: LayerSpec, config: Config, workload: Workload, stats: CountedBits | None = None) -> Price:
        spec = with_last_tokens(spec, workload, self.options)
        device = self.accelerator
        if isinstance(device, Gpu):
            return gpu_price(spec, config, device, self.options)
        if spec.kind in GEMM_KINDS:
            return self._products(spec, config, device, device.array(workload.phase), stats)
        if spec.kind is LayerKind.EMBEDDING:
            return self._embedding(spec, config, device) if self.options.embedding else Price()
        return self._vector(spec, workload, device) if self.options.vector_unit else Price()

    def _products(
        self, spec: LayerSpec, config: Config, device: Accelerator, array: Array, stats: CountedBits | None
    ) -> Price:
        """Matrix products on the array."""
        options = self.options
        copies = copies_in_turn(spec, options)
        products = partial(layer_products, spec, config, device, options, stats)
        if not options.scheduled:
            prices = [price_product(product, device, options, copies) for product in products(array)]
            return with_leakage(overlap(prices), device, options)
        made = schedule_layer(spec, products, device, array, options, copies)
        price = overlap([price_product(plan.product, device, options, times=plan.times) for plan in made.plans])
        weight_port, input_port = made.ports
        whole = replace(
            price, total_cycles=made.cycles, weight_port_bits=weight_port, input_port_bits=input_port
        )  # fmt: skip
        return with_leakage(whole, device, options)

    def _embedding(self, spec: LayerSpec, config: Config, device: Accelerator) -> Price:
        """Rows of a table ``[k, n]`` read from DRAM and written back as activations."""
        read = math.ceil(storage_bits((spec.k, spec.n), config) / spec.k) * spec.m * spec.copies
        written = spec.m * spec.copies * spec.n * WIDE_BITS
        moved = read + written
        port = device.input_port_bits(device.prefill_array)
        price = Price(
            dram_cycles=dram_cycles(moved, device, self.options),
            weight_bits=read,
            output_bits=written,
            compulsory_bits=moved,
            dram_pj=device.dram.energy_pj_per_bit * moved,
            total_cycles=look_up_cycles(moved, device, self.options) if self.options.fill_and_drain else None,
            weight_port_bits=port,
            input_port_bits=port,
        )
        return with_leakage(price, device, self.options)

    def _vector(self, spec: LayerSpec, workload: Workload, device: Accelerator) -> Price:
        """A vector operation on data that passes between the buffers anyway: no DRAM traffic of its own."""
        assert spec.kind in VECTOR_KINDS
        elements = vector_elements(spec, self.options)
        operations = elements * VECTOR_OPERATIONS[spec.kind]
        port = device.input_port_bits(device.array(workload.phase))
        sram = device.activation_buffer.at(port)
        accesses = elements * WIDE_BITS / port
        factor = device.technology.layout_energy_factor
        price = Price(
            vector_cycles=ceil_div(operations, device.vector.lanes),
            vector_pj=factor * device.vector.energy_pj_per_operation * operations,
            sram_read_pj=accesses * sram.read_pj,
            sram_write_pj=accesses * sram.write_pj,
            weight_port_bits=port,
            input_port_bits=port,
        )
        return with_leakage(price, device, self.options)


def layer_products(
    spec: LayerSpec,
    config: Config,
    accelerator: Accelerator,
    options: ModelOptions,
    stats: CountedBits | None,
    array: Array,
) -> list[Product]:
    """``hwmodel.operands.products_of``, with the whole sentence where the accelerator cannot run a format."""
    try:
        return list(products_of(spec, config, accelerator, array, options, stats))
    except NotImplementedError as error:
        raise NotImplementedError(not_runnable(spec, config, accelerator, error)) from None


def with_last_tokens(spec: LayerSpec, workload: Workload, options: ModelOptions) -> LayerSpec:
    """The layer as it is priced: of a vocabulary projection in prefill, the last token of each sequence."""
    if not (spec.head and options.last_token_head and workload.phase is Phase.PREFILL):
        return spec
    return replace(spec, m=max(1, min(spec.m, workload.batch // spec.copies)))


def copies_in_turn(spec: LayerSpec, options: ModelOptions) -> int:
    """Copies of a layer that share the buffers one after another (``hwmodel.traffic.fetches``)."""
    return spec.copies if options.buffering is Buffering.PER_COPY and not spec.shared_weight else 1


def _areas(machine: Machine, options: ModelOptions) -> dict[str, float]:
    """Area by part."""
    if isinstance(machine, Gpu):
        return {"die": machine.area_mm2}
    return {
        "pe": machine.pe_area_mm2,
        "encoder": machine.encoder_area_mm2,
        "vector": machine.vector_area_mm2 if options.vector_unit else 0.0,
        "sram": machine.sram_area_mm2,
    }


def check_layer_names(given: Iterable[str], names: Collection[str], what: str) -> None:
    """Refuse names that no layer of a workload has.

    Raises:
        ValueError: one of ``given`` is not among ``names`` (with the nearest ones); ``what`` says where it stood.
    """
    for name in given:
        if name not in names:
            raise ValueError(f"{what} must name layers of the workload, not {name!r}{nearest(name, names)}")


def storage_bits(shape: tuple[int, int], config: Config) -> int:
    """Stored bits of one weight ``[n, k]``; bare bit widths pad rows to bytes."""
    if isinstance(config, OperandBits):
        return math.ceil(shape[1] * config.weight / 8) * 8 * shape[0]
    return config.storage_bits(shape).total


def not_runnable(spec: LayerSpec, config: Config, accelerator: Accelerator, why: Exception) -> str:
    """The sentence for a layer whose format an accelerator cannot take."""
    return f"accelerator {accelerator.name} cannot run {_formats(spec, config)} in layer {spec.name}, because {why}"


def _formats(spec: LayerSpec, config: Config) -> str:
    """The formats of a layer that the array has to take, for messages."""
    if isinstance(config, OperandBits):
        return f"{config.weight} bits"
    tensors: list[TensorConfig | None]
    if spec.kind is LayerKind.ATTENTION_QK:
        tensors = [config.key]
    elif spec.kind is LayerKind.ATTENTION_PV:
        tensors = [config.value]
    else:
        weight = config.weight
        tensors = [part.config for part in weight.parts] if isinstance(weight, PartitionedConfig) else [weight]
        if config.low_rank is not None:
            tensors += [config.low_rank.a, config.low_rank.b]
    names = {fmt.name for tensor in tensors if tensor is not None for fmt in tensor.formats} or {"fp16"}
    return ", ".join(sorted(names))
