"""Gathering calibration over a whole model, one block at a time, into a folder that all recipes share.

``gather_inputs`` walks the unquantized model and accumulates the input statistics of every layer (parallel mode: each
layer sees what the original model would feed it). ``gather_gradients`` walks forwards keeping what enters each block
and backwards recomputing one block at a time, so |dL/dw| needs one block's weights and gradients, never the model's.
Sequential mode, where inputs come from the already quantized blocks before, belongs to ``codesign.quantize_blocks``.

Layers that are given the very same tensor (q, k and v; gate and up) share one statistic: computed and stored once.

Disk: Hessians take 4 * k**2 bytes for each distinct input (SmolLM2-135M: 0.4 GB), gradients 4 * n * k for each layer
and statistic (0.4 GB). While a pass runs, the hidden states between two blocks lie beside them (``StreamFile``), for
gradients those in front of every block: blocks * tokens * width floats (SmolLM2-135M, 512 tokens: 35 MB). An
interrupted run goes on after the last block that was finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from codesign.blocks import BlockModel, Stream
from codesign.calibration import InputStatistics, LayerCalibration, Statistic
from codesign.steps import NO_STEPS, Steps
from codesign.stream_file import SUFFIX, StreamFile, tokens_hash, walk_key
from codesign.tensor_file import save_tensors
from codesign.weight_slots import WeightSlot

GRADIENTS = frozenset({Statistic.GRADIENT_ABS, Statistic.GRADIENT_SQUARE})
BATCH_TOKENS = 2048  # tokens that run through a block at one time
BATCH_IMAGES = 8  # of 224 pixels in patches of 16 (ViT), about as many tokens


def batches_of(windows: Tensor, batch_tokens: int = BATCH_TOKENS) -> list[Tensor]:
    """Windows ``[w, t]`` as batches of about ``batch_tokens`` tokens, at least one window each.

    Inputs that are not token ids (images) go ``BATCH_IMAGES`` at a time.
    """
    if windows.is_floating_point():
        return list(windows.split(BATCH_IMAGES))
    return list(windows.split(max(1, batch_tokens // max(1, windows.shape[1]))))


def calibration_key(model_hash: str, windows: Tensor, wanted: frozenset[Statistic], *, device: str = "cpu") -> str:
    """Name of the folder in which statistics of this model on these tokens are kept: also of device and code."""
    statistics = sorted(statistic.value for statistic in wanted)
    return walk_key({"model": model_hash, "windows": tokens_hash(windows), "wanted": statistics, "device": device})[:24]


class Observer:
    """Accumulates what enters the slots of one block, from hooks on their modules.

    Args:
        slots: of the block. Fused experts are passed over: what each expert sees is not visible from outside.
        wanted: statistics to gather.
        keep_inputs: rows kept for ``Statistic.INPUTS``.
    """

    def __init__(self, slots: Sequence[WeightSlot], wanted: frozenset[Statistic], keep_inputs: int) -> None:
        self.slots = [slot for slot in slots if not slot.experts]
        self.statistics = {
            slot.name: InputStatistics(slot.shape[1], wanted, keep_inputs=keep_inputs) for slot in self.slots
        }
        self.owner: dict[str, str] = {}
        self._seen: list[tuple[Tensor, str]] = []

    @contextmanager
    def watching(self, block: nn.Module) -> Iterator[None]:
        """Hooks in place for as long as the context lasts."""
        handles = [block.register_forward_pre_hook(self._start)]
        handles += [slot.module.register_forward_pre_hook(self._hook(slot.name)) for slot in self.slots]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._seen.clear()

    def _start(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._seen.clear()

    def _hook(self, name: str) -> Any:
        def see(module: nn.Module, args: tuple[Any, ...]) -> None:
            x: Tensor = args[0]
            if name not in self.owner:
                same = [other for tensor, other in self._seen if tensor is x]
                self.owner[name] = same[0] if same else name
                self._seen.append((x, self.owner[name]))
            if self.owner[name] == name:
                rows = x if x.dim() == 3 else x[None]
                for sequence in rows:  # one window is one batch for BATCH_ABS_MEAN_MAX, however windows are batched
                    self.statistics[name].update(sequence)

        return see

    def finish(self) -> dict[str, LayerCalibration]:
        """The statistics of every slot that was called; those with the same input share tensors."""
        done = {name: self.statistics[name].finish(name) for name, owner in self.owner.items() if owner == name}
        return {
            name: LayerCalibration(name, done[owner].tokens, done[owner].statistics)
            for name, owner in self.owner.items()
        }


class CalibrationFolder(Mapping[str, LayerCalibration]):
    """Statistics on disk, read layer by layer: a mapping from layer name to ``LayerCalibration``.

    Args:
        folder: written by ``gather_inputs`` and ``gather_gradients``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, list[tuple[Path, str, int]]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    layers = json.loads((file.metadata() or {})["layers"])
            except (SafetensorError, KeyError, ValueError):
                raise ValueError(f"{path} must be a calibration file; delete it to gather it again") from None
            for name, (owner, tokens) in layers.items():
                self._files.setdefault(name, []).append((path, owner, tokens))

    def __getitem__(self, name: str) -> LayerCalibration:
        statistics: dict[Statistic, Tensor] = {}
        tokens = 0
        for path, owner, seen in self._files[name]:
            tokens = max(tokens, seen)
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 - not a dict
                    layer, _, statistic = key.rpartition("|")
                    if layer == owner:
                        statistics[Statistic(statistic)] = file.get_tensor(key)
        return LayerCalibration(name, tokens, statistics)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def gather_inputs(
    model: BlockModel,
    windows: Tensor,
    wanted: frozenset[Statistic],
    folder: Path,
    *,
    keep_inputs: int = 512,
    steps: Steps = NO_STEPS,
) -> CalibrationFolder:
    """Input statistics of every layer inside the blocks, from the unquantized model.

    Args:
        model: the walked model.
        windows: calibration tokens ``[w, t]``.
        wanted: statistics; gradient ones are ignored.
        folder: where they are kept, one file a block; blocks whose file is there are only run.
        keep_inputs: rows for ``Statistic.INPUTS``.

    Returns:
        The folder as a mapping.
    """
    wanted = wanted - GRADIENTS
    files = [folder / f"inputs-{index:05d}.safetensors" for index in range(len(model))]
    kept = StreamFile(folder / f"inputs{SUFFIX}", _walk_of(folder, windows))
    if wanted and not all(path.is_file() for path in files):
        stream = model.embed(batches_of(windows))
        missing = [index for index, path in enumerate(files) if not path.is_file()]
        passed = kept.load(stream) or 0
        if passed > missing[0]:  # somebody deleted a file: its block must run again
            stream, passed = model.embed(batches_of(windows)), 0
        for index in range(passed, missing[-1] + 1):
            with model.block(index) as block:
                if index in missing:
                    found = observe(model, stream, index, block, wanted, keep_inputs=keep_inputs, advance=True)
                    _write(files[index], found)
                else:
                    model.advance(stream, index, block)
            if not model.whole:
                kept.save(stream, index + 1)
            steps("calibrate", index + 1, len(files))
    kept.remove()
    return CalibrationFolder(folder)


