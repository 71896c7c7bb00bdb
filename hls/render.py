"""Text of the generated files: templates of ``hls/templates`` with every ``$name`` in them filled in.

Everything put into a template is a number, an identifier that ``hls.names`` made or checked, or text that this project
generates; nothing a user writes freely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

TEMPLATES = Path(__file__).parent / "templates"
WEIGHTS, INPUT, OUTPUT = "weights.bin", "input.bin", "output.bin"
IMAGE = "image.inc"

# Ports of a top function in order: name, AXI bundle, whether it is written.
_PORTS = (("weights", "gmem0", False), ("input", "gmem1", False), ("output", "gmem2", True))


@dataclass(frozen=True)
class GoldenRun:
    """One run of a testbench.

    Args:
        format: of the weight where it is chosen at run time; empty else.
        word: of the format register; 0 where there is none.
        weights: file of the weight image; empty where it is part of the kernel.
        beats: of the image.
        output: file of the golden outputs.
    """

    format: str
    word: int
    weights: str
    beats: int
    output: str


@dataclass(frozen=True)
class KernelText:
    """What the files of one layer say.

    Args:
        layer: its name.
        name: of the top function, an identifier.
        shape: (n, k).
        description: one line: encoding and arithmetic.
        tokens: of the golden vectors.
        beats: of the weight image; of the largest.
        on_chip: whether the image is part of the source.
        input_beats, output_beats: of one token.
        rows: values of a token's output that are compared.
        row_bits: width of one.
        calls: tokens of each call of the testbench.
        runs: of the testbench; more than one where the weights' format is chosen at run time.
    """

    layer: str
    name: str
    shape: tuple[int, int]
    description: str
    tokens: int
    beats: int
    on_chip: bool
    input_beats: int
    output_beats: int
    rows: int
    row_bits: int
    calls: tuple[int, ...]
    runs: tuple[GoldenRun, ...]

    @property
    def data(self) -> tuple[str, ...]:
        """Files that the testbench reads."""
        return (INPUT, *(file for run in self.runs for file in (run.output, run.weights) if file))

    @property
    def runtime_formats(self) -> bool:
        """Whether the weights' format is chosen at run time."""
        return any(run.format for run in self.runs)

    @property
    def scalars(self) -> tuple[str, ...]:
        """Arguments behind the ports."""
        return ("format", "tokens") if self.runtime_formats else ("tokens",)

    @property
    def depths(self) -> Mapping[str, int]:
        """Beats behind each port, for co-simulation."""
        sizes = {"input": self.tokens * self.input_beats, "output": self.tokens * self.output_beats}
        return sizes if self.on_chip else {"weights": self.beats, **sizes}


def render(template: str, values: Mapping[str, object]) -> str:
    """The file ``templates/<template>`` with ``values`` put in.

    Raises:
        KeyError: the template names something that is not given.
    """
    return Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)


def _parameters(kernel: KernelText) -> str:
    ports = [port for port in _PORTS if port[0] in kernel.depths]
    listed = [f"{'' if written else 'const '}ap_uint<512>* {name}" for name, _, written in ports]
    kinds = {"format": "unsigned format", "tokens": "int tokens"}
    return ", ".join([*listed, *(kinds[name] for name in kernel.scalars)])


def weights_texts(name: str, beats: int, *, on_chip: bool) -> tuple[str, str]:
    """The array of a kernel's weight image (none where it is in memory), and the expression that reads the image."""
    if not on_chip:
        return "", "weights"
    array = (
        "\n#include <cstdint>\n\n"
        f"// The weight image, {beats} beats of eight 64-bit words, the lowest first.\n"
        f'static const std::uint64_t {name}_image[] = {{\n#include "{IMAGE}"\n}};\n\n'
        f"struct {name}_table {{\n"
        "  static std::uint64_t word(int index) {\n"
        "#pragma HLS INLINE\n"
        f"    return {name}_image[index];\n"
        "  }\n"
        "};\n"
    )
    return array, f"codesign::rom_image<{name}_table>()"


def kernel_text(kernel: KernelText) -> str:
    """The top function."""
    lines = []
    for name, bundle, _ in _PORTS:
        if name in kernel.depths:
            depth = kernel.depths[name]
            lines.append(f"#pragma HLS INTERFACE m_axi port = {name} bundle = {bundle} offset = slave depth = {depth}")
    for name in (*kernel.depths, *kernel.scalars, "return"):
        lines.append(f"#pragma HLS INTERFACE s_axilite port = {name} bundle = control")
    image, weights = weights_texts(kernel.name, kernel.beats, on_chip=kernel.on_chip)
    arguments = [weights, "input, output, tokens", *(["format"] if kernel.runtime_formats else [])]
    return render(
        "kernel.cpp",
        {
            "layer": kernel.layer,
            "description": kernel.description,
            "weights_place": "on the chip" if kernel.on_chip else "in memory",
            "host": "HOST.md",
            "image": image,
            "name": kernel.name,
            "parameters": _parameters(kernel),
            "interfaces": "\n".join(lines),
            "arguments": ", ".join(arguments),
        },
    )


def bench_text(kernel: KernelText) -> str:
    """The testbench."""
    scalars = {"format": "run.word", "tokens": "call"}
    arguments = ["input.data()", "output.data()", *(scalars[name] for name in kernel.scalars)]
    runs = [
        f'    {{"{run.format}", {run.word:#x}U, "{run.weights}", {run.beats if run.weights else 0}, "{run.output}"}},'
        for run in kernel.runs
    ]
    return render(
        "testbench.cpp",
        {
            "name": kernel.name,
            "parameters": _parameters(kernel),
            "tokens": kernel.tokens,
            "input_beats": kernel.input_beats,
            "output_beats": kernel.output_beats,
            "rows": kernel.rows,
            "row_bits": kernel.row_bits,
            "runs": "\n".join(runs),
            "calls": ", ".join(str(call) for call in kernel.calls),
            "arguments": ", ".join(arguments if kernel.on_chip else ["weights.data()", *arguments]),
        },
    )


def vitis_texts(name: str, data: Sequence[str], *, part: str, clock_mhz: float) -> dict[str, str]:
    """``hls_config.cfg`` for v++ and vitis-run, and ``run_hls.tcl``.

    Args:
        name: of the top function.
        data: files that the testbench reads.
        part: device part.
        clock_mhz: to synthesise for.

    Sources: AMD UG1702 and UG1399 (2025.2), "HLS General Options", "C-Synthesis Sources", "add_files".
    """
    values = {"name": name, "part": part, "clock_mhz": f"{clock_mhz:g}"}
    listed = "\n".join(f"tb.file={file}" for file in data)
    added = "\n".join(f"add_files -tb $here/{file}" for file in data)
    return {
        "hls_config.cfg": render("hls_config.cfg", {**values, "data": listed}),
        "run_hls.tcl": render("run_hls.tcl", {**values, "data": added}),
    }


def makefile_text(folders: Sequence[str]) -> str:
    """The Makefile over all layers, by the names of their folders."""
    return render("Makefile", {"layers": " \\\n".join(f"  {name}" for name in folders)})
