"""Made-up studies of any size for the dashboard's tests; seeded, plausible, and no claim about any real machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from codesign.dashboard import page
from codesign.study import LAYER_COLUMNS, MACHINE_COLUMNS, TRIAL_COLUMNS, StudyResult, mark_front

HOSTILE = "</script><img src=x onerror=document.title='owned'>"

# name, algorithm, bits per weight, loss above the reference
RECIPES = [
    ("fp16", "none", 16.0, 0.0),
    ("int8_channel_fp16", "rtn", 8.02, 0.0008),
    ("int6_g128_fp16", "rtn", 6.14, 0.006),
    ("fp6_e2m3_channel_fp16", "rtn", 6.02, 0.005),
    ("mxfp8_e4m3", "mx", 8.25, 0.004),
    ("mxfp6_e2m3", "mx", 6.25, 0.011),
    ("mxfp4", "mx", 4.25, 0.19),
    ("nvfp4", "mx", 4.5, 0.12),
    ("int4_g128_fp16", "rtn", 4.14, 0.16),
    ("int4_g128_asym", "rtn", 4.19, 0.11),
    ("int4_g32_fp16", "rtn", 4.5, 0.09),
    ("gptq_int4_g128", "gptq", 4.14, 0.07),
    ("nf4_g64_fp16", "rtn", 4.25, 0.085),
    ("bitmod4_g128", "bitmod", 4.09, 0.075),
    ("bitmod3_g128", "bitmod", 3.09, 0.31),
    ("ant4_g128", "ant", 4.14, 0.14),
    ("olive4_channel", "olive", 4.02, 0.55),
    ("lqer_int4_g128_r32", "lqer", 4.6, 0.05),
    ("l2qer_mxint4_r32", "l2qer", 4.6, 0.045),
    ("gwq_int3_1pct", "gwq", 3.4, 0.26),
    ("finequant_int4", "finequant", 4.2, 0.1),
    ("int3_g128_fp16", "rtn", 3.14, 0.92),
    ("int2_g64_fp16", "rtn", 2.27, 4.8),
]
# name, peak macs/s at 16 bits, DRAM bytes/s, clock, area, bit-serial?, supported algorithms (None: all)
MACHINES = [
    ("fp16_baseline", 1.024e12, 25.6e9, 1e9, 2.86, False, None),
    ("bitmod", 1.024e12, 25.6e9, 1e9, 2.51, True, None),
    ("ant_like", 1.024e12, 25.6e9, 1e9, 2.42, True, {"rtn", "ant", "gptq", "finequant"}),
    ("olive_like", 1.024e12, 25.6e9, 1e9, 2.47, True, {"rtn", "olive"}),
    ("edge_npu", 0.256e12, 12.8e9, 8e8, 0.71, True, {"rtn", "gptq", "none", "mx", "bitmod"}),
]


def model_layers(blocks: int, tokens: int, context: int) -> list[tuple[str, str, int, int, int, int]]:
    """(name, kind, m, k, n, copies) of a model of SmolLM2-135M's shape."""
    rows = [("model.embed_tokens", "embedding", tokens, 49152, 576, 1)]
    for block in range(blocks):
        at = f"model.layers.{block}"
        rows += [
            (f"{at}.input_layernorm", "norm", tokens, 1, 576, 1),
            (f"{at}.self_attn.q_proj", "linear", tokens, 576, 576, 1),
            (f"{at}.self_attn.k_proj", "linear", tokens, 576, 192, 1),
            (f"{at}.self_attn.v_proj", "linear", tokens, 576, 192, 1),
            (f"{at}.self_attn.qk", "attention_qk", tokens, 64, context, 9),
            (f"{at}.self_attn.softmax", "softmax", tokens, 1, context, 9),
            (f"{at}.self_attn.pv", "attention_pv", tokens, context, 64, 9),
            (f"{at}.self_attn.o_proj", "linear", tokens, 576, 576, 1),
            (f"{at}.post_attention_layernorm", "norm", tokens, 1, 576, 1),
            (f"{at}.mlp.gate_proj", "linear", tokens, 576, 1536, 1),
            (f"{at}.mlp.up_proj", "linear", tokens, 576, 1536, 1),
            (f"{at}.mlp.act_fn", "activation", tokens, 1, 1536, 1),
            (f"{at}.mlp.down_proj", "linear", tokens, 1536, 576, 1),
        ]
    return [*rows, ("model.norm", "norm", tokens, 1, 576, 1), ("lm_head", "linear", tokens, 576, 49152, 1)]


