"""The nouns of a study: a design point, what it scored, and the collection with its front.

``StudyResult`` is what the dashboard draws, what is written to disk, and what the Python API returns: three tables and
a manifest. Its columns are listed in ``TRIAL_COLUMNS``, ``LAYER_COLUMNS`` and ``MACHINE_COLUMNS``, units in the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from codesign.pareto import pareto_mask

# One row for each recipe on each accelerator.
TRIAL_COLUMNS: Mapping[str, str] = {
    "recipe": "name of the recipe",
    "algorithm": "key of the algorithm",
    "accelerator": "name of the accelerator",
    "supported": "whether the accelerator can run the recipe's formats",
    "reason": "why not, else empty",
    "bits_per_weight": "stored bits over original weights of the quantized layers, everything counted",
    "model_bytes": "stored bytes of the whole model, embeddings and norms included",
    "loss": "mean negative log-likelihood, nats per token, on the held-out text",
    "loss_delta": "loss less that of the reference (FP16) recipe on the same tokens",
    "loss_delta_se": "standard error of loss_delta over windows (paired)",
    "perplexity": "exp(loss)",
    "kl": "mean KL(reference || quantized) of the next-token distribution, nats",
    "top1": "share of tokens where both agree on the most likely next token",
    "sqnr_db": "mean over layers of the output signal-to-quantization-noise ratio, dB",
    "prefill_s": "seconds for the prompt",
    "decode_s": "seconds for each generated token, mean over the generation",
    "prefill_energy_j": "joules for the prompt",
    "decode_energy_j": "joules for each generated token, mean",
    "total_s": "seconds for the prompt and all generated tokens",
    "total_energy_j": "joules for the prompt and all generated tokens",
    "area_mm2": "silicon area of the modelled parts",
    "quantize_s": "wall seconds that quantizing took, over all runs where one was stopped",
    "evaluate_s": "wall seconds that evaluating took, likewise",
    "on_front": "not dominated in the study's objectives among all supported trials",
}
# One row for each layer of each trial and phase. Layers of equal name in both phases are two rows.
LAYER_COLUMNS: Mapping[str, str] = {
    "recipe": "name of the recipe",
    "accelerator": "name of the accelerator",
    "phase": "prefill or decode",
    "layer": "module path",
    "kind": "LayerKind value",
    "m": "rows",
    "k": "reduced dimension",
    "n": "columns of the output",
    "copies": "independent products",
    "macs": "multiply-accumulates",
    "weight_bits": "stored bits per weight, everything counted; NaN for layers without weights",
    "cycles": "cycles of this layer",
    "compute_cycles": "cycles if memory were free",
    "dram_cycles": "cycles if compute were free",
    "dram_bits": "bits moved to and from DRAM",
    "energy_pj": "energy of this layer",
    "energy_compute_pj": "of which processing elements",
    "energy_sram_pj": "of which on-chip memory",
    "energy_dram_pj": "of which DRAM",
    "bound": "what limits it: compute, dram or vector",
}
# One row for each accelerator.
MACHINE_COLUMNS: Mapping[str, str] = {
    "accelerator": "name of the accelerator",
    "clock_hz": "clock",
    "peak_macs_per_s": "multiply-accumulates per second of its fastest weights (4 bits)",
    "dram_bytes_per_s": "DRAM bandwidth",
    "area_mm2": "silicon area of the modelled parts",
    "source": "where its numbers come from",
}

# Columns of the tables that hold texts, and truths; all others hold numbers.
TEXT_COLUMNS = frozenset(
    {"recipe", "algorithm", "accelerator", "reason", "phase", "layer", "kind", "bound", "source"}
)  # fmt: skip
TRUTH_COLUMNS = frozenset({"supported", "on_front"})

# Objectives a study may minimise; a leading minus maximises.
DEFAULT_OBJECTIVES: tuple[str, ...] = ("loss", "total_s", "total_energy_j")


def check_objectives(objectives: Sequence[Any], study: str) -> None:
    """Makes sure that ``objectives`` span a front: columns of numbers of the trials table, each once.

    Raises:
        ValueError: they do not; names ``study``.
    """
    where = f"objectives of study {study}"
    if not objectives:
        raise ValueError(f"{where} must name at least one, not none")
    for name in objectives:
        if not isinstance(name, str) or name.removeprefix("-") not in TRIAL_COLUMNS:
            raise ValueError(f"{where} must be columns of the trials table, not {name!r}")
        if name.removeprefix("-") in TEXT_COLUMNS | TRUTH_COLUMNS:
            raise ValueError(f"{where} must be columns of numbers, not {name!r}")
    columns = [name.removeprefix("-") for name in objectives]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ValueError(f"{where} must differ, not repeat {', '.join(twice)}")


@dataclass(frozen=True, eq=False)
class StudyResult:
    """What a study found.

    Args:
        name: of the study.
        trials: table with ``TRIAL_COLUMNS``.
        layers: table with ``LAYER_COLUMNS``.
        machines: table with ``MACHINE_COLUMNS``.
        objectives: columns of ``trials`` that span the front; ``-column`` to maximise.
        manifest: versions, seeds, hashes, the source of every constant; JSON-able.
    """

    name: str
    trials: pd.DataFrame
    layers: pd.DataFrame
    machines: pd.DataFrame
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for table, columns, what in (
            (self.trials, TRIAL_COLUMNS, "trials"),
            (self.layers, LAYER_COLUMNS, "layers"),
            (self.machines, MACHINE_COLUMNS, "machines"),
        ):
            missing = [column for column in columns if column not in table.columns]
            if missing:
                raise ValueError(f"table {what} must have the columns {', '.join(missing)}, not only its others")

    def front(self) -> pd.DataFrame:
        """The trials on the front, best loss first."""
        return self.trials[self.trials["on_front"]].sort_values("loss", kind="stable")


def mark_front(trials: pd.DataFrame, objectives: Sequence[str]) -> pd.Series:
    """Which trials no other supported trial dominates in ``objectives``.

    Raises:
        ValueError: an objective is not a column.
    """
    unknown = [name for name in objectives if name.removeprefix("-") not in trials.columns]
    if unknown or not objectives:
        raise ValueError(f"objectives must be columns of the trials table, not {', '.join(unknown) or 'empty'}")
    signs = np.array([-1.0 if name.startswith("-") else 1.0 for name in objectives])
    costs = trials[[name.removeprefix("-") for name in objectives]].to_numpy(dtype=np.float64) * signs
    costs[~trials["supported"].to_numpy(dtype=bool)] = np.nan
    return pd.Series(pareto_mask(costs), index=trials.index, name="on_front")
