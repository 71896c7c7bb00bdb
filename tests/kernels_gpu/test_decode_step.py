"""A whole decode step on a tiny shape: each stage against its reference, and the logits against float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels_gpu import ptx
from kernels_gpu.decode_model import (
    LLAMA_2_7B,
    DecoderShape,
    Matrix,
    empty_cache,
    encoded_weights,
    random_cache,
    random_decoder,
)
from kernels_gpu.decode_reference import compare, logits_in_float64, poison, verify
from kernels_gpu.decode_step import DecodeStep, StageKind, make_state, stages
from kernels_gpu.decode_weights import HalfWeight, random_tinygemm
from kernels_gpu.gemv_recipes import RECIPES

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
TINY = DecoderShape("tiny", 64, 2, 1, 64, 48, 2, 40)
ALIKE = dict.fromkeys((Matrix.QKV, Matrix.OUT, Matrix.GATE_UP, Matrix.DOWN), "int4_g128")
PLAIN = dict.fromkeys(ALIKE)
OF_LAYERS = [
    {Matrix.QKV: None, Matrix.OUT: "int4_g128", Matrix.GATE_UP: None, Matrix.DOWN: "bitmod3_g128"},
    PLAIN,
    {Matrix.HEAD: None},
]


def decoder_of(names, dtype, shape=TINY, device="cpu"):
    generator = torch.Generator(device).manual_seed(0)

    def config_of(layer, which):
        name = names[layer][which]
        return None if name is None else RECIPES[name]

    return random_decoder(shape, encoded_weights(config_of, dtype, generator), dtype=dtype, generator=generator)


def state_of(decoder, tokens, lengths, capacity, bits):
    generator = torch.Generator(decoder.embedding.device).manual_seed(1)
    caches = [random_cache(decoder.shape, len(tokens), capacity, bits, generator) for _ in range(decoder.shape.layers)]
    return make_state(decoder, caches, tokens, lengths)


def first_order_bound(decoder, tokens, state, allowed):
    """Logits in float64, and how far the stages' tolerances may move them: the sum of |gradient| times tolerance."""
    zeros = []

    def moved(result):
        zeros.append(torch.zeros_like(result, requires_grad=True))
        return result + zeros[-1]

    positions = [n - 1 for n in state.lengths.tolist()]
    logits = logits_in_float64(decoder, tokens, positions, state, moved)
    assert [z.numel() for z in zeros] == [a.size for a in allowed]
    bound = torch.zeros_like(logits)
    for b in range(logits.shape[0]):
        for v in range(logits.shape[1]):
            gradients = torch.autograd.grad(logits[b, v], zeros, retain_graph=True)
            for gradient, a in zip(gradients, allowed, strict=True):
                bound[b, v] += (gradient.abs() * torch.from_numpy(a).view_as(gradient)).sum()
    return logits.detach(), bound.detach()


def check(shape, names, dtype, tokens, lengths, bits):
    """Every stage on poisoned results, then the whole against float64."""
    decoder = decoder_of(names, dtype, shape)
    state = state_of(decoder, tokens, lengths, 9, bits)
    allowed, kinds, logits = [], [], None
    for stage in stages(decoder, state, advance=True):
        before = poison(stage)
        for call in stage.calls:
            call()
        found = compare(stage, before, decoder, state)
        assert found.worst <= 1, (stage.kind, stage.layer, found.worst)
        allowed += found.allowed
        kinds.append(stage.kind)
        if stage.matrix is Matrix.HEAD:
            logits = stage.writes["out"].double().clone()
    assert state.lengths.tolist() == [n + 1 for n in lengths]
    layers = shape.layers
    assert kinds.count(StageKind.PRODUCT) == 4 * layers + 1 and kinds.count(StageKind.NORM) == 2 * layers + 1
    expected, bound = first_order_bound(decoder, tokens, state, allowed)
    # twice: what is of second order in errors of a few hundredths is less than they are
    error = (logits - expected).abs()
    assert (error <= 2 * bound).all(), (error / bound).max()
    # a wrong layer moves logits by what they are; bfloat16 has three bits fewer
    assert (bound < (0.8 if dtype is torch.bfloat16 else 0.1) * expected.abs().mean()).all()
    assert state.tokens.tolist() == logits.argmax(1).tolist()


@simulated
def test_a_step_of_mixed_encodings():
    check(TINY, OF_LAYERS, torch.float16, [3], [4], 8)


@simulated
@pytest.mark.slow  # NUMBA_ENABLE_CUDASIM=1 pytest -m slow tests/kernels_gpu
def test_a_bfloat16_step_of_two_sequences_over_four_bits():
    one_layer = replace(TINY, layers=1, vocabulary=24)
    check(one_layer, [PLAIN, {Matrix.HEAD: "int8"}], torch.bfloat16, [5, 23], [0, 7], 4)


@simulated
def test_a_bound_step_equals_a_run_by_stage_and_a_full_cache_stays_full():
    shape = DecoderShape("tiny", 64, 1, 1, 64, 32, 1, 24)
    decoder = decoder_of([PLAIN, {Matrix.HEAD: None}], torch.float16, shape)
    states = [make_state(decoder, [empty_cache(shape, 1, 1, 8, "cpu")], [7], [0]) for _ in range(2)]
    step = DecodeStep(decoder, states[0])
    assert step.launches() == 1 + 9 + 3  # embedding; a layer without a merge; norm, vocabulary, largest
    step()
    verify(decoder, states[1], advance=True, wanted=lambda stage: False)
    assert [s.lengths.tolist() for s in states] == [[1]] * 2
    assert torch.equal(states[0].tokens, states[1].tokens)
    for mine, other in zip(states[0].caches[0], states[1].caches[0], strict=True):
        assert torch.equal(mine.codes, other.codes) and mine.codes.any()
    first = states[0].tokens.clone()
    step()  # goes on with the token that the first step chose
    assert states[0].lengths.tolist() == [1] and not torch.equal(states[0].tokens, first)


