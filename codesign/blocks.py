"""Walking a model one transformer block at a time: load a block's weights, run it on every batch, free it.

The list of blocks is found by structure, not by a table of families: the ``ModuleList`` that holds the most linear
weights. The model's own ``forward`` is then run once on the tokens with every block replaced by a recorder that hands
its input on unchanged. That gives the hidden states that enter the first block, and for each block exactly the masks,
position embeddings and per-layer arguments that the model would have passed. After the last block the model's own
``forward`` runs once more, on a chunk of tokens whose hidden states are put in as the last block's output: final norm,
head, soft-capping and scaling are therefore the family's own.

This needs blocks whose arguments depend on the tokens but not on hidden states (other than the first argument), and a
tail that treats each position alone; every decoder-only family tested is so (``tests/codesign/test_blocks.py``).
Encoders of text and of images are walked in the same way; what stands for tokens may be any first argument of the
model, such as ``pixel_values``. A model without such a list, or an encoder-decoder, is walked as a single block: the
whole model. Convolutions are no quantizable layers (``codesign.weight_slots``): where a model has nothing but them,
there is nothing to walk for.

Memory at any time: the weights outside the blocks (embedding, norms, head) + one block's weights + the hidden states
of all tokens twice + what one batch needs inside a block + one chunk of logits, all float32
(``BlockModel.bound_bytes``). Pages of weight files that the system keeps mapped are not counted: it can drop them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from codesign.block_calls import Call, output_wrapper, share_tensors, split_call, with_cache
from codesign.give_weights import WeightSource, give_weights
from codesign.replaced_forwards import replaced_forwards
from codesign.weight_slots import WeightSlot, all_slots, weight_slots

LOGIT_BYTES = 1 << 26  # of the logits that exist at one time for one model


@dataclass(eq=False)
class Stream:
    """The hidden states between two blocks, batch by batch.

    Args:
        tokens: token ids ``[b, t]`` of each batch, or the model's first argument of another kind (images
            ``[b, channels, height, width]``).
        hidden: what enters the next block, ``[b, t, d]`` of each batch.
        calls: for each batch, the call of every block.
    """

    tokens: list[Tensor]
    hidden: list[Tensor]
    calls: list[list[Call]] = field(repr=False)


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """Path and list of the repeated blocks: the ``ModuleList`` with the most weights in slots; ``None`` without one.

    Of nested lists (experts inside blocks) the outer one holds more, or comes first where both hold the same.
    """
    best: tuple[str, nn.ModuleList] | None = None
    most = 0
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module):
            weights = sum(slot.stored.numel() for slot in weight_slots(module))
            if weights > most:
                best, most = (path, module), weights
    return best


class BlockModel:
    """A model whose blocks are loaded one at a time.

    Args:
        source: where skeleton and weights come from.
        device: where blocks and hidden states live.

    Everything runs in float32 in evaluation mode, without a KV cache kept between calls.
    """

    def __init__(self, source: WeightSource, *, device: torch.device | str = "cpu") -> None:
        self.source = source
        self.device = torch.device(device)
        self.model = source.skeleton().eval().requires_grad_(False)
        found = find_blocks(self.model)
        config = getattr(self.model, "config", None)
        if found is None or getattr(config, "is_encoder_decoder", False):
            self.paths: tuple[str, ...] = ("",)
            self._blocks: list[nn.Module] = [self.model]
        else:
            self.paths = tuple(f"{found[0]}.{i}" for i in range(len(found[1])))
            self._blocks = list(found[1])
            self._load_rest()
        self._wrap: Callable[[Tensor], Any] | None = None
        self._example: Tensor | None = None  # the last input that is not token ids, one row of it

    @property
    def whole(self) -> bool:
        """Whether the model is walked as one block because no list of blocks was found."""
        return self.paths == ("",)

    def __len__(self) -> int:
        return len(self.paths)

    # --- weights -----------------------------------------------------------------------------------------------------

    def _load_rest(self) -> None:
        inside = {id(p) for block in self._blocks for p in [*block.parameters(), *block.buffers()]}
        give_weights(self.source, self.model, "", skip=inside, device=self.device)

    @contextmanager
    def block(self, index: int, *, without: Container[str] = ()) -> Iterator[nn.Module]:
        """Block ``index`` with its weights, for as long as the context lasts.

        Inside it modules and parameters may be replaced (``codesign.apply.install``); afterwards the block is as it
        was, without weights. Weights must not be changed in place: they may be the file's own pages.

        Args:
            without: names of layers whose weights are not read, because others will take their place.
        """
        module = self._blocks[index]
        kept = [(m, dict(m._parameters), dict(m._buffers), dict(m._modules)) for m in module.modules()]
        skip = {id(p) for p in module.parameters() if not p.is_meta}
        skip |= {id(slot.stored) for slot in self.slots(index) if slot.name in without}
        give_weights(self.source, module, self.paths[index], skip=skip, device=self.device)
        try:
            yield module
        finally:
            for owner, parameters, buffers, modules in kept:
                owner._parameters, owner._buffers, owner._modules = parameters, buffers, modules

    def slots(self, index: int) -> list[WeightSlot]:
        """The quantizable matrices of block ``index``."""
        return list(weight_slots(self._blocks[index], self.paths[index]))

    def outer_slots(self) -> list[WeightSlot]:
        """The quantizable matrices outside the blocks: embedding, head, projections around the blocks."""
        if self.whole:
            return []
        inside = {id(m) for block in self._blocks for m in block.modules()}
        return [slot for slot in all_slots(self.model) if id(slot.module) not in inside]

    def layer_names(self) -> list[str]:
        """Names of all slots inside the blocks, in order."""
        return [slot.name for index in range(len(self)) for slot in self.slots(index)]

    # --- running -----------------------------------------------------------------------------------------------------

    def embed(self, tokens: Sequence[Tensor]) -> Stream:
        """What enters the first block, and how every block is called.

        Args:
            tokens: batches of token ids, int64 ``[b, t]``; rows of a batch have equal length (nothing is padded). For
                a model that reads something else, batches of that.

        Raises:
            NotImplementedError: an encoder-decoder, or blocks whose hidden states are not ``[b, t, d]``.
            ValueError: windows longer than the model's table of positions, or tokens beyond its vocabulary.
        """
        if getattr(getattr(self.model, "config", None), "is_encoder_decoder", False):
            raise NotImplementedError(
                f"{self.source.name} must be a decoder or an encoder alone to be run, not an encoder-decoder: "
                "its weights can be quantized with recipes that need no calibration, and its shapes priced"
            )
        tokens = [batch.to(self.device) for batch in tokens]
        if self.whole:
            return Stream(tokens, [*tokens], [[Call((), {})] for _ in tokens])
        stream = Stream(tokens, [], [])
        if tokens and tokens[0].is_floating_point():
            self._example = tokens[0][:1]
        if self._wrap is None and tokens:
            self._wrap = self._probe(tokens[0][:1] if tokens[0].is_floating_point() else tokens[0][:1, :2])
        with torch.no_grad():
            for batch in tokens:
                hidden, calls = self._record(batch)
                if stream.calls and stream.tokens[0].shape == batch.shape:
                    calls = share_tensors(calls, stream.calls[0])
                stream.hidden.append(hidden)
                stream.calls.append(calls)
        return stream

    def _probe(self, tokens: Tensor) -> Callable[[Tensor], Any]:
        """Run block 0 for real on two tokens (one image) to see in what its output is wrapped."""
        seen: list[Any] = []

        def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            seen.append(output)
            raise _Enough

        with torch.no_grad(), self.block(0) as block:
            handle = block.register_forward_hook(keep)
            try:
                self._forward(tokens)
            except _Enough:
                pass
            finally:
                handle.remove()
        return output_wrapper(seen[0], self.paths[0])

    def _record(self, tokens: Tensor) -> tuple[Tensor, list[Call]]:
        calls: list[Call] = []
        first: list[Tensor] = []

        def recorder(*args: Any, **kwargs: Any) -> Any:
            hidden, call = split_call(args, kwargs)
            if not first:
                first.append(hidden)
            calls.append(call)
            assert self._wrap is not None
            return self._wrap(hidden)

        with replaced_forwards(dict.fromkeys(self._blocks, recorder)):
            try:
                self._forward(tokens)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # what follows a block does not fit what enters it
                raise NotImplementedError(
                    f"blocks of {self.source.name} must all take and return hidden states [b, t, d] of one shape: "
                    f"{str(error).splitlines()[0]}"
                ) from error
        if len(calls) != len(self):
            raise NotImplementedError(
                f"{self.source.name} must call each of its {len(self)} blocks once, not {len(calls)}"
            )
        if first[0].dim() != 3:
            shape = list(first[0].shape)
            raise NotImplementedError(f"blocks of {self.source.name} must take hidden states [b, t, d], not {shape}")
        return first[0], calls

    def _forward(self, tokens: Tensor) -> None:
        """The model's own forward, where blocks are replaced or left early."""
        try:
            self.model(tokens, **self._model_kwargs())
        except IndexError:
            config = getattr(self.model, "config", None)
            length, ids = (getattr(config, key, None) for key in ("max_position_embeddings", "vocab_size"))
            raise ValueError(
                f"windows of {self.source.name} must be of at most {length} tokens (context), with ids below {ids}, "
                f"not of {tokens.shape[-1]} tokens with ids up to {int(tokens.max())}"
            ) from None

    def _model_kwargs(self) -> dict[str, Any]:
        parameters = inspect.signature(self.model.forward).parameters
        return {"use_cache": False} if "use_cache" in parameters or "kwargs" in parameters else {}

    def run(self, block: nn.Module, call: Call, hidden: Tensor, *, cache: Any = None) -> Tensor:
        """One block on one batch.

        Args:
            block: the module, loaded (``self.block``).
            call: the batch's call of this block.
            hidden: its input ``[b, t, d]`` (token ids for a model walked whole).
            cache: a KV cache that the block writes and reads, in place of none.
        """
        if self.whole:
            output = block(hidden, **self._model_kwargs())
            return output.logits if hasattr(output, "logits") else output[0]
        args, kwargs = call.args, dict(call.kwargs)
        if cache is not None:
            args, kwargs = with_cache(block, args, kwargs, cache)
        output = block(hidden, *args, **kwargs)
        return output if isinstance(output, Tensor) else output[0]

    def advance(self, stream: Stream, index: int, block: nn.Module, *, cache: Any = None) -> None:
        """Run block ``index`` on every batch of ``stream``, in place."""
        with torch.no_grad():
            for i, hidden in enumerate(stream.hidden):
                stream.hidden[i] = self.run(block, stream.calls[i][index], hidden, cache=cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """Everything after the last block, ``[b, t, d] -> [b, t, vocabulary]``; differentiable in ``hidden``.

        Of a classifier its class scores ``[b, classes]``, of an encoder without a head its last hidden states.
        """
        if self.whole:
            return hidden

        def passing(*args: Any, **kwargs: Any) -> Any:
            assert self._wrap is not None
            return self._wrap(split_call(args, kwargs)[0])

        def last(*args: Any, **kwargs: Any) -> Any:
            assert self._wrap is not None
            return self._wrap(hidden)

        if self._example is None:
            dummy = torch.zeros(hidden.shape[0], hidden.shape[1], dtype=torch.int64, device=self.device)
        else:
            dummy = torch.zeros_like(self._example).expand(hidden.shape[0], *self._example.shape[1:])
        with replaced_forwards({**dict.fromkeys(self._blocks[:-1], passing), self._blocks[-1]: last}):
            output = self.model(dummy, **self._model_kwargs())
        return output.logits if hasattr(output, "logits") else output[0]

    def check_next_token(self) -> None:
        """Makes sure that the logits predict the next token.

        Raises:
            NotImplementedError: they do not: an encoder, a classifier, a model of images or sound.
        """
        generates = getattr(self.model, "can_generate", None)
        if generates is not None and not generates():
            raise NotImplementedError(
                f"{self.source.name} must predict the next token to be measured by its loss, which a "
                f"{type(self.model).__name__} does not; its weights can be quantized and its shapes priced"
            )

    @property
    def logit_tokens(self) -> int:
        """Tokens whose logits are computed at one time: as many as ``LOGIT_BYTES`` hold."""
        vocabulary = getattr(getattr(self.model, "config", None), "vocab_size", None) or 1
        return max(1, LOGIT_BYTES // (4 * vocabulary))

    def bound_bytes(self, tokens: int, batch_tokens: int) -> int:
        """Stated bound on the growth of memory over a walk of ``tokens`` tokens in batches of ``batch_tokens``.

        Weights outside the blocks, two blocks' weights (one as stored, one in float32 or as quantized), the hidden
        states twice, eight times the widest activation of a batch, and four chunks of logits.
        """
        inside = {id(p) for block in self._blocks for p in block.parameters()}
        rest = sum(p.numel() for p in self.model.parameters() if id(p) not in inside)
        largest = max(sum(p.numel() for p in block.parameters()) for block in self._blocks)
        slots = [slot.shape for slot in self.slots(0)]
        widest = max(max(shape) for shape in slots)
        width = slots[0][1]
        return 4 * (rest + 2 * largest + 2 * tokens * width + 8 * batch_tokens * widest) + 4 * LOGIT_BYTES


class _Enough(Exception):
    """Stops a forward pass once the probe has what it came for."""
