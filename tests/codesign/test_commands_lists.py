"""What the commands that list things give to their work."""

import pytest


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("formats", "cli_lists.show_formats"),
        ("accelerators", "cli_lists.show_accelerators"),
        ("models", "cli_lists.show_models"),
        ("algorithms", "cli_recipes.show_algorithms"),
        ("recipes", "cli_recipes.show_recipes"),
    ],
)
def test_a_list_is_for_people_or_programs(given, command, place):
    assert given(place, command) == {"as_json": False}
    assert given(place, command, "--json") == {"as_json": True}


def test_one_format_is_its_codes(given):
    assert given("cli_lists.format_codes", "formats", "e2m1", "--json") == {"name": "e2m1", "as_json": True}
