"""Exports of layers: equal bytes every time, everything named, nothing written where a layer cannot be held."""

import hashlib
import json
import re
import struct
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from codesign.calibrate_model import GRADIENTS, observe  # noqa: E402
from codesign.calibration import Statistic  # noqa: E402
from codesign.models import resolve_model  # noqa: E402
from codesign.recipes import recipe  # noqa: E402
from codesign.text import load_text  # noqa: E402
from codesign.tokens import tokenize, windows  # noqa: E402
from datatypes.block_formats import MXFP4, MXFP6_E2M3, NVFP4, double_quantized  # noqa: E402
from datatypes.catalog import FP16, INTS, INTS_SYMMETRIC, NF4, OLIVE4_INT  # noqa: E402
from datatypes.channel_groups_config import ChannelGroupsConfig  # noqa: E402
from datatypes.granularity import PerChannel, PerGroup, PerTensor  # noqa: E402
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig  # noqa: E402
from datatypes.layer_packing import pack_layer  # noqa: E402
from datatypes.quantize import quantize_tensor  # noqa: E402
from datatypes.quantized_layer import QuantizedLayer  # noqa: E402
from hls.csim import open_export, simulate  # noqa: E402
from hls.export import (  # noqa: E402
    PARTS,
    ExportLayer,
    ExportTarget,
    check_exportable,
    export_layers,
    needed_headers,
    seeded_input,
)
from hls.export_folder import read_manifest  # noqa: E402
from hls.layer_options import LayerOptions  # noqa: E402
from hls.manifest_entries import describe  # noqa: E402
from hwmodel.fpga import DEVICES  # noqa: E402
from hwmodel.unit_cost_design import Arithmetic  # noqa: E402
from tests.hls.real_layers import REAL_LAYERS  # noqa: E402

N, K, TOKENS = 10, 70, 2
INT8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16), dynamic=True)
PAIRS = TensorConfig((OLIVE4_INT,), PerChannel(), dynamic=True)  # which no stage makes of inputs
INT4 = LayerConfig(weight=TensorConfig((INTS[4],), PerGroup(32)), activation=INT8)
OLIVE = TensorConfig((OLIVE4_INT,), PerChannel())
OPTIONS = LayerOptions(tokens=TOKENS, lanes=8, tile_rows=4)


def layer_of(config, seed=0):
    weight = torch.randn(N, K, generator=torch.Generator().manual_seed(seed))
    return QuantizedLayer(config, quantize_tensor(weight, config.weight), (N, K))


def item(name="model.q", config=INT4, **more):
    return ExportLayer(name, layer_of(config), seeded_input(name, (TOKENS, K), 0), **more)


def target(**changes):
    return replace(ExportTarget(DEVICES["u250"], 300.0, OPTIONS), **changes)


def bytes_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_an_export_holds_what_it_says(tmp_path):
    bias = np.linspace(-1, 1, N, dtype=np.float32)
    manifest = export_layers(tmp_path / "out", [item(bias=bias)], target(), {"model": "m", "recipe": "r"})
    (layer,) = manifest["layers"]
    assert (layer["name"], layer["identifier"], layer["shape"]) == ("model.q", "layer_model_q_x1", [N, K])
    assert manifest["device"] == {"name": "u250", "part": "xcu250-figd2104-2L-e"} and manifest["recipe"] == "r"
    there = bytes_of(tmp_path / "out")
    assert set(there) == {entry["file"] for entry in manifest["files"]} | {"manifest.json"}
    place = "layers/layer_model_q_x1"
    names = {name.removeprefix(f"{place}/") for name in there if name.startswith(place)}
    assert names == {
        "config.h", "kernel.cpp", "testbench.cpp", "image.inc", "hls_config.cfg", "run_hls.tcl", "input.bin",
        "output.bin",
    }  # fmt: skip
    for entry in manifest["files"]:
        data = there[entry["file"]]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    assert "HOST.md" in there and "layer_model_q_x1" in there["Makefile"].decode()
    # the golden input starts each token on a beat of 64 bytes: 70 halves are 140 bytes, three beats
    assert struct.unpack_from("<70e", there[f"{place}/input.bin"], 192) == tuple(item().input[1].tolist())


