"""The roofline of a trial's accelerator with the trial's layers on it (Williams et al., CACM 52(4), 2009, section 2).

The intensity counts DRAM traffic alone. The flat roof of the machines table is for 4-bit weights; other recipes run
slower or faster, so a second roof shows the fastest rate any layer of this trial reaches if memory were free.
Layers without multiplications or without DRAM traffic have no place on the chart and are counted in ``left_out``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from plotly import graph_objects as go

from codesign.dashboard.layer_costs import PHASES, TrialKey, layer_costs
from codesign.dashboard.theme import KIND_TITLES, PHASE_TITLES, QUIET, colour, figure, kind_colour, plain
from codesign.study import StudyResult
from hwmodel.units import BYTE_BITS

PHASE_SYMBOLS = {"prefill": "circle", "decode": "diamond"}


@dataclass(frozen=True, eq=False)
class RooflineInfo:
    """A machine's ceilings and one point for each group of layers and phase.

    Args:
        trial: whose they are.
        names, kinds, phases: of each point.
        intensity_macs_per_byte: float ``[points]``, over DRAM bytes.
        macs_per_s: float ``[points]``, reached.
        shares: float ``[points]``, of the cycles of its phase.
        peak_macs_per_s: of the machine at 4-bit weights.
        trial_macs_per_s: the highest rate of a layer of this trial if memory were free; NaN without such a layer.
        dram_bytes_per_s: of the machine.
        left_out: groups with no multiplications or no DRAM traffic.
    """

    trial: TrialKey
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    phases: tuple[str, ...]
    intensity_macs_per_byte: np.ndarray
    macs_per_s: np.ndarray
    shares: np.ndarray
    peak_macs_per_s: float
    trial_macs_per_s: float
    dram_bytes_per_s: float
    left_out: int


def roofline(result: StudyResult, trial: TrialKey) -> RooflineInfo:
    """Points and ceilings of a trial.

    Raises:
        ValueError: a trial the study does not hold, or an accelerator missing from the machines table.
    """
    machine = result.machines[result.machines["accelerator"] == trial.accelerator]
    if not len(machine):
        raise ValueError(f"accelerator must be in the machines table of study {result.name}, not {trial.accelerator!r}")
    clock_hz = float(machine["clock_hz"].iloc[0])
    names: list[str] = []
    kinds: list[str] = []
    phases: list[str] = []
    values: list[np.ndarray] = []
    best, left_out = float("nan"), 0
    for phase in PHASES:
        costs = layer_costs(result, trial, phase)
        macs, cycles, dram_bits = costs.sums["macs"], costs.sums["cycles"], costs.sums["dram_bits"]
        compute = costs.sums["compute_cycles"]
        busy = (macs > 0) & (compute > 0)
        if busy.any():
            best = float(np.fmax(best, (macs[busy] / compute[busy]).max() * clock_hz))
        shown = np.flatnonzero((macs > 0) & (dram_bits > 0) & (cycles > 0))
        left_out += len(macs) - len(shown)
        names += [costs.names[row] for row in shown]
        kinds += [costs.kinds[row] for row in shown]
        phases += [phase] * len(shown)
        values.append(
            np.stack([
                macs[shown] / (dram_bits[shown] / BYTE_BITS),
                macs[shown] / cycles[shown] * clock_hz,
                cycles[shown] / cycles.sum(),
            ])
        )  # fmt: skip
    intensity, rate, shares = np.concatenate(values, axis=1)
    return RooflineInfo(
        trial=trial,
        names=tuple(names),
        kinds=tuple(kinds),
        phases=tuple(phases),
        intensity_macs_per_byte=intensity,
        macs_per_s=rate,
        shares=shares,
        peak_macs_per_s=float(machine["peak_macs_per_s"].iloc[0]),
        trial_macs_per_s=best,
        dram_bytes_per_s=float(machine["dram_bytes_per_s"].iloc[0]),
        left_out=left_out,
    )


def roof(info: RooflineInfo, peak_macs_per_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a roof, intensity in macs per byte and rate in macs per second, wide enough for all points.

    The slope meets the flat part at ``peak / bandwidth``; the ends are a factor of 4 beyond points and corner.
    """
    corner = peak_macs_per_s / info.dram_bytes_per_s
    low = min([corner, *info.intensity_macs_per_byte]) / 4.0
    high = max([corner, *info.intensity_macs_per_byte]) * 4.0
    x = np.array([low, corner, high])
    return x, np.minimum(x * info.dram_bytes_per_s, peak_macs_per_s)


def draw_roofline(info: RooflineInfo) -> go.Figure:
    """Log-log chart; the parts are ``roof`` (4-bit weights), ``trial_roof`` and ``points`` for each phase."""
    traces = []
    for part, title, peak, dash in (
        ("roof", "Roof at 4-bit weights", info.peak_macs_per_s, "solid"),
        ("trial_roof", "Roof at this recipe", info.trial_macs_per_s, "dash"),
    ):
        x, y = roof(info, peak) if np.isfinite(peak) else (np.empty(0), np.empty(0))
        line = {"width": 2, "dash": dash, "color": QUIET["light"] if part == "roof" else colour(0)}
        traces.append(go.Scatter(meta=part, name=title, x=x, y=y, mode="lines", line=line, hoverinfo="skip"))
    for phase in PHASES:
        mine = [index for index, name in enumerate(info.phases) if name == phase]
        traces.append(
            go.Scatter(
                meta="points",
                name=PHASE_TITLES[phase],
                x=info.intensity_macs_per_byte[mine],
                y=info.macs_per_s[mine],
                mode="markers",
                marker={
                    "symbol": PHASE_SYMBOLS[phase],
                    "size": 8.0 + 18.0 * np.sqrt(info.shares[mine]),
                    "color": [kind_colour(info.kinds[index]) for index in mine],
                    "opacity": 0.85,
                    "line": {"width": 1, "color": "#ffffff"},
                },
                text=[plain(info.names[index]) for index in mine],
                customdata=[[KIND_TITLES.get(info.kinds[i], plain(info.kinds[i])), info.shares[i]] for i in mine],
                hovertemplate=(
                    f"%{{text}}<br>%{{customdata[0]}}, {PHASE_TITLES[phase].lower()}<br>%{{x:.3~g}} MAC/byte"
                    "<br>%{y:.3~s}MAC/s<br>%{customdata[1]:.1%} of the cycles<extra></extra>"
                ),
            )
        )
    return figure(
        traces,
        height=420,
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        hovermode="closest",
        xaxis={"type": "log", "title": {"text": "MAC per byte of DRAM traffic", "standoff": 8}, "tickformat": "~g"},
        yaxis={"type": "log", "title": {"text": "MAC per second", "standoff": 8}, "tickformat": "~s"},
    )
