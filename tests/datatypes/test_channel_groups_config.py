"""Bits of channel groups by hand, what the config refuses, and the written form."""

from dataclasses import replace

import pytest

from datatypes.catalog import FP16, INT16, INT32, INTS_SYMMETRIC, MX_INT8, UE4M3, UINT8, UINTS
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.config_json import config_from_dict, config_to_dict
from datatypes.granularity import PerChannel
from datatypes.layer_config import LayerConfig, LowRankConfig, TensorConfig

INT4 = INTS_SYMMETRIC[4]
TENDER = ChannelGroupsConfig(INT4, 8, chunks=8)
WEIGHT = TensorConfig((INT4,), PerChannel())


def test_bits_by_hand() -> None:
    """For each chunk: 2 bytes of order and 2 of bias a channel, 2 an output, 2 a group's size, a scale of 4."""
    n, k = 768, 3072
    chunk = 16 * k + 16 * k + 16 * n + 16 * 8 + 32
    assert TENDER.storage_bits((n, k)) == 8 * chunk
    assert TENDER.storage_bits((n, k), chunks=3) == 3 * chunk
    assert TENDER.storage_bits((n, k), chunks=30) == 8 * chunk
    assert replace(TENDER, bias=None).storage_bits((n, k)) == 8 * (16 * k + 16 * 8 + 32)
    assert replace(TENDER, halved=False).storage_bits((n, k)) == 8 * (chunk + 7 * 32)
    assert replace(TENDER, index=INT32).storage_bits((n, k)) == 8 * (chunk + 16 * k + 16 * 8)


def test_fields_end_on_words() -> None:
    """Three channels, five outputs, one chunk of three groups: 48, 48, 80 and 48 bits in words of 32."""
    config = ChannelGroupsConfig(INT4, 3)
    assert config.storage_bits((5, 3)) == 64 + 64 + 96 + 64 + 32


def test_a_layer_counts_them_apart() -> None:
    plain, grouped = LayerConfig(WEIGHT), LayerConfig(WEIGHT, TENDER)
    shape = (64, 256)
    assert grouped.storage_bits(shape).activation == TENDER.storage_bits(shape)
    assert grouped.storage_bits(shape).total == plain.storage_bits(shape).total + TENDER.storage_bits(shape)


def test_codes_alone_travel_with_the_input() -> None:
    assert TENDER.traffic_bits((10, 256)) == 10 * 256 * 4
    assert TENDER.traffic_bits((10, 33)) == 10 * 64 * 4  # rows are blocks of 32 codes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": MX_INT8}, "format of channel groups must be an integer format in steps of one, not mx_int8"),
        ({"format": FP16}, "format of channel groups must be an integer format in steps of one, not fp16"),
        ({"groups": 1}, "groups must be 2 to 32, not 1"),
        ({"groups": 33}, "groups must be 2 to 32, not 33"),
        ({"chunk_tokens": 0}, "chunk_tokens must be at least 1, or None for all tokens, not 0"),
        ({"chunks": 0}, "chunks must be at least 1, not 0"),
        ({"chunk_tokens": None}, "chunks must be 1 where chunk_tokens is None, not 8"),
        ({"index": FP16}, "index of channel groups must be an integer format, not fp16"),
        ({"scale": UINT8}, "scale of channel groups must be a float format, not uint8"),
        ({"bias": INT16}, "bias of channel groups must be a float format, not int16"),
        ({"bias": UE4M3}, f"bias of channel groups must have a sign, not be {UE4M3.name}"),
    ],
    ids=str,
)
def test_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TENDER, **change)  # type: ignore[arg-type]


def test_an_index_must_hold_every_channel() -> None:
    with pytest.raises(ValueError, match="index of channel groups must hold sizes up to 65536, not be int16"):
        TENDER.storage_bits((8, 1 << 16))
    assert replace(TENDER, index=INT32).storage_bits((8, 1 << 16))
    with pytest.raises(ValueError, match="must hold sizes up to 256, not be uint8"):
        replace(TENDER, index=UINTS[8]).storage_bits((8, 256))


def test_a_low_rank_branch_has_no_calibrated_groups() -> None:
    with pytest.raises(ValueError, match="activation of a layer with a low-rank branch must be a TensorConfig"):
        LayerConfig(WEIGHT, TENDER, low_rank=LowRankConfig(4, WEIGHT, WEIGHT))


@pytest.mark.parametrize(
    "config",
    [TENDER, ChannelGroupsConfig(UINTS[8], 2, None), replace(TENDER, halved=False, bias=None, scale=FP16, index=INT32)],
    ids=str,
)
def test_written_and_read(config: ChannelGroupsConfig) -> None:
    layer = LayerConfig(WEIGHT, config)
    assert config_from_dict(config_to_dict(layer)) == layer


def test_the_written_form() -> None:
    assert config_to_dict(LayerConfig(WEIGHT, TENDER))["activation"] == {"format": "int4_sym", "groups": 8, "chunks": 8}
    assert config_from_dict({"activation": {"format": "int4_sym", "groups": 8}}).activation == replace(TENDER, chunks=1)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            {"format": "int4_sym", "group": 8},
            "key activation.group must be one of ChannelGroupsConfig; nearest: groups",
        ),
        ({"format": "int4_sym"}, "activation must hold groups"),
        ({"format": "int4_sym", "groups": 40}, "activation: groups must be 2 to 32, not 40"),
        ({"format": "fp16", "groups": 8}, "activation: format of channel groups must be an integer format"),
    ],
    ids=str,
)
def test_a_mistake_is_named_with_its_place(written: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_dict({"activation": written})


def test_reads_as_a_tensor_of_one_format() -> None:
    assert TENDER.formats == (INT4,) and TENDER.code_bits == 4 and TENDER.scales == 1 and TENDER.biased
