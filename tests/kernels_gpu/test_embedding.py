"""Embedding lookup, lengths and rotary turns in the simulator and (marked gpu) on a device."""

import pytest
import torch

from kernels_gpu import ptx
from kernels_gpu.embedding import prepare
from kernels_gpu.rotary import turns

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")


def run(tokens, lengths, width, *, advance=True, dtype=torch.float16, device="cpu", positions=6, head_dim=64):
    table = torch.randn((11, width), generator=torch.Generator().manual_seed(0)).to(dtype).to(device)
    all_turns = turns(positions, head_dim, 1e4).to(device)
    counted = torch.tensor(lengths, dtype=torch.int32, device=device)
    out = torch.full((len(tokens), width), float("nan"), dtype=dtype, device=device)
    turn = torch.full((len(tokens), head_dim // 2, 2), float("nan"), device=device)
    given = torch.tensor(tokens, dtype=torch.int32, device=device)
    prepare(given, table, counted, all_turns, out, turn, advance=advance)()
    return table.cpu(), all_turns.cpu(), counted.tolist(), out.cpu(), turn.cpu()


@simulated
@pytest.mark.parametrize(("width", "dtype"), [(72, torch.float16), (600, torch.bfloat16), (38, torch.float16)])
def test_rows_lengths_and_turns(width, dtype):
    table, all_turns, lengths, out, turn = run([3, 10], [0, 4], width, dtype=dtype)
    assert torch.equal(out, table[[3, 10]])
    assert lengths == [1, 5]
    assert torch.equal(turn, all_turns[[0, 4]])


@simulated
def test_a_timed_step_leaves_the_lengths_and_a_full_cache_stays_full():
    _, all_turns, lengths, _, turn = run([1, 2, 3], [4, 6, 0], 64, advance=False)
    assert lengths == [4, 6, 0] and torch.equal(turn, all_turns[[3, 5, 0]])
    _, all_turns, lengths, _, turn = run([1], [6], 64)
    assert lengths == [6] and torch.equal(turn, all_turns[[5]])


@simulated
def test_a_token_that_is_not_in_the_table_is_nan():
    table, *_, out, _ = run([11, 5, -1], [1, 1, 1], 64)
    assert out[0].isnan().all() and torch.equal(out[1], table[5]) and out[2].isnan().all()


def test_wrong_arguments_are_one_sentence():
    table, all_turns = torch.zeros(4, 64).half(), turns(3, 64, 1e4)
    tokens, turn = torch.zeros(2, dtype=torch.int32), torch.zeros(2, 32, 2)
    with pytest.raises(TypeError, match="tokens and lengths must be int32, not torch.int64 and torch.int32"):
        prepare(tokens.long(), table, tokens, all_turns, table[:2], turn)
    with pytest.raises(ValueError, match=r"of 2 tokens must be \[2, 64\], \[2, 32, 2\] and \[2\], not \[3, 64\]"):
        prepare(tokens, table, tokens, all_turns, table[:3], turn)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device():
    for width, dtype in ((4096, torch.float16), (8192, torch.bfloat16), (1001, torch.float16)):
        table, all_turns, lengths, out, turn = run([3, 10, 0], [0, 4, 2], width, dtype=dtype, device="cuda")
        assert torch.equal(out, table[[3, 10, 0]]) and lengths == [1, 5, 3]
        assert torch.equal(turn, all_turns[[0, 4, 2]])
