"""What the compiler made of the kernels, without a GPU: registers, spills, widths of loads, instructions a weight.

NVVM, ``ptxas`` and ``nvdisasm`` need no device, only the wheels ``nvidia-nvvm``, ``nvidia-cuda-nvrtc``,
``nvidia-cuda-nvcc`` and ``nvidia-cuda-nvdisasm`` (or a CUDA toolkit) beside the extra ``gpu``::

    python -m kernels_gpu.disassembly                          # every encoding of the decode GEMV, for an H100
    python -m kernels_gpu.disassembly int4_g128 attention8 --capability 8.0 --listing out/

Source: CUDA Binary Utilities 13.0, section 4 (nvdisasm) and the table of Hopper's instructions.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from kernels_gpu.kernel_cases import Case, all_cases
from kernels_gpu.launch import LOWEST_COMPUTE_CAPABILITY
from kernels_gpu.native import compile_ptx

# the ALU pipe, half as wide as that of float32: CUDA C++ Programming Guide, section "Arithmetic Instructions", 64
# results a cycle and multiprocessor for logical operations, shifts, permutes, compares, selects, minima, integer sums
HALF_WIDE = frozenset(
    {"LOP3", "SHF", "PRMT", "SEL", "FSEL", "ISETP", "FSETP", "FMNMX", "VIMNMX", "VABSDIFF", "LEA", "IADD3"}
)
TENSOR = frozenset({"IMMA", "HMMA", "QMMA"})
_LINE = re.compile(r"^\s+/\*([0-9a-f]+)\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][A-Z0-9_.]*)([^;]*);")
_LABEL = re.compile(r"^(\.L_\w+):")
_TARGET = re.compile(r"`\((\.L_\w+)\)")


class ToolsMissing(RuntimeError):
    """A program of the CUDA toolkit is not installed."""


def find_tool(name: str) -> str:
    """Path of a program of the CUDA toolkit: in an ``nvidia`` wheel, on the path, or under /usr/local/cuda.

    Raises:
        ToolsMissing: it is nowhere.
    """
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    for folder in folders:
        for found in sorted(folder.glob(f"*/bin/{name}")):
            return str(found)
    on_path = shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")
    if on_path is None:
        wheel = {"ptxas": "nvidia-cuda-nvcc", "nvdisasm": "nvidia-cuda-nvdisasm"}.get(name, "a CUDA toolkit")
        raise ToolsMissing(f"{name} must be installed to disassemble kernels (pip install {wheel})")
    return on_path


@dataclass(frozen=True)
class Instruction:
    """A line of SASS: ``opcode`` with its suffixes, the label it jumps to, the labels before it."""

    predicate: str
    opcode: str
    operands: str
    target: str | None
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        """The opcode without suffixes."""
        return self.opcode.split(".")[0]


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel."""

    registers: int
    stack_bytes: int
    spill_bytes: int
    instructions: tuple[Instruction, ...]


@contextmanager
def _device_of(capability: tuple[int, int]) -> Iterator[None]:
    """Device functions ask numba for the current device's capability: there may be none."""
    from numba.cuda import dispatcher

    kept = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = kept


def compile_case(case: Case, capability: tuple[int, int]) -> str:
    """PTX of a kernel for a compute capability, with or without a device."""
    with _device_of(capability):
        return compile_ptx(case.body(), case.arguments, case.key, capability)