def observe(
    model: BlockModel,
    stream: Stream,
    index: int,
    block: nn.Module,
    wanted: frozenset[Statistic],
    *,
    keep_inputs: int = 512,
    advance: bool = False,
) -> dict[str, LayerCalibration]:
    """Statistics of one loaded block on ``stream``; with ``advance`` the stream moves on to the block's outputs."""
    observer = Observer(model.slots(index), wanted, keep_inputs)
    before = list(stream.hidden)
    with observer.watching(block):
        model.advance(stream, index, block)
    if not advance:
        stream.hidden = before
    return observer.finish()


def gather_gradients(
    model: BlockModel, windows: Tensor, wanted: frozenset[Statistic], folder: Path, *, steps: Steps = NO_STEPS
) -> CalibrationFolder:
    """Mean over windows of |dL/dw| and (dL/dw)**2 for every layer inside the blocks, L the mean loss of a window.

    Memory: for one block at a time its weights, their gradient, the running sums, what enters it for all windows, and
    the activations of one window. What enters each block (blocks * tokens * width floats) lies on disk.

    Args:
        model: the walked model (not one walked whole).
        windows: tokens ``[w, t]``; each window is a sample.
        wanted: which of the two; others are ignored.
        folder: where they are kept, one file a block.

    Raises:
        NotImplementedError: the model is walked whole, or does not predict the next token.
    """
    wanted = wanted & GRADIENTS
    files = [folder / f"gradients-{index:05d}.safetensors" for index in range(len(model))]
    if not wanted:
        return CalibrationFolder(folder)
    if model.whole:
        raise NotImplementedError(f"gradients need a model with decoder blocks, which {model.source.name} has not")
    model.check_next_token()
    key = _walk_of(folder, windows)
    entering = [StreamFile(folder / f"entering-{index:05d}{SUFFIX}", key) for index in range(len(model) + 1)]
    kept = StreamFile(folder / f"gradients{SUFFIX}", key)
    if not all(path.is_file() for path in files):
        stream = model.embed(batches_of(windows, 1))  # one window at a time
        flow, passed = _run_forwards(model, stream, entering, kept, steps=steps)
        for index in reversed(range(len(model) - passed)):
            if entering[index].load(stream) is None:
                raise ValueError(f"{entering[index].path} must be what this run wrote; delete {folder} to gather again")
            with model.block(index) as block:
                found, flow.hidden = _backward(model, stream, index, block, flow.hidden, wanted)
                _write(files[index], found)
            kept.save(flow, len(model) - index)
            entering[index].remove()
            steps("gradients, backwards", len(files) - index, len(files))
    for file in (kept, *entering):
        file.remove()
    return CalibrationFolder(folder)


