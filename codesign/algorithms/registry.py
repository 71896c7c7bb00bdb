"""Every algorithm by name: one instance each, with its paper's defaults.

To add one, write its file and one line here; ``tests/codesign/algorithms/test_contract.py`` picks it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from enum import Enum
from typing import Any

from codesign.algorithms.ant import Ant
from codesign.algorithms.awq import Awq
from codesign.algorithms.base import Algorithm
from codesign.algorithms.bitmod import BitMoD
from codesign.algorithms.finequant import FineQuant
from codesign.algorithms.gptq import Gptq
from codesign.algorithms.gwq import Gwq
from codesign.algorithms.lqer import LowRankReconstruction, Scaling
from codesign.algorithms.nvfp4 import Nvfp4
from codesign.algorithms.olive import Olive
from codesign.algorithms.rtn import RoundToNearest
from codesign.algorithms.smoothquant import SmoothQuant
from codesign.algorithms.tender import Tender
from datatypes.nearest import nearest

ALGORITHMS: Mapping[str, Algorithm] = {
    "rtn": RoundToNearest(),
    "bitmod": BitMoD(),
    "ant": Ant(),
    "olive": Olive(),
    "nvfp4": Nvfp4(),
    "gptq": Gptq(),
    "awq": Awq(),
    "smoothquant": SmoothQuant(),
    "lqer": LowRankReconstruction(Scaling.IDENTITY),
    "l2qer": LowRankReconstruction(Scaling.MAGNITUDE),
    "qera_approximate": LowRankReconstruction(Scaling.ROOT_MEAN_SQUARE),
    "qera_exact": LowRankReconstruction(Scaling.SECOND_MOMENT),
    "gwq": Gwq(),
    "finequant": FineQuant(),
    "tender": Tender(),
}


def algorithm(name: str, options: Mapping[str, object] | None = None) -> Algorithm:
    """The algorithm called ``name``, with some of its hyper-parameters changed.

    Args:
        name: a key of ``ALGORITHMS``.
        options: hyper-parameters by field name, as a file gives them: enumerations by value, tuples as lists.

    Raises:
        ValueError: no such algorithm or hyper-parameter; the message names the nearest ones.

    >>> algorithm("gptq", {"act_order": False}).act_order
    False
    """
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, not {name!r}{nearest(name, ALGORITHMS)}")
    made: Any = ALGORITHMS[name]
    known = {f.name: getattr(made, f.name) for f in fields(made)}
    changed: dict[str, object] = {}
    for key, value in (options or {}).items():
        if key not in known:
            have = ", ".join(known) or "none"
            raise ValueError(f"option of {name} must be one of {have}, not {key!r}{nearest(key, known)}")
        changed[key] = _converted(f"{key} of {name}", value, known[key])
    chosen: Algorithm = replace(made, **changed)
    return chosen


def options_of(chosen: Algorithm) -> dict[str, object]:
    """The hyper-parameters of ``chosen`` that differ from its registered instance, as ``algorithm`` reads them.

    >>> options_of(algorithm("gptq", {"act_order": False}))
    {'act_order': False}
    """
    default: Any = ALGORITHMS[chosen.name]
    changed: dict[str, object] = {}
    for f in fields(default):
        value = getattr(chosen, f.name)
        if value != getattr(default, f.name):
            changed[f.name] = value.value if isinstance(value, Enum) else value
    return changed


def _converted(what: str, value: object, default: object) -> object:
    """``value`` in the type of the field's default."""
    if isinstance(default, Enum):
        kinds = type(default)
        if value not in [member.value for member in kinds]:
            known = ", ".join(str(member.value) for member in kinds)
            raise ValueError(f"{what} must be one of {known}, not {value!r}")
        return kinds(value)
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not all(_is_number(v) for v in value):
            raise TypeError(f"{what} must be a list of numbers, not {value!r}")
        return tuple(float(v) for v in value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise TypeError(f"{what} must be true or false, not {value!r}")
        return value
    if isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{what} must be a whole number, not {value!r}")
        return value
    if default is None and value is None:
        return None
    if not _is_number(value):
        raise TypeError(f"{what} must be a number, not {value!r}")
    return float(value)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