def _layer_row(layer: tuple, bits: float, machine: tuple) -> dict:
    _, kind, m, k, n, copies = layer
    _, peak, bandwidth, clock, _, serial, _ = machine
    vector = kind in {"norm", "activation", "softmax"}
    weights = n * k if kind == "linear" else 0
    macs = 0 if vector or kind == "embedding" else m * k * n * copies
    speed = 16.0 / max(bits, 2.0) if serial and kind == "linear" else 1.0
    compute = np.ceil(m * n * copies / 64) if vector else np.ceil(macs / (peak / clock * speed * 0.9))
    other = m * n * 16 if kind == "embedding" else 0 if vector else (m * k + m * n) * copies * 16
    dram_bits = weights * (bits if kind == "linear" else 16) + other
    dram = np.ceil(dram_bits / 8 / bandwidth * clock)
    cycles = max(compute, dram)
    energy = {"energy_compute_pj": macs * 0.6 / speed, "energy_sram_pj": macs * 0.15, "energy_dram_pj": dram_bits * 4.0}
    return {
        "m": m,
        "k": k,
        "n": n,
        "copies": copies,
        "macs": macs,
        "weight_bits": bits if kind == "linear" else np.nan,
        "cycles": cycles,
        "compute_cycles": compute,
        "dram_cycles": dram,
        "dram_bits": dram_bits,
        "energy_pj": sum(energy.values()) + cycles * 20.0,
        **energy,
        "bound": "vector" if vector else "compute" if compute >= dram else "dram",
    }


