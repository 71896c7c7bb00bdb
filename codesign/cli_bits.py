"""The command that counts bits of encoded weights."""

from __future__ import annotations

from pathlib import Path

from codesign.bits import bits_table, layer_bits, summed, write_bits
from codesign.console import show_table
from codesign.messages import say
from codesign.outputs import check_output_file
from codesign.steps import progress

_SHOWN = ("layer", "weights", "planes", "twos_complement", "sign_magnitude", "booth", "naf", "wait_booth", "wait_naf",
          "bitlet_64", "bbs_8", "empty_8")  # fmt: skip
_HEADINGS = {
    "twos_complement": "ones", "sign_magnitude": "magnitude", "wait_booth": "booth/16", "wait_naf": "naf/16",
    "bitlet_64": "bitlet/64", "bbs_8": "bbs/8", "empty_8": "empty/8",
}  # fmt: skip


def bits(model: str, *, recipe_name: str | None, out: Path | None, every_layer: bool, as_json: bool) -> None:
    """Bit statistics of a model's layers."""
    if out is not None:
        check_output_file(out)
    with progress() as bars:
        task = bars.add_task("counting", total=None)
        stats = dict(
            layer_bits(model, recipe_name, steps=lambda what, done, total: bars.update(
                task, description=what, completed=done, total=total))
        )  # fmt: skip
    if not stats:
        raise ValueError(f"model must have encoded layers for their bits to be counted, which {model} has not")
    if out is not None:
        write_bits(stats, out)
        say(f"counts of {len(stats)} layers: {out.resolve()}")
    table = bits_table(stats if every_layer else summed(stats))
    formats = sorted({name for one in stats.values() for name in one.formats})
    title = (
        f"Terms of a weight ({', '.join(formats)}); /16: slowest of 16; bitlet: cycles of a weight; bbs: share of bits"
    )
    show_table(table, title=title, as_json=as_json, columns=_SHOWN, headings=_HEADINGS)
