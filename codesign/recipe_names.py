"""Names of recipes: what ``gptq_int4_asym_g128_a8_kv8`` says about algorithm and encodings.

    [algorithm_] element [_asym] [_g128 | _channel | _tensor] [_scale] [_a8 | _amxfp8_e4m3] [_kv8]

*element* is ``fp16``, ``intN`` (symmetric; ``_asym`` for a zero point), a BitMoD mixture ``bitmod3`` or ``bitmod4``,
``ant4``, ``olive4``, a block format (``mxfp4``, ``mxfp6_e2m3``, ``nvfp4``, ...) or any format of the catalogue; *scale*
is ``fp16`` (default), ``bf16``, ``fp32``, ``e8m0``, ``uint8`` (under an FP16 step for each channel), for groups also
``dq`` (QLoRA's double quantization), or for groups of ``_asym`` ``uint3`` (SpQR's two levels of scales and zero
points); ``_aN`` are N-bit integer activations with a scale for each token, ``_a`` with a block format behind it
(``_amxfp4``, ``_amxfp8_e4m3``, ``_amxint8``, ``_anvfp4``) inputs in blocks whose scales are computed at run time;
``_kvN`` an N-bit KV cache with a scale for each token and head, and a zero point below 8 bits. An algorithm that keeps
something beside the weight gets it with its paper's defaults; ``tender`` has inputs in channel groups, as wide as the
weight or of ``_aN`` bits. Learned and fixed code books have names of their own (``codesign.codebook_names``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from codesign.algorithms.base import Algorithm
from codesign.algorithms.lqer import LowRankReconstruction
from codesign.algorithms.registry import ALGORITHMS
from codesign.algorithms.tender import tender_activation
from codesign.codebook_names import FAMILIES, codebook_config
from datatypes.block_formats import BLOCK_FORMATS, bilevel, double_quantized, integer_asymmetric
from datatypes.catalog import ALIASES, BF16, E8M0, FORMATS, FP16, FP32, INTS_SYMMETRIC, MIXTURES, UINT8, formats_by_name
from datatypes.format import Format
from datatypes.granularity import Granularity, PerChannel, PerGroup, PerTensor
from datatypes.layer_config import LayerConfig, LowRankConfig, OutlierConfig, ScaleConfig, ScaleRule, TensorConfig
from datatypes.nearest import nearest

_SYMMETRIC_CACHE = 8
GRAMMAR = "[algorithm_]element[_asym][_g128|_channel|_tensor][_scale][_a8|_amxfp8_e4m3][_kv8]"
_SCALES: Mapping[str, ScaleConfig] = {
    "fp16": ScaleConfig(FP16),
    "bf16": ScaleConfig(BF16),
    "fp32": ScaleConfig(FP32),
    "e8m0": ScaleConfig(E8M0, ScaleRule.POW2_FLOOR),
    "uint8": ScaleConfig(UINT8, outer=FP16, outer_granularity=PerChannel()),
}
_TWO_LEVELS = ("dq", "uint3")
_BLOCKS = ("mxfp4", "mxfp4_ceil", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2", "mxint8", "nvfp4")
_WHOLE: Mapping[str, str] = {  # elements that say their granularity themselves
    **{name: name for name in _BLOCKS},
    "ant4": "ant4_channel_fp16",
    "olive4": "olive4_channel_fp16",
}
_OWN_ALGORITHM: Mapping[str, str] = {
    "ant4": "ant",
    "olive4": "olive",
    **dict.fromkeys(("bitmod3", "bitmod4", "bitmod_fp3", "bitmod_fp4"), "bitmod"),
}
MAX_ELEMENT_BITS = 8  # wider elements need no scale
_LOW_RANK = frozenset(a.name for a in ALGORITHMS.values() if isinstance(a, LowRankReconstruction))
_SMOOTHED = frozenset({"awq", "smoothquant"})
_RANK = 32  # of the low-rank branch: Zhang et al., LQER, arXiv 2402.02446


def parse_recipe_name(name: str, known_names: Iterable[str] = ()) -> tuple[Algorithm | None, LayerConfig]:
    """Algorithm and encoding of the linear layers that ``name`` says.

    No algorithm where weights stay in FP16, or where none here makes the encoding (code books).

    Args:
        name: in the grammar, read from the right.
        known_names: recipes that a message may name as nearest.

    Raises:
        ValueError: not in the grammar.
    """
    parts = name.split("_")
    cache = _popped_number(parts, "kv")
    activation = _popped_blocks(parts) or _token_integers(_popped_number(parts, "a"))
    if (book := codebook_config("_".join(parts))) is not None:
        return None, replace(book, activation=activation, key=_cache(cache), value=_cache(cache))
    scale = None
    if len(parts) > 1 and parts[-1] in (*_SCALES, *_TWO_LEVELS) and _is_granularity(parts[-2]):
        scale = parts.pop()
    granularity = parts.pop() if len(parts) > 1 and _is_granularity(parts[-1]) else None
    asymmetric = len(parts) > 1 and parts[-1] == "asym"
    if asymmetric:
        parts.pop()
    element, chosen = "_".join(parts), None
    if not _is_element(element):  # else an algorithm may stand in front, the longest that fits
        chosen = max((a for a in ALGORITHMS if element.startswith(a + "_")), key=len, default=None)
        element = element if chosen is None else element.removeprefix(chosen + "_")
        if element.startswith(FAMILIES):
            raise ValueError(f"recipe {name!r} must be without {chosen}, which does not encode in code books")
    weight = _weight(name, element, granularity, scale, asymmetric, known_names)
    linear = LayerConfig(weight=weight, activation=activation, key=_cache(cache), value=_cache(cache))
    if weight is None:
        if chosen is not None:
            raise ValueError(f"recipe {name!r} must name a weight format for {chosen}, not fp16")
        return None, linear
    chosen = chosen or _OWN_ALGORITHM.get(element, "rtn")
    return ALGORITHMS[chosen], _with_parts(linear, weight, chosen)


def _weight(
    name: str, element: str, granularity: str | None, scale: str | None, asymmetric: bool, known_names: Iterable[str]
) -> TensorConfig | None:
    if element in _WHOLE:
        if granularity is not None or asymmetric:
            raise ValueError(f"recipe {name!r} must not say a granularity or asym: {element} has its own")
        return BLOCK_FORMATS[_WHOLE[element]]
    if element == "fp16" and granularity is None and not asymmetric:
        return None
    formats = _formats(element)
    if formats is None:
        hint = nearest(name, known_names) or nearest(element, _elements())
        raise ValueError(f"recipe must be one of the list (codesign recipes) or {GRAMMAR}, not {name!r}{hint}")
    if formats[0].bits > MAX_ELEMENT_BITS:
        raise ValueError(f"recipe {name!r} must have elements of at most {MAX_ELEMENT_BITS} bits where they are scaled")
    if granularity is None:
        raise ValueError(
            f"recipe {name!r} must say its granularity: {element}_g128, {element}_channel, {element}_tensor"
        )
    tiles = _granularity(granularity)
    if scale in _TWO_LEVELS:
        return _two_levels(name, formats, tiles, scale, asymmetric)
    if not asymmetric:
        return TensorConfig(formats, tiles, _SCALES[scale or "fp16"])
    if formats[0] not in INTS_SYMMETRIC.values() or isinstance(tiles, PerTensor) or scale not in (None, "fp16"):
        raise ValueError(f"recipe {name!r} must have integers in groups or channels with fp16 scales to be asym")
    return replace(integer_asymmetric(formats[0].bits, 1), granularity=tiles)


def _two_levels(
    name: str, formats: tuple[Format, ...], tiles: Granularity, scale: str | None, asymmetric: bool
) -> TensorConfig:
    """Groups whose scales are codes of 8 bits (``dq``), or scales and zero points codes of 3 bits (``uint3``)."""
    if not isinstance(tiles, PerGroup) or asymmetric != (scale == "uint3"):
        wanted = "asym with groups" if scale == "uint3" else "groups and not asym"
        raise ValueError(f"recipe {name!r} must have {wanted} to have scales of {scale}")
    if scale == "dq":
        return double_quantized(formats, tiles.group_size)
    if formats[0] not in INTS_SYMMETRIC.values():
        raise ValueError(f"recipe {name!r} must have integers to be asym")
    return bilevel(formats[0].bits, tiles.group_size)


def _formats(element: str) -> tuple[Format, ...] | None:
    """The candidates that ``element`` means; ``None`` where it means nothing."""
    digits = element.removeprefix("int")
    if digits != element and digits.isdigit():
        return (INTS_SYMMETRIC[int(digits)],) if int(digits) in INTS_SYMMETRIC else None
    digits = element.removeprefix("bitmod")
    try:
        return formats_by_name(f"bitmod_fp{digits}" if digits != element and digits.isdigit() else element)
    except ValueError:
        return None


def _is_element(element: str) -> bool:
    return element == "fp16" or element in _WHOLE or _formats(element) is not None


def _elements() -> list[str]:
    return [*(f"int{bits}" for bits in INTS_SYMMETRIC), "bitmod3", "bitmod4", *_WHOLE, *MIXTURES, *ALIASES, *FORMATS]


def _with_parts(linear: LayerConfig, weight: TensorConfig, chosen: str) -> LayerConfig:
    """What the algorithm puts beside the weight, at its paper's defaults."""
    if chosen in _LOW_RANK:
        factor = TensorConfig((INTS_SYMMETRIC[8],), weight.granularity, ScaleConfig(FP16))
        return replace(linear, low_rank=LowRankConfig(_RANK, factor, factor))
    if chosen == "gwq":
        return replace(linear, outliers=OutlierConfig())
    if chosen in _SMOOTHED:
        return replace(linear, smoothing=FP16)
    if chosen == "tender":
        bits = weight.formats[0].bits if linear.activation is None else int(linear.activation.code_bits)
        return replace(linear, activation=tender_activation(bits))
    return linear


