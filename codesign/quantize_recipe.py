"""From a recipe to the layers of a model: the algorithm and config of each, and the calibration they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from codesign.algorithms.rtn import RoundToNearest
from codesign.apply import KVFormats
from codesign.blocks import BlockModel
from codesign.cache import cache_dir
from codesign.calibrate_model import GRADIENTS, CalibrationFolder, calibration_key, gather_gradients, gather_inputs
from codesign.calibration import Statistic
from codesign.quantize_blocks import CalibrationPlan, LayerJob
from codesign.quantized_model import QuantizationJob
from codesign.recipes import Recipe, check_groups, check_quantizes
from codesign.steps import NO_STEPS, Steps
from codesign.weight_slots import embedding_slot


def layer_jobs(model: BlockModel, recipe: Recipe) -> dict[str, LayerJob]:
    """The job of every layer that ``recipe`` touches: all slots inside the blocks, the head, the embedding.

    Projections around the blocks that are not the head stay as they are.

    Raises:
        NotImplementedError: a convolutional net.
        ValueError: groups longer than every row, an encoding that no algorithm makes, or an algorithm that needs the
            inputs of experts.
    """
    check_quantizes(recipe)
    jobs: dict[str, LayerJob] = {}
    if recipe.algorithm is not None:
        _check_linear(model)
        _check_inputs_seen(model, recipe)
        check_groups(recipe, _rows(model), model.source.name)
        jobs |= {name: LayerJob(recipe.algorithm, recipe.linear) for name in model.layer_names()}
    for head in _head_names(model):
        jobs.pop(head, None)  # of a model walked as one block it lies inside
        if recipe.head is not None and recipe.head.weight is not None:
            jobs[head] = LayerJob(RoundToNearest(), recipe.head)
    embedding = embedding_slot(model.model)
    if recipe.embedding is not None and recipe.embedding.weight is not None and embedding is not None:
        jobs[embedding.name] = LayerJob(RoundToNearest(), recipe.embedding)
    return jobs


def _rows(model: BlockModel) -> list[int]:
    """in_features of the linear layers inside the blocks."""
    return [slot.shape[1] for index in range(len(model)) for slot in model.slots(index)]


def kv_of(recipe: Recipe) -> KVFormats:
    """Formats of the KV cache that belong to ``recipe``."""
    return KVFormats(recipe.linear.key, recipe.linear.value)


def gather(
    model: BlockModel, model_hash: str, windows: Tensor, wanted: frozenset[Statistic], *, steps: Steps = NO_STEPS
) -> CalibrationFolder:
    """Statistics of the unquantized model for any number of recipes, kept in the cache.

    Args:
        model: the walked model.
        model_hash: of its weights.
        windows: calibration tokens ``[w, t]``.
        wanted: the union of what the recipes need.
    """
    folder = cache_dir("calibration") / calibration_key(model_hash, windows, wanted, device=str(model.device))
    gather_inputs(model, windows, wanted, folder, steps=steps)
    return gather_gradients(model, windows, wanted, folder, steps=steps)


def recipe_job(
    model: BlockModel, recipe: Recipe, plan: CalibrationPlan, calibration: Mapping[str, Any]
) -> QuantizationJob:
    """The job that makes a quantized model folder of ``recipe``.

    Args:
        plan: where calibration comes from.
        calibration: what the calibration data are, for the manifest.
    """
    return QuantizationJob(recipe.name, layer_jobs(model, recipe), plan, kv_of(recipe), calibration)


def _check_linear(model: BlockModel) -> None:
    """Makes sure that a model walked whole is made of linear layers, not of convolutions with a classifier behind."""
    if not model.whole:
        return
    linear = sum(slot.stored.numel() for slot in model.slots(0))
    kernels = [m.weight.numel() for m in model.model.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    if sum(kernels) > linear:
        share = sum(kernels) / (sum(kernels) + linear)
        raise NotImplementedError(
            f"{model.source.name} must have its weights in linear layers to be quantized, not {share:.0%} of them in "
            "convolutions, which can be priced (codesign estimate) but not yet quantized"
        )


def _check_inputs_seen(model: BlockModel, recipe: Recipe) -> None:
    """Makes sure that no algorithm that needs the inputs of its layers meets fused experts, whose inputs none sees."""
    if not recipe.needs - GRADIENTS:
        return
    fused = next((slot.name for index in range(len(model)) for slot in model.slots(index) if slot.experts), None)
    if fused is not None:
        raise ValueError(
            f"recipe must need no statistics of the inputs of experts, which {model.source.name} has in {fused}, so "
            f"not {recipe.name}: one that needs weights or gradients alone may do (codesign algorithms)"
        )


def _head_names(model: BlockModel) -> list[str]:
    """Names of the slots that make the logits, as the model itself says: one, or one for each stream of tokens."""
    ask = getattr(model.model, "get_output_embeddings", None)
    head = ask() if ask is not None else None
    if head is None:
        return []
    modules = {id(module) for module in head.modules()}
    inside = (slot for index in range(len(model)) for slot in model.slots(index))
    return [slot.name for slot in (*model.outer_slots(), *inside) if id(slot.module) in modules]