def disassemble(ptx: str, capability: tuple[int, int]) -> Kernel:
    """Assemble PTX and take it apart again.

    Raises:
        ToolsMissing: ptxas or nvdisasm are not installed.
        RuntimeError: ptxas refuses the PTX.
    """
    ptxas, nvdisasm = find_tool("ptxas"), find_tool("nvdisasm")
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(ptx, encoding="utf-8")
        # sm_90a and later architectures' own features are not used
        command = [ptxas, "-v", f"-arch=sm_{capability[0]}{capability[1]}", "-o", str(binary), str(source)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            raise RuntimeError(f"ptxas must assemble the kernel, not say {made.stderr.strip().splitlines()[0]!r}")
        listing = subprocess.run([nvdisasm, "-c", str(binary)], capture_output=True, text=True, check=True).stdout
    return read_listing(listing, made.stderr)


def read_listing(listing: str, assembler: str) -> Kernel:
    """What ``nvdisasm -c`` and ``ptxas -v`` print, read.

    Raises:
        ValueError: it is not their output.
    """
    registers, stack = re.search(r"Used (\d+) registers", assembler), re.search(r"(\d+) bytes stack frame", assembler)
    if registers is None or stack is None:
        raise ValueError(f"ptxas -v must name registers and stack frame, not {assembler[:80]!r}")
    spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", assembler))
    found: list[Instruction] = []
    labels: list[str] = []
    for line in listing.splitlines():
        label, code = _LABEL.match(line), _LINE.match(line)
        if label:
            labels.append(label[1])
        elif code:
            target = _TARGET.search(code[4])
            found.append(Instruction(code[2] or "", code[3], code[4], target[1] if target else None, tuple(labels)))
            labels = []
    if not found:
        raise ValueError("nvdisasm -c must print instructions, and printed none")
    return Kernel(int(registers[1]), int(stack[1]), spilled, tuple(found))


def main_loop(kernel: Kernel) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """First and last instruction of the loop of stages, and of the loop inside it that holds all matrix products.

    The first is the smallest loop that holds all products and all asynchronous copies, or some where others come before
    it (the whole kernel without one); there is no second where the compiler unrolled it. A loop reaches from a label to
    the last branch back to it.
    """
    every = kernel.instructions
    products = [i for i, one in enumerate(every) if one.name in TENSOR]
    copies = [i for i, one in enumerate(every) if one.name == "LDGSTS" and one.opcode.endswith("128")]
    place = {label: i for i, one in enumerate(every) for label in one.labels}
    loops = sorted(
        ((place[one.target], i) for i, one in enumerate(every)
         if one.name == "BRA" and one.target in place and place[one.target] <= i),
        key=lambda loop: loop[1] - loop[0],
    )  # fmt: skip
    holding = [(a, b) for a, b in loops if products and a <= products[0] and products[-1] <= b]
    around = [(a, b) for a, b in holding if all(a <= i <= b for i in copies)]
    around = around or [(a, b) for a, b in holding if any(a <= i <= b for i in copies)] or [(0, len(every) - 1)]
    inner = holding[0] if holding and holding[0] != around[0] else None
    return around[0], inner


def counted(kernel: Kernel, first: int, last: int) -> Counter[str]:
    """Instructions by opcode, without those that only fill (NOP) or mark where threads meet."""
    marks = {"NOP", "BSSY", "BSYNC", "WARPSYNC", "ENDCOLLECTIVE"}
    return Counter(one.opcode for one in kernel.instructions[first : last + 1] if one.name not in marks)


def stage_counts(case: Case, kernel: Kernel) -> Counter[str]:
    """Instructions of one stage by opcode: every path of its loop once, the loop of products as often as it turns."""
    loop, inner = main_loop(kernel)
    found = counted(kernel, *loop)
    if inner is not None:
        for opcode, count in counted(kernel, *inner).items():
            found[opcode] += count * (case.product_turns - 1)
    return found


def _width(opcodes: Counter[str], name: str) -> int:
    """The widest access in bits of loads called ``name``; 0 without one."""
    widths = [
        next((int(p) for p in o.split(".") if p in ("64", "128")), 32) for o in opcodes if o.split(".")[0] == name
    ]
    return max(widths, default=0)


def row_of(case: Case, kernel: Kernel) -> dict[str, str]:
    """The figures of a kernel, as the table prints them."""
    loop = stage_counts(case, kernel)
    every = counted(kernel, 0, len(kernel.instructions) - 1)
    total = sum(loop.values())
    narrow = sum(n for o, n in loop.items() if o.split(".")[0] in HALF_WIDE)
    local = sum(n for o, n in every.items() if o.split(".")[0] in ("LDL", "STL"))
    weights = case.weights_per_lane
    return {
        "kernel": case.name,
        "registers": str(kernel.registers),
        "spills": f"{kernel.spill_bytes} B",
        "local": str(local),
        "copies": f"{_width(every, 'LDGSTS') or _width(every, 'LDG')} bit",
        "shared loads": f"{_width(every, 'LDS')} bit",
        "products": str(sum(n for o, n in loop.items() if o.split(".")[0] in TENSOR)),
        "of a stage": str(total),
        "a weight": f"{total / weights:.2f}" if weights else "",
        "half-wide": f"{narrow / weights:.2f}" if weights else str(narrow),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m kernels_gpu.disassembly", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="KERNEL", help="default: all (--list names them)")
    parser.add_argument("--capability", default="9.0", metavar="X.Y", help="default: 9.0, an H100")
    parser.add_argument("--listing", type=Path, metavar="FOLDER", help="write each kernel's PTX there")
    parser.add_argument("--list", action="store_true", help="name the kernels and stop")
    given = parser.parse_args(arguments)
    found = re.fullmatch(r"(\d+)\.(\d)", given.capability)
    if found is None:
        print(f"--capability must be like 9.0, not {given.capability!r}", file=sys.stderr)
        return 2
    capability = (int(found[1]), int(found[2]))
    if capability < LOWEST_COMPUTE_CAPABILITY:
        print(f"--capability must be at least {LOWEST_COMPUTE_CAPABILITY}, not {capability}", file=sys.stderr)
        return 2
    cases = {case.name: case for case in all_cases(capability)}
    if given.list:
        print("\n".join(cases))
        return 0
    unknown = [name for name in given.names if name not in cases]
    if unknown:
        print(f"kernels must be of --list, not {unknown[0]!r}", file=sys.stderr)
        return 2
    header = False
    for name in given.names or cases:
        try:
            ptx = compile_case(cases[name], capability)
            row = row_of(cases[name], disassemble(ptx, capability))
        except RuntimeError as error:  # a tool is missing, or does not know the capability
            print(error, file=sys.stderr)
            return 2
        if given.listing is not None:
            given.listing.mkdir(parents=True, exist_ok=True)
            (given.listing / f"{name}.ptx").write_text(ptx, encoding="utf-8")
        if not header:
            print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
            header = True
        print("| " + " | ".join(row.values()) + " |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
