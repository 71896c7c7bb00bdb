"""Every code of a weight format by every code of an activation format, in C++: many pairs in one program.

A pair's arithmetic is the one that an export picks (``hls.c_arithmetics``). Formats whose codes one C++ number reads
share an instance of it, with a sum as wide as the widest of them takes. The program is handed the values of all
codes, and counts where a product is not theirs: exact in double, rounded to float32 once (``pair_sweep.h``).

Beside weights of 16 bits that is 10**10 products. So a program may have ``ap_int`` keep its values in the processor's
words (``native_integers``) instead of Vitis' loops over them, which take 1.5 microseconds a product beside FP16.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from datatypes.catalog import FORMATS, FP16, FP32
from datatypes.format import Format, IntFormat
from datatypes.granularity import PerChannel
from datatypes.layer_config import ScaleConfig, TensorConfig
from datatypes.outlier_victim import OutlierVictimFormat
from hls.ap_types import INCLUDE, compile_program
from hls.c_arithmetics import Pair, arithmetic_of
from hls.stage_planning import plan_stage

PROGRAM = """#include "pair_sweep.h"
static const comparison comparisons[] = {
INSTANCES
};
int main() { return run(comparisons); }
"""
HERE = Path(__file__).parent
NATIVE = HERE / "native_integers"
NATIVE_FLAGS = ("-O3", "-march=native")
INSTANCES_PER_PROGRAM = 400  # more take more memory than speed
LESS_A_ZERO_POINT = IntFormat("int9", 9, "a code of uint8 less its zero point")


@dataclass(frozen=True)
class Swept:
    """A pair that was compared.

    Args:
        weight, activation: names.
        compared, wrong: pairs of codes.
        first: codes of the first one that is wrong.
    """

    weight: str
    activation: str
    compared: int
    wrong: int
    first: tuple[int, int]


@cache
def weights() -> tuple[Format, ...]:
    """Formats of the catalogue, of up to 16 bits, that weights of an exported layer may have."""
    return tuple(fmt for fmt in FORMATS.values() if fmt.bits <= 16 and _accepted(fmt, FP16))


@cache
def activations() -> tuple[Format, ...]:
    """Formats that a stage of an exported layer hands on to its multipliers, as it hands them on."""
    made = [fmt for fmt in FORMATS.values() if _staged(fmt)]
    return (*made, LESS_A_ZERO_POINT)


def _staged(fmt: Format) -> bool:
    scale = None if fmt == FP16 else ScaleConfig(FP32)
    try:
        plan_stage(TensorConfig((fmt,), PerChannel(), scale, dynamic=scale is not None), 8, 1)
    except (NotImplementedError, ValueError):
        return False
    return any(_accepted(weight, fmt) for weight in (FORMATS["int4"], FORMATS["e2m1"]))


def _accepted(weight: Format, activation: Format) -> bool:
    try:
        arithmetic_of(Pair(weight, activation, weight.dim, weight.dim))
    except NotImplementedError:
        return False
    return True


def accepted_pairs() -> list[tuple[Format, Format]]:
    """Every pair that the exporter multiplies."""
    return [(w, a) for w in weights() for a in activations() if _accepted(w, a)]


def codes_of(fmt: Format, *, as_activation: bool, most: int = 1 << 16) -> np.ndarray:
    """Codes with their values, float64 ``[codes, 3]``: finite ones that are used.

    Of more than ``most``, powers of two, the largest, the smallest, zeros and the neighbours of all these; the others
    up to ``most`` are drawn. So are FP32's, 8,192 at most: it has no table of values.
    """
    if fmt == FP32:
        return _fp32_codes(min(most, 8192))
    if isinstance(fmt, OutlierVictimFormat):
        pairs = fmt.pair_table.astype(np.float64)
        codes = np.array([c for c in range(1 << fmt.bits) if c not in fmt.unused_codes])
        return np.column_stack([codes, pairs[codes]])
    values = fmt.code_values
    codes = np.array([c for c in np.flatnonzero(np.isfinite(values)) if int(c) not in fmt.unused_codes])
    if len(codes) > most:
        edges = edge_codes(codes, values[codes])
        drawn = np.random.default_rng(3).permutation(np.setdiff1d(codes, edges))[: max(most - len(edges), 0)]
        codes = np.sort(np.concatenate([edges, drawn]))
    # a product of one element, or of a pair whose both inputs are this code
    return np.column_stack([codes, values[codes], values[codes] if as_activation else np.zeros(len(codes))])


def _fp32_codes(most: int) -> np.ndarray:
    near = np.arange(-1, 2)
    powers = np.concatenate([np.arange(1, 256) << 23, 1 << np.arange(23), [0]])  # the last one is that of infinity
    edges = np.unique(np.clip(powers[:, None] + near, 0, (255 << 23) - 1))
    edges = np.concatenate([edges, edges + (1 << 31)])
    drawn = np.random.default_rng(3).integers(0, 1 << 32, 2 * most)
    drawn = np.setdiff1d(drawn[(drawn >> 23 & 255) < 255], edges)[: max(most - len(edges), 0)]
    codes = np.sort(np.concatenate([edges, drawn]))
    return np.column_stack([codes, codes.astype(np.uint32).view(np.float32), np.zeros(len(codes))])


def edge_codes(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Codes of powers of two and zero, of the largest and smallest value, and of the values next to these.

    >>> edge_codes(np.arange(9), np.array([-8.0, -7.0, -6.0, -5.0, 0.0, 3.0, 5.0, 6.0, 9.0]))
    array([0, 1, 3, 4, 5, 7, 8])
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    met = np.flatnonzero(np.isin(np.abs(np.frexp(ordered)[0]), (0.0, 0.5)) | (ordered == ordered[0]))
    places = np.concatenate([met, met - 1, met + 1, [len(codes) - 2, len(codes) - 1]])
    edges: np.ndarray = np.sort(codes[order[np.unique(np.clip(places, 0, len(codes) - 1))]])
    return edges


def sweep(
    pairs: Sequence[tuple[Format, Format]],
    folder: Path,
    *,
    most: int = 1 << 16,
    flags: Sequence[str] = ("-O1",),
    native: bool = False,
) -> Iterable[Swept]:
    """Compile the arithmetics of ``pairs`` and compare all codes.

    Args:
        pairs: of formats.
        folder: to work in.
        most: codes of a format of more than 8 bits.
        flags: of the compiler.
        native: integers of ``native_integers``, not those of ``ap_int.h``.
    """
    instances: dict[str, list[tuple[Format, Format]]] = {}
    for one, made in _shared(pairs).items():
        instances.setdefault(made, []).extend(one)
    chosen = list(instances.items())
    for place, first in enumerate(range(0, len(chosen), INSTANCES_PER_PROGRAM)):
        batch, program = chosen[first : first + INSTANCES_PER_PROGRAM], folder / f"sweep_{place}"
        source = program.with_suffix(".cpp")
        source.write_text(PROGRAM.replace("INSTANCES", ",\n".join(f"    compare<{text}>" for text, _ in batch)))
        compile_program([source], program, flags=flags, includes=(*((NATIVE,) if native else ()), HERE, INCLUDE))
        yield from _run(batch, program, most)


def _shared(pairs: Sequence[tuple[Format, Format]]) -> dict[tuple[tuple[Format, Format], ...], str]:
    """Pairs by the arithmetic that all of them may have: but for the width of its sum, which a longer group widens."""
    alike: dict[str, list[tuple[Format, Format, str, int]]] = {}
    for weight, activation in pairs:
        made = arithmetic_of(Pair(weight, activation, weight.dim, weight.dim))
        key = made.type.replace(f", {made.sum_bits}>", ", SUM>") if made.sum_bits else made.type
        alike.setdefault(key, []).append((weight, activation, key, made.sum_bits))
    shared = {}
    for key, group in alike.items():
        widest = max(bits for *_, bits in group)
        shared[tuple((weight, activation) for weight, activation, *_ in group)] = key.replace("SUM", str(widest))
    return shared


def _run(instances: Sequence[tuple[str, list[tuple[Format, Format]]]], program: Path, most: int) -> Iterable[Swept]:
    tables: dict[tuple[str, bool], tuple[int, np.ndarray]] = {}

    def table(fmt: Format, as_activation: bool) -> int:
        key = (fmt.name, as_activation)
        if key not in tables:
            tables[key] = (len(tables), codes_of(fmt, as_activation=as_activation, most=most))
        return tables[key][0]

    listed = [
        (index, table(weight, False), table(activation, True), weight, activation)
        for index, (_, pairs) in enumerate(instances)
        for weight, activation in pairs
    ]
    file = [struct.pack("<Q", len(tables))]
    for _, found in tables.values():
        file += [struct.pack("<Q", len(found)), np.ascontiguousarray(found, "<f8").tobytes()]
    file.append(struct.pack("<Q", len(listed)))
    file += [struct.pack("<QQQ", *one[:3]) for one in listed]
    done = subprocess.run([str(program)], input=b"".join(file), capture_output=True, check=True).stdout.decode()
    for (*_, weight, activation), line in zip(listed, done.splitlines(), strict=True):
        compared, wrong, w, a = (int(word) for word in line.split())
        yield Swept(weight.name, activation.name, compared, wrong, (w, a))
