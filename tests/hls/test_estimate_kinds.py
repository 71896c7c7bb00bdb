"""Estimates of layers beyond dense codes of single weights, counted by hand from ``layer_tile.h``, ``layer_part.h`` and
``layer_output.h``: vectors along the outputs, sparsity masks, column scales, exact scales, norms of outputs."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from datatypes.catalog import BINARY, FP16, FP32, INTS, UINT8, UINTS  # noqa: E402
from datatypes.format import LearnedFormat  # noqa: E402
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerTensor  # noqa: E402
from datatypes.layer_config import (  # noqa: E402
    CodebookConfig,
    LayerConfig,
    ScaleConfig,
    ScaleRule,
    SparsityConfig,
    TensorConfig,
)
from datatypes.quantize import quantize_tensor  # noqa: E402
from datatypes.quantized_layer import QuantizedLayer  # noqa: E402
from datatypes.tensor import QuantizedTensor  # noqa: E402
from hls.ap_types import INCLUDE, compile_program  # noqa: E402
from hls.cpp_types import value_bits  # noqa: E402
from hls.estimate import estimate_layer  # noqa: E402
from hls.estimate_buffers import buffers  # noqa: E402
from hls.hls_operators import to_float  # noqa: E402
from hls.layer_config_text import config_text  # noqa: E402
from hls.layer_options import LayerOptions  # noqa: E402
from hls.layer_planning import plan_layer  # noqa: E402
from hwmodel.fpga import DEVICES, FpgaResources  # noqa: E402

TOKENS = 3
INT8 = TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP32), dynamic=True)


def plan_of(tensor, activation, lanes, rows, *, bias=None, **more):
    config = LayerConfig(weight=tensor.config, activation=activation, **more)
    layer = QuantizedLayer(config, tensor, tensor.shape)
    return plan_layer(layer, bias=bias, options=LayerOptions(TOKENS, lanes, rows))


def estimated(plan):
    return estimate_layer(plan, DEVICES["u250"], 300e6)


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def array(plan, name):
    """Banks, width, depth and copies of the only array of that name."""
    (one,) = [one for one in buffers(plan, on_chip=False) if one.name == name]
    return one.banks, one.width_bits, one.depth, one.copies


def counts(made, start):
    return [part.count for part in made.parts if part.name.startswith(start)]


# --- vectors along the outputs ---------------------------------------------------------------------------------------


def vectors(shape, bits, dim, tiles):
    """Codes of ``dim`` outputs from tables of FP16."""
    formats = (LearnedFormat("columns", bits, "test", dimension=dim),)
    config = TensorConfig(formats, PerTensor(), None, codebook=CodebookConfig(FP16, tiles), vectors_along_output=True)
    codes = torch.zeros(config.code_shape(shape), dtype=torch.uint8 if bits <= 8 else torch.int32)
    return QuantizedTensor(config, shape, codes, codebook=normal(tiles.count(shape), 1 << bits, dim).to(torch.float16))


def test_a_tile_of_vectors_has_rows_of_codes_and_tables_for_all_their_outputs():
    plan = plan_of(vectors((14, 20), 3, 2, PerBlock(4, 20)), INT8, 8, 8)
    # word[8 / 2][1][3]: 20 codes are one block of three words, a line
    assert array(plan, "part 0 codes") == (4, 3 * 32, 1, 2)
    # codebook: tables of 2 << 3 entries for four rows each; eight rows meet at most (8 - 2 + 4) / 4 + 1 = 3 of them,
    # each a memory with two lines of eight entries
    assert array(plan, "part 0 codebook") == (3, 8 * 16, 2, 2)
    # registers[8 / 2]: rows[1 << 3] of two entries of 16 bits
    assert array(plan, "part 0 tables") == (4 * 8, 32, 1, 2)


def test_vectors_have_a_sum_for_each_output_and_an_unpacker_for_each_code():
    made = estimated(plan_of(vectors((14, 20), 3, 2, PerBlock(4, 20)), INT8, 8, 8))
    assert counts(made, "PE of part 0") == [4 * 2]  # four rows of codes, two sums each
    assert counts(made, "unpackers of part 0") == [4 * 8]  # four rows of codes, eight lanes
    # a group of three steps, its rows again eight cycles later at the earliest: nine cycles for eight rows
    assert counts(made, "sums to float of part 0") == [1]


def test_large_tables_are_memories_with_a_copy_for_two_lanes():
    plan = plan_of(vectors((8, 9), 12, 4, PerTensor()), None, 6, 4)
    assert array(plan, "part 0 codes") == (1, 12 * 32, 1, 2)  # one row of nine codes: a block of twelve words
    # one row of codes, six lanes on two ports each: three copies of 4096 rows of four entries of 16 bits
    assert array(plan, "part 0 tables") == (3, 4 * 16, 4096, 2)


def test_codes_of_sixteen_bits_lie_flat_in_rows_of_vectors():
    made = plan_of(vectors((8, 9), 16, 2, PerTensor()), None, 2, 4)
    assert array(made, "part 0 codes") == (2, 2 * 16, 5, 2)  # nine codes in lines of two, those of a step
    assert not counts(estimated(made), "unpackers")


# --- sparsity --------------------------------------------------------------------------------------------------------


def sparse(config, shape=(9, 54), activation=INT8):
    """The first columns of each block are kept."""
    sparsity = SparsityConfig(2, 4)
    tensor = quantize_tensor(normal(*shape), config)
    mask = (torch.arange(shape[1]) % 4 < 2).expand(shape)
    return plan_of(replace(tensor, config=replace(config, sparsity=sparsity), mask=mask), activation, 8, 4)


def test_a_sparse_tile_holds_what_is_stored():
    plan = sparse(TensorConfig((INTS[4],), PerGroup(20)))
    # 13 blocks of four columns keep two each, the last two columns both: 28 codes, one block of four words, not two
    assert array(plan, "part 0 codes") == (4, 4 * 32, 1, 2)
    # 28 places in lines of eight, the lanes of a step; a place among four has two bits
    assert array(plan, "part 0 mask") == (4, 8 * 2, 4, 2)
    # groups of 20 columns of all 54, not of the stored ones: three scales a row
    assert array(plan, "part 0 scale") == (4, 3 * 16, 1, 2)
    made = estimated(plan)
    assert made.macs == TOKENS * 9 * 28


def test_each_lane_of_a_sparse_row_picks_its_input():
    made = estimated(sparse(TensorConfig((INTS[4],), PerGroup(20))))
    (picked,) = [part for part in made.parts if part.name == "inputs of part 0 picked by its mask"]
    assert picked.resources == FpgaResources(luts=4 * 8 * 8)  # a LUT6 takes one bit of four: rows, lanes, bits
    assert not any("mask" in said for said in made.missing)


def test_rows_of_a_sparse_weight_with_real_zero_points_add_up_inputs_of_their_own():
    config = TensorConfig((UINTS[3],), PerGroup(20), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=FP16)
    assert counts(estimated(sparse(config)), "PE of part 0") == [4 + 4]  # ones[code_rows]
    dense = plan_of(quantize_tensor(normal(9, 54), config), INT8, 8, 4)
    assert counts(estimated(dense), "PE of part 0") == [4 + 1]  # ones[1]


# --- scales ----------------------------------------------------------------------------------------------------------


def onebit(**more):
    """Signs between a row and a column of FP16."""
    n, k = 7, 41
    config = TensorConfig((BINARY,), PerTensor(), None, row_scale=FP16, column_scale=FP16)
    row, column = (torch.ones(size, dtype=torch.float16) for size in (n, k))
    tensor = QuantizedTensor(config, (n, k), torch.zeros(n, k, dtype=torch.uint8), row_scale=row, column_scale=column)
    return plan_of(tensor, None, 6, 4, **more)


def test_columns_are_scaled_once_for_all_tiles():
    plan = onebit()
    assert array(plan, "part 0 column_scale as stored") == (1, 16, 41, 1)  # scales[columns] in take_inputs
    # code[tokens][columns], cut for six lanes: seven words of a token
    assert array(plan, "part 0 inputs") == (6, 16, TOKENS * 7, 1)
    assert array(plan, "part 0 row_scale") == (4, 16, 1, 2)  # a field of the tile
    made = estimated(plan)
    assert counts(made, "float multipliers of the column scales of part 0") == [1]  # a column a cycle
    assert "FP16 decoders and encoders around the column scales of part 0" in made.missing


def test_exact_scales_make_one_wide_integer_a_row():
    config = TensorConfig((INTS[4],), PerGroup(16), ScaleConfig(UINT8, outer=FP16))
    plan = plan_of(quantize_tensor(normal(8, 40), config), INT8, 8, 4)
    (part,) = plan.parts
    assert part.exact_scale
    made = estimated(plan)
    (whole,) = [one for one in made.parts if one.name == "sums to float of part 0"]
    # 16 products of at most 8 * 128 are 2**14: 16 bits; 8 of the scale, 1 for its sign, 2 for three groups
    assert whole.luts == to_float(16 + 8 + 1 + 2).luts
    assert counts(made, "float multipliers of part 0") == [4] and not counts(made, "float adders of part 0")
    assert "integer products of sums and scales of part 0, and what adds them" in made.missing


# --- outputs ---------------------------------------------------------------------------------------------------------


def test_a_norm_has_its_sums_and_keeps_the_bias_of_all_rows():
    plan = onebit(output_norm=True, bias=np.zeros(7))
    for name in ("sum of the norm", "squares of the norm"):
        assert array(plan, name) == (1, 32, 8, 1)  # interleaved_sum: part[8]
    assert array(plan, "bias behind the norm") == (1, 32, 7, 1)  # bias[n] in write_output
    assert not [one for one in buffers(onebit(output_norm=True), on_chip=False) if one.name == "bias behind the norm"]


def test_a_norm_is_priced_but_for_its_root():
    made = estimated(onebit(output_norm=True, bias=np.zeros(7)))
    # sum, difference, squares in pipelined loops, one more for totals; square and scaling; means and inverse in turn
    norm = [counts(made, f"float {what} of the norm") for what in ("adders", "multipliers", "divider")]
    assert norm == [[4], [2], [1]] and counts(made, "float adder of the bias") == [1]
    assert "the square root of the norm" in made.missing
    assert "the square root of the norm" not in estimated(onebit()).missing


def test_packed_outputs_fill_whole_beats():
    tensor = quantize_tensor(normal(24, 32), TensorConfig((INTS[4],), PerGroup(16)))
    plan = plan_of(tensor, INT8, 8, 4, output=INT8)
    assert array(plan, "output words") == (1, 32, 16, 1)  # row[code_beats * 16]: eight words of codes in one beat


# --- the headers -----------------------------------------------------------------------------------------------------


def test_arrays_have_as_many_entries_as_a_compiler_counts(needs_compiler, tmp_path):
    plans = {
        "vectors": plan_of(vectors((14, 20), 3, 2, PerBlock(4, 20)), INT8, 8, 8),
        "flat": plan_of(vectors((8, 9), 16, 2, PerTensor()), None, 2, 4),
        "sparse": sparse(TensorConfig((INTS[4],), PerGroup(20))),
        "scaled": onebit(),
    }
    members = ("mask", "scale", "codebook", "row_scale")
    lines = []
    for name, plan in plans.items():
        (tmp_path / f"{name}_config.h").write_text(config_text(plan, name))
        lines.append(f'#include "{name}_config.h"')
        tile = f"codesign::part_tile<{name}_part_0, {plan.rows_on_chip}, {plan.options.tile_rows}>"
        code = "kept_codes.entry" if plan.parts[0].code_bits > 15 else "word"
        expected = {f"code.{code}": ("codes", 16 if plan.parts[0].code_bits > 15 else 32)}
        for member in members:
            if member in plan.parts[0].fields:
                expected[f"{member}.entry"] = (member, value_bits(plan.parts[0].fields[member].value))
        for member, (kept, bits) in expected.items():
            banks, width, depth, _ = array(plan, f"part 0 {kept}")
            held = f"std::declval<{tile}&>().{member}"
            one = f"std::remove_all_extents_t<std::remove_reference_t<decltype(({held}))>>"
            lines.append(
                f'static_assert(sizeof({held}) / sizeof({one}) == {banks * depth * width // bits}, "{name} {kept}");'
            )
    assert sum(line.startswith("static_assert") for line in lines) == 2 + 2 + 3 + 2
    source = tmp_path / "sizes.cpp"
    source.write_text("\n".join([*lines, "int main() { return 0; }\n"]))
    compile_program([source], tmp_path / "sizes", includes=(INCLUDE, tmp_path), flags=("-O0",))