@simulated
@pytest.mark.slow  # NUMBA_ENABLE_CUDASIM=1 pytest -m slow tests/kernels_gpu
def test_a_wrong_weight_is_found():
    shape = DecoderShape("tiny", 64, 1, 1, 64, 32, 1, 24)
    decoder = decoder_of([PLAIN | {Matrix.DOWN: "int4_g128"}, {Matrix.HEAD: None}], torch.float16, shape)
    state = state_of(decoder, [1], [2], 4, 8)
    right = decoder.layers[0].weights[Matrix.DOWN]
    wrong = HalfWeight(right.dense().half() * 1.05)

    class Swapped:
        own, late, plan, nbytes = right.own, right.late, right.plan, right.nbytes
        dense, bind = wrong.dense, right.bind

    decoder.layers[0].weights[Matrix.DOWN] = Swapped()
    with pytest.raises(AssertionError, match="down of layer 0 must be within its tolerance, not"):
        verify(decoder, state, advance=False, wanted=lambda stage: stage.matrix is Matrix.DOWN)


def test_sizes_of_llama_2_7b():
    # Touvron et al., arXiv 2307.09288: 6.74 G parameters: 32 layers, embedding and vocabulary, 65 norms
    linear = sum(n * k for n, k in map(LLAMA_2_7B.matrix, list(Matrix)[:4]))
    assert 32 * linear + 2 * 32000 * 4096 + 65 * 4096 == 6_738_415_616
    assert LLAMA_2_7B.matrix(Matrix.QKV) == (12288, 4096) and LLAMA_2_7B.matrix(Matrix.DOWN) == (4096, 11008)


def test_bytes_are_counted():
    decoder = decoder_of([ALIKE, ALIKE, {Matrix.HEAD: None}], torch.float16)
    # codes of whole blocks of 32, and a scale for each group of 128, in whole words
    matrices = [(n, k) for n, k in map(TINY.matrix, list(Matrix)[:4])]
    assert matrices == [(256, 64), (64, 128), (96, 64), (64, 48)]
    codes = 256 * 64 // 2 + 64 * 128 // 2 + 96 * 64 // 2 + 64 * 64 // 2  # a row of 48 takes two blocks
    assert decoder.weight_bytes == 2 * (codes + 2 * (256 + 64 + 96 + 64)) + 40 * 64 * 2
    state = state_of(decoder, [1, 2], [3, 3], 8, 4)
    # of 2 layers, keys and values, 2 sequences, 1 head: 64 elements of 4 bits and a scale of 2 bytes
    assert state.cache_bytes(4) == 2 * 2 * 2 * 4 * (32 + 2)


def test_shared_layers_are_one_object():
    generator = torch.Generator().manual_seed(0)
    make = encoded_weights(lambda layer, which: None, torch.float16, generator)
    decoder = random_decoder(TINY, make, dtype=torch.float16, generator=generator, distinct=1)
    assert decoder.layers[0] is decoder.layers[1] and not decoder.late


def test_wrong_arguments_are_one_sentence():
    decoder = decoder_of([ALIKE, ALIKE, {Matrix.HEAD: None}], torch.float16)
    caches = [empty_cache(TINY, 1, 4, 8, "cpu")] * 2
    with pytest.raises(ValueError, match="sequences of a decode step must be 1 to 16, not 0"):
        make_state(decoder, caches, [], [])
    with pytest.raises(ValueError, match=r"caches must be 2 of shape \(2, 1, 4, 64\), not 2 of \[\(1, 1, 4, 64\)\]"):
        make_state(decoder, caches, [1, 2], [1, 2])
    with pytest.raises(ValueError, match=r"lengths must be 1 numbers of 0 to the capacity 4, not \[5\]"):
        make_state(decoder, caches, [1], [5])
    with pytest.raises(ValueError, match=r"tokens must be 0 to 39, not \[40\]"):
        make_state(decoder, caches, [40], [1])
    with pytest.raises(ValueError, match="heads a multiple of key_heads"):
        DecoderShape("odd", 64, 3, 2, 64, 64, 1, 8)
    with pytest.raises(ValueError, match="n and k of tinygemm must be multiples of 8 and 128, not 8 and 96"):
        random_tinygemm(8, 96, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [4, 8])
def test_on_a_device_a_graph_is_the_step(dtype, bits):
    shape = DecoderShape("small", 512, 8, 2, 64, 1408, 3, 1000)
    names = [*[ALIKE] * 3, {Matrix.HEAD: None}]
    decoder = decoder_of(names, dtype, shape, "cuda")
    for tokens in ([3], [1, 2, 3, 4, 5], list(range(16))):
        lengths = [100 + 7 * t for t in tokens]
        state, twin = (state_of(decoder, tokens, lengths, 300, bits) for _ in range(2))
        verify(decoder, state, advance=True, wanted=lambda stage: True)
        graph = DecodeStep(decoder, twin).capture()
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(state.tokens, twin.tokens) and torch.equal(state.lengths, twin.lengths)
        assert np.all([torch.equal(a.codes, b.codes) for a, b in zip(state.caches[1], twin.caches[1], strict=True)])
