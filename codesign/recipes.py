"""Recipes: what a study does to a model, by name.

A recipe says which algorithm encodes the linear layers and into what, what happens to the head and the embedding (FP16
unless said otherwise), and in which formats activations and the KV cache are kept. ``recipe`` resolves a name: one of
``RECIPES``, or any other in the grammar of ``codesign.recipe_names``. A user's own come as dictionaries out of YAML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from codesign.algorithms.base import Algorithm
from codesign.algorithms.lqer import l2qer_mxint_config
from codesign.algorithms.registry import ALGORITHMS, algorithm, options_of
from codesign.algorithms.tender import tender_activation
from codesign.calibration import Statistic
from codesign.recipe_names import parse_recipe_name
from datatypes.config_json import config_from_dict, config_to_dict
from datatypes.granularity import PerGroup
from datatypes.layer_config import LayerConfig, TensorConfig
from datatypes.nearest import nearest
from hwmodel.workload import ATTENTION_KINDS, LayerKind, LayerSpec


@dataclass(frozen=True)
class Recipe:
    """What is done to a model.

    Args:
        name: as it was asked for.
        algorithm: encodes the linear layers; ``None`` where they stay as they are, or where none here makes the
            encoding that ``linear`` names: such a recipe is priced, and quantizes nothing.
        linear: encoding of linear layers and convolutions; its ``key`` and ``value`` are the KV cache's formats.
        head: encoding of the output projection, by round-to-nearest; ``None`` for FP16.
        embedding: encoding of the embedding's rows, by round-to-nearest; ``None`` for FP16.
        note: where it comes from.
    """

    name: str
    algorithm: Algorithm | None
    linear: LayerConfig
    head: LayerConfig | None = None
    embedding: LayerConfig | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.algorithm is not None and self.linear.weight is None:
            raise ValueError(f"recipe {self.name} must have a weight encoding for its algorithm")

    @property
    def priced_alone(self) -> bool:
        """Whether it names an encoding that no algorithm here makes."""
        return self.algorithm is None and self.linear.weight is not None

    @property
    def needs(self) -> frozenset[Statistic]:
        """Calibration statistics that must be gathered first."""
        return frozenset() if self.algorithm is None else self.algorithm.needs

    def config_of(self, layer: LayerSpec) -> LayerConfig:
        """The encoding of one layer of a workload before an algorithm has adapted it."""
        if layer.kind in ATTENTION_KINDS:
            return LayerConfig(key=self.linear.key, value=self.linear.value)
        if layer.kind is LayerKind.EMBEDDING:
            return self.embedding or LayerConfig()
        if layer.kind in (LayerKind.LINEAR, LayerKind.CONV):
            return (self.head or LayerConfig()) if layer.head else self.linear
        return LayerConfig()


def recipe(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        ValueError: neither in ``RECIPES`` nor in the grammar; the message names the nearest ones.

    >>> recipe("int5_g64_fp16").linear.storage_bits((4096, 4096)).bits_per_weight((4096, 4096))
    5.25
    >>> recipe("gptq_bitmod3_g128").algorithm.name
    'gptq'
    """
    if name in RECIPES:
        return RECIPES[name]
    return Recipe(name, *parse_recipe_name(name, RECIPES))


def check_quantizes(made: Recipe) -> None:
    """Refuse a recipe whose encoding no algorithm here makes.

    Raises:
        ValueError: that is so.
    """
    if made.priced_alone:
        raise ValueError(
            f"recipe must have an algorithm to encode weights, and {made.name} is an encoding alone, which codesign "
            "estimate, simulate, serving and explore price"
        )


def check_groups(made: Recipe, rows: Iterable[int], model: str) -> None:
    """Refuse groups that no linear layer of a model is long enough for; shorter rows are one ragged group.

    Args:
        made: the recipe.
        rows: in_features of the model's linear layers.
        model: its name, for the message.

    Raises:
        ValueError: the groups are longer than every row.
    """
    weight = made.linear.weight
    longest = max(rows, default=0)
    if not isinstance(weight, TensorConfig) or not isinstance(weight.granularity, PerGroup) or not longest:
        return
    group_size = weight.granularity.group_size
    if group_size > longest and not weight.granularity.along_output:
        raise ValueError(
            f"group_size of recipe {made.name} must be at most {longest}, the longest row (in_features) of {model}, "
            f"not {group_size}"
        )


