"""Weights come from their source one by one, as float32; shared ones stay shared, chosen ones stay as they are."""

import pytest
import torch
from torch import nn

from codesign.give_weights import give_weights

CPU = torch.device("cpu")


class Net(nn.Module):
    """Two layers that share a weight, a kept and a computed buffer, and one buffer of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("computed", torch.full((2,), 7.0), persistent=False)
        self.register_buffer("places", torch.zeros(2, dtype=torch.int64))


class Source:
    """Values by name; remembers what was asked for."""

    name = "made up"

    def __init__(self, **values: torch.Tensor) -> None:
        self.values, self.asked = values, []

    def skeleton(self) -> nn.Module:
        with torch.device("meta"):
            net = Net()
        net.computed = torch.full((2,), 7.0)
        return net

    def tensor(self, name: str) -> torch.Tensor:
        self.asked.append(name)
        return self.values[name.replace(".", "_")]


def source(**changed):
    values = {
        "first_weight": torch.arange(9, dtype=torch.float16).reshape(3, 3),
        "second_bias": torch.tensor([0.5, 1.0, 2.0], dtype=torch.bfloat16),
        "mean": torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
        "places": torch.tensor([4, 5]),
    }
    return Source(**(values | changed))


def given(made, **arguments):
    net = made.skeleton()
    give_weights(made, net, "", **{"skip": (), "device": CPU} | arguments)
    return net


def test_values_come_in_float32_and_integers_stay_whole():
    made = source()
    net = given(made)
    assert net.first.weight.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert net.second.bias.tolist() == [0.5, 1, 2] and net.mean.tolist() == [1, 2, 3]
    assert {net.first.weight.dtype, net.second.bias.dtype, net.mean.dtype} == {torch.float32}
    assert net.places.tolist() == [4, 5] and net.places.dtype == torch.int64
    x = torch.tensor([[1.0, 0.0, 0.0]])
    assert net.second(net.first(x)).tolist() == [[0 * 0 + 3 * 1 + 6 * 2 + 0.5, 3 * 4 + 6 * 5 + 1, 3 * 7 + 6 * 8 + 2]]


def test_a_shared_weight_is_read_once_and_stays_shared():
    made = source()
    net = given(made)
    assert net.first.weight is net.second.weight
    assert made.asked == ["mean", "places", "first.weight", "second.bias"]


def test_parameters_stay_parameters_that_need_no_gradient():
    net = given(source())
    assert isinstance(net.first.weight, nn.Parameter) and not net.first.weight.requires_grad
    assert not isinstance(net.mean, nn.Parameter)


def test_a_computed_buffer_keeps_its_values():
    made = source()
    assert given(made).computed.tolist() == [7, 7] and "computed" not in made.asked


def test_what_is_skipped_stays_on_the_meta_device():
    made = source()
    net = made.skeleton()
    give_weights(made, net, "", skip={id(net.first.weight)}, device=CPU)
    assert net.first.weight.is_meta and net.second.weight.is_meta and not net.second.bias.is_meta
    assert "first.weight" not in made.asked


def test_a_part_is_asked_for_by_its_whole_path():
    made = source(second_weight=torch.eye(3))
    net = made.skeleton()
    give_weights(made, net.second, "second", skip=(), device=CPU)
    assert made.asked == ["second.weight", "second.bias"] and net.second.weight.tolist() == torch.eye(3).tolist()
    assert net.mean.is_meta, "what lies outside stays as it is"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"second_bias": torch.zeros(2)}, r"weight second.bias must have shape \(3,\), not \(2,\)"),
        ({"mean": torch.zeros(3, dtype=torch.int8)},
         "weight mean must be of a floating-point type, not torch.int8: it is encoded already"),
    ],
    ids=["shape", "integers"],
)  # fmt: skip
def test_a_wrong_weight_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        given(source(**changed))
