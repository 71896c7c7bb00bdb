"""Codes, scales and sums of inputs in channel groups, against fractions and plain integers."""

from fractions import Fraction

import pytest
import torch

from datatypes.catalog import INTS_SYMMETRIC, UINTS
from datatypes.channel_groups import ChannelGroups, EncodedChannels, shift_accumulate
from datatypes.channel_groups_config import ChannelGroupsConfig

INT4 = INTS_SYMMETRIC[4]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand() -> ChannelGroups:
    """Two chunks of five channels in three groups; the second group of the second chunk is empty."""
    return ChannelGroups(
        order=torch.tensor([[4, 0, 2, 1, 3], [1, 0, 2, 3, 4]]),
        sizes=torch.tensor([[1, 2, 2], [2, 0, 3]]),
        scale=torch.tensor([8.0, 1.0]),
        bias=torch.tensor([[0.0, 1.0, 0.0, 0.0, -8.0], [0.5, 0.0, 0.0, 0.0, 0.0]]),
        correction=torch.tensor([[1.0], [2.0]]),
    )


def test_scales_follow_from_the_order() -> None:
    groups = by_hand()
    assert groups.group_of_channel().tolist() == [[1, 2, 1, 2, 0], [0, 0, 2, 2, 2]]
    assert groups.group_scales().tolist() == [[8, 4, 2], [1, 0.5, 0.25]]
    assert groups.channel_scales().tolist() == [[4, 2, 4, 2, 8], [1, 1, 0.25, 0.25, 0.25]]


def test_codes_by_hand() -> None:
    """Position 0 is of the first chunk, 2 and all behind of the second."""
    encoded = EncodedChannels(ChannelGroupsConfig(INT4, 3, chunk_tokens=2, chunks=2), by_hand())
    x = torch.tensor([[9.0, 4.0, -2.0, 20.0, -8.0]] * 6)
    first = [2, 2, 0, 7, 0]  # 9/4, (4 - 1)/2 = 1.5 to the even 2, -2/4 to the even 0, 20/2 saturates, -8 + 8
    second = [7, 4, -7, 7, -7]  # 8.5 saturates, 4, -8 saturates, 80 saturates, -32 saturates
    assert encoded.codes(x).tolist() == [first, first, second, second, second, second]
    assert encoded.values(x)[0].tolist() == [8, 4, 0, 14, 0]
    assert encoded.corrections(6).flatten().tolist() == [1, 1, 2, 2, 2, 2]
    assert torch.equal(encoded.codes(x.repeat(3, 1, 1))[2], encoded.codes(x))  # a batch is cut by position too


def test_unsigned_codes() -> None:
    encoded = EncodedChannels(ChannelGroupsConfig(UINTS[4], 3, None), _one_chunk())
    assert encoded.codes(torch.tensor([[100.0, -3.0, 60.0]])).tolist() == [[12, 0, 15]]


def _one_chunk() -> ChannelGroups:
    return ChannelGroups(torch.tensor([[0, 1, 2]]), torch.tensor([[1, 1, 1]]), torch.tensor([8.0]))


def test_every_group_may_have_its_own_scale() -> None:
    groups = ChannelGroups(torch.tensor([[2, 0, 1]]), torch.tensor([[1, 2]]), torch.tensor([[5.0, 0.3]]))
    assert groups.channel_scales().tolist() == torch.tensor([[0.3, 0.3, 5.0]]).tolist()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_shifted_sums_are_the_sums_of_scaled_products(bits: int, seed: int) -> None:
    """In units of the last step a channel of group g weighs 2**(G - g): exact, whatever the groups' sizes."""
    draw = generator(seed)
    m, n, k, groups = 3, 4, 37, 5 + 3 * seed
    top = (1 << (bits - 1)) - 1
    x = torch.randint(-top, top + 1, (m, k), generator=draw)
    w = torch.randint(-top, top + 1, (n, k), generator=draw)
    of_channel = torch.randint(0, groups, (k,), generator=draw)
    of_channel[of_channel == 1] = 0  # a group without channels shifts too
    order = of_channel.sort(stable=True).indices
    sizes = torch.bincount(of_channel, minlength=groups)
    made = shift_accumulate(x, w, order, sizes)
    for row in range(m):
        for output in range(n):
            expected = sum(Fraction(int(x[row, c]) * int(w[output, c]), 1 << int(of_channel[c])) for c in range(k)) * (
                1 << (groups - 1)
            )
            assert int(made[row, output]) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": torch.tensor([[0, 1, 1]])}, "order of channel groups must name each of the 3 channels once"),
        ({"sizes": torch.tensor([[1, 1, 2]])}, r"sizes of channel groups must sum to 3 in every chunk, not \[4\]"),
        ({"sizes": torch.tensor([[4, -1, 0]])}, "sizes of channel groups must sum to 3"),
        ({"scale": torch.tensor([1.0, 1.0])}, "sizes and scale of channel groups must have 1 chunks"),
        ({"bias": torch.zeros(1, 3)}, "correction of channel groups must be there exactly where there is a bias"),
    ],
    ids=str,
)
def test_refuses(change: dict[str, torch.Tensor], message: str) -> None:
    known = {"order": torch.tensor([[0, 1, 2]]), "sizes": torch.tensor([[1, 1, 1]]), "scale": torch.tensor([8.0])}
    with pytest.raises(ValueError, match=message):
        ChannelGroups(**(known | change))
