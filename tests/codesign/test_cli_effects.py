"""``codesign effects``."""

import pytest

from codesign import cli_effects


def test_effects_of_an_unknown_model_or_machine(capsys):
    with pytest.raises(ValueError, match="Llama-9-7B"):
        cli_effects.effects("Llama-9-7B", "bitmod", as_json=True)
    with pytest.raises(ValueError, match="nearest: bitmod"):
        cli_effects.effects("Llama-2-7B", "bitmood", as_json=True)
    assert capsys.readouterr().out == ""
