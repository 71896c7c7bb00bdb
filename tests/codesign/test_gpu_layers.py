"""Encodings of measured layers are those of the recipes that made them; records that lack something are refused."""

from dataclasses import replace

import pytest

from codesign.gpu_layers import MEASURED_LAYERS, layer_case_of
from codesign.gpu_records import RECORDED, read_measurements, recorded_files
from kernels_gpu.layer_recipes import LAYERS

SHAPE = (256, 512)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_encoded_as_its_recipe_encodes_it(name):
    made, ours = LAYERS[name](SHAPE, "cpu").config, MEASURED_LAYERS[name]
    if made.outliers is not None:  # as many as random numbers made
        assert made.outliers.fraction == pytest.approx(ours.outliers.fraction, rel=0.1)
        made = replace(made, outliers=replace(made.outliers, fraction=ours.outliers.fraction))
    assert made == ours


def test_bytes_of_a_record_are_those_of_its_layer():
    for record in read_measurements(recorded_files()[RECORDED.index("layer_h100.json")]):
        case = layer_case_of(record)
        counted = case.config.storage_bits(case.shape[1:]).total / 8
        # beside what is stored: the order of the other columns, and where blocks of outlier rows begin
        assert float(record.conditions["bytes"]) == pytest.approx(counted, rel=0.01)


def test_other_layers_are_refused():
    record = read_measurements(recorded_files()[RECORDED.index("layer_h100.json")])[0]
    with pytest.raises(ValueError, match="name of a measured layer must be one of int4_g128, .* not 'lqer64'"):
        layer_case_of(replace(record, name="lqer64"))
