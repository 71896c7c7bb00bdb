from codesign.dashboard.layer_groups import group_layers, pattern, short


def test_blocks_of_equal_role_share_a_group_in_order_of_appearance() -> None:
    groups = group_layers(["model.embed", "model.layers.0.q", "model.layers.0.k", "model.layers.10.q", "head"])
    assert groups.titles == ("model.embed", "q", "k", "head")
    assert groups.group == (0, 1, 2, 1, 3)
    assert groups.labels == ("model.embed", "0.q", "0.k", "10.q", "head")


def test_two_stacks_with_the_same_roles_keep_their_full_names() -> None:
    groups = group_layers(["encoder.0.q", "decoder.0.q"])
    assert groups.titles == ("encoder.*.q", "decoder.*.q")
    assert groups.labels == ("encoder.0.q", "decoder.0.q")


def test_a_short_name_never_meets_a_layer_that_bears_it() -> None:
    assert group_layers(["h.0.q", "q"]).titles == ("h.*.q", "q")


def test_experts_fall_into_one_group() -> None:
    groups = group_layers([f"model.layers.{b}.mlp.experts.{e}.up" for b in range(2) for e in range(4)])
    assert groups.titles == ("mlp.experts.*.up",)
    assert len(set(groups.labels)) == 8


def test_repeated_names_count_once_and_no_names_give_no_groups() -> None:
    assert group_layers(["a", "a"]).layers == ("a",)
    assert group_layers([]).titles == ()


def test_digits_inside_a_word_are_no_block_and_a_bare_number_keeps_its_name() -> None:
    assert pattern("conv1.weight2") == "conv1.weight2"
    assert short("layers.3", keep_number=False) == "layers.3"