def make_result(
    seed: int = 0, blocks: int = 30, hostile: bool = False, recipes: Sequence[tuple] = tuple(RECIPES)
) -> StudyResult:
    """A study of some recipes, the reference first, on 5 accelerators; ``hostile`` puts markup into every name."""
    rng = np.random.default_rng(seed)
    prompt, generate = 256, 256
    phases = {
        "prefill": model_layers(blocks, prompt, prompt),
        "decode": model_layers(blocks, 1, prompt + generate // 2),
    }
    mark = HOSTILE if hostile else ""
    trials, layers = [], []
    loss = {name: 2.913 + delta + (rng.normal() * 0.002 if delta else 0.0) for name, _, _, delta in recipes}
    for (name, algorithm, bits, delta), machine in itertools.product(recipes, MACHINES):
        supported = machine[-1] is None or algorithm in machine[-1]
        key = {"recipe": name + mark, "accelerator": machine[0] + mark}
        row = dict.fromkeys(TRIAL_COLUMNS, np.nan) | key | {"algorithm": algorithm, "supported": supported}
        row |= {"reason": "" if supported else f"{machine[0]} has no multiplier for the formats of {algorithm}{mark}"}
        row |= {"bits_per_weight": bits, "model_bytes": 28_311_552 * 2 + 106_168_320 * bits / 8, "loss": loss[name]}
        row |= {"loss_delta": loss[name] - loss["fp16"], "loss_delta_se": 0.03 * delta**0.5 + 0.0004 * bool(delta)}
        row |= {"perplexity": np.exp(loss[name]), "kl": delta * 0.8, "top1": np.exp(-delta), "sqnr_db": 6 * bits - 4}
        row |= {"area_mm2": machine[4], "quantize_s": 3.0, "evaluate_s": 9.0, "on_front": False}
        if supported:
            seconds, joules = {}, {}
            for phase, specs in phases.items():
                costs = [_layer_row(spec, bits, machine) for spec in specs]
                layers += [
                    {**key, "phase": phase, "layer": s[0] + mark, "kind": s[1], **c}
                    for s, c in zip(specs, costs, strict=True)
                ]
                seconds[phase] = sum(c["cycles"] for c in costs) / machine[3]
                joules[phase] = sum(c["energy_pj"] for c in costs) * 1e-12
            row |= {"prefill_s": seconds["prefill"], "decode_s": seconds["decode"]}
            row |= {"prefill_energy_j": joules["prefill"], "decode_energy_j": joules["decode"]}
            row |= {"total_s": seconds["prefill"] + generate * seconds["decode"]}
            row |= {"total_energy_j": joules["prefill"] + generate * joules["decode"]}
        trials.append(row)
    table = pd.DataFrame(trials)[list(TRIAL_COLUMNS)]
    table["on_front"] = mark_front(table, ("loss", "total_s", "total_energy_j"))
    machines = pd.DataFrame([(m[0] + mark, m[3], m[1], m[2], m[4], f"made up{mark}") for m in MACHINES])
    manifest = {
        "study": {"model": f"smollm2-135m-offgrid{mark}", "text": "boolq-validation", "tokens": 8192, "context": 512},
        "workload": {"batch": 1, "prompt": prompt, "generate": generate},
        "seed": seed,
        "versions": {"codesign": "0.1.0", "numpy": np.__version__},
        "constants": [
            {"name": "dram_pj_per_bit", "value": 4.0, "unit": "pJ", "source": f"made up{mark}"},
            {"name": "not_a_number", "value": float("nan"), "unit": "", "source": "made up"},
        ],
    }
    frame = pd.DataFrame(layers)[list(LAYER_COLUMNS)]
    return StudyResult(
        name=f"SmolLM2-135M: twenty-three recipes on five machines{mark}",
        trials=table,
        layers=frame,
        machines=machines.set_axis(list(MACHINE_COLUMNS), axis=1),
        manifest=manifest,
    )


def make_small_result() -> StudyResult:
    """Two recipes on one machine with a model of four layers, small enough to reckon by hand.

    Machine: 1 GHz, 8e9 macs/s, 1e9 bytes/s. Recipe ``a`` prefill:

    ====== ====== ===== ====== ======= ==== ========= ======= ====== ==== =====
    layer  kind   macs  cycles compute dram dram_bits energy  comp   sram dram
    h.0.q  linear 800   200    100     200  1600      10      1      2    3
    h.1.q  linear 800   100    100     80   800       10      1      2    3
    h.0.n  norm   0     50     50      0    0         4       4      0    0
    head   linear 1600  250    250     100  400       20      6      6    8
    ====== ====== ===== ====== ======= ==== ========= ======= ====== ==== =====

    Decode has only ``h.0.q``, with 8 macs, 10 cycles, 2 compute, 10 DRAM cycles, 80 bits; energy 5 = 1 + 1 + 3.
    """
    figures = [
        ("prefill", "h.0.q", "linear", 800, 200, 100, 200, 1600, 10, 1, 2, 3),
        ("prefill", "h.0.n", "norm", 0, 50, 50, 0, 0, 4, 4, 0, 0),
        ("prefill", "h.1.q", "linear", 800, 100, 100, 80, 800, 10, 1, 2, 3),
        ("prefill", "head", "linear", 1600, 250, 250, 100, 400, 20, 6, 6, 8),
        ("decode", "h.0.q", "linear", 8, 10, 2, 10, 80, 5, 1, 1, 3),
    ]
    columns = ["phase", "layer", "kind", "macs", "cycles", "compute_cycles", "dram_cycles", "dram_bits"]
    columns += ["energy_pj", "energy_compute_pj", "energy_sram_pj", "energy_dram_pj"]
    layers = pd.DataFrame(figures, columns=columns)
    layers = layers.assign(recipe="a", accelerator="m", m=1, k=1, n=1, copies=1, weight_bits=4.0, bound="dram")
    rows = [
        {"recipe": "a", "supported": True, "reason": "", "bits_per_weight": 4.0, "loss": 3.1, "loss_delta": 0.1},
        {"recipe": "ref", "supported": True, "reason": "", "bits_per_weight": 16.0, "loss": 3.0, "loss_delta": 0.0},
        {"recipe": "worse", "supported": True, "reason": "", "bits_per_weight": 16.0, "loss": 3.2, "loss_delta": 0.2},
        {"recipe": "no", "supported": False, "reason": "no", "bits_per_weight": 2.0, "loss": 3.0, "loss_delta": 0.0},
        {
            "recipe": "nan",
            "supported": True,
            "reason": "",
            "bits_per_weight": 1.0,
            "loss": np.nan,
            "loss_delta": np.nan,
        },
    ]
    trials = pd.DataFrame(rows).reindex(columns=list(TRIAL_COLUMNS))
    trials = trials.assign(algorithm="rtn", accelerator="m", on_front=False, loss_delta_se=0.01)
    trials["decode_s"] = [1e-3, 2e-3, 3e-3, np.nan, 1e-3]
    machines = pd.DataFrame([("m", 1e9, 8e9, 1e9, 1.0, "made up")], columns=list(MACHINE_COLUMNS))
    return StudyResult("small", trials, layers[list(LAYER_COLUMNS)], machines)


@pytest.fixture(scope="session")
def full_result() -> StudyResult:
    return make_result()


@pytest.fixture(scope="session")
def hostile_result() -> StudyResult:
    return make_result(seed=1, blocks=2, hostile=True)


@pytest.fixture(scope="session")
def small_result() -> StudyResult:
    return make_small_result()


@pytest.fixture(scope="session")
def package_file() -> Callable[[str], Path]:
    """A file of the dashboard package by name."""
    return lambda name: Path(page.__file__).with_name(name)


@pytest.fixture(scope="session")
def many_layers() -> StudyResult:
    """Two recipes for a model of 200 blocks, 2603 layers."""
    return make_result(seed=2, blocks=200, recipes=[r for r in RECIPES if r[0] in {"fp16", "bitmod4_g128"}])
