"""Tiny layers by hand, the names of configs, and generation as the sum of its steps."""

import re
from dataclasses import replace

import pytest

from datatypes.catalog import BITMOD_FP4, FLINT4, FP16, INTS_SYMMETRIC, NF4, UINT8
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from hwmodel.evaluate import VECTOR_OPERATIONS, Pricer, evaluate, generate_cost, reason_not_runnable, storage_bits
from hwmodel.operands import OperandBits
from hwmodel.options import HONEST, PAPER, Fallback
from hwmodel.paper import paper_workload
from hwmodel.presets import ANT, BITMOD, FP16_BASELINE
from hwmodel.price import Bound, Price
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

KV8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)
BITMOD4 = LayerConfig(
    weight=TensorConfig(BITMOD_FP4, PerGroup(128), ScaleConfig(UINT8, outer=FP16)), key=KV8, value=KV8
)


def _single(spec: LayerSpec, phase: Phase = Phase.PREFILL, batch: int = 1) -> Workload:
    return Workload("tiny", phase, (spec,), batch=batch)


def test_linear_layer_by_hand_published_model() -> None:
    spec = LayerSpec("fc", LayerKind.LINEAR, m=2, k=8, n=3)
    price = evaluate(_single(spec), OperandBits(4.0625), BITMOD, PAPER).total
    # one tile of 32 x 32 PEs, 8 / 4 lanes = 2 steps, 2 cycles each
    assert price.compute_cycles == 4
    # weight rows ceil(8 * 4.0625 / 8) = 5 bytes x 3, input 16 bytes x 2, output 6 bytes x 2; 256 bits a cycle
    assert (price.weight_bits, price.input_bits, price.output_bits) == (120, 256, 96)
    assert price.dram_cycles == 1
    assert price.cycles == 4 and price.bound is Bound.COMPUTE
    assert price.pe_pj == pytest.approx(1.5 * 0.56 * 1024 * 4)  # layout factor, pJ, PEs, cycles
    assert price.sram_read_pj == pytest.approx(2 * (92.7944 + 138.4416))  # ports of 512 and 1024 bits
    # words of 64 bits: weight 3 x 1, input 2 x 2, output 2 x 1
    assert price.sram_write_pj == pytest.approx(3 * 83.3536 * 64 / 512 + 6 * 156.0904 * 64 / 1024)
    assert price.dram_pj == pytest.approx(472 * 18.75)
    assert price.vector_cycles == 0 and price.encoder_pj == 0 and price.leakage_pj == 0


def test_linear_layer_by_hand_honest_model() -> None:
    spec = LayerSpec("fc", LayerKind.LINEAR, m=2, k=128, n=3)
    price = evaluate(_single(spec), BITMOD4, BITMOD).total
    # codes 3 x 128 x 4 = 1536; 3 scales of 8, 3 outer scales of 16, 3 selectors of 2 bits, each kind in 32-bit words
    assert price.weight_bits == 1536 + 32 + 64 + 32
    assert price.compute_cycles == 32 * 2  # 128 / 4 lanes, 2 terms; 8 scale cycles are hidden behind 64
    assert price.input_bits == 2 * 128 * 16 and price.output_bits == 2 * 3 * 16
    assert price.dram_cycles == 25  # (1664 + 4096 + 96) / (256 * 0.92) = 24.86
    assert price.vector_cycles == 1  # the outer scale: one operation for each of 6 outputs, 64 lanes
    assert price.pe_pj == pytest.approx(1.5 * 0.56 * 1024 * 64 * 2 / 32)  # 2 of 32 columns
    assert price.encoder_pj == pytest.approx(1.5 * 16 * 1.86 * 64)
    assert price.vector_pj == pytest.approx(1.5 * 0.77 * 6)
    # 256-bit weight port: 4 lanes x 4 bits x 32 rows / 2; words 1664 / 64 = 26; input 2 x 32, output 2 x 1
    assert price.sram_write_pj == pytest.approx(26 * 51.7178 * 64 / 256 + 66 * 156.0904 * 64 / 1024)
    leakage_mw = BITMOD.logic_leakage_mw + BITMOD.weight_buffer.at(256).leakage_mw
    leakage_mw += BITMOD.activation_buffer.at(1024).leakage_mw
    assert price.leakage_pj == pytest.approx(leakage_mw * 64)  # mW for 64 ns


