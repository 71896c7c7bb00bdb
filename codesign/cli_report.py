"""The command that shows a finished study again."""

from __future__ import annotations

from pathlib import Path

from codesign.console import records, show_json, show_table
from codesign.dashboard.page import write_dashboard
from codesign.messages import say
from codesign.outputs import check_output_file
from codesign.study import StudyResult
from codesign.study_folder import PAGE, read_study_folder

_TRIALS = ("recipe", "accelerator", "bits_per_weight", "loss_delta", "loss_delta_se", "perplexity", "kl", "prefill_s",
           "decode_s", "decode_energy_j", "area_mm2")  # fmt: skip
_HEADINGS = {
    "bits_per_weight": "bits", "loss_delta": "loss - FP16 [nats]", "loss_delta_se": "s.e.", "perplexity": "ppl",
    "kl": "KL [nats]", "prefill_s": "prompt [s]", "decode_s": "token [s]", "decode_energy_j": "token [J]",
    "area_mm2": "area [mm2]",
}  # fmt: skip


def report(folder: Path, *, as_json: bool) -> None:
    """Show a finished study and redraw its page."""
    check_output_file(folder / PAGE)
    result = read_study_folder(folder)
    write_dashboard(result, folder / PAGE)
    show_study(result, folder / PAGE, as_json=as_json)


def show_study(result: StudyResult, page: Path, *, as_json: bool) -> None:
    """The recipes of a study, and where its page is."""
    if as_json:
        show_json({"name": result.name, "page": str(page.resolve()), "trials": records(result.trials)})
        return
    ran = result.trials[result.trials["supported"]].sort_values(["loss", "total_s"], kind="stable")
    names = ", ".join(result.objectives)
    show_table(
        ran.drop_duplicates("recipe"),
        title=f"{result.name}: recipes by loss, each where it runs fastest; bold ones are on the front of {names}",
        as_json=False, columns=_TRIALS, headings=_HEADINGS, highlight=lambda row: bool(row["on_front"]),
    )  # fmt: skip
    pairs, left_out = len(result.trials), int((~result.trials["supported"]).sum())
    say(f"{pairs} pairs of recipe and accelerator, all on the page; {left_out} cannot run, and it says why")
    say(f"page: {page.resolve()}")
