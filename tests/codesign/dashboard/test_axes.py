import pytest

from codesign.dashboard.axes import AXES, X_AXES, Y_AXES, Axis, axis


def test_an_axis_is_found_by_its_column() -> None:
    assert axis("kl", Y_AXES).title.startswith("KL")


def test_an_axis_that_is_not_offered_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"axis must be one of bits_per_weight, .*, not 'loss'"):
        axis("loss", X_AXES)


def test_an_axis_must_be_a_column_of_the_trials_table() -> None:
    with pytest.raises(ValueError, match="must be one of the trials table, not 'colour'"):
        Axis("colour", "Colour")


def test_bits_latency_energy_and_area_can_be_chosen() -> None:
    assert {"bits_per_weight", "model_bytes", "prefill_s", "decode_s", "total_energy_j", "area_mm2"} <= set(AXES)
