"""Where the C++ headers lie, and the command that compiles a program against them.

``ap_int.h`` and ``hls_stream.h`` are not part of this project: Vitis brings them, and the package hls4ml (extra
``hls``) holds Xilinx's open copies under the Apache License 2.0. They are only looked up; hls4ml is never imported.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

INCLUDE = Path(__file__).parent / "include"  # the folder in which `codesign/types.h` lies
STANDARD = "-std=c++17"
SEPARATE_ROUNDING = "-ffp-contract=off"  # compilers for some processors fuse products and sums unless told not to
# The open ap_int.h masks its members in constructors before they are set, hence the two last ones.
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Wno-unused-label",
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",
)


class CompileError(RuntimeError):
    """The C++ compiler refused a program; the message holds its first error."""


def ap_types_folder(path: Path | None = None) -> Path:
    """The folder that holds ``ap_int.h``.

    Args:
        path: where to look; else the environment variable ``CODESIGN_AP_TYPES``, then ``include`` under Vitis'
            ``XILINX_HLS``, then the installed package hls4ml.

    Raises:
        FileNotFoundError: no such file there, or nowhere.
    """
    stated = path or os.environ.get("CODESIGN_AP_TYPES")
    if stated:
        folder = Path(stated).expanduser()
        if not (folder / "ap_int.h").is_file():
            raise FileNotFoundError(f"the folder of Vitis' headers must hold ap_int.h, not be {str(folder)!r}")
        return folder
    vitis = os.environ.get("XILINX_HLS")
    candidates = [Path(vitis) / "include"] if vitis else []
    found = importlib.util.find_spec("hls4ml")
    places = found.submodule_search_locations if found is not None else None
    candidates += [Path(place) / "templates" / "vivado" / "ap_types" for place in places or ()]
    for folder in candidates:
        if (folder / "ap_int.h").is_file():
            return folder
    raise FileNotFoundError(
        "C simulation needs ap_int.h: install the extra (pip install 'codesign[hls]'), source Vitis' settings, or set "
        "CODESIGN_AP_TYPES to the folder that holds it"
    )


def compiler() -> str:
    """The C++ compiler: ``CXX`` from the environment, or ``g++``.

    Raises:
        FileNotFoundError: it is not on the path.
    """
    name = os.environ.get("CXX") or "g++"
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(
            f"C simulation needs a C++17 compiler on the path (g++, or the one CXX names), not {name!r}"
        )
    return found


def compiler_version() -> str:
    """What the compiler says of itself.

    Raises:
        FileNotFoundError: it is not on the path.
        ValueError: it does not run, or fails when it is asked.
    """
    command = [compiler(), "--version"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise ValueError(f"the C++ compiler {command[0]} must run, which it does not: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise ValueError(
            f"the C++ compiler must answer `{' '.join(command)}` with status 0, not {done.returncode}: {said}"
        )
    return done.stdout


def compile_command(
    sources: Sequence[Path],
    program: Path,
    *,
    ap_types: Path | None = None,
    includes: Sequence[Path] = (INCLUDE,),
    flags: Sequence[str] = ("-O1",),
) -> list[str]:
    """The command that compiles ``sources`` into ``program``.

    Args:
        sources: C++ files.
        program: what to make.
        ap_types: as for ``ap_types_folder``.
        includes: folders of headers, this project's by default.
        flags: besides the language standard; ``WARNINGS`` for our own code.

    Raises:
        FileNotFoundError: headers or compiler are missing.
    """
    folders = [argument for folder in includes for argument in ("-I", str(folder))]
    system = ["-isystem", str(ap_types_folder(ap_types))]
    return [
        compiler(),
        STANDARD,
        SEPARATE_ROUNDING,
        *flags,
        *folders,
        *system,
        *(str(source) for source in sources),
        "-o",
        str(program),
    ]


def compile_program(
    sources: Sequence[Path],
    program: Path,
    *,
    ap_types: Path | None = None,
    includes: Sequence[Path] = (INCLUDE,),
    flags: Sequence[str] = ("-O1",),
) -> None:
    """Runs ``compile_command``; ``program`` is there whole or not at all, whoever else makes it.

    Raises:
        FileNotFoundError: headers or compiler are missing.
        CompileError: the compiler refused.
    """
    program.parent.mkdir(parents=True, exist_ok=True)
    temporary = program.with_name(f".{program.name}.{uuid.uuid4().hex}.part")
    command = compile_command(sources, temporary, ap_types=ap_types, includes=includes, flags=flags)
    environment = {**os.environ, "LC_ALL": "C"}  # messages in English, quotes in ASCII
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env=environment
        )  # fmt: skip
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            first = next((line for line in lines if "error" in line), lines[0] if lines else "no message")
            raise CompileError(f"{', '.join(source.name for source in sources)} must compile: {first}")
        temporary.replace(program)
    finally:
        temporary.unlink(missing_ok=True)
