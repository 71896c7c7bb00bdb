"""Hidden states on disk: the same bits back, never for another key, nothing from a torn file."""

import pytest
import torch

from codesign import stream_file
from codesign.accuracy import perplexity, reference, run_blocks
from codesign.apply import KVFormats
from codesign.blocks import BlockModel, Stream
from codesign.calibrate_model import batches_of
from codesign.models import resolve_model
from codesign.stream_file import StreamFile, tokens_hash, walk_key
from datatypes.catalog import INTS_SYMMETRIC
from datatypes.granularity import PerChannel
from datatypes.layer_config import TensorConfig


def stream_of(seed=0, batches=2):
    draw = torch.Generator().manual_seed(seed)
    return Stream([], [torch.randn(2, 3, 4, generator=draw) for _ in range(batches)], [])


def windows(rows=5, length=24):
    return torch.randint(0, 320, (rows, length), generator=torch.Generator().manual_seed(0))


class Stop(Exception):
    """Ends a walk where a kill would."""


def stopped_after(blocks, what="evaluate"):
    def step(said, done, total):
        if (said, done) == (what, blocks):
            raise Stop

    return step


def test_states_come_back_to_the_bit(tmp_path):
    kept = StreamFile(tmp_path / "a.stream", "key")
    before, after = stream_of(0), stream_of(1)
    assert kept.load(after) is None
    assert torch.equal(after.hidden[0], stream_of(1).hidden[0]), "left as it was"
    kept.save(before, 7)
    assert kept.load(after) == 7
    for made, expected in zip(after.hidden, before.hidden, strict=True):
        assert torch.equal(made, expected)
    kept.save(stream_of(2), 8)
    assert [path.name for path in tmp_path.iterdir()] == ["a.stream"], "one file, replaced"
    assert kept.load(after) == 8
    assert torch.equal(after.hidden[1], stream_of(2).hidden[1])


def test_another_key_another_count_of_batches_or_a_torn_file_counts_as_absent(tmp_path):
    kept = StreamFile(tmp_path / "a.stream", "key")
    kept.save(stream_of(), 1)
    assert StreamFile(kept.path, "other").load(stream_of()) is None
    assert kept.load(stream_of(batches=3)) is None
    kept.path.write_bytes(kept.path.read_bytes()[:-5])
    assert kept.load(stream_of()) is None


def test_losses_have_a_file_of_their_own_and_all_goes_together(tmp_path):
    kept = StreamFile(tmp_path / "a.stream", "key")
    kept.save(stream_of(), 1)
    assert kept.load_losses() is None
    kept.save_losses(torch.tensor([[1.5, 2.5]]))
    assert kept.load_losses().tolist() == [[1.5, 2.5]]
    assert StreamFile(kept.path, "other").load_losses() is None
    (tmp_path / ".a.stream.0123.part").write_bytes(b"of a killed run")
    kept.remove()
    assert not list(tmp_path.iterdir())
    kept.remove()


def test_the_suffix_keeps_them_apart_from_statistics(tmp_path):
    with pytest.raises(ValueError, match=r"a file of hidden states must end in \.stream, not 'a\.safetensors'"):
        StreamFile(tmp_path / "a.safetensors", "key")


def test_the_key_follows_its_parts_the_sources_and_the_versions(monkeypatch):
    keys = {walk_key({"windows": tokens_hash(windows())}), walk_key({"windows": tokens_hash(windows() + 1)})}
    keys |= {walk_key({"windows": tokens_hash(windows().reshape(1, -1))})}
    keys |= {walk_key({"windows": tokens_hash(windows())}, ("codesign/accuracy.py",))}
    monkeypatch.setattr(stream_file, "version", lambda package: "0.0.1")
    keys |= {walk_key({"windows": tokens_hash(windows())})}
    assert len(keys) == 5


@pytest.mark.parametrize("kv", [KVFormats(), KVFormats(*[TensorConfig((INTS_SYMMETRIC[4],), PerChannel())] * 2)])
def test_a_walk_goes_on_after_the_last_finished_block(tiny_deep_dir, tmp_path, kv):
    ids = windows()
    kept = StreamFile(tmp_path / "a.stream", "key")
    expected = perplexity(BlockModel(resolve_model(tiny_deep_dir)), ids, {}, kv=kv)
    with pytest.raises(Stop):
        perplexity(BlockModel(resolve_model(tiny_deep_dir)), ids, {}, kv=kv, kept=kept, steps=stopped_after(3))
    seen = []
    model = BlockModel(resolve_model(tiny_deep_dir))
    made = perplexity(model, ids, {}, kv=kv, kept=kept, steps=lambda what, done, total: seen.append((done, total)))
    assert seen == [(4, 4)]
    assert (made.losses == expected.losses).all()


def test_a_finished_reference_is_not_run_again(tiny_gqa_dir, tmp_path, monkeypatch):
    kept = StreamFile(tmp_path / "a.stream", "key")
    first = reference(BlockModel(resolve_model(tiny_gqa_dir)), windows(), kept=kept)
    model = BlockModel(resolve_model(tiny_gqa_dir))
    monkeypatch.setattr(model, "advance", None)
    monkeypatch.setattr(model, "logits", None)
    second = reference(model, windows(), kept=kept)
    assert (second.result.losses == first.result.losses).all()
    assert all(torch.equal(a, b) for a, b in zip(second.hidden, first.hidden, strict=True))


def test_a_model_walked_whole_keeps_nothing(tiny_gqa_dir, tmp_path):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    whole = BlockModel(resolve_model(tiny_gqa_dir))
    whole.paths, whole._blocks = ("",), [whole.model]
    kept = StreamFile(tmp_path / "a.stream", "key")
    logits = run_blocks(whole, batches_of(windows()), kept=kept).hidden[0]
    hidden = run_blocks(model, batches_of(windows())).hidden[0]
    with torch.no_grad():
        torch.testing.assert_close(logits, model.logits(hidden), rtol=1e-4, atol=1e-5)
    assert not kept.path.exists()
