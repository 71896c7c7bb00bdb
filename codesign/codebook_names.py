"""Names of weights in code books: SqueezeLLM's, VPTQ's and HIGGS' encodings, at their published settings and others.

    squeezellm4, squeezellm3[_sparse]    Kim et al., arXiv 2306.07629: 2**b FP16 values for each row, learned;
                                         ``sparse``: 0.45 % of the weights beside them, in CSR (Table 1)
    vptq_v6_k4096, vptq_v8_k65536_r256   Liu et al., arXiv 2409.17066: vectors of v outputs, one learned book of k
                                         vectors in FP16 for the matrix, and one of r for what it leaves
    higgs_p2_n256[_g256]                 Malinovskii et al., arXiv 2411.17525: pairs of inputs from a fixed grid of n
                                         points, after a Hadamard rotation of 1024 inputs; an FP16 scale for each group
                                         (1024 by default)

Suffixes for activations and caches may follow. Codes have whole bits: HIGGS' 88 points take 7, where the paper counts
log2(88). Leaves out VPTQ's outlier columns and groups of columns with books of their own, which depend on a layer's
shape, so that a ``LayerConfig`` says them in Python, not a name; and its permutation and normalisation. The algorithms
are not here: such a recipe is priced, and cannot quantize.
"""

from __future__ import annotations

import re
from dataclasses import replace

from datatypes.catalog import FP16, FP32, INT16
from datatypes.format import LearnedFormat
from datatypes.gaussian_grids import higgs_format
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import (
    CodebookConfig,
    LayerConfig,
    OutlierConfig,
    OutlierLayout,
    ScaleConfig,
    ScaleRule,
    TensorConfig,
)

GRAMMAR = "squeezellm4[_sparse], vptq_v6_k4096[_r256], higgs_p2_n256[_g256]"
FAMILIES = ("squeezellm", "vptq", "higgs")
_SQUEEZELLM = re.compile(r"squeezellm([2-8])(_sparse)?")
_VPTQ = re.compile(r"vptq_v([0-9]{1,6})_k([0-9]{1,6})(?:_r([0-9]{1,6}))?")
_HIGGS = re.compile(r"higgs_p2_n([0-9]{1,6})(?:_g([0-9]{1,6}))?")
_SPARSE = 0.0045  # of the weights: the sensitive and the large ones of SqueezeLLM's Table 1
_HADAMARD = 1024  # inputs rotated together, and under one scale: HIGGS' code
_MOST_CODE_BITS = 16  # of an index into a book: the widest that files hold
_MOST_OUTPUTS = 64  # of a vector


def codebook_config(words: str) -> LayerConfig | None:
    """The encoding that ``words`` name; ``None`` where they begin with no family of code books.

    Raises:
        ValueError: one of the families, but no such setting.

    >>> codebook_config("vptq_v6_k4096").weight.code_bits
    2.0
    """
    if words.startswith(FAMILIES):
        for pattern, made in ((_SQUEEZELLM, _squeezellm), (_VPTQ, _vptq), (_HIGGS, _higgs)):
            if found := pattern.fullmatch(words):
                return made(found)
        raise ValueError(f"recipe of a code book must be like {GRAMMAR}, not {words!r}")
    return None


def _squeezellm(found: re.Match[str]) -> LayerConfig:
    bits, sparse = int(found[1]), found[2] is not None
    fmt = LearnedFormat(f"squeezellm{bits}", bits, "Kim et al., SqueezeLLM, arXiv 2306.07629")
    weight = TensorConfig((fmt,), PerChannel(), scale=None, codebook=CodebookConfig(FP16, PerChannel()))
    # Table 1: 4.05 bits without and 4.27 with 0.45 %: 48 each, FP32 values and indices of 16 bits
    beside = OutlierConfig(OutlierLayout.CSR, _SPARSE, format=FP32, index=INT16) if sparse else None
    return LayerConfig(weight=weight, outliers=beside)


def _vptq(found: re.Match[str]) -> LayerConfig:
    outputs = int(found[1])
    if not 2 <= outputs <= _MOST_OUTPUTS:
        raise ValueError(f"v of recipe {found[0]!r} must be 2 to {_MOST_OUTPUTS} outputs, not {outputs}")
    weight = _book(outputs, found[2], "k", found[0])
    return LayerConfig(
        weight if found[3] is None else replace(weight, residual=_book(outputs, found[3], "r", found[0]))
    )


def _book(outputs: int, digits: str, letter: str, name: str) -> TensorConfig:
    """Vectors down the outputs, from one learned book for the matrix."""
    vectors = int(digits)
    bits = max(vectors.bit_length() - 1, 0)
    if vectors != 1 << bits or not 1 <= bits <= _MOST_CODE_BITS:
        raise ValueError(
            f"{letter} of recipe {name!r} must be a power of two from 2 to {1 << _MOST_CODE_BITS} vectors, not {digits}"
        )
    fmt = LearnedFormat(f"vptq_v{outputs}_{letter}{vectors}", bits, "Liu et al., VPTQ, arXiv 2409.17066",
                        dimension=outputs)  # fmt: skip
    return TensorConfig((fmt,), scale=None, codebook=CodebookConfig(FP16, PerTensor()), vectors_along_output=True)


def _higgs(found: re.Match[str]) -> LayerConfig:
    group = _HADAMARD if found[2] is None else int(found[2])
    scale = ScaleConfig(FP16, ScaleRule.NORM)
    return LayerConfig(TensorConfig((higgs_format(int(found[1])),), PerGroup(group), scale, hadamard=_HADAMARD))