def test_short_groups_wait_for_their_scale() -> None:
    spec = LayerSpec("fc", LayerKind.LINEAR, m=1, k=128, n=1)
    config = LayerConfig(weight=TensorConfig(BITMOD_FP4, PerGroup(8), ScaleConfig(UINT8)))
    honest = evaluate(_single(spec), config, BITMOD).total
    assert honest.compute_cycles == 16 * 8  # 16 groups: 8 / 4 x 2 = 4 cycles of terms, 8 of the scale
    assert (
        evaluate(_single(spec), config, BITMOD, replace(HONEST, dequantization_stalls=False)).total.compute_cycles == 64
    )


def test_attention_by_hand_causal_and_fused() -> None:
    qk = LayerSpec("qk", LayerKind.ATTENTION_QK, m=64, k=128, n=64, copies=2, causal=True)
    pv = LayerSpec("pv", LayerKind.ATTENTION_PV, m=64, k=64, n=128, copies=2, causal=True)
    workload = Workload("tiny", Phase.PREFILL, (qk, pv))
    scores, mixed = (cost.price for cost in evaluate(workload, BITMOD4, BITMOD).layers)
    # QK, one head: query tile 0 sees keys 0-31 (1 key tile), tile 1 sees 0-63 (2): 3 tiles of 128 / 4 steps of 4 cycles
    assert scores.compute_cycles == 2 * 3 * 32 * 4
    assert scores.macs == 2 * 128 * 64 * 65 // 2  # 64 x 65 / 2 scores at or below the diagonal
    assert scores.output_bits == 0 and mixed.input_bits == 0
    assert scores.weight_bits == 2 * (64 * 128 * 8 + 64 * 16)  # 8-bit keys, an FP16 scale for each token
    # PV, one head: 128 / 32 = 4 tiles of outputs; query tile 0 reduces over 32 keys, tile 1 over 64
    assert mixed.compute_cycles == 2 * 4 * (8 + 16) * 4
    spilled = evaluate(workload, BITMOD4, BITMOD, replace(HONEST, fused_attention=False, causal_mask=False)).layers
    assert spilled[0].price.output_bits == spilled[1].price.input_bits == 2 * 64 * 64 * 16
    assert spilled[0].price.compute_cycles == 2 * 4 * 32 * 4


def test_head_computes_the_last_token_of_each_sequence() -> None:
    head = LayerSpec("head", LayerKind.LINEAR, m=256, k=64, n=100, copies=4, shared_weight=True, head=True)
    assert evaluate(_single(head, batch=4), BITMOD4, BITMOD).total.macs == 4 * 64 * 100
    together = replace(head, m=1024, copies=1)  # all sequences in one product
    assert evaluate(_single(together, batch=4), BITMOD4, BITMOD).total.macs == 4 * 64 * 100
    assert evaluate(_single(head, Phase.DECODE, batch=4), BITMOD4, BITMOD).total.macs == head.macs


