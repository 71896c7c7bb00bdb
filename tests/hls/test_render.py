"""Generated files: what stands in them, and that make and g++ read them."""

import dataclasses
import re
import shutil
import subprocess

import pytest

from hls.render import GoldenRun, KernelText, bench_text, kernel_text, makefile_text, render, vitis_texts


def kernel(**changes):
    run = GoldenRun("", 0, "" if changes.get("on_chip") else "weights.bin", 21, "output.bin")
    usual = KernelText(
        layer="model.q", name="layer_model_q_x1", shape=(40, 64), description="int4", tokens=3, beats=21, on_chip=False,
        input_beats=2, output_beats=3, rows=40, row_bits=32, calls=(1, 3), runs=(run,),
    )  # fmt: skip
    return dataclasses.replace(usual, **changes)


def vitis(made):
    return vitis_texts(made.name, made.data, part="xcu250-figd2104-2L-e", clock_mhz=300.0)


def test_every_template_is_filled_completely():
    texts = [
        kernel_text(kernel()),
        bench_text(kernel()),
        kernel_text(kernel(on_chip=True)),
        *vitis(kernel()).values(),
    ]
    for text in texts:
        assert not re.search(r"\$\{|\$(?!(here|flags|from|to|folder)\b)", text)
    with pytest.raises(KeyError, match="layers"):
        render("Makefile", {})


def test_ports_of_a_kernel_with_weights_in_memory():
    text = kernel_text(kernel())
    assert (
        'extern "C" void layer_model_q_x1(const ap_uint<512>* weights, const ap_uint<512>* input, '
        "ap_uint<512>* output, int tokens) {" in text
    )
    # 21 beats of weights; 3 tokens of 2 and of 3 beats
    depths = re.findall(r"m_axi port = (\w+) bundle = (\w+) offset = slave depth = (\d+)", text)
    assert depths == [("weights", "gmem0", "21"), ("input", "gmem1", "6"), ("output", "gmem2", "9")]
    assert re.findall(r"s_axilite port = (\w+)", text) == ["weights", "input", "output", "tokens", "return"]
    assert "codesign::run_layer<layer_model_q_x1_config>(weights, input, output, tokens);" in text


def test_a_kernel_with_weights_on_the_chip_has_no_port_for_them():
    text = kernel_text(kernel(on_chip=True))
    assert 'layer_model_q_x1_image[] = {\n#include "image.inc"\n};' in text
    assert "weights" not in re.findall(r"port = (\w+)", text)
    assert "    return layer_model_q_x1_image[index];" in text
    assert "codesign::rom_image<layer_model_q_x1_table>(), input, output, tokens" in text
    bench = bench_text(kernel(on_chip=True))
    assert "weights.data()" not in bench and '{"", 0x0U, "", 0, "output.bin"},' in bench


def test_a_format_register_is_an_argument_before_the_tokens():
    runs = (
        GoldenRun("int4", 3 << 24, "weights_int4.bin", 21, "output_int4.bin"),
        GoldenRun("int8", 7 << 24, "weights_int8.bin", 42, "output_int8.bin"),
    )
    made = kernel(runs=runs, beats=42)
    text, bench = kernel_text(made), bench_text(made)
    assert "ap_uint<512>* output, unsigned format, int tokens) {" in text and "depth = 42" in text
    ports = ["weights", "input", "output", "format", "tokens", "return"]
    assert re.findall(r"s_axilite port = (\w+)", text) == ports
    assert '{"int8", 0x7000000U, "weights_int8.bin", 42, "output_int8.bin"},' in bench
    assert "(weights.data(), input.data(), output.data(), run.word, call);" in bench
    assert made.data == ("input.bin", "output_int4.bin", "weights_int4.bin", "output_int8.bin", "weights_int8.bin")


