"""Lists of what there is: formats, accelerators, models and texts; nothing here loads torch."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from codesign.console import show_json, show_table
from codesign.messages import say
from codesign.package_models import PACKAGE_MODELS
from codesign.text import TEXTS
from datatypes.catalog import FORMATS, format_by_name
from datatypes.format_facts import describe
from datatypes.outlier_victim import OutlierVictimFormat
from hwmodel.gpu import Gpu, Machine
from hwmodel.gpu_presets import MACHINES

FORMAT_COLUMNS = ("name", "bits", "levels", "maximum", "min_normal", "min_subnormal", "nan_codes", "tie", "source")


def formats() -> pd.DataFrame:
    """One row for each format."""
    return pd.DataFrame([asdict(describe(fmt)) for fmt in FORMATS.values()])


def format_codes(name: str, *, as_json: bool) -> None:
    """Every code of one format with its value (or values, for codes of several elements).

    Raises:
        ValueError: no such format; or one whose values belong to each tensor, or that has too many codes for a table.
    """
    fmt = format_by_name(name)
    try:
        table = fmt.pair_table if isinstance(fmt, OutlierVictimFormat) else fmt.code_values
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(f"format {name} must have a table of values to list, but has none ({error})") from None
    digits = -(-fmt.bits // 4)
    rows = [
        {"code": code, "hex": f"{code:0{digits}x}", "value": value if np.ndim(value) else float(value)}
        for code, value in enumerate(table.tolist())
    ]
    if as_json:
        show_json({**asdict(describe(fmt)), "codes": rows})
        return
    facts = describe(fmt)
    show_table(pd.DataFrame([{**row, "value": str(row["value"])} for row in rows]), title=facts.name, as_json=False)
    say(f"ties go to {facts.tie}; {facts.overflow}; source: {facts.source}")


def accelerators() -> pd.DataFrame:
    """One row for each preset."""
    return pd.DataFrame(
        [
            {
                "name": machine.name,
                **_array_of(machine),
                "clock_ghz": machine.frequency_hz / 1e9,
                "area_mm2": machine.area_mm2,
                "dram": machine.dram.name,
                "source": machine.source,
            }
            for machine in MACHINES.values()
        ]
    )


def _array_of(machine: Machine) -> dict[str, object]:
    """What multiplies, how many there are, and multiply-adds of each in a cycle."""
    if isinstance(machine, Gpu):
        lanes = round(machine.macs_per_cycle() / machine.multiprocessors)
        return {"pe": "tensor_cores_fp16", "pes": machine.multiprocessors, "lanes": lanes}
    return {"pe": machine.pe.name, "pes": machine.pe_count, "lanes": machine.pe.lanes}


def models() -> pd.DataFrame:
    """One row for each packaged model."""
    return pd.DataFrame(
        [
            {"name": name, "licence": model.licence, "grid": model.grid, "source": model.source}
            for name, model in PACKAGE_MODELS.items()
        ]
    )


def texts() -> pd.DataFrame:
    """One row for each named text."""
    return pd.DataFrame([{"name": name, "about": (load.__doc__ or "").strip()} for name, load in TEXTS.items()])


def show_formats(*, as_json: bool) -> None:
    """All formats."""
    show_table(formats(), title="Formats", as_json=as_json, columns=FORMAT_COLUMNS)


def show_accelerators(*, as_json: bool) -> None:
    """All presets."""
    show_table(accelerators(), title="Accelerators", as_json=as_json)


def show_models(*, as_json: bool) -> None:
    """All packaged models, and all named texts."""
    tables = {"models": models(), "texts": texts()}
    if as_json:
        show_json({name: table.to_dict(orient="records") for name, table in tables.items()})
        return
    for name, table in tables.items():
        show_table(table, title=name.capitalize(), as_json=False)
