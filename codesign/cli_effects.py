"""The command that switches on, one by one, what the published simulator leaves out."""

from __future__ import annotations

from codesign.console import show_table
from codesign.machines import accelerators_by_name
from codesign.recipes import recipe
from hwmodel.effects import option_effects
from hwmodel.gpu import Gpu
from hwmodel.paper import paper_model, paper_workload
from hwmodel.workload import Phase, Workload


def effects(model: str, accelerator: str, *, as_json: bool, recipe_name: str = "bitmod4_g128") -> None:
    """The options of the honest mode, one by one, for one recipe's linear layers and KV cache."""
    shape = paper_model(model)
    (machine,) = accelerators_by_name((accelerator,)).values()
    if isinstance(machine, Gpu):
        raise ValueError(f"accelerator whose effects are shown must be an array of PEs, not the GPU {machine.name}")

    def workload_at(phase: Phase, context: int) -> Workload:
        return paper_workload(shape.name, phase, context=context, other_layers=True)

    table = option_effects(workload_at, recipe(recipe_name).linear, machine)
    changes = tuple(
        f"{phase}_{what}_change_percent" for phase in ("prefill", "decode", "generate") for what in ("cycles", "energy")
    )
    on_top = tuple(f"generate_{what}_on_top_percent" for what in ("cycles", "energy"))
    headings = {name: name.removesuffix("_change_percent") for name in changes}
    headings |= {name: name.removesuffix("_on_top_percent").replace("generate", "on_top") for name in on_top}
    show_table(
        table, title=f"{shape.name}, {recipe_name}, on {machine.name}: change by each option alone, in percent; "
        "on_top: what it adds to all others",
        as_json=as_json, columns=("option", *changes, *on_top), headings=headings,
    )  # fmt: skip