def test_packed_words_are_those_of_layer_packing(tmp_path):
    manifest = export_layers(tmp_path / "out", [item()], target(on_chip_bytes=0), {"model": "m"})
    (layer,) = manifest["layers"]
    data = (tmp_path / "out" / layer["folder"] / "weights.bin").read_bytes()
    assert len(data) == 64 * layer["image"]["beats"]
    stored = pack_layer(item().layer)
    arrays = layer["image"]["arrays"]
    assert [array["name"] for array in arrays] == ["weight.codes", "weight.scale"]
    for array in arrays:
        expected = stored[array["name"]].contiguous().numpy().tobytes()
        assert data[64 * array["beat"] :].startswith(expected) and array["words"] == -(-len(expected) // 4)
    total = sum(array["words"] for array in arrays) * 32
    assert total == layer["bits"]  # every bit that LayerConfig counts, none else


def test_weights_on_the_chip_are_the_same_image(tmp_path):
    export_layers(tmp_path / "chip", [item()], target(), {"model": "m"})
    export_layers(tmp_path / "memory", [item()], target(on_chip_bytes=0), {"model": "m"})
    place = "layers/layer_model_q_x1"
    text = (tmp_path / "chip" / place / "image.inc").read_text()
    words = [int(word, 16) for word in re.findall("0x[0-9a-f]+", text)]
    data = (tmp_path / "memory" / place / "weights.bin").read_bytes()
    assert struct.pack(f"<{len(words)}Q", *words) == data
    for file in ("input.bin", "output.bin", "config.h"):
        assert (tmp_path / "chip" / place / file).read_bytes() == (tmp_path / "memory" / place / file).read_bytes()


def test_the_same_export_is_the_same_bytes(tmp_path):
    items = [item("model.q"), item("model.k", LayerConfig(weight=MXFP4, activation=replace(MXFP4, dynamic=True)))]
    for folder in ("one", "two"):
        export_layers(tmp_path / folder, items, target(), {"model": "m"})
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert str(tmp_path) not in "".join(data.decode("latin1") for data in bytes_of(tmp_path / "one").values())


def test_a_layer_that_cannot_be_held_leaves_nothing(tmp_path):
    bad = LayerConfig(weight=TensorConfig((INTS[4],), PerGroup(32)), activation=PAIRS)
    with pytest.raises(NotImplementedError, match=r"layer model.k cannot be exported: no activation stage makes codes"):
        export_layers(tmp_path / "out", [item(), item("model.k", bad)], target(), {"model": "m"})
    assert list(tmp_path.iterdir()) == []


def test_layers_are_checked_before_anything_is_made():
    layers = {"model.q": layer_of(INT4), "bad/name": layer_of(INT4), "MODEL.Q": layer_of(INT4)}
    check_exportable(["model.q"], layers, target())
    with pytest.raises(ValueError, match="not 'bad/name'"):
        check_exportable(["model.q", "bad/name"], layers, target())
    with pytest.raises(ValueError, match="must differ in more than the case of letters, not be model.q and MODEL.Q"):
        check_exportable(["model.q", "MODEL.Q"], layers, target())
    layers["model.v"] = layer_of(replace(INT4, activation=PAIRS))
    with pytest.raises(NotImplementedError, match="layer model.v cannot be exported"):
        check_exportable(["model.q", "model.v"], layers, target())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((TOKENS, K), np.float32), "not float32 of"),
        (np.zeros((TOKENS + 1, K), np.float16), "1 to 2 tokens of 70, not float16 of \\[3, 70\\]"),
        (np.zeros((0, K), np.float16), "not float16 of \\[0, 70\\]"),
        (np.full((1, K), np.inf, np.float16), "must be finite"),
    ],
)
def test_golden_inputs_must_fit(tmp_path, x, message):
    with pytest.raises(ValueError, match=f"layer model.q cannot be exported: .*{message}"):
        export_layers(tmp_path / "out", [replace(item(), input=x)], target(), {"model": "m"})
    assert not (tmp_path / "out").exists()


def test_an_empty_export_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold at least one layer"):
        export_layers(tmp_path / "out", [], target(), {"model": "m"})


