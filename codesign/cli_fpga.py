"""The command that puts an accelerator on an FPGA: what it takes, whether it fits, and how sure that is."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from codesign.console import show_json, show_table
from codesign.machines import accelerators_by_name
from codesign.messages import say
from hwmodel.accelerator import Accelerator
from hwmodel.fpga import DEVICES, device_by_name
from hwmodel.fpga_accelerator import FpgaEstimate, estimate_on_fpga
from hwmodel.fpga_calibration import load_calibration
from hwmodel.unit_cost import Figure


def devices() -> pd.DataFrame:
    """One row for each device."""
    columns = ("name", "device", "family", "luts", "flip_flops", "dsps", "bram36", "uram288", "offchip", "source")
    return pd.DataFrame([{name: getattr(device, name) for name in columns} for device in DEVICES.values()])


def _percent(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.1%}"


def parts_table(estimate: FpgaEstimate) -> pd.DataFrame:
    """One row for each part: count, LUTs, flip-flops and DSPs of one, blocks, what the LUTs are, their errors."""

    def value(figure: Figure | None) -> float | None:
        return None if figure is None else figure.value

    return pd.DataFrame(
        [
            {
                "part": part.name, "count": part.count, "luts": value(part.luts),
                "flip_flops": value(part.flip_flops), "dsps": value(part.dsps), "bram36": part.memory.bram36,
                "uram288": part.memory.uram288, "origin": "" if part.luts is None else part.luts.origin.value,
                "mean_error": None if part.luts is None else part.luts.mean_error,
                "worst_error": None if part.luts is None else part.luts.worst_error,
                "source": "counting rule" if part.luts is None else part.luts.source,
            }
            for part in estimate.parts
        ]
    )  # fmt: skip


def budget_table(estimate: FpgaEstimate) -> pd.DataFrame:
    """One row for each resource: used, capacity, share, the limit of a plan, whether it is kept."""
    return pd.DataFrame(
        [
            {"resource": use.resource, "used": use.used, "capacity": use.capacity, "share": use.share,
             "limit": use.limit, "fits": use.fits}
            for use in estimate.budget.uses
        ]
    )  # fmt: skip


def fpga(accelerator: str | None, *, device: str, dsp: bool, calibration: Path | None = None, as_json: bool) -> None:
    """What an accelerator takes of a board; without one, the boards."""
    if accelerator is None:
        show_table(devices(), title="FPGA devices", as_json=as_json)
        return
    board = device_by_name(device)
    (machine,) = accelerators_by_name((accelerator,)).values()
    if not isinstance(machine, Accelerator):
        raise ValueError(f"accelerator must be an array of PEs to be put on an FPGA, not the GPU {machine.name}")
    corrections = None if calibration is None else load_calibration(calibration)
    estimate = estimate_on_fpga(machine, board, dsp=dsp, calibration=corrections)
    parts, budget, error = parts_table(estimate), budget_table(estimate), estimate.lut_error
    planned = estimate.planning_clock_hz
    if as_json:
        show_json({
            "accelerator": estimate.accelerator, "device": estimate.device, "fits": estimate.budget.fits,
            "tightest": estimate.budget.tightest.resource, "copies": estimate.budget.copies, "lut_error": error,
            "clock_hz": estimate.clock_hz, "planning_clock_hz": planned, "missing": list(estimate.missing),
            "calibration": estimate.calibration,
            "parts": parts.to_dict(orient="records"), "budget": budget.to_dict(orient="records"),
        })  # fmt: skip
        return
    shown = parts.assign(mean_error=parts["mean_error"].map(_percent), worst_error=parts["worst_error"].map(_percent))
    show_table(shown, title=f"{estimate.accelerator} on {estimate.device}, each part once", as_json=False)
    show_table(budget, title="All of it, against FINN's planning limits", as_json=False)
    verdict = "fits" if estimate.budget.fits else f"does not fit ({estimate.budget.tightest.resource})"
    clock = "no published clock for this family" if planned is None else f"plan with {planned / 1e6:.0f} MHz"
    sure = "unknown for a part" if error is None else f"{error:.1%} expected, the packing rule aside"
    say(f"{verdict}; {clock} (the accelerator's own: {estimate.clock_hz / 1e6:.0f} MHz); error of the LUTs: {sure}")
    if estimate.calibration:
        say(estimate.calibration)
    say(f"not counted: {'; '.join(estimate.missing)}")
