"""Formats that go over to Brevitas keep their values; its passes run on a small net."""

import pytest
import torch
from torch import nn

pytest.importorskip("brevitas")

from codesign.brevitas_bridge import PostTraining, prepared, quantized, weight_quantizer
from datatypes.catalog import INTS, INTS_SYMMETRIC, MINIFLOATS, NF4, UINTS
from datatypes.format import FloatVariant

FINITE = [fmt for fmt in MINIFLOATS.values() if fmt.variant is FloatVariant.FINITE and 3 <= fmt.bits <= 8]


@pytest.mark.parametrize("fmt", [*FINITE, *INTS_SYMMETRIC.values()], ids=lambda fmt: fmt.name)
def test_brevitas_gives_every_code_the_value_that_we_do(fmt):
    """A channel that holds all values of a format is encoded without error, at any scale that keeps them apart."""
    from brevitas.nn import QuantLinear

    if not 3 <= fmt.bits <= 8:
        pytest.skip("the study has 3 to 8 bits")
    values = torch.tensor(sorted(set(fmt.code_values.tolist())), dtype=torch.float64).to(torch.float32)
    bits = INTS[fmt.bits] if fmt.name in {f.name for f in INTS_SYMMETRIC.values()} else fmt
    quantizer = weight_quantizer(bits).let(scaling_impl_type="stats", scaling_stats_op="max")
    layer = QuantLinear(len(values), 1, bias=False, weight_quant=quantizer)
    layer.weight.data = values[None] / values.max()  # the largest value meets the largest code
    got = layer.quant_weight().value[0] * values.max()
    # float32 divides by a scale and multiplies with it: two roundings of 2**-24 each
    # values that float32 holds only as subnormals (e7m0) may be off by their own last place
    torch.testing.assert_close(got.double(), values.double(), rtol=2**-22, atol=1e-30)


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU6()
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        return self.head(torch.flatten(self.pool(self.body(x)), 1))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return prepared(_Net().eval().requires_grad_(False))


@pytest.fixture(scope="module")
def images():
    return torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_folding_and_equalizing_keep_the_answers(images):
    torch.manual_seed(0)
    model = _Net().eval().requires_grad_(False)
    torch.testing.assert_close(prepared(model)(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("weight", "activation", "gptq"),
    [
        (INTS[8], UINTS[8], False),
        (MINIFLOATS["e4m3"], MINIFLOATS["e4m3"], False),
        (INTS[4], INTS[8], True),
    ],
    ids=["int8", "e4m3", "int4 by gptq"],
)
def test_only_the_inner_layer_takes_the_format(net, images, weight, activation, gptq):
    made = quantized(net, PostTraining(weight, activation, gptq=gptq), [images[:4], images[4:]])
    kinds = {name: module for name, module in made.named_modules() if type(module).__name__.startswith("Quant")}
    integers = {name: m for name, m in kinds.items() if hasattr(m, "quant_weight") and name != "body"}
    assert {name: float(m.quant_weight().bit_width) for name, m in integers.items()} == {"stem": 8.0, "head": 8.0}
    encoded = kinds["body"].quant_weight()
    steps = (encoded.value / encoded.scale.reshape(-1, 1, 1, 1)).double()
    assert torch.isin(steps.float().round(decimals=4), torch.tensor(weight.code_values).float().round(decimals=4)).all()


def test_more_bits_are_nearer_to_the_float_net(net, images):
    with torch.no_grad():
        right = net(images)
        errors = [
            (quantized(net, PostTraining(INTS[b], INTS[b]), [images])(images) - right).norm().item() for b in (3, 5, 8)
        ]
    assert errors[0] > errors[1] > errors[2]


def test_a_codebook_is_refused():
    with pytest.raises(NotImplementedError, match="weight must be an integer or a minifloat"):
        PostTraining(NF4, INTS[8])


def test_no_images_are_refused(net):
    with pytest.raises(ValueError, match="at least one batch"):
        quantized(net, PostTraining(INTS[8], INTS[8]), [])
