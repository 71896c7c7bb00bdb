"""What several tests need: the command line as a function, a small Llama, and the products that torch itself counts."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from codesign.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """A function: runs a command line, and gives its exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return run


@pytest.fixture
def refused(run: Callable[..., tuple[Any, str, str]]) -> Callable[..., str]:
    """A function: the sentence of a mistake, with exit status 2 and nothing on standard output."""

    def refused(*arguments: object) -> str:
        status, out, err = run(*arguments)
        assert status == 2
        assert out == ""
        assert "Traceback" not in err
        assert err.startswith("codesign: ")
        assert len(err.strip().splitlines()) == 1, err
        return err.strip().removeprefix("codesign: ")

    return refused


@pytest.fixture
def given(run: Callable[..., tuple[Any, str, str]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """A function: what a command line gives to its work, by the parameters of the work, which is not done."""

    def given(place: str, *arguments: object, status: int = 0) -> dict[str, Any]:
        module, _, name = place.rpartition(".")
        takes = inspect.signature(getattr(importlib.import_module(f"codesign.{module}"), name))
        found: dict[str, Any] = {}

        def work(*values: Any, **named: Any) -> int:
            found.update(takes.bind(*values, **named).arguments)
            return status

        with monkeypatch.context() as patched:
            patched.setattr(f"codesign.{place}", work)
            ended, _, err = run(*arguments)
        assert (ended, err) == (status, "")
        return found

    return given


@pytest.fixture(scope="session")
def small_llama() -> dict[str, Any]:
    """A config.json: two blocks, two query heads for each key head, a head of its own."""
    return {
        **{"model_type": "llama", "rms_norm_eps": 1e-5, "tie_word_embeddings": False},
        **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "vocab_size": 50},
    }


def on_cpu(value: Any) -> Any:
    """Zeros for meta tensors, inside mappings and tuples too."""
    torch = pytest.importorskip("torch")
    if isinstance(value, torch.Tensor):
        return torch.zeros(value.shape, dtype=value.dtype)
    if isinstance(value, Mapping):
        return {key: on_cpu(item) for key, item in value.items()}
    return tuple(on_cpu(item) for item in value) if isinstance(value, tuple) else value


@pytest.fixture(scope="session")
def counted_macs() -> Callable[..., int]:
    """A function: runs a real module on zeros of the shapes of its inputs under torch's FLOP counter.

    Products with rotary tables, which multiply positions by frequencies, are left out: they depend on no activation.
    """
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    def count(model: Any, inputs: Mapping[str, Any]) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(**on_cpu(inputs))
        tables = sum(
            flops
            for path, operations in counter.get_flop_counts().items()
            if path.rpartition(".")[2] in ("rotary_emb", "rotary_embedding")
            for flops in operations.values()
        )
        return (counter.get_total_flops() - tables) // 2

    return count


@pytest.fixture(scope="session")
def real_model() -> Callable[..., Any]:
    """A function: the model of a config with random weights, of the class that a trace builds."""

    def build(config: Any) -> Any:
        from codesign.trace_config import build_on_meta
        from codesign.trace_gaps import buildable

        meta = build_on_meta(config)
        with buildable(meta.config):
            return type(meta)._from_config(meta.config, attn_implementation="eager").eval()

    return build
