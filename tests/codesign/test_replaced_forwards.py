"""Replaced forwards: inside the block alone, even where it ends with an error."""

import pytest
import torch
from torch import nn

from codesign.replaced_forwards import replaced_forwards

X = torch.tensor([1.0, -2.0])


def test_modules_answer_otherwise_inside_the_block_alone():
    model = nn.Sequential(nn.ReLU(), nn.Identity())
    with replaced_forwards({model[0]: lambda x: 3 * x}):
        assert model(X).tolist() == [3.0, -6.0]
    assert model(X).tolist() == [1.0, 0.0]
    assert all("forward" not in vars(module) for module in model)  # nothing is left to copy or to pickle


def test_an_error_inside_restores_them():
    model = nn.ReLU()
    with pytest.raises(KeyError), replaced_forwards({model: lambda x: x}):
        raise KeyError
    assert model(X).tolist() == [1.0, 0.0]


def test_no_module_is_fine():
    with replaced_forwards({}):
        pass
