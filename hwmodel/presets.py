"""Accelerators that come with the project, every number with its source. ``ACCELERATORS`` maps names to them.

To add one, add an instance to the file of its family (``presets_*.py``) and list it in ``_ALL``; the laws in
``tests/hwmodel`` pick it up from there. A user's own accelerator is a YAML file, read by ``hwmodel.accelerator_file``.
"""

from __future__ import annotations

from collections.abc import Mapping

from datatypes.nearest import nearest
from hwmodel.accelerator import Accelerator
from hwmodel.presets_bitmod import ANT as ANT
from hwmodel.presets_bitmod import ANT_PE as ANT_PE
from hwmodel.presets_bitmod import BITMOD as BITMOD
from hwmodel.presets_bitmod import BITMOD_PE as BITMOD_PE
from hwmodel.presets_bitmod import FIGNA as FIGNA
from hwmodel.presets_bitmod import FIGNA_PE as FIGNA_PE
from hwmodel.presets_bitmod import FP16_BASELINE as FP16_BASELINE
from hwmodel.presets_bitmod import FP16_PE as FP16_PE
from hwmodel.presets_bitmod import OLIVE as OLIVE
from hwmodel.presets_bitmod import OLIVE_PE as OLIVE_PE
from hwmodel.presets_blocks import LUT, MX
from hwmodel.presets_fused import ANT_INT, BITFUSION, OLIVE_INT, TENDER
from hwmodel.presets_serial import BISMO_PYNQ, BISMO_ULTRA96, BITLET, BITVERT, LOOM, PRAGMATIC, STRIPES

_ALL = (
    FP16_BASELINE, BITMOD, ANT, OLIVE, FIGNA, BITFUSION, ANT_INT, OLIVE_INT, TENDER, STRIPES, LOOM, BITLET, PRAGMATIC,
    BITVERT, MX, LUT, BISMO_PYNQ, BISMO_ULTRA96,
)  # fmt: skip
ACCELERATORS: Mapping[str, Accelerator] = {accelerator.name: accelerator for accelerator in _ALL}


def accelerator_by_name(name: str) -> Accelerator:
    """The preset called ``name``.

    Raises:
        ValueError: no such preset; the message names the nearest ones.
    """
    if name in ACCELERATORS:
        return ACCELERATORS[name]
    hint = nearest(name, ACCELERATORS) or f"; there are {', '.join(ACCELERATORS)}"
    raise ValueError(f"accelerator must be one of the presets (codesign accelerators), not {name!r}{hint}")
