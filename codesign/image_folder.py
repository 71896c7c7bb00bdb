"""Labelled images on disk, as a classifier of ImageNet takes them.

Two layouts: one folder for each class, named by its WordNet id (``n01440764/*.JPEG``, as the validation set is commonly
kept), or files named by class number and WordNet id (``000_n01440764.jpg``). Preprocessing as EfficientNet's own code
has it (Google, tpu/models/official/efficientnet, preprocessing.py): the centre of 224 / 256 of the shorter side,
bicubic to 224 x 224; values (x - 127) / 128 (the Lite README).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codesign.extras import require

CLASSES = 1000
CROP_MARGIN = 32  # pixels: CROP_PADDING of preprocessing.py
MEAN, DEVIATION = 127.0, 128.0  # the Lite README
_NUMBERED = re.compile(r"(\d{3})_n\d{8}.*\.jpe?g", re.IGNORECASE)
_IMAGE = re.compile(r".*\.(jpe?g|png)", re.IGNORECASE)
_CLASS = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class LabelledImages:
    """Files and their class numbers, in the order of their names.

    Args:
        paths: of the images.
        labels: 0 to 999.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def split(self, calibration: int) -> tuple[LabelledImages, LabelledImages]:
        """``calibration`` images spread evenly over the list, and the rest.

        Raises:
            ValueError: not fewer than there are, or none.
        """
        if not 0 < calibration < len(self):
            raise ValueError(f"calibration images must be 1 to {len(self) - 1}, not {calibration!r}")
        chosen = set((np.arange(calibration) * len(self) // calibration).tolist())
        return self._at(sorted(chosen)), self._at([i for i in range(len(self)) if i not in chosen])

    def _at(self, places: Sequence[int]) -> LabelledImages:
        return LabelledImages(tuple(self.paths[i] for i in places), tuple(self.labels[i] for i in places))

    def load(self, pixels: int = 224, threads: int = 4) -> Tensor:
        """All images, float32 ``[b, 3, pixels, pixels]``.

        Raises:
            ValueError: a file is not an image.
        """
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda path: _pixels(path, pixels), self.paths))
        return (torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).to(torch.float32) - MEAN) / DEVIATION


def labelled_images(folder: Path) -> LabelledImages:
    """The images of ``folder``.

    Raises:
        ValueError: there is no such folder, or its files are in neither layout.
    """
    if not folder.is_dir():
        raise ValueError(f"images must be in a folder, not {str(folder)!r}")
    found = sorted(_numbered(folder)) or sorted(_by_class(folder))
    if not found:
        raise ValueError(f"{folder} must hold images as n01440764/*.JPEG or 000_n01440764.jpg, and holds none")
    return LabelledImages(tuple(path for path, _ in found), tuple(label for _, label in found))


def _numbered(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in folder.iterdir():
        if match := _NUMBERED.fullmatch(path.name):
            yield path, int(match[1])


def _by_class(folder: Path) -> Iterator[tuple[Path, int]]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and _CLASS.fullmatch(path.name))
    if classes and len(classes) != CLASSES:
        raise ValueError(
            f"{folder} must have a folder for each of {CLASSES} classes to number them, not {len(classes)}"
        )
    for label, one in enumerate(classes):
        for path in one.iterdir():
            if _IMAGE.fullmatch(path.name):
                yield path, label


def _pixels(path: Path, pixels: int) -> np.ndarray:
    """One image, uint8 ``[pixels, pixels, 3]``."""
    pillow: Any = require("PIL.Image", "vision")
    try:
        with pillow.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be an image ({error})") from None
    side = min(image.size) * pixels / (pixels + CROP_MARGIN)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return np.asarray(image.resize((pixels, pixels), pillow.Resampling.BICUBIC, (left, top, left + side, top + side)))