def _walk_of(folder: Path, windows: Tensor) -> str:
    """Key of a walk whose statistics go to ``folder``, which is named by everything else."""
    return walk_key({"folder": folder.name, "windows": tokens_hash(windows)})


def _run_forwards(
    model: BlockModel, stream: Stream, entering: Sequence[StreamFile], kept: StreamFile, *, steps: Steps
) -> tuple[Stream, int]:
    """Run ``stream`` to the end, as far as that was not done before.

    Args:
        entering: for what enters each block, and what leaves the last.
        kept: for the gradients.

    Returns:
        The gradients in what enters the last blocks, and how many blocks they have passed backwards.
    """
    flow = Stream(stream.tokens, list(stream.hidden), [])
    passed = kept.load(flow)
    if passed is not None and all(file.path.is_file() for file in entering[: len(model) - passed]):
        return flow, passed
    there = [index for index, file in enumerate(entering) if file.path.is_file()]
    start = next((index for index in reversed(there) if entering[index].load(stream) == index), 0)
    if not start:
        entering[0].save(stream, 0)
    for index in range(start, len(model)):
        with model.block(index) as block:
            model.advance(stream, index, block)
        entering[index + 1].save(stream, index + 1)
        steps("gradients, forwards", index + 1, len(model))
    flow.hidden = [_loss_gradient(model, h, t) for h, t in zip(stream.hidden, stream.tokens, strict=True)]
    kept.save(flow, 0)
    return flow, 0


def _loss_gradient(model: BlockModel, hidden: Tensor, tokens: Tensor) -> Tensor:
    """Gradient of the window's mean next-token loss in the last block's output ``[1, t, d]``, a chunk at a time."""
    gradient = torch.zeros_like(hidden)
    predicted = hidden.shape[1] - 1
    for start in range(0, predicted, model.logit_tokens):
        stop = min(start + model.logit_tokens, predicted)
        chunk = hidden[:, start:stop].detach().requires_grad_()
        with torch.enable_grad():
            logits = model.logits(chunk).flatten(0, 1)
            loss = F.cross_entropy(logits, tokens[:, start + 1 : stop + 1].flatten(), reduction="sum") / predicted
        (gradient[:, start:stop],) = torch.autograd.grad(loss, chunk)
    return gradient


def _backward(
    model: BlockModel,
    stream: Stream,
    index: int,
    block: nn.Module,
    gradients: Sequence[Tensor],
    wanted: frozenset[Statistic],
) -> tuple[dict[str, LayerCalibration], list[Tensor]]:
    """Gradient statistics of one block, and the gradients in its inputs.

    Args:
        stream: for each window, the block's input.
        gradients: for each window, the gradient in the block's output.
    """
    slots = model.slots(index)
    parameters = [slot.stored for slot in slots]
    sums: dict[tuple[str, Statistic], Tensor] = {}
    passed: list[Tensor] = []
    for i, (hidden, gradient) in enumerate(zip(stream.hidden, gradients, strict=True)):
        hidden = hidden.detach().requires_grad_()
        for parameter in parameters:
            parameter.requires_grad_()
        with torch.enable_grad():
            output = model.run(block, stream.calls[i][index], hidden)
        found = torch.autograd.grad(output, [hidden, *parameters], gradient, allow_unused=True)
        assert found[0] is not None
        passed.append(found[0])
        for slot, one in zip(slots, found[1:], strict=True):
            matrix = torch.zeros(slot.shape, device=hidden.device) if one is None else slot.matrix_of(one)
            for statistic in wanted:
                value = matrix.abs() if statistic is Statistic.GRADIENT_ABS else matrix.square()
                key = slot.name, statistic
                sums[key] = sums[key] + value if key in sums else value
    for parameter in parameters:
        parameter.requires_grad_(False)
    tokens = sum(t.numel() for t in stream.tokens)
    count = len(gradients)
    return {
        slot.name: LayerCalibration(slot.name, tokens, {s: (sums[slot.name, s] / count).cpu() for s in wanted})
        for slot in slots
    }, passed


def _write(path: Path, found: Mapping[str, LayerCalibration]) -> None:
    """One block's statistics; a tensor that several layers share is stored under the first one's name."""
    tensors: dict[str, Tensor] = {}
    layers: dict[str, tuple[str, int]] = {}
    owners: dict[int, str] = {}
    for name, calibration in found.items():
        owner = owners.setdefault(id(calibration.statistics), name)
        layers[name] = (owner, calibration.tokens)
        if owner == name:
            tensors.update({f"{name}|{s.value}": value.contiguous() for s, value in calibration.statistics.items()})
    save_tensors(tensors, path, {"layers": json.dumps(layers)})