def test_vector_layers_by_hand() -> None:
    norm = LayerSpec("norm", LayerKind.NORM, m=4, k=64, n=64)
    price = evaluate(_single(norm), {}, BITMOD).total
    assert price.vector_cycles == 4 * 64 * 5 // 64 and price.dram_bits == 0
    assert price.vector_pj == pytest.approx(1.5 * 0.77 * 4 * 64 * 5)
    # 256 FP16 elements through a port of 1024 bits: 4 accesses each way
    assert price.sram_read_pj == pytest.approx(4 * 138.4416)
    assert price.sram_write_pj == pytest.approx(4 * 156.0904)
    assert evaluate(_single(norm), {}, BITMOD, PAPER).total == Price(total_cycles=0)
    softmax = LayerSpec("softmax", LayerKind.SOFTMAX, m=64, k=64, n=64, causal=True)
    operations = 64 * 65 // 2 * VECTOR_OPERATIONS[LayerKind.SOFTMAX]
    assert evaluate(_single(softmax), {}, BITMOD).total.vector_cycles == -(-operations // 64)


def test_embedding_reads_its_rows() -> None:
    table = LayerSpec("embedding", LayerKind.EMBEDDING, m=10, k=1000, n=64)
    report = evaluate(_single(table), BITMOD4, BITMOD)  # one config for all: embeddings stay FP16
    assert report.total.weight_bits == 10 * 64 * 16 and report.total.output_bits == 10 * 64 * 16
    assert report.storage_bits == 1000 * 64 * 16
    assert evaluate(_single(table), BITMOD4, BITMOD, PAPER).total.dram_bits == 0


def test_wide_layer_runs_on_the_vector_unit() -> None:
    spec = LayerSpec("fc", LayerKind.LINEAR, m=4, k=64, n=32)
    price = evaluate(_single(spec), {}, BITMOD).total
    assert price.compute_cycles == 0 and price.pe_pj == 0
    assert price.vector_cycles == 4 * 64 * 32 // 64  # 64 FP16 lanes
    assert evaluate(_single(spec), {}, FP16_BASELINE).total.vector_cycles == 0
    with pytest.raises(NotImplementedError, match="accelerator bitmod cannot run fp16 in layer fc, because its term"):
        evaluate(_single(spec), {}, BITMOD, replace(HONEST, fallback=Fallback.ERROR))


@pytest.mark.parametrize(
    ("accelerator", "fmt", "message"),
    [
        (BITMOD, NF4, "accelerator bitmod cannot run nf4 in layer fc, because its term encoder decodes"),
        (ANT, NF4, "accelerator ant cannot run nf4 in layer fc, because it multiplies integers"),
        (BITMOD, FLINT4, "accelerator bitmod cannot run flint4 in layer fc"),
    ],
    ids=["nf4 on bitmod", "nf4 on ant", "flint4 on bitmod"],
)
def test_formats_that_an_accelerator_cannot_run(accelerator: object, fmt: object, message: str) -> None:
    workload = _single(LayerSpec("fc", LayerKind.LINEAR, m=4, k=64, n=32))
    config = LayerConfig(weight=TensorConfig((fmt,), PerGroup(64)))  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match=re.escape(message)):
        evaluate(workload, config, accelerator)  # type: ignore[arg-type]
    reason = reason_not_runnable(workload, config, accelerator)  # type: ignore[arg-type]
    assert reason is not None and reason.startswith(message)
    assert reason_not_runnable(workload, config, FP16_BASELINE) is None


def test_unknown_layer_name_in_configs() -> None:
    workload = _single(LayerSpec("model.fc1", LayerKind.LINEAR, m=4, k=64, n=32))
    with pytest.raises(
        ValueError, match="configs must name layers of the workload, not 'model.fc2'; nearest: model.fc1"
    ):
        evaluate(workload, {"model.fc2": BITMOD4}, BITMOD)


@pytest.mark.parametrize("configs", [{"fc": "int4"}, "int4"], ids=["by name", "for all"])
def test_config_of_the_wrong_kind(configs: object) -> None:
    with pytest.raises(TypeError, match="config of .* must be a LayerConfig or OperandBits, not 'int4'"):
        evaluate(_single(LayerSpec("fc", LayerKind.LINEAR, m=4, k=64, n=32)), configs, BITMOD)  # type: ignore[arg-type]


def test_configs_by_name_and_fp16_for_the_rest() -> None:
    layers = tuple(LayerSpec(name, LayerKind.LINEAR, m=4, k=128, n=32) for name in "ab")
    report = evaluate(Workload("tiny", Phase.PREFILL, layers), {"a": BITMOD4}, FP16_BASELINE)
    assert report.layers[1].storage_bits == 128 * 32 * 16
    assert report.layers[0].storage_bits == BITMOD4.storage_bits((32, 128)).total == storage_bits((32, 128), BITMOD4)


