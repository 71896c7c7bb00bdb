"""Optional dependencies: one sentence where one is missing, silence where it is there."""

import sys

import pytest

from codesign.extras import quiet_transformers, require


def test_a_missing_package_says_what_to_install():
    with pytest.raises(
        ValueError, match=r"no_such_package must be installed for this: run pip install 'codesign\[gpu\]'"
    ):
        require("no_such_package", "gpu")
    with pytest.raises(ValueError, match=r"no_such_package\.part must be installed"):
        require("no_such_package.part", "gpu")


def test_what_a_package_itself_misses_is_not_blamed_on_it(tmp_path, monkeypatch):
    (tmp_path / "package_with_a_gap.py").write_text("import something_else_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_else_that_is_missing"):
        require("package_with_a_gap", "gpu")
    sys.modules.pop("package_with_a_gap", None)


@pytest.mark.parametrize("bars", [True, False])
def test_transformers_is_quiet_inside_and_as_it_was_after(bars):
    transformers = pytest.importorskip("transformers")
    logging = transformers.utils.logging
    level, had = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_info()
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
        with pytest.raises(KeyError), quiet_transformers() as given:
            assert given is transformers
            assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
            raise KeyError
        assert logging.get_verbosity() == logging.INFO and logging.is_progress_bar_enabled() is bars
    finally:
        logging.set_verbosity(level)
        (logging.enable_progress_bar if had else logging.disable_progress_bar)()
