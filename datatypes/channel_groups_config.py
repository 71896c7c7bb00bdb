"""How an input is encoded whose channels lie in groups, each with a scale of its own: Tender's decomposition.

Source: Lee et al., Tender, ISCA 2024, arXiv 2406.12930, and its code (github.com/snu-comparch/Tender). Tokens are cut
into chunks of consecutive positions. For each chunk calibration fixes a bias for every channel, an order of the
channels with the largest first, where each group of that order ends, and one scale: group g = 1 .. G takes the codes

    q = round((x - bias) / s_g),    s_g = s_1 / 2**(g - 1),

so that a product adds up in integers, group after group with one shift between two: ``acc = (acc << 1) + partial``,
and is multiplied once, by the last group's scale. What the biases add to an output, ``bias @ weight.T``, is a stored
vector for each chunk.

Which channel lies in which group is not in the config: it is data (``datatypes.channel_groups``).
"""

from __future__ import annotations

from dataclasses import dataclass

from datatypes.catalog import FP16, FP32, INT16
from datatypes.format import FloatFormat, Format, IntFormat
from datatypes.planes import WORD_BITS, row_words
from datatypes.storage_bits import field_bits

MAX_GROUPS = 32  # a channel of the first group weighs 2**31 of the last one's steps


@dataclass(frozen=True)
class ChannelGroupsConfig:
    """The encoding of an input ``[m, k]`` whose channels lie in groups with static scales.

    Args:
        format: of the codes: integers in steps of one; Tender's are symmetric.
        groups: how many; some may be empty, and are shifted over all the same.
        chunk_tokens: positions of a sequence that share an order, scales and biases; ``None`` for all of them. Tender
            has 256.
        chunks: how many are stored; positions behind the last one take what it has.
        halved: each group's scale is half of that of the one before, so that one is stored for each chunk and groups
            meet by a shift; else every group stores its own, and partial sums are scaled before they meet.
        scale: storage of a scale.
        index: storage of a channel's number in the order, and of the size of a group.
        bias: storage of the bias of each channel, and of what they add to each output; ``None`` for no biases.
    """

    format: IntFormat
    groups: int
    chunk_tokens: int | None = 256
    chunks: int = 1
    halved: bool = True
    scale: Format = FP32
    index: Format = INT16
    bias: Format | None = FP16

    def __post_init__(self) -> None:
        if not isinstance(self.format, IntFormat) or self.format.step != 1:
            raise ValueError(
                f"format of channel groups must be an integer format in steps of one, not {self.format.name}"
            )
        if not 2 <= self.groups <= MAX_GROUPS:
            raise ValueError(f"groups must be 2 to {MAX_GROUPS}, not {self.groups!r}")
        if self.chunk_tokens is not None and self.chunk_tokens < 1:
            raise ValueError(f"chunk_tokens must be at least 1, or None for all tokens, not {self.chunk_tokens!r}")
        if self.chunks < 1 or (self.chunk_tokens is None and self.chunks > 1):
            least = "at least 1" if self.chunk_tokens is not None else "1 where chunk_tokens is None"
            raise ValueError(f"chunks must be {least}, not {self.chunks!r}")
        if not isinstance(self.index, IntFormat) or self.index.step != 1:
            raise ValueError(f"index of channel groups must be an integer format, not {self.index.name}")
        for what, fmt in (("scale", self.scale), ("bias", self.bias)):
            if fmt is not None and not isinstance(fmt, FloatFormat):
                raise ValueError(f"{what} of channel groups must be a float format, not {fmt.name}")
        if self.bias is not None and isinstance(self.bias, FloatFormat) and not self.bias.sign_bits:
            raise ValueError(f"bias of channel groups must have a sign, not be {self.bias.name}")

    @property
    def formats(self) -> tuple[IntFormat]:
        """The one format of the codes, as a ``TensorConfig`` has its candidates."""
        return (self.format,)

    @property
    def code_bits(self) -> float:
        """Bits of a code."""
        return self.format.bits_per_element

    @property
    def scales(self) -> int:
        """Stored scales of a chunk."""
        return 1 if self.halved else self.groups

    @property
    def biased(self) -> bool:
        """Whether channels have a bias."""
        return self.bias is not None

    def storage_bits(self, shape: tuple[int, int], chunks: int | None = None) -> int:
        """Bits that stand beside a weight ``[n, k]``: order, group sizes, scales, biases, what they add to outputs.

        Args:
            shape: of the weight.
            chunks: how many chunks to count; ``None`` for all.

        Raises:
            ValueError: ``index`` cannot hold ``k``.

        >>> from datatypes.catalog import INTS_SYMMETRIC
        >>> tender = ChannelGroupsConfig(INTS_SYMMETRIC[4], 8)
        >>> tender.storage_bits((4096, 4096))  # 2 x 16 bits a channel, 16 an output, 8 sizes, one scale
        196768
        """
        n, k = shape
        self.check_index(k)
        counted = self.chunks if chunks is None else min(chunks, self.chunks)
        bits = field_bits(counted * k, self.index.bits) + field_bits(counted * self.groups, self.index.bits)
        bits += field_bits(counted * self.scales, self.scale.bits)
        if self.bias is not None:
            bits += field_bits(counted * k, self.bias.bits) + field_bits(counted * n, self.bias.bits)
        return bits

    def check_index(self, k: int) -> None:
        """Make sure that ``index`` holds every number up to ``k``.

        Raises:
            ValueError: it does not.
        """
        if self.index.bits < 32 and k >= 1 << self.index.bits:
            raise ValueError(f"index of channel groups must hold sizes up to {k}, not be {self.index.name}")

    def traffic_bits(self, shape: tuple[int, int]) -> int:
        """Bits that move when an input ``[m, k]`` is read or written once: its codes."""
        return shape[0] * row_words(shape[1], self.format.bits) * WORD_BITS

    def chunks_of(self, tokens: int) -> int:
        """How many chunks ``tokens`` tokens may need.

        >>> from datatypes.catalog import INTS_SYMMETRIC
        >>> tender = ChannelGroupsConfig(INTS_SYMMETRIC[4], 8, chunks=8)
        >>> [tender.chunks_of(tokens) for tokens in (1, 512, 1 << 20)]
        [1, 2, 8]
        """
        return 1 if self.chunk_tokens is None else min(self.chunks, -(-max(tokens, 1) // self.chunk_tokens))
