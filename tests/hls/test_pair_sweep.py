"""Weight formats by activation formats of the catalogue, every code by every code, as the exporter multiplies them.

A sample always; all pairs under ``slow``, where ``-s`` shows how many were compared. Needs ``ap_int.h`` (extra ``hls``)
and g++.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datatypes.catalog import FORMATS, FP16, INTS
from datatypes.format import Format
from hls.c_arithmetics import Pair, arithmetic_of
from tests.hls.pair_sweep import accepted_pairs, activations, codes_of, sweep, weights

Pairs = list[tuple[Format, Format]]


def compare(pairs: Pairs, folder: Path, *, most: int, flags: tuple[str, ...]) -> int:
    """Compares all codes, prints how many, and returns that."""
    swept = list(sweep(pairs, folder, most=most, flags=flags))
    wrong = [one for one in swept if one.wrong]
    assert wrong == [] and {(w.name, a.name) for w, a in pairs} == {(one.weight, one.activation) for one in swept}
    compared = sum(one.compared for one in swept)
    print(f"{len(pairs)} pairs of formats, {compared} pairs of codes")
    return compared


def sample() -> Pairs:
    """Pairs of each two widths, drawn, and a few of each kind."""
    kinds = {
        "int5": "e4m3",
        "nf4": "int3",
        "flint4": "flint3",
        "olive4_int": "e2m1",
        "pot4": "uint4",
        "dynamic8": "ternary",
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
    expected = sum(len(codes_of(w, as_activation=False)) * len(codes_of(a, as_activation=True)) for w, a in pairs)
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


@pytest.mark.slow
@pytest.mark.parametrize("bits", [*range(1, 10), 16])
def test_every_pair_on_every_code(needs_compiler: None, tmp_path: Path, bits: int) -> None:
    """All weights of up to 8 bits beside activations of a width."""
    pairs = [(w, a) for w, a in accepted_pairs() if a.bits == bits and w.bits <= 8]
    assert pairs and compare(pairs, tmp_path, most=1 << 16, flags=("-O2",) if bits > 9 else ("-O1",))


@pytest.mark.slow
def test_wide_weights_on_drawn_codes(needs_compiler: None, tmp_path: Path) -> None:
    """4,096 codes of formats of more than 9 bits: all of them beside one another are 10**10 pairs of codes."""
    pairs = [(w, a) for w, a in accepted_pairs() if w.bits > 8]
    assert pairs and compare(pairs, tmp_path, most=4096, flags=("-O1",))
