"""Small models made on the fly, and a cache folder that keeps fast tests off the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest

# Every fixture model: two layers, hidden 64, 320 tokens; random weights from this seed.
SEED = 20260101
VOCABULARY = 320
SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "A cost model says what a layer costs before anyone builds it.",
    "Weights are codes, scales and a few outliers; every bit of them is counted.",
    "She read the whole book, and then she read it again from the start.",
)


USER_CACHE = os.environ.get("CODESIGN_CACHE")

# The same draws on every run, so that a failure tells of the change under test; ``explore`` draws new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, database=None)
hypothesis.settings.register_profile("explore", derandomize=False)
hypothesis.settings.load_profile(os.environ.get("CODESIGN_DRAWS", "repeatable"))


def use_cache(folder: str | None) -> None:
    """Set ``CODESIGN_CACHE``, or unset it."""
    if folder is None:
        os.environ.pop("CODESIGN_CACHE", None)
    else:
        os.environ["CODESIGN_CACHE"] = folder


@pytest.fixture(scope="session", autouse=True)
def cache_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of this run's own."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    use_cache(str(folder))
    yield folder
    use_cache(USER_CACHE)


@pytest.fixture(autouse=True)
def user_cache_for_slow_tests(request: pytest.FixtureRequest, cache_of_this_run: Path) -> Iterator[None]:
    """Slow tests keep the user's cache, because downloads are dear."""
    slow = request.node.get_closest_marker("slow") or request.node.get_closest_marker("gpu")
    if slow:
        use_cache(USER_CACHE)
    yield
    if slow:
        use_cache(str(cache_of_this_run))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference data beside the checkout; skips where there is none."""
    chosen = os.environ.get("CODESIGN_SHARED")
    folder = Path(chosen) if chosen else Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("reference data must be in CODESIGN_SHARED or ../shared")
    return folder


def save_model(folder: Path, config: object, model_name: str) -> Path:
    """Write a transformers model with random weights from ``SEED``, and a byte-level tokenizer, into ``folder``."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(SEED)
    model = getattr(transformers, model_name)(config).eval()
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """Train a byte-level tokenizer of ``VOCABULARY`` tokens on ``SENTENCES`` and write it into ``folder``."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    byte_level = tokenizers.ByteLevelBPETokenizer()
    byte_level.train_from_iterator(SENTENCES * 4, vocab_size=VOCABULARY, show_progress=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=byte_level._tokenizer).save_pretrained(folder)


def model_fixture(
    description: str, config: str, model: str, sizes: Mapping[str, object]
) -> Callable[[pytest.TempPathFactory], Path]:
    """A fixture of the session: the folder of a model of these ``sizes``.

    Args:
        description: what is special about it.
        config, model: names of transformers' classes.
    """

    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        transformers = pytest.importorskip("transformers")
        return save_model(tmp_path_factory.mktemp(model), getattr(transformers, config)(**sizes), model)

    folder.__doc__ = description
    return pytest.fixture(scope="session")(folder)


SIZES = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 256,
}
TIED = {"tie_word_embeddings": True}

tiny_llama_dir = model_fixture(
    "A Llama with as many key as query heads and an output head of its own.",
    "LlamaConfig",
    "LlamaForCausalLM",
    {**SIZES, "num_key_value_heads": 4, "tie_word_embeddings": False},
)
tiny_gqa_dir = model_fixture(
    "A Llama with two query heads a key head and tied embeddings.", "LlamaConfig", "LlamaForCausalLM", SIZES | TIED
)
tiny_deep_dir = model_fixture(
    "A Llama of four layers.", "LlamaConfig", "LlamaForCausalLM", {**SIZES, **TIED, "num_hidden_layers": 4}
)
tiny_moe_dir = model_fixture(
    "A Mixtral: four experts, two for each token.",
    "MixtralConfig",
    "MixtralForCausalLM",
    {**SIZES, "intermediate_size": 96, "num_local_experts": 4, "num_experts_per_tok": 2},
)
tiny_gpt2_dir = model_fixture(
    "A GPT-2: fused qkv in transposed ``Conv1D`` weights, tied embeddings.",
    "GPT2Config",
    "GPT2LMHeadModel",
    {
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "vocab_size": VOCABULARY,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
)