def test_equal_shapes_are_priced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    priced = []
    price = Pricer._price

    def counted(self: Pricer, spec: LayerSpec, *rest: object) -> Price:
        priced.append(spec.name)
        return price(self, spec, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Pricer, "_price", counted)
    workload = paper_workload("Llama-2-7B", Phase.PREFILL, other_layers=True)
    report = evaluate(workload, BITMOD4, BITMOD)
    assert len(report.layers) == 419
    # q = k = v = o, gate = up, down, head, QK, PV, embedding, norm, softmax, activation
    assert len(priced) == 10


def test_experts_store_more_than_they_touch() -> None:
    experts = LayerSpec("experts", LayerKind.LINEAR, m=4, k=128, n=64, copies=2, weight_copies=8)
    report = evaluate(_single(experts), BITMOD4, BITMOD)
    one = BITMOD4.storage_bits((64, 128)).total
    assert report.storage_bits == 8 * one and report.total.weight_bits == 2 * one


def test_tied_weight_is_stored_once() -> None:
    embedding = LayerSpec("embedding", LayerKind.EMBEDDING, m=1, k=100, n=64)
    head = LayerSpec("head", LayerKind.LINEAR, m=1, k=64, n=100, weight_of="embedding", head=True)
    report = evaluate(Workload("tiny", Phase.DECODE, (embedding, head)), {}, FP16_BASELINE)
    assert report.storage_bits == 100 * 64 * 16 and report.bits_per_weight == 16
    assert report.layers[1].price.weight_bits == 100 * 64 * 16  # moved all the same


@pytest.mark.parametrize("growing", [True, False], ids=["growing context", "fixed context"])
def test_generation_is_prefill_and_its_steps(growing: bool) -> None:
    options = replace(HONEST, growing_context=growing)

    def at(phase: Phase, context: int) -> Workload:
        return paper_workload("OPT-1.3B", phase, context=context, other_layers=True)

    report = generate_cost(at, BITMOD4, BITMOD, prompt=16, tokens=3, options=options)
    steps = [evaluate(at(Phase.PREFILL, 16), BITMOD4, BITMOD, options)]
    steps += [evaluate(at(Phase.DECODE, 17 + i if growing else 16), BITMOD4, BITMOD, options) for i in range(3)]
    assert report.cycles == sum(step.cycles for step in steps)
    assert report.energy_pj == pytest.approx(sum(step.energy_pj for step in steps), rel=1e-12)
    assert report.total.dram_bits == sum(step.total.dram_bits for step in steps)
    assert (report.phase, report.tokens, report.context) == ("generate", 3, 19)


def test_generation_without_tokens_is_the_prefill() -> None:
    def at(phase: Phase, context: int) -> Workload:
        return paper_workload("OPT-1.3B", phase, context=context)

    report = generate_cost(at, BITMOD4, BITMOD, prompt=16, tokens=0)
    assert report.cycles == evaluate(at(Phase.PREFILL, 16), BITMOD4, BITMOD).cycles


def test_generation_of_impossible_length() -> None:
    with pytest.raises(ValueError, match="prompt must be at least 1 and tokens at least 0, not 0 and 5"):
        generate_cost(
            lambda phase, context: _single(LayerSpec("a", LayerKind.NORM, 1, 1, 1)), {}, BITMOD, prompt=0, tokens=5
        )


def test_generation_needs_the_same_layers_in_both_phases() -> None:
    def at(phase: Phase, context: int) -> Workload:
        return _single(LayerSpec(phase.value, LayerKind.LINEAR, 1, 64, 64), phase)

    with pytest.raises(ValueError, match="layers of prefill and decode must have the same names in model tiny"):
        generate_cost(at, OperandBits(4), BITMOD, prompt=1, tokens=1)