def recipe_to_dict(made: Recipe) -> dict[str, Any]:
    """``made`` as a dictionary for YAML and JSON; ``recipe_from_dict`` reads it."""
    written: dict[str, Any] = {"name": made.name, "linear": config_to_dict(made.linear)}
    if made.priced_alone:
        written["algorithm"] = NO_ALGORITHM
    if made.algorithm is not None:
        written["algorithm"] = made.algorithm.name
        if options := options_of(made.algorithm):
            written["options"] = options
    for key in ("head", "embedding"):
        if (config := getattr(made, key)) is not None:
            written[key] = config_to_dict(config)
    if made.note:
        written["note"] = made.note
    return written


def recipe_from_dict(data: Mapping[str, Any]) -> Recipe:
    """A recipe of the user's own.

    Keys: ``name``; ``linear``, a layer config (``datatypes.config_json``), or ``base``, the name of a recipe to start
    from; ``algorithm`` (``none`` for an encoding that is only priced) with ``options``; ``head``, ``embedding``,
    ``note``.

    Raises:
        ValueError: an unknown key, name or value; the message names the nearest one.
    """
    known = ("name", "base", "algorithm", "options", "linear", "head", "embedding", "note")
    for key in data:
        if key not in known:
            raise ValueError(
                f"key of a recipe must be one of {', '.join(known)}, not {key!r}{nearest(str(key), known)}"
            )
    if not isinstance(data.get("name"), str):
        raise ValueError(f"name of a recipe must be a string, not {data.get('name')!r}")
    if ("base" in data) == ("linear" in data):
        raise ValueError(f"recipe {data['name']} must have one of base and linear, not both or none")
    base = recipe(data["base"]) if "base" in data else None
    linear = base.linear if base is not None else config_from_dict(data["linear"])
    chosen = base.algorithm if base is not None else None
    if data.get("algorithm") == NO_ALGORITHM and "options" not in data:
        chosen = None
    elif "algorithm" in data:
        chosen = algorithm(data["algorithm"], data.get("options"))
    elif "options" in data:
        if chosen is None:
            raise ValueError(f"recipe {data['name']} must name an algorithm for its options")
        chosen = algorithm(chosen.name, {**options_of(chosen), **data["options"]})
    elif base is None and linear.weight is not None:
        chosen = ALGORITHMS["rtn"]
    return Recipe(
        name=data["name"],
        algorithm=chosen,
        linear=linear,
        head=config_from_dict(data["head"]) if "head" in data else None,
        embedding=config_from_dict(data["embedding"]) if "embedding" in data else None,
        note=str(data.get("note", "")),
    )


def _noted(name: str, note: str) -> Recipe:
    return Recipe(name, *parse_recipe_name(name), note=note)


def _tender_of_tensors(bits: int) -> Recipe:
    """Tender with one order, scale and bias for all positions."""
    made = _noted(f"tender_int{bits}_channel", f"{_TENDER}, without chunks: what an exported kernel holds")
    activation = tender_activation(bits, chunk_tokens=None)
    return replace(made, name=f"tender{bits}_tensor", linear=replace(made.linear, activation=activation))