def test_targets_are_checked():
    with pytest.raises(ValueError, match="device must be one that Vitis compiles for .*, not ecp5_25k"):
        target(device=DEVICES["ecp5_25k"])
    with pytest.raises(ValueError, match="clock_mhz must be 1 to 1000, not 0.0"):
        target(clock_mhz=0.0)
    with pytest.raises(ValueError, match="on_chip_bytes must be at least 0, not -1"):
        target(on_chip_bytes=-1)
    assert set(PARTS) == {name for name, device in DEVICES.items() if device.lut_inputs == 6}


def test_shared_scales_are_not_tried_with_fewer_tokens(tmp_path):
    per_tensor, nvfp4 = replace(INT8, granularity=PerTensor()), replace(NVFP4, dynamic=True)
    configs = {  # what is shared, and the tokens of each call
        "nothing": (INT4, f"1, {TOKENS}"),
        "input": (replace(INT4, activation=per_tensor), f"{TOKENS}"),
        "second level": (LayerConfig(weight=NVFP4, activation=nvfp4), f"{TOKENS}"),
        "output": (replace(INT4, output=per_tensor), f"{TOKENS}"),
    }
    for name, (config, calls) in configs.items():
        folder = tmp_path / name
        (layer,) = export_layers(folder, [item(config=config)], target(), {"model": "m"})["layers"]
        bench = (folder / layer["folder"] / "testbench.cpp").read_text()
        assert f"const int calls[] = {{{calls}}};" in bench, name


def test_seeded_inputs_depend_on_name_and_seed_alone():
    x = seeded_input("a", (3, 8), 0)
    assert x.dtype == np.float16 and np.array_equal(x, seeded_input("a", (3, 8), 0))
    assert not np.array_equal(x, seeded_input("b", (3, 8), 0)) and not np.array_equal(x, seeded_input("a", (3, 8), 1))
    wide = seeded_input("a", (64, 4096), 0).astype(np.float64)
    # channel scales are log-normal with sigma 1: a standard deviation of 1 in the logarithm, within 5 standard errors
    spread = np.log(wide.std(0)).std()
    assert abs(spread - 1) < 5 * np.sqrt(1 / (2 * 4096) + 1 / (2 * 64 * 4096)) + 0.01


def test_headers_are_a_closed_set():
    found = needed_headers('#include "codesign/layer.h"\n#include "codesign/integer.h"\n')
    assert {"layer.h", "types.h", "words.h", "integer.h"} <= found
    assert needed_headers("") == set()


def test_what_an_encoding_is_in_words():
    assert describe(INT4) == "weight int4 with scale fp16, activation int8_sym"
    grouped = replace(INT4, activation=ChannelGroupsConfig(INTS_SYMMETRIC[8], 12))
    assert describe(grouped) == "weight int4 with scale fp16, activation int8_sym in 12 channel groups"
    assert describe(LayerConfig(weight=double_quantized((NF4,)))) == "weight nf4 with scale dynamic8, activation fp16"


def test_a_format_whose_name_is_code_is_refused(tmp_path):
    evil = replace(INTS[4], name='int4\n#include "/etc/passwd"')
    config = replace(INT4, weight=TensorConfig((evil,), PerGroup(32)))
    with pytest.raises(ValueError, match="layer model.q cannot be exported: a format's name must be up to 60 letters"):
        export_layers(tmp_path / "out", [item(config=config)], target(), {"model": "m"})
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_is_json_that_comes_back(tmp_path):
    made = export_layers(tmp_path / "out", [item()], target(), {"model": "m"})
    assert made == read_manifest(tmp_path / "out") == json.loads((tmp_path / "out/manifest.json").read_text())


# --- a real layer of a real model, one for each family of kernels --------------------------------------------------

