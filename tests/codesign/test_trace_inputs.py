"""Inputs of models by config and signature: their shapes, against what the layers behind them take."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from codesign.trace_inputs import IMAGENET_CROP, model_inputs, step_inputs


class Text(nn.Module):
    """A causal language model, as far as its inputs go."""

    main_input_name = "input_ids"

    def __init__(self, heads: object = None, **config: object) -> None:
        super().__init__()
        self.config, self.heads = SimpleNamespace(**config), heads

    def forward(self, input_ids, use_cache=True):
        pass

    def get_output_embeddings(self):
        return self.heads


class Translator(Text):
    def forward(self, input_ids, decoder_input_ids=None, use_cache=True):
        pass


class Pair(Text):
    """A text compared with an image."""

    def forward(self, input_ids, pixel_values=None):
        pass

    def can_generate(self):
        return False


class Teller(Pair):
    """A text written about an image."""

    def can_generate(self):
        return True


class Image(Text):
    main_input_name = "pixel_values"

    def forward(self, pixel_values):
        pass


class Spectrogram(Text):
    main_input_name = "input_features"

    def forward(self, input_features):
        pass


class Wave(Text):
    main_input_name = "input_values"

    def forward(self, input_values):
        pass


class Touch(Text):
    main_input_name = "pressure"


def shapes(inputs):
    return {key: tuple(value.shape) for key, value in inputs.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Text(), {"input_ids": (2, 7)}),
        (Text(heads=nn.ModuleList([nn.Identity()] * 4)), {"input_ids": (8, 7)}),
        (Text(heads=nn.Linear(1, 1)), {"input_ids": (2, 7)}),
        (Translator(is_encoder_decoder=True), {"input_ids": (2, 7), "decoder_input_ids": (2, 7)}),
        (Translator(is_encoder_decoder=False), {"input_ids": (2, 7)}),
        (Pair(text_config=None, vision_config=SimpleNamespace(image_size=32)),
         {"input_ids": (2, 7), "pixel_values": (2, 3, 32, 32)}),
        (Teller(text_config=None, vision_config=SimpleNamespace(image_size=32)), {"input_ids": (2, 7)}),
        (Image(image_size=30, num_channels=1), {"pixel_values": (2, 1, 30, 30)}),
        (Image(image_size=(20, 10)), {"pixel_values": (2, 3, 20, 10)}),
        (Image(), {"pixel_values": (2, 3, IMAGENET_CROP, IMAGENET_CROP)}),
        (Spectrogram(num_mel_bins=8, max_source_positions=15), {"input_features": (2, 8, 30)}),
        (Wave(max_length=64, num_mel_bins=16), {"input_values": (2, 64, 16)}),
        (Wave(), {"input_values": (2, 7)}),
    ],
    ids=["text", "streams", "one head", "encoder-decoder", "encoder-only", "text and image", "text about an image",
         "image", "oblong image", "image of no size", "spectrogram", "patches of a spectrogram", "samples"],
)  # fmt: skip
def test_shapes(model, expected):
    made = model_inputs(model, 2, 7)
    assert shapes(made) == expected
    assert all(value.is_meta for value in made.values() if isinstance(value, torch.Tensor))
    assert made.get("use_cache", False) is False


@pytest.mark.parametrize("tokens", [1, 2, 16])
def test_a_wave_is_the_shortest_that_makes_so_many_frames(tokens):
    kernels, strides = (10, 3, 3, 2), (5, 2, 2, 2)  # like wav2vec 2.0 (arXiv 2006.11477, section 4.2), shorter
    (samples,) = shapes(model_inputs(Wave(conv_kernel=kernels, conv_stride=strides), 1, tokens))["input_values"][1:]

    def frames(length):
        x = torch.zeros(1, 1, length)
        for kernel, stride in zip(kernels, strides, strict=True):
            x = nn.functional.conv1d(x, torch.zeros(1, 1, kernel), stride=stride)
        return x.shape[-1]

    assert frames(samples) == tokens
    if tokens > 1:
        assert frames(samples - 1) == tokens - 1


def test_an_example_stands_in_place_of_all():
    made = model_inputs(nn.Linear(3, 4), 9, 9, torch.zeros(5, 3))
    assert made[""].shape == (5, 3) and made[""].is_meta
    made = model_inputs(Text(), 9, 9, {"x": torch.ones(2), "y": torch.ones(3, dtype=torch.int64)})
    assert shapes(made) == {"x": (2,), "y": (3,)} and made["y"].dtype == torch.int64


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(3, 4), "example must be given for Linear, whose inputs no config describes, not None"),
        (Touch(), "example must be given for Touch, whose input is pressure, not None"),
    ],
)
def test_inputs_that_do_not_follow(model, message):
    with pytest.raises(ValueError, match=message):
        model_inputs(model, 1, 1)


@pytest.mark.parametrize("cache", ["past_key_values", "cache_params", "state"])
def test_a_step_takes_a_token_and_the_cache(cache):
    made = step_inputs(Text(), {"input_ids": None}, SimpleNamespace(**{cache: "kept"}), 3)
    assert made[cache] == "kept" and made["use_cache"] is True and shapes(made) == {"input_ids": (3, 1)}


def test_a_step_of_an_encoder_decoder_keeps_what_the_encoder_said():
    output = SimpleNamespace(past_key_values="kept", encoder_last_hidden_state="said")
    made = step_inputs(Translator(), {"input_ids": None, "decoder_input_ids": None}, output, 3)
    assert made["encoder_outputs"] == ("said",) and shapes(made) == {"decoder_input_ids": (3, 1)}


def test_a_step_without_a_cache_is_none():
    with pytest.raises(ValueError, match="Text returns no KV cache"):
        step_inputs(Text(), {}, SimpleNamespace(past_key_values=None, logits=1), 1)