def test_vitis_files_name_part_clock_top_and_data():
    texts = vitis(kernel())
    config = texts["hls_config.cfg"]
    part, section = config.split("[hls]")
    assert "part=xcu250-figd2104-2L-e" in part
    settings = [line.split("=", 1) for line in section.splitlines() if line]
    assert ["clock", "300MHz"] in settings and ["syn.top", "layer_model_q_x1"] in settings
    assert ["flow_target", "vitis"] in settings and ["syn.file", "kernel.cpp"] in settings
    assert [value for key, value in settings if key == "tb.file"] == [
        "testbench.cpp", "input.bin", "output.bin", "weights.bin",
    ]  # fmt: skip
    script = texts["run_hls.tcl"]
    assert "set_part xcu250-figd2104-2L-e" in script and "create_clock -period 300MHz " in script
    assert (
        "add_files -tb $here/weights.bin" in script and "weights.bin" not in vitis(kernel(on_chip=True))["run_hls.tcl"]
    )


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not installed")
def test_tcl_reads_the_script(tmp_path):
    commands = ["open_project", "open_solution", "add_files", "set_top", "set_part", "create_clock", "csynth_design"]
    stubs = "".join(f"proc {name} args {{ puts [concat {name} $args] }}\n" for name in commands)
    (tmp_path / "run_hls.tcl").write_text(vitis(kernel())["run_hls.tcl"])
    (tmp_path / "all.tcl").write_text(f"{stubs}source run_hls.tcl\n")
    done = subprocess.run(["tclsh", "all.tcl"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "set_top layer_model_q_x1" in done.stdout


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not installed")
@pytest.mark.parametrize("folder", ["plain", "my exports/o[1] $HOME"])
def test_flags_of_the_script_have_no_space_wherever_the_export_is(tmp_path, folder):
    """Tools cut flags at spaces: where the way from the start has one as well, the script stops before them."""
    layer = tmp_path / folder / "layers" / "layer_a"
    place = tmp_path / folder / "build" / "layer_a" / "vitis"
    for made in (layer, place, tmp_path / folder / "include"):
        made.mkdir(parents=True)
    (layer / "run_hls.tcl").write_text(vitis(kernel())["run_hls.tcl"])
    commands = ["open_project", "open_solution", "add_files", "set_top", "set_part", "create_clock", "csynth_design"]
    stubs = "".join(f"proc {name} args {{ puts [join [list {name} {{*}}$args] \\n] }}\n" for name in commands)
    (tmp_path / "stubs.tcl").write_text(f"{stubs}source [lindex $argv 0]\n")

    def started(place, script):
        command = ["tclsh", str(tmp_path / "stubs.tcl"), str(script)]
        return subprocess.run(command, cwd=place, capture_output=True, text=True)

    done = started(place, "../../../layers/layer_a/run_hls.tcl")  # as make synth does
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    flags = [line for line in said if line.startswith("-std=")]
    assert len(flags) == 3  # of the kernel for synthesis and simulation, and of the testbench
    for flag in flags:
        standard, include = flag.split(" ")
        assert standard == "-std=c++17"
        assert (place / include.removeprefix("-I")).resolve() == tmp_path / folder / "include"
    files = [(place / line).resolve() for line in said if line.endswith((".cpp", ".bin"))]
    assert files == [layer / name for name in ("kernel.cpp", "testbench.cpp", "input.bin", "output.bin", "weights.bin")]
    elsewhere = started(tmp_path, layer / "run_hls.tcl")
    if folder == "my exports/o[1] $HOME":
        assert elsewhere.returncode != 0 and "must be without spaces" in elsewhere.stderr
        assert "add_files" not in elsewhere.stdout
    else:
        assert elsewhere.returncode == 0


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder, *arguments, path=None):
    environment = {"PATH": path} if path else None
    command = [shutil.which("make"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


@needs_make
def test_make_says_what_it_needs(tmp_path):
    (tmp_path / "Makefile").write_text(makefile_text(["layer_a", "layer_b"]))
    for name in ("layer_a", "layer_b"):
        (tmp_path / "layers" / name).mkdir(parents=True)
        for file in ("kernel.cpp", "testbench.cpp", "config.h"):
            (tmp_path / "layers" / name / file).write_text("")
    lacking = make(tmp_path, "csim", f"AP_TYPES={tmp_path}")
    assert lacking.returncode != 0 and "make csim needs ap_int.h: say make csim AP_TYPES=" in lacking.stderr
    assert lacking.stderr.count("needs ap_int.h") == 1
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "mkdir", "test", "echo"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    without = make(tmp_path, "synth", path=str(tmp_path / "bin"))
    assert without.returncode != 0 and "make synth needs Vitis HLS" in without.stderr


@needs_make
@pytest.mark.parametrize("flow", ["vitis", "tcl"])
def test_make_starts_vitis_where_the_paths_of_its_scripts_hold(tmp_path, flow):
    """Paths in hls_config.cfg, flags included, are from its folder; run_hls.tcl makes its component in build."""
    (tmp_path / "Makefile").write_text(makefile_text(["layer_a"]))
    (tmp_path / "layers/layer_a").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    for tool in ("v++", "vitis-run") if flow == "vitis" else ("vitis_hls",):
        stub = tmp_path / "bin" / tool
        stub.write_text(f'#!/bin/sh\necho "{tool} in $(pwd): $*"\n')
        stub.chmod(0o755)
    done = make(tmp_path, "synth", path=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    if flow == "vitis":
        command = "-c --mode hls --config hls_config.cfg --work_dir ../../build/layer_a/vitis"
        assert f"v++ in {tmp_path}/layers/layer_a: {command}\n" in done.stdout
    else:
        place = tmp_path / "build/layer_a/vitis"
        assert f"vitis_hls in {place}: -f ../../../layers/layer_a/run_hls.tcl\n" in done.stdout
    assert (tmp_path / "build/layer_a/vitis").is_dir()


@needs_make
def test_make_compiles_each_layer_once_and_reports_a_failure(tmp_path):
    (tmp_path / "Makefile").write_text(makefile_text(["layer_a", "layer_b"]))
    (tmp_path / "ap_int.h").write_text("")
    for name, status in (("layer_a", 0), ("layer_b", 1)):
        place = tmp_path / "layers" / name
        place.mkdir(parents=True)
        (place / "config.h").write_text("")
        (place / "kernel.cpp").write_text(f"#include <ap_int.h>\nint result() {{ return {status}; }}\n")
        (place / "testbench.cpp").write_text('#include "config.h"\nint result();\nint main() { return result(); }\n')
    settings = (f"AP_TYPES={tmp_path}", "CXXFLAGS=-O0")
    assert make(tmp_path, "csim-layer_a", *settings).returncode == 0
    assert make(tmp_path, "csim", *settings).returncode != 0
    (tmp_path / "layers/layer_b/kernel.cpp").write_text("int result() { return 0; }\n")
    done = make(tmp_path, "csim", *settings)
    assert done.returncode == 0 and "all outputs of all layers are as expected" in done.stdout
    assert (
        "g++" not in make(tmp_path, "csim", *settings).stdout and "c++" not in make(tmp_path, "csim", *settings).stdout
    )
    assert make(tmp_path, "clean").returncode == 0 and not (tmp_path / "build").exists()