NO_ALGORITHM = "none"  # in dictionaries, of a recipe that is priced alone
_TENDER = "Lee et al., Tender, ISCA 2024"
_SQUEEZELLM = "Kim et al., SqueezeLLM, arXiv 2306.07629, Table 1: a learned table for each row; priced alone"
_VPTQ = "Liu et al., VPTQ, arXiv 2409.17066: vectors of outputs, learned book; priced alone"
_HIGGS = "Malinovskii et al., HIGGS, arXiv 2411.17525: pairs from a normal grid; priced alone"
_BITMOD_BASELINE = "a baseline of Chen et al., BitMoD, HPCA 2025, Table VI"
_OCP = "OCP Microscaling Formats (MX) 1.0, 2023"
_LIST: tuple[Recipe, ...] = (
    _noted("fp16", "the reference"),
    _noted("int8_channel", "the safe choice: one FP16 scale for each output channel"),
    _noted("int6_asym_g128", "integers with a zero point"),
    _noted("int5_asym_g128", "integers with a zero point"),
    _noted("int4_g128_fp16", "symmetric integers"),
    _noted("int4_asym_g128", _BITMOD_BASELINE),
    _noted("int4_asym_g32", "smaller groups: more bits, less error"),
    _noted("int3_asym_g128", _BITMOD_BASELINE),
    _noted("fp4_g128", "E2M1 without special values"),
    _noted("fp3_g128", "E2M0 without special values"),
    _noted("bitmod4_g128", "Chen et al., BitMoD, HPCA 2025"),
    _noted("bitmod3_g128", "Chen et al., BitMoD, HPCA 2025"),
    _noted("bitmod4_g128_uint8", "Chen et al., BitMoD, HPCA 2025, section III-C: 8-bit scales"),
    _noted("ant4", "Guo et al., ANT, MICRO 2022: a type for each tensor"),
    _noted("flint4_g128", "ANT's flint alone, in groups"),
    _noted("olive4", "Guo et al., OliVe, ISCA 2023"),
    _noted("mxfp4", _OCP),
    _noted("mxfp6_e2m3", _OCP),
    _noted("mxfp8_e4m3", _OCP),
    _noted("nvfp4", "NVIDIA NVFP4: E4M3 scales under an FP32 one"),
    _noted("nf4_g64", "Dettmers et al., QLoRA, arXiv 2305.14314, with FP16 scales"),
    _noted("gptq_int4_asym_g128", "Frantar et al., GPTQ, arXiv 2210.17323"),
    _noted("gptq_int3_asym_g128", "Frantar et al., GPTQ, arXiv 2210.17323"),
    _noted("gptq_bitmod3_g128", "GPTQ's error feedback into BitMoD's types"),
    _noted("awq_int4_asym_g128", "Lin et al., AWQ, arXiv 2306.00978, each layer with its own factors"),
    Recipe(
        "l2qer_w4a8_mxint",
        ALGORITHMS["l2qer"],
        l2qer_mxint_config(),
        note="Zhang et al., LQER, arXiv 2402.02446: MXINT4, blocks of 16, 8-bit factors of rank 32, MXINT8 inputs",
    ),
    _noted("l2qer_int4_g128", "Zhang et al., LQER, arXiv 2402.02446: the integer variant, inputs left in FP16"),
    replace(_noted("gwq_int4_asym_g128", "Shao et al., GWQ, arXiv 2411.00850 (reconstruction)"), name="gwq4_g128"),
    replace(_noted("gwq_int3_asym_g128", "Shao et al., GWQ, arXiv 2411.00850 (reconstruction)"), name="gwq3_g128"),
    replace(
        _noted("finequant_int4_channel", "Kim et al., FineQuant, arXiv 2308.09723 (reconstruction)"), name="finequant4"
    ),
    _noted("int8_channel_a8", "W8A8: integers on both sides, a scale for each token"),
    _noted("smoothquant_int8_channel_a8", "Xiao et al., SmoothQuant, arXiv 2211.10438"),
    replace(_noted("tender_int8_channel", f"{_TENDER}: W8A8, 8 channel groups"), name="tender8"),
    replace(_noted("tender_int4_channel", f"{_TENDER}: W4A4, 14 channel groups"), name="tender4"),
    _tender_of_tensors(8),
    _tender_of_tensors(4),
    _noted("int4_g128_fp16_a8", "W4A8"),
    _noted("bitmod4_g128_kv8", "BitMoD weights and an 8-bit KV cache"),
    _noted("bitmod4_g128_kv4", "BitMoD weights and a 4-bit KV cache"),
    _noted("squeezellm4", _SQUEEZELLM),
    _noted("squeezellm3", _SQUEEZELLM),
    _noted("squeezellm4_sparse", f"{_SQUEEZELLM}; 0.45 % of the weights beside it"),
    _noted("squeezellm3_sparse", f"{_SQUEEZELLM}; 0.45 % of the weights beside it"),
    _noted("vptq_v6_k4096", f"{_VPTQ} (Llama-2-7B at 2.02 bits)"),
    _noted("vptq_v8_k65536", f"{_VPTQ} (Llama-2-13B at 2.19 bits)"),
    _noted("vptq_v8_k65536_r256", f"{_VPTQ}; a residual book (the released 3-bit models)"),
    _noted("vptq_v12_k4096_r4096", f"{_VPTQ}; a residual book (2.26 bits have outlier columns besides)"),
    _noted("higgs_p2_n256", _HIGGS),
    _noted("higgs_p2_n88", f"{_HIGGS}; whole codes of 7 bits, published as 3.25"),
    _noted("higgs_p2_n64", _HIGGS),
    _noted("higgs_p2_n16", _HIGGS),
)
RECIPES: Mapping[str, Recipe] = {made.name: made for made in _LIST}
