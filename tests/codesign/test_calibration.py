"""The accumulator of input statistics against one pass over all inputs, in float64."""

from __future__ import annotations

import pytest
import torch

from codesign.calibration import InputStatistics, LayerCalibration, Statistic


def inputs() -> torch.Tensor:
    return torch.randn(300, 12, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 2, 12)


def gathered(*batches: torch.Tensor, **options: int) -> LayerCalibration:
    statistics = InputStatistics(12, frozenset(Statistic), **options)
    for batch in batches:
        statistics.update(batch)
    return statistics.finish("layer")


@pytest.mark.parametrize("sizes", [(300,), (1, 99, 200), (150, 0, 150)], ids=str)
def test_every_statistic_by_its_definition(sizes: tuple[int, ...]) -> None:
    x = inputs()
    batches = x.split(list(sizes))
    made = gathered(*batches)
    exact = x.double()
    expected = {
        Statistic.HESSIAN: 2 * exact.T @ exact / 300,
        Statistic.ABS_MEAN: exact.abs().mean(0),
        Statistic.SQUARE_MEAN: exact.square().mean(0),
        Statistic.ABS_MAX: exact.abs().amax(0),
        Statistic.BATCH_ABS_MEAN_MAX: torch.stack([b.double().abs().mean(0) for b in batches if len(b)]).amax(0),
    }
    assert made.tokens == 300 and made.layer == "layer"
    for statistic, value in expected.items():
        assert made[statistic].dtype == torch.float32
        torch.testing.assert_close(made[statistic].double(), value, rtol=1e-5, atol=1e-5)


def test_ranges_of_chunks_of_256_positions() -> None:
    """Sequences of 600 and 300: three chunks, of which the second is 44 positions of the shorter one."""
    generator = torch.Generator().manual_seed(2)
    long, short = torch.randn(2, 600, 12, generator=generator), torch.randn(300, 12, generator=generator)
    expected = torch.stack(
        [
            torch.stack((low, high))
            for low, high in (
                (torch.cat(rows).amin(0), torch.cat(rows).amax(0))
                for rows in (
                    (long[0, :256], long[1, :256], short[:256]),
                    (long[0, 256:512], long[1, 256:512], short[256:]),
                    (long[0, 512:], long[1, 512:]),
                )
            )
        ]
    )
    for batches in ((long, short), (short, long), (long[0], short, long[1]), (short[None], long)):
        assert torch.equal(gathered(*batches)[Statistic.CHUNK_RANGE], expected)


def test_only_what_is_wanted() -> None:
    statistics = InputStatistics(12, frozenset({Statistic.ABS_MAX}))
    statistics.update(inputs())
    assert set(statistics.finish("layer").statistics) == {Statistic.ABS_MAX}


def test_shape_before_the_features_does_not_matter() -> None:
    x = inputs()
    assert torch.equal(gathered(x)[Statistic.HESSIAN], gathered(x.reshape(3, 100, 12))[Statistic.HESSIAN])


def test_kept_inputs_are_rows_of_the_input_in_order() -> None:
    x = inputs()
    kept = gathered(*x.split(64), keep_inputs=40)[Statistic.INPUTS]
    position = [int((x == row).all(1).nonzero()[0]) for row in kept]
    assert len(position) == 40 and position == sorted(set(position))
    assert gathered(x, keep_inputs=1000)[Statistic.INPUTS].shape == (300, 12)


def test_kept_inputs_do_not_depend_on_the_batches() -> None:
    x = inputs()
    whole, parts = (gathered(*b, keep_inputs=40)[Statistic.INPUTS] for b in ((x,), x.split(7)))
    assert torch.equal(whole, parts)
    assert not torch.equal(whole, gathered(x, keep_inputs=40, seed=1)[Statistic.INPUTS])


def test_kept_inputs_are_spread_evenly() -> None:
    """2000 of 20000 rows: the share from each quarter is 500 +- 4 standard deviations of the hypergeometric (18.4)."""
    x = torch.arange(20000.0)[:, None].expand(20000, 12)
    kept = gathered(*x.split(1000), keep_inputs=2000)[Statistic.INPUTS][:, 0]
    counts = torch.histc(kept, 4, 0, 20000)
    assert (counts - 500).abs().max() < 4 * 18.4


def test_no_tokens_no_statistics() -> None:
    assert gathered(torch.empty(0, 12)).statistics == {}


def test_wrong_width() -> None:
    with pytest.raises(ValueError, match="inputs must have 12 features, not 11"):
        gathered(torch.ones(2, 11))


def test_what_is_absent_or_wrong_is_said() -> None:
    with pytest.raises(ValueError, match="calibration of layer must hold abs_max, not only nothing"):
        LayerCalibration("layer")[Statistic.ABS_MAX]
    made = LayerCalibration("layer", 1, {Statistic.ABS_MAX: torch.tensor([1.0, torch.nan])})
    with pytest.raises(ValueError, match="calibration of layer must hold hessian, not only abs_max"):
        made[Statistic.HESSIAN]
    with pytest.raises(ValueError, match=r"abs_max of layer must have the shape \[3\], not \[2\]"):
        made.checked(Statistic.ABS_MAX, (3,))
    with pytest.raises(ValueError, match="abs_max of layer must be finite, not hold 1 NaN or infinite values"):
        made.checked(Statistic.ABS_MAX, (2,))
