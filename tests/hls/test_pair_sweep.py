"""Weight formats by activation formats of the catalogue, every code by every code, as the exporter multiplies them.

A sample always; all pairs under ``slow``, where ``-s`` shows how many were compared in which time. Weights of 16 bits
run on every code with native integers (``test_native_integers.py``), and on edges and drawn codes with those of
``ap_int.h``. Where the environment variable ``CODESIGN_SWEEP_LOG`` names a file, parts that it holds as equal are
skipped (``sweep_log.py``). Needs ``ap_int.h`` (extra ``hls``) and g++.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from datatypes.catalog import FORMATS, FP16, INTS
from datatypes.format import Format
from hls.c_arithmetics import Pair, arithmetic_of
from tests.hls.pair_sweep import (
    NATIVE_FLAGS,
    accepted_pairs,
    activations,
    codes_of,
    edge_codes,
    sweep,
    weights,
)
from tests.hls.sweep_log import digest, found_in, record

Pairs = list[tuple[Format, Format]]


def compare(pairs: Pairs, folder: Path, *, most: int, flags: tuple[str, ...], native: bool = False) -> int:
    """Compares all codes, prints how many, and returns that."""
    start = time.perf_counter()
    swept = list(sweep(pairs, folder, most=most, flags=flags, native=native))
    wrong = [one for one in swept if one.wrong]
    assert wrong == [] and {(w.name, a.name) for w, a in pairs} == {(one.weight, one.activation) for one in swept}
    compared = sum(one.compared for one in swept)
    print(f"{len(pairs)} pairs of formats, {compared} pairs of codes, {time.perf_counter() - start:.0f} s")
    return compared


def compare_once(pairs: Pairs, folder: Path, *, most: int, flags: tuple[str, ...], native: bool = False) -> None:
    """As ``compare``; skipped where the log has it, and else added to it."""
    log, how = os.environ.get("CODESIGN_SWEEP_LOG"), {"most": most, "flags": flags, "native": native}
    if log is None:
        compare(pairs, folder, **how)
        return
    key = digest(pairs, **how)
    if (found := found_in(Path(log), key)) is not None:
        pytest.skip(f"{log} holds it as equal: {found}")
    start = time.perf_counter()
    compared = compare(pairs, folder, **how)
    names = sorted({weight.name for weight, _ in pairs})
    which = f"{names[0] if len(names) == 1 else 'all weights'} by inputs of {pairs[0][1].bits} bits"
    record(Path(log), key, f"{which}: {len(pairs)} pairs, {compared} codes, {time.perf_counter() - start:.0f} s")


def sample() -> Pairs:
    """Pairs of each two widths, drawn, and a few of each kind."""
    kinds = {
        "int5": "e4m3",
        "nf4": "int3",
        "flint4": "flint3",
        "olive4_int": "e2m1",
        "pot4": "uint4",
        "dynamic8": "ternary",
        "fp16": "int2",
    }
    chosen = [(FORMATS[w], FORMATS[a]) for w, a in kinds.items()]
    drawn = np.random.default_rng(11).permutation(len(every := accepted_pairs()))
    met = {(w.bits, a.bits) for w, a in chosen}
    for index in drawn:
        weight, activation = every[index]
        widths = weight.bits, activation.bits
        if max(widths) <= 6 and widths not in met:
            met.add(widths)
            chosen.append(every[index])
    return chosen


def test_pairs_of_all_widths_on_every_code(needs_compiler: None, tmp_path: Path) -> None:
    pairs = sample()
    expected = sum(
        len(codes_of(w, as_activation=False, most=256)) * len(codes_of(a, as_activation=True)) for w, a in pairs
    )
    assert len(pairs) > 30 and compare(pairs, tmp_path, most=256, flags=("-O0",)) == expected


def test_formats_that_no_layer_holds() -> None:
    assert {name for name, fmt in FORMATS.items() if fmt not in weights()} == {"fp32", "int32", "e8m0", "ue4m3"}
    wide = {name for name in FORMATS if name.startswith("e7m0")}
    other = {"fp32", "bf16", "int16", "int32", "e8m0", "ue4m3", "olive4_int", "olive4_flint"}
    assert {name for name, fmt in FORMATS.items() if fmt not in activations()} == other | wide
    # what they accept but not with one another: sums beyond 128 bits
    refused = {(w.name, a.name) for w in weights() for a in activations()} - {
        (w.name, a.name) for w, a in accepted_pairs()
    }
    for weight, activation in [next(iter(sorted(refused))), ("e7m0", "int8")]:
        with pytest.raises(NotImplementedError, match="more than the 128 that headers hold"):
            arithmetic_of(Pair(FORMATS[weight], FORMATS[activation], 1, 1))


def test_values_are_those_of_the_catalogue() -> None:
    made = codes_of(INTS[4], as_activation=True)
    assert made[:, 0].tolist() == list(range(16)) and made[8].tolist() == [8, -8, -8]
    assert len(codes_of(FP16, as_activation=True)) == 2 * 31 * 1024  # all but the top exponent


def test_codes_at_the_edges_are_always_among_the_drawn() -> None:
    codes = codes_of(FP16, as_activation=False, most=4096)[:, 0].astype(int)
    values = FP16.code_values
    # zero, smallest and largest subnormal, smallest normal, one and its neighbours, largest: IEEE 754, binary16
    edges = {0x0000, 0x0001, 0x03FF, 0x0400, 0x3BFF, 0x3C00, 0x3C01, 0x7BFF}
    assert len(codes) == 4096 and edges | {code | 0x8000 for code in edges} <= set(codes)
    finite = np.flatnonzero(np.isfinite(values))
    assert (
        200 < len(edge_codes(finite, values[finite])) < 300
    )  # 40 powers of two, two signs, three each, subnormals less
    again = codes_of(FP16, as_activation=False, most=100)[:, 0].astype(int)
    assert sorted(again) == sorted(edge_codes(finite, values[finite]))  # none is drawn


def test_weights_of_sixteen_bits_on_every_code(needs_compiler: None, tmp_path: Path) -> None:
    """One input each, with native integers."""
    pairs = [(FORMATS[w], FORMATS[a]) for w, a in {"int16": "e2m1", "fp16": "int3", "bf16": "uint2"}.items()]
    expected = sum(len(codes_of(w, as_activation=False)) * len(codes_of(a, as_activation=True)) for w, a in pairs)
    assert compare(pairs, tmp_path, most=1 << 16, flags=("-O1",), native=True) == expected


@pytest.mark.slow
@pytest.mark.parametrize("bits", [*range(1, 10), 16])
def test_every_pair_on_every_code(needs_compiler: None, tmp_path: Path, bits: int) -> None:
    """All weights of up to 8 bits beside activations of a width."""
    pairs = [(w, a) for w, a in accepted_pairs() if a.bits == bits and w.bits <= 8]
    assert pairs
    compare_once(pairs, tmp_path, most=1 << 16, flags=("-O2",) if bits > 9 else ("-O1",))


@pytest.mark.slow
@pytest.mark.parametrize("bits", [*range(1, 10), 16])
@pytest.mark.parametrize("weight", ["int16", "fp16", "bf16"])
def test_every_pair_of_a_wide_weight_on_every_code(
    needs_compiler: None, tmp_path: Path, weight: str, bits: int
) -> None:
    """All of 2**16 codes beside activations of a width, with native integers."""
    pairs = [(w, a) for w, a in accepted_pairs() if a.bits == bits and w.name == weight]
    assert pairs
    compare_once(pairs, tmp_path, most=1 << 16, flags=NATIVE_FLAGS, native=True)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [*range(1, 10), 16])
@pytest.mark.parametrize("weight", ["int16", "fp16", "bf16"])
def test_wide_weights_on_drawn_codes(needs_compiler: None, tmp_path: Path, weight: str, bits: int) -> None:
    """The same with the integers of ``ap_int.h``, which take hours for all codes: edges and drawn ones, 4,096."""
    pairs = [(w, a) for w, a in accepted_pairs() if a.bits == bits and w.name == weight]
    assert pairs and {w.name for w, _ in accepted_pairs() if w.bits > 8} == {"int16", "fp16", "bf16"}
    compare_once(pairs, tmp_path, most=4096, flags=("-O1",))
