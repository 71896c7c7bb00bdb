"""All-reduce and send by hand."""

from dataclasses import replace

import pytest

from hwmodel.gpu_presets import GPUS
from hwmodel.link import LINKS, NVLINK4, all_reduce_s, all_to_all_s, send_s

PLAIN = replace(
    NVLINK4, bytes_per_s=100e9, ring_share=1.0, send_share=0.5, start_s=1e-6, step_s=1e-6, send_start_s=2e-6,
    small_start_s=0.5e-6, small_step_s=0.7e-6, small_share=0.1,
)  # fmt: skip


def test_ring_by_hand() -> None:
    # 4 GPUs: 6 steps, and 2 * 3 / 4 of 1 GB at 100 GB/s
    assert all_reduce_s(1e9, 4, PLAIN) == pytest.approx(1e-6 + 6e-6 + 1.5e9 / 100e9)


def test_tree_by_hand() -> None:
    # 8 GPUs and nothing to move: 2 * 3 steps instead of the ring's 14, which take 10.3 us in the small protocol
    assert all_reduce_s(0, 8, PLAIN) == pytest.approx(1e-6 + 6e-6)


def test_small_tensors_take_shorter_steps_at_a_tenth_of_the_bandwidth() -> None:
    # 2 GPUs: 2 steps of 0.7 us, and 2 / 2 of 4 kB at 10 GB/s
    assert all_reduce_s(4000, 2, PLAIN) == pytest.approx(0.5e-6 + 1.4e-6 + 4000 / 10e9)
    assert all_reduce_s(1e6, 2, PLAIN) == pytest.approx(1e-6 + 2e-6 + 1e6 / 100e9)


def test_all_to_all_by_hand() -> None:
    # 4 GPUs: three of four parts of 1 GB at 50 GB/s, after one start
    assert all_to_all_s(1e9, 4, PLAIN) == pytest.approx(2e-6 + 0.75e9 / 50e9)
    assert all_to_all_s(1e9, 1, PLAIN) == 0
    # as much as a send of the bytes that leave
    assert all_to_all_s(1e9, 2, PLAIN) == send_s(0.5e9, PLAIN)
    with pytest.raises(ValueError, match="gpus must be at least 1"):
        all_to_all_s(1, 0, PLAIN)


def test_send_by_hand() -> None:
    assert send_s(1e9, PLAIN) == pytest.approx(2e-6 + 1e9 / 50e9)


def test_one_gpu_needs_no_all_reduce() -> None:
    assert all_reduce_s(1e9, 1, PLAIN) == 0


@pytest.mark.parametrize("link", LINKS.values(), ids=lambda link: link.name)
def test_never_faster_than_the_data_sheet(link) -> None:  # type: ignore[no-untyped-def]
    for size in (0, 1, 1 << 20, 1 << 30):
        for gpus in (2, 3, 8, 64):
            assert all_reduce_s(size, gpus, link) >= 2 * (gpus - 1) / gpus * size / link.bytes_per_s
            assert all_to_all_s(size, gpus, link) >= (gpus - 1) / gpus * size / link.bytes_per_s
        assert send_s(size, link) >= size / link.bytes_per_s


def test_every_gpu_has_its_link() -> None:
    assert {gpu.link for gpu in GPUS.values()} <= set(LINKS)


def test_bad_links_and_calls_are_named() -> None:
    with pytest.raises(ValueError, match="bytes_per_s of link nvlink4 must be above 0, not 0"):
        replace(NVLINK4, bytes_per_s=0)
    with pytest.raises(ValueError, match="ring_share of link nvlink4 must be above 0 and at most 1, not 1.5"):
        replace(NVLINK4, ring_share=1.5)
    with pytest.raises(ValueError, match="gpus must be at least 1 and size_bytes at least 0, not 0 and 1"):
        all_reduce_s(1, 0, NVLINK4)
    with pytest.raises(ValueError, match="not 2 and -1"):
        send_s(-1, NVLINK4)