REAL = "model.layers.0.self_attn.k_proj"  # 192 x 576 in SmolLM2-135M
FAMILIES = {
    "integers": ("int4_g64_fp16_a8", Arithmetic.PARALLEL),
    "integers with zero points": ("int3_asym_g64_a8", Arithmetic.PARALLEL),
    "integers with two levels of scales": ("int3_asym_g16_uint3_a8", Arithmetic.PARALLEL),
    "integers beside FP16": ("int4_g64_fp16", Arithmetic.PARALLEL),
    "minifloats, exact": ("e2m3_g64_a8", Arithmetic.PARALLEL),
    "minifloats beside FP16": ("e4m3_fn_channel", Arithmetic.PARALLEL),
    "MX blocks": (MXFP6_E2M3, Arithmetic.PARALLEL),
    "NVFP4 blocks": (NVFP4, Arithmetic.PARALLEL),
    "BitMoD": ("bitmod4_g64_uint8", Arithmetic.BITMOD),
    "BitMoD, three bits and FP16 scales": ("bitmod3_g64", Arithmetic.BITMOD),
    "BitMoD beside INT8": ("bitmod4_g64_a8", Arithmetic.BITMOD),
    "codebook": ("nf4_g64_a8", Arithmetic.PARALLEL),
    "codebook with two levels of scales": ("nf4_g64_dq_a8", Arithmetic.PARALLEL),
    "mixture of ANT": ("ant4_a8", Arithmetic.PARALLEL),
    "pairs of OliVe": (OLIVE, Arithmetic.PARALLEL),
    "bit-serial weights": ("int4_g64_fp16_a8", Arithmetic.WEIGHT_SERIAL),
    "both bit-serial": ("int3_g64_fp16_a8", Arithmetic.BOTH_SERIAL),
    "serial terms": ("int4_g64_fp16_a8", Arithmetic.TERM_SERIAL),
    "low-rank branch": ("l2qer_w4a8_mxint", Arithmetic.PARALLEL),
    "element-wise outliers": ("gwq4_g128", Arithmetic.PARALLEL),
    "smoothing": ("smoothquant_int8_channel_a8", Arithmetic.PARALLEL),
    "channel groups of Tender": ("tender8_tensor", Arithmetic.PARALLEL),
    **{family: (build, Arithmetic.PARALLEL) for family, build in REAL_LAYERS.items()},
}


@pytest.fixture(scope="module")
def real_layer():
    """Weight of ``REAL``, statistics and some of its inputs on real text."""
    blocks = pytest.importorskip("codesign.blocks")
    walked = blocks.BlockModel(resolve_model("smollm2-135m-offgrid"))
    tokenizer = walked.source.tokenizer()
    tokens = windows(tokenize(load_text("boolq-validation"), tokenizer, 256), 64)
    stream = walked.embed([tokens])
    with walked.block(0) as block:
        seen = observe(walked, stream, 0, block, frozenset(Statistic) - GRADIENTS, keep_inputs=TOKENS)[REAL]
    weight = walked.source.tensor(f"{REAL}.weight").to(torch.float32)
    generator = torch.Generator().manual_seed(
        1
    )  # gradients would need the whole model; where they lead does not matter
    for statistic in GRADIENTS:
        seen.statistics[statistic] = torch.rand(weight.shape, generator=generator)
    return weight, seen


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_real_layer_of_every_kernel_family_is_equal_bit_for_bit(real_layer, tmp_path, family):
    weight, seen = real_layer
    encoding, arithmetic = FAMILIES[family]
    if isinstance(encoding, str):
        made = recipe(encoding)
        layer = made.algorithm.quantize(weight, seen, made.linear)
    elif callable(encoding):
        layer = encoding(weight)
        error = float((layer.dequantize_weight() - weight).square().mean() / weight.square().mean())
        assert error < 0.6  # of a weight: half of it where half is left out, more of noise
    else:
        activation = INT8 if encoding is OLIVE else replace(encoding, dynamic=True)
        config = LayerConfig(weight=encoding, activation=activation)
        layer = QuantizedLayer(config, quantize_tensor(weight, encoding), tuple(weight.shape))
    x = seen[Statistic.INPUTS].to(torch.float16).numpy()
    options = LayerOptions(tokens=TOKENS, lanes=16, tile_rows=8, arithmetic=arithmetic)
    goal = target(options=options, on_chip_bytes=0)
    export_layers(tmp_path / "out", [ExportLayer(REAL, layer, x)], goal, {"model": "smollm2-135m-offgrid"})
    (result,) = simulate(open_export(tmp_path / "out"))
    one_call = encoding is NVFP4 or encoding == "tender8_tensor"  # one scale for all tokens
    tokens = TOKENS if one_call else 1 + TOKENS
    assert (result.compared, result.mismatch_count) == (tokens * 192, 0), result.mismatches
