"""The folder of a quantized model that is not finished: ``codesign quantize`` was interrupted, and can go on there."""

from __future__ import annotations

from pathlib import Path

MANIFEST = "codesign.json"  # written last
JOB = "job.json"  # what is being done; taken away at the end
LAYERS = "layers"  # one file for each layer, and a note beside each finished one until the end


def check_finished(folder: Path) -> None:
    """Makes sure that ``folder`` is none that ``codesign quantize`` has left unfinished.

    Raises:
        ValueError: it is one; says how many layers are finished.
    """
    if not (folder / MANIFEST).is_file() and (folder / JOB).is_file() and (folder / LAYERS).is_dir():
        done = len(list((folder / LAYERS).glob("*.json")))
        raise ValueError(f"{folder} must be a finished quantized model, not one interrupted after {done} layers")
