"""Accelerators whose PEs the headers have: which arithmetic each is, and layers that it does not run."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from codesign.algorithms.tender import tender_activation  # noqa: E402
from datatypes.block_formats import MXFP4, NVFP4  # noqa: E402
from datatypes.catalog import BITMOD_FP4, FLINT4, FP16, FP32, INTS, NF4, OLIVE4_INT, UINT8  # noqa: E402
from datatypes.granularity import PerChannel, PerGroup  # noqa: E402
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig  # noqa: E402
from datatypes.quantize import quantize_tensor  # noqa: E402
from datatypes.quantized_layer import QuantizedLayer  # noqa: E402
from hls.layer_options import LayerOptions  # noqa: E402
from hls.layer_planning import plan_layer  # noqa: E402
from hls.machine_arithmetic import arithmetic_of_machine, check_runs, has_pe  # noqa: E402
from hwmodel.presets import ACCELERATORS, accelerator_by_name  # noqa: E402

INT8 = TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP32), dynamic=True)
INT4 = TensorConfig((INTS[4],), PerGroup(32))
ROWS = TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP32))
BITMOD = TensorConfig(BITMOD_FP4, PerGroup(32), ScaleConfig(UINT8, outer=FP16))


def of(fmt):
    return TensorConfig((fmt,), PerGroup(32))


# what each preset multiplies, and the C++ that does: the tables of docs/machines.md and docs/hls.md
RUNS = {
    "fp16_baseline": (of(NF4), None, "float_arithmetic"),
    "bitmod": (BITMOD, None, "bitmod_arithmetic"),
    "ant": (of(FLINT4), None, "float_arithmetic"),
    "olive": (TensorConfig((OLIVE4_INT,), PerChannel()), None, "olive_arithmetic"),
    "figna": (INT4, None, "float_arithmetic"),
    "ant_int": (of(FLINT4), INT8, "minifloat_arithmetic"),
    "olive_int": (TensorConfig((OLIVE4_INT,), PerChannel()), INT8, "olive_arithmetic"),
    "tender": (ROWS, INT8, "int_arithmetic"),
    "stripes": (INT4, INT8, "bit_serial_arithmetic<4, 8, false, false"),
    "loom": (INT4, INT8, "bit_bit_arithmetic"),
    "bitlet": (INT4, INT8, "term_serial_arithmetic"),
    "pragmatic": (INT4, INT8, "term_serial_arithmetic"),
    "bitvert": (INT4, INT8, "term_serial_arithmetic"),
    "mx_dot": (MXFP4, replace(MXFP4, dynamic=True), "minifloat_arithmetic"),
    "table_lookup": (of(NF4), None, "float_arithmetic<codesign::table_number"),
    "bismo_pynq_z1": (INT4, INT8, "bit_bit_arithmetic"),
    "bismo_ultra96": (INT4, INT8, "bit_bit_arithmetic"),
}


def test_every_preset_is_exported_or_refused():
    assert {name for name, machine in ACCELERATORS.items() if has_pe(machine.pe)} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_a_preset_multiplies_what_it_runs(name):
    weight, activation, cpp = RUNS[name]
    machine = accelerator_by_name(name)
    config = LayerConfig(weight=weight, activation=activation)
    check_runs(config, machine)
    values = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    layer = QuantizedLayer(config, quantize_tensor(values, weight), (8, 64))
    plan = plan_layer(layer, options=LayerOptions(arithmetic=arithmetic_of_machine(machine)))
    assert plan.parts[0].arithmetic.type.startswith(f"codesign::{cpp}")


def test_fused_bricks_without_decoders_are_one_sentence():
    with pytest.raises(
        ValueError, match=r"PEs that a header computes \(fp16_baseline, bitmod.* not the fused bricks of b"
    ):
        arithmetic_of_machine(accelerator_by_name("bitfusion"))


@pytest.mark.parametrize(
    ("name", "weight", "activation", "message"),
    [
        ("fp16_baseline", INT4, INT8, "PEs of fp16_baseline multiply FP16 inputs, not int8"),
        ("figna", INT4, tender_activation(8, chunk_tokens=None), "PEs of figna multiply FP16 inputs, not int8_sym"),
        ("figna", of(NF4), None, "accelerator figna does not run it: it multiplies integers of up to 8 bits"),
        ("mx_dot", INT4, None, "accelerator mx_dot does not run it: its PEs multiply block-scaled activations"),
        ("stripes", of(NF4), INT8, "accelerator stripes does not run it"),
        ("bitmod", of(NF4), None, "its term encoder decodes integers"),
    ],
)
def test_layers_that_a_machine_does_not_run_are_refused(name, weight, activation, message):
    with pytest.raises(NotImplementedError, match=message):
        check_runs(LayerConfig(weight=weight, activation=activation), accelerator_by_name(name))


def test_channel_groups_run_on_tender():
    check_runs(
        LayerConfig(weight=ROWS, activation=tender_activation(8, chunk_tokens=None)), accelerator_by_name("tender")
    )
    check_runs(LayerConfig(weight=NVFP4, activation=NVFP4), accelerator_by_name("mx_dot"))
