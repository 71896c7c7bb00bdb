"""Whether results can be written where they should go, asked before the work that makes them; writes nothing."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def check_output_folder(folder: Path) -> None:
    """Makes sure that files can be written to ``folder``, which need not exist yet.

    Raises:
        ValueError: it is a file, lies below one, or may not be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"the output {folder} must be a folder, not a file")
    _check_place(folder, (folder, *folder.absolute().parents))


def check_output_file(file: Path) -> None:
    """Makes sure that ``file`` can be written, or written anew.

    Raises:
        ValueError: it is a folder or a device, or lies where no file may be written.
    """
    if file.exists() and not file.is_file():  # a renamed file would take the place of a device
        raise ValueError(f"the output {file} must be a file, not a {'folder' if file.is_dir() else 'device or a pipe'}")
    _check_place(file, tuple(file.absolute().parents))


def _check_place(output: Path, places: tuple[Path, ...]) -> None:
    """That the first of ``places`` that is there is a folder to write to: a file without a name is made in it."""
    place = next(path for path in places if os.path.lexists(path))
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        with suppress(OSError), tempfile.TemporaryFile(dir=place):  # root is refused in /proc, whatever access says
            return
    what = f"the link {place} to nothing" if place.is_symlink() and not place.exists() else place
    raise ValueError(f"the output {output} must be where files may be written, which {what} is not")