def _is_granularity(part: str) -> bool:
    return part in ("channel", "tensor") or (part[:1] == "g" and part[1:].isdigit())


def _granularity(part: str) -> Granularity:
    if part == "channel":
        return PerChannel()
    return PerTensor() if part == "tensor" else PerGroup(int(part[1:]))


def _popped_number(parts: list[str], letters: str) -> int | None:
    """The number behind ``letters`` in the last part, taken off; ``None`` where it is something else."""
    number = parts[-1].removeprefix(letters)
    if len(parts) < 2 or number == parts[-1] or not number.isdigit():
        return None
    bits = int(number)
    if bits not in INTS_SYMMETRIC:
        raise ValueError(f"bits behind {letters!r} must be 2 to 8, not {bits}")
    parts.pop()
    return bits


def _popped_blocks(parts: list[str]) -> TensorConfig | None:
    """The block format behind ``a`` in the last parts, taken off, scaled at run time; ``None`` where it is no such."""
    for block in _BLOCKS:
        words = f"a{block}".split("_")
        if len(parts) > len(words) and parts[-len(words) :] == words:
            del parts[-len(words) :]
            return replace(BLOCK_FORMATS[block], dynamic=True)
    return None


def _token_integers(bits: int | None) -> TensorConfig | None:
    """Symmetric integers with a scale for each token, computed at run time."""
    return None if bits is None else TensorConfig((INTS_SYMMETRIC[bits],), PerChannel(), dynamic=True)


def _cache(bits: int | None) -> TensorConfig | None:
    """Integers with a scale for each token and head, computed at run time; with a zero point below 8 bits.

    Eight bits stay symmetric: less a zero point they would need nine, which no 8-bit multiplier takes.
    """
    if bits == _SYMMETRIC_CACHE:
        return _token_integers(bits)
    return None if bits is None else replace(integer_asymmetric(bits, 1), granularity=PerChannel(), dynamic=True)
