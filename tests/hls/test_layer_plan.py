"""Plans of layers: the weight image byte by byte, groups, gathers, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datatypes.catalog import (
    BINARY,
    BITMOD_FP4,
    E4M3,
    FLINT4,
    FP4,
    FP16,
    FP32,
    INTS,
    NF4,
    OLIVE4_FLINT,
    OLIVE4_INT,
    UINT8,
    UINTS,
)
from datatypes.format import LearnedFormat
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import (
    CodebookConfig,
    LayerConfig,
    OutlierConfig,
    OutlierLayout,
    Part,
    PartitionedConfig,
    ScaleConfig,
    ScaleRule,
    SparsityConfig,
    TensorConfig,
)
from datatypes.layer_packing import pack_layer
from datatypes.packing import unpack
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import Outliers, QuantizedLayer
from datatypes.tensor import QuantizedTensor
from hls.layer_config_text import config_text
from hls.layer_options import LayerOptions
from hls.layer_plan import BEAT_BYTES, LayerPlan
from hls.layer_planning import plan_layer
from hwmodel.unit_cost_design import Arithmetic

N, K = 6, 70
INT4 = TensorConfig((INTS[4],), PerGroup(32))
TOKEN8 = TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP32), dynamic=True)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(weight: TensorConfig, activation: TensorConfig | None = TOKEN8, **more: object) -> QuantizedLayer:
    config = LayerConfig(weight=weight, activation=activation)
    return QuantizedLayer(config, quantize_tensor(normal(N, K), weight), (N, K), **more)


def stored(plan: LayerPlan, name: str) -> np.ndarray:
    """The words of an array of the image."""
    array = next(array for array in plan.arrays if array.name == name)
    first = array.beat * BEAT_BYTES // 4
    return plan.image[first : first + array.words]


# --- the image -------------------------------------------------------------------------------------------------------


def test_the_image_holds_the_packed_arrays_each_on_a_beat() -> None:
    made = layer(TensorConfig(BITMOD_FP4, PerGroup(32), ScaleConfig(UINT8, outer=FP16)))
    plan = plan_layer(made, bias=np.arange(N, dtype=np.float32))
    packed = pack_layer(made)
    assert [array.name for array in plan.arrays] == [*packed, "bias"]
    for name, tensor in packed.items():
        raw = tensor.contiguous().view(torch.uint8).numpy().tobytes()
        assert stored(plan, name).tobytes() == raw + bytes(-len(raw) % 4)
    assert stored(plan, "bias").view(np.float32).tolist() == [0, 1, 2, 3, 4, 5]
    # 6 rows of 3 blocks of 32 4-bit codes: 6 * 3 * 4 words, 72 of them: 5 beats of 16 words; scales start on beat 5
    assert [array.beat for array in plan.arrays][:2] == [0, 5]
    assert plan.beats * BEAT_BYTES == plan.image.nbytes


def test_codes_under_outliers_become_zero_and_their_neighbours_stay() -> None:
    columns = torch.tensor([2, 69])
    config = LayerConfig(weight=INT4, outliers=OutlierConfig(OutlierLayout.COLUMNS, 2 / K))
    tensor = quantize_tensor(normal(N, K), INT4)
    made = QuantizedLayer(config, tensor, (N, K), outliers=Outliers(normal(N, 2).to(torch.float16), columns))
    words = stored(plan_layer(made), "weight.codes").reshape(N, -1)
    expected = tensor.codes.numpy().copy()
    expected[:, [2, 69]] = 0
    np.testing.assert_array_equal(unpack(words, 4, K), expected)


def test_permutation_and_slabs_become_one_list_of_inputs() -> None:
    place = torch.tensor([0, 1, 0]).repeat_interleave(2)  # slabs of two columns
    parts = (Part(4, INT4), Part(2, INT4))
    order = torch.tensor([5, 4, 3, 2, 1, 0])
    weight = normal(N, 6)
    made = QuantizedLayer(
        LayerConfig(weight=PartitionedConfig(parts, 2), permuted=True),
        tuple(quantize_tensor(weight[:, place == i], INT4) for i in range(2)),
        (N, 6),
        part_of_column=place,
        permutation=order,
    )
    plan = plan_layer(made)
    assert stored(plan, "weight.0.gather").tolist() == [5, 4, 1, 0]
    assert stored(plan, "weight.1.gather").tolist() == [3, 2]


def test_groups_are_the_finest_tiles() -> None:
    activation = TensorConfig((INTS[8],), PerGroup(48), ScaleConfig(FP32), dynamic=True)
    assert plan_layer(layer(INT4, activation)).parts[0].group == 16  # of tiles of 32 and 48
    assert plan_layer(layer(INT4)).parts[0].group == 32
    assert plan_layer(layer(TensorConfig((INTS[4],), PerChannel()))).parts[0].group == K


def test_integer_scales_under_a_row_scale_are_added_exactly_beside_integers() -> None:
    weight = TensorConfig(BITMOD_FP4, PerGroup(32), ScaleConfig(UINT8, outer=FP16))
    assert plan_layer(layer(weight)).parts[0].exact_scale
    assert not plan_layer(layer(weight, None)).parts[0].exact_scale
    assert plan_layer(layer(weight, None)).parts[0].outer_last


def test_the_text_names_every_struct_after_the_layer() -> None:
    text = config_text(plan_layer(layer(INT4)), "layer_fc")
    assert "struct layer_fc_config {" in text and "struct layer_fc_part_0 {" in text
    assert "using scale = codesign::field<codesign::fp16_value, 1, 32, 18, " in text  # 6 rows of 3 groups
    assert text.startswith("#ifndef LAYER_FC_CONFIG_H\n")


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 0}, "tokens of a layer must be 1 to 65536, not 0"),
        ({"lanes": -1}, "lanes of a layer must be 1 to 4096, not -1"),
        ({"tile_rows": 0}, "tile_rows of a layer must be 1 to 4096, not 0"),
        ({"tokens": 10**12}, "tokens of a layer must be 1 to 65536, not 1000000000000"),
        ({"lanes": 10**6}, "lanes of a layer must be 1 to 4096, not 1000000"),
        ({"tile_blocks": 0}, "tile_blocks of a layer must be at least 1, not 0"),
        ({"accumulator": (8, 24)}, r"accumulator must have .* not \(8, 24\)"),
    ],
)
def test_options_are_checked(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerOptions(**options)


def test_column_scales_multiply_inputs_of_fp16_alone() -> None:
    tensor = quantize_tensor(normal(N, K), INT4)
    scaled = replace(INT4, column_scale=FP16)
    tensor = replace(tensor, config=scaled, column_scale=torch.ones(K, dtype=torch.float16))
    made = QuantizedLayer(LayerConfig(weight=scaled), tensor, (N, K))
    assert plan_layer(made).parts[0].fields["column_scale"].count == K
    with pytest.raises(NotImplementedError, match="column scales of a weight multiply inputs of fp16"):
        plan_layer(replace(made, config=LayerConfig(weight=scaled, activation=TOKEN8)))


def sparse(weight: TensorConfig, block: int, kept: int) -> QuantizedLayer:
    """The first ``kept`` of each block are kept."""
    config = replace(weight, sparsity=SparsityConfig(kept, block))
    mask = (torch.arange(K) % block < kept).expand(N, K)
    return QuantizedLayer(
        LayerConfig(weight=config, activation=TOKEN8),
        replace(quantize_tensor(normal(N, K), weight), config=config, mask=mask),
        (N, K),
    )


def test_a_sparse_row_has_codes_and_places_of_what_is_kept() -> None:
    made = sparse(INT4, 4, 2)
    part = plan_layer(made).parts[0]
    # 70 columns are 17 blocks of 4 and a half one: 17 * 2 + 2 are kept, of which a group of 32 has 16
    assert (part.columns, part.stored_columns, part.group) == (70, 36, 32)
    assert part.fields["mask"].count == N * 36
    # a group of 16 products of 4 and 8 bits: 16 * 8 * 128 = 2**14, positive
    assert part.arithmetic.sum_bits == 16
    places = stored(plan_layer(made), "weight.mask")
    assert len(places) == -(-N * 36 * 2 // 32) and places[0] == 0x44444444  # places 0 and 1 by turns


def test_lanes_and_groups_hold_whole_blocks() -> None:
    with pytest.raises(ValueError, match="lanes must hold whole blocks of 2 kept columns of a sparse weight, not 5"):
        plan_layer(sparse(INT4, 4, 2), options=LayerOptions(lanes=5))
    with pytest.raises(NotImplementedError, match="groups of 32 columns must hold whole blocks of 5 columns"):
        plan_layer(sparse(INT4, 5, 2))
    with pytest.raises(NotImplementedError, match="takes dense weights"):
        plan_layer(sparse(INT4, 4, 2), options=LayerOptions(lanes=4, arithmetic=Arithmetic.BITMOD))


def test_rows_of_a_tile_hold_whole_vectors() -> None:
    learned = LearnedFormat("learned", 4, "test", dimension=3)
    down = TensorConfig((learned,), PerTensor(), None, codebook=CodebookConfig(FP16, PerTensor()),
                        vectors_along_output=True)  # fmt: skip
    tensor = QuantizedTensor(
        down, (N, K), torch.zeros(2, K, dtype=torch.uint8), codebook=torch.zeros(1, 16, 3, dtype=torch.float16)
    )
    made = QuantizedLayer(LayerConfig(weight=down), tensor, (N, K))
    part = plan_layer(made, options=LayerOptions(tile_rows=6)).parts[0]
    assert (part.outputs, part.code_dim) == (3, 1) and "true, 16>" in part.arithmetic.type
    with pytest.raises(ValueError, match="tile_rows must hold whole vectors of 3 outputs, .* not 8"):
        plan_layer(made)


def test_lanes_beyond_a_group_take_codes_of_value_zero() -> None:
    # NF4's zero is code 7; binary has none, so the weight's code stands for it; two binaries have no zero at all
    nf4, binary = (TensorConfig((f,), PerChannel(), ScaleConfig(FP32), dynamic=True) for f in (NF4, BINARY))
    weight = TensorConfig((NF4,), PerGroup(32))
    assert plan_layer(layer(weight, nf4)).parts[0].idle_activation == 7
    assert plan_layer(layer(weight, binary)).parts[0].idle_weight == 7
    signs = TensorConfig((BINARY,), PerChannel(), ScaleConfig(FP16, ScaleRule.MEAN_ABS))
    with pytest.raises(NotImplementedError, match="neither binary nor binary has: use lanes that divide every group"):
        plan_layer(layer(signs, binary))
    assert plan_layer(layer(signs, binary), options=LayerOptions(lanes=14)).parts[0].group == K


def test_outliers_over_real_zero_points_are_differences() -> None:
    weight = TensorConfig((UINTS[3],), PerGroup(32), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=FP16)
    columns = torch.tensor([2, 69])
    values = torch.full((N, 2), 3.0, dtype=torch.float16)
    tensor = quantize_tensor(normal(N, K), weight)
    config = LayerConfig(weight=weight, outliers=OutlierConfig(OutlierLayout.COLUMNS, 2 / K))
    plan = plan_layer(QuantizedLayer(config, tensor, (N, K), outliers=Outliers(values, columns)))
    words = stored(plan, "outliers.differences").view(np.float32).reshape(N, 2)
    np.testing.assert_array_equal(words, 3 - tensor.dequantize().numpy()[:, [2, 69]])
    np.testing.assert_array_equal(unpack(stored(plan, "weight.codes").reshape(N, -1), 3, K), tensor.codes.numpy())


def test_learned_tables_cover_whole_rows_in_fp16() -> None:
    learned = LearnedFormat("learned", 3, "test")
    config = TensorConfig((learned,), PerTensor(), None, codebook=CodebookConfig(FP16, PerGroup(35)))
    tensor = QuantizedTensor(
        config, (N, K), torch.zeros(N, K, dtype=torch.uint8), codebook=torch.zeros(2 * N, 8, 1, dtype=torch.float16)
    )
    with pytest.raises(NotImplementedError, match="cover whole rows"):
        plan_layer(QuantizedLayer(LayerConfig(weight=config), tensor, (N, K)))


def test_activation_scales_must_not_change_within_gathered_groups() -> None:
    activation = TensorConfig((INTS[8],), PerGroup(32), ScaleConfig(FP32), dynamic=True)
    config = LayerConfig(weight=INT4, activation=activation, permuted=True)
    order = torch.randperm(K, generator=torch.Generator().manual_seed(1))
    made = QuantizedLayer(config, quantize_tensor(normal(N, K), INT4), (N, K), permutation=order)
    with pytest.raises(NotImplementedError, match="within groups of 32 gathered columns"):
        plan_layer(made)


def test_groups_hold_whole_pairs() -> None:
    with pytest.raises(NotImplementedError, match="whole codes of 2 elements"):
        plan_layer(layer(TensorConfig((OLIVE4_INT,), PerGroup(15))))


def test_zero_points_that_no_arithmetic_takes_off_are_refused() -> None:
    signed = TensorConfig((INTS[4],), PerGroup(32), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINTS[4])
    with pytest.raises(NotImplementedError, match="unsigned codes"):
        plan_layer(layer(signed))
    wide = TensorConfig((UINTS[3],), PerGroup(32), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINT8)
    with pytest.raises(NotImplementedError, match="as wide as the codes"):
        plan_layer(layer(wide))


def test_bitmod_takes_scales_and_whole_sets_of_lanes() -> None:
    options = LayerOptions(lanes=16, arithmetic=Arithmetic.BITMOD)
    bare = TensorConfig((INTS[4],), PerTensor(), None)
    with pytest.raises(NotImplementedError, match="with a scale"):
        plan_layer(layer(bare, None), options=options)
    odd = TensorConfig(BITMOD_FP4, PerGroup(24), ScaleConfig(UINT8, outer=FP16))
    with pytest.raises(ValueError, match="divide groups of 24 or be 4, not 16"):
        plan_layer(layer(odd, None), options=options)


def test_mixtures_are_of_single_numbers_or_olives_two_pairs() -> None:
    pairs = layer(TensorConfig((OLIVE4_INT, OLIVE4_FLINT), PerChannel()))
    with pytest.raises(ValueError, match="whole pairs, not 5"):
        plan_layer(pairs, options=LayerOptions(lanes=5))
    turned = layer(TensorConfig((OLIVE4_FLINT, OLIVE4_INT), PerChannel()))
    with pytest.raises(NotImplementedError, match="single numbers"):
        plan_layer(turned)
    serial = LayerOptions(arithmetic=Arithmetic.BOTH_SERIAL)
    for mixture in (TensorConfig((INTS[4], FLINT4), PerGroup(16)), TensorConfig((OLIVE4_INT, OLIVE4_FLINT))):
        with pytest.raises(NotImplementedError, match="is multiplied in parallel, not as both_serial"):
            plan_layer(layer(mixture), options=serial)


def test_outputs_have_no_zero_points_and_biases_the_layers_size() -> None:
    asymmetric = TensorConfig(
        (UINT8,), PerChannel(), ScaleConfig(FP32, ScaleRule.RANGE), zero_point=UINT8, dynamic=True
    )
    made = layer(INT4)
    with pytest.raises(NotImplementedError, match="no zero point"):
        plan_layer(replace(made, config=replace(made.config, output=asymmetric)))
    with pytest.raises(ValueError, match=r"bias must have the shape \[6\], not \[2\]"):
        plan_layer(made, bias=np.zeros(2, np.float32))


@pytest.mark.parametrize("fmt", [NF4, FP4, E4M3, FLINT4], ids=lambda fmt: fmt.name)
def test_formats_of_every_family_have_a_plan(fmt: object) -> None:
    plan = plan_layer(layer(TensorConfig((fmt,), PerGroup(32))))
    assert plan.parts[0].arithmetic.type.startswith("codesign::")
    assert plan.headers
