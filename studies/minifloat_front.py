"""Minifloats or integers: which give more accuracy for the same logic, at 3 to 8 bits on a real image classifier?

The question of Aggarwal et al. (Shedding the Bits, FPL 2024, arXiv 2311.12359), asked again with our own numbers:
EfficientNet-Lite0 quantized by Brevitas (``codesign.brevitas_bridge``), weights and inputs of every layer but the first
and the last in one format; the area of one exact multiply-accumulate of these formats from synthesis
(``hwmodel.unit_cost``), once in LUTs of six inputs and once in standard cells.

::

    python -m studies.minifloat_front measure --images FOLDER [--device cuda]   # accuracies, resumable, best on a GPU
    python -m studies.minifloat_front price                                     # costs and fronts of what was measured
    python -m studies.minifloat_page results/minifloat_front.html               # the page

Accuracies go to ``studies/minifloat_front.accuracy.csv``, one row a setting, as each is done; a second call goes on
after the last. Accumulators are exact and never overflow on the longest dot product of the network.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from codesign.brevitas_bridge import PostTraining, prepared, quantized
from codesign.console import show_table
from codesign.efficientnet_lite import IMAGE_PIXELS, load_efficientnet_lite
from codesign.image_folder import labelled_images
from codesign.pareto import pareto_mask
from codesign.store import write_atomic
from datatypes.catalog import INTS, MINIFLOATS, UINTS, format_by_name
from datatypes.format import FloatFormat, FloatVariant, Format, IntFormat
from hwmodel.unit_cost import price_pe
from hwmodel.unit_cost_design import FixedAccumulator, PeDesign, fixed_product_bits, operand, pe_design

HERE = Path(__file__).parent
ACCURACY = HERE / "minifloat_front.accuracy.csv"
RESULT = HERE / "minifloat_front.csv"
BITS = range(3, 9)
CALIBRATION_IMAGES, BATCH = 100, 50
LONGEST_DOT = 1152  # products: the last projection of EfficientNet-Lite0 (codesign.efficientnet_lite.STAGES: 192 * 6)
CELLS = ("sg13g2", "sky130hd")


def settings(gptq: bool) -> Iterator[PostTraining]:
    """Every format pair, with one way of rounding."""
    minifloats = [fmt for fmt in MINIFLOATS.values() if fmt.variant is FloatVariant.FINITE and fmt.bits in BITS]
    pairs: list[tuple[Format, Format]] = [(INTS[b], INTS[b]) for b in BITS]
    pairs += [(INTS[b], UINTS[b]) for b in BITS]
    pairs += [(fmt, fmt) for fmt in sorted(minifloats, key=lambda fmt: (fmt.bits, fmt.exponent_bits))]
    pairs += [(INTS[w], UINTS[a]) for w, a in ((4, 8), (4, 6), (6, 8), (5, 8), (3, 8))]
    yield from (PostTraining(weight, activation, gptq=gptq) for weight, activation in pairs)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Top-1 and top-5 of ``images`` ``[b, 3, h, w]`` with ``labels`` ``[b]``."""
    with torch.no_grad():
        best = torch.cat([model(batch).topk(5, 1).indices for batch in images.split(BATCH)])
    right = best == labels[:, None]
    return right[:, 0].double().mean().item(), right.any(1).double().mean().item()


def measure(folder: Path, device: str, out: Path, gptq: bool) -> None:
    """Accuracies of all settings that ``out`` does not have yet."""
    done = pd.read_csv(out) if out.is_file() else pd.DataFrame(columns=["setting"])
    calibration, test = labelled_images(folder).split(CALIBRATION_IMAGES)
    batches = list(calibration.load(IMAGE_PIXELS).to(device).split(BATCH))
    images, labels = test.load(IMAGE_PIXELS).to(device), torch.tensor(test.labels, device=device)
    model = load_efficientnet_lite().to(device)
    rows = done.to_dict("records")
    if "float32" not in set(done["setting"]):
        top1, top5 = accuracy(model, images, labels)
        rows.append({"setting": "float32", "weight": "fp32", "activation": "fp32", "rounding": "", "top1": top1,
                     "top5": top5, "images": len(test)})  # fmt: skip
    graph = prepared(model.cpu()).to(device)
    waiting = [how for how in settings(gptq) if how.name not in set(done["setting"])]
    for number, how in enumerate(waiting, 1):
        start = time.perf_counter()
        top1, top5 = accuracy(quantized(graph, how, batches), images, labels)
        rows.append({"setting": how.name, "weight": how.weight.name, "activation": how.activation.name,
                     "rounding": "gptq" if how.gptq else "nearest", "top1": top1, "top5": top5,
                     "images": len(test)})  # fmt: skip
        write_atomic(out, pd.DataFrame(rows).to_csv(index=False).encode())
        seconds = time.perf_counter() - start
        print(
            f"{number}/{len(waiting)} {how.name}: top-1 {top1:.3f}, top-5 {top5:.3f}, {seconds:.0f} s", file=sys.stderr
        )


# --- prices ----------------------------------------------------------------------------------------------------------


def exact_mac(weight: Format, activation: Format) -> PeDesign:
    """The multiply-accumulate whose accumulator holds ``LONGEST_DOT`` products exactly."""
    growth = (LONGEST_DOT - 1).bit_length()
    if isinstance(weight, IntFormat) and isinstance(activation, IntFormat):
        bits = weight.bits + activation.bits + growth
    else:
        bits = fixed_product_bits(*operand(weight), *operand(activation)) + growth
    return pe_design(weight, activation, accumulator=FixedAccumulator(bits))


def kind_of(fmt: Format) -> str:
    """What a format is to the logic: with one exponent bit the steps are all equal, an integer in sign and magnitude.

    >>> [kind_of(format_by_name(name)) for name in ("int4", "e1m2", "e2m1")]
    ['integer', 'integer, sign and magnitude', 'minifloat']
    """
    if not isinstance(fmt, FloatFormat):
        return "integer"
    return "integer, sign and magnitude" if fmt.exponent_bits == 1 else "minifloat"


def priced(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with the best rounding of each pair, LUTs and cell areas of its MAC, and where they come from."""
    measured = rows[rows.setting != "float32"]
    best = measured.loc[measured.groupby(["weight", "activation"], sort=False)["top1"].idxmax()]
    made: list[dict[str, Any]] = []
    for row in best.to_dict("records"):
        weight, activation = format_by_name(row["weight"]), format_by_name(row["activation"])
        one = exact_mac(weight, activation)
        luts = price_pe(one, "lut6").luts
        assert luts is not None
        row |= {
            "kind": kind_of(weight),
            "bits": weight.bits,
            "luts": luts.value,
            "luts_from": luts.origin.value,
        }
        for library in CELLS:
            area = price_pe(one, library).area_um2
            assert area is not None
            row |= {f"{library}_um2": area.value, f"{library}_from": area.origin.value}
        made.append(row)
    return pd.DataFrame(made)


def fronts(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with a column ``front_<cost>`` for each cost: whether nothing is both cheaper and as accurate."""
    table = table.copy()
    for cost in ("luts", *(f"{library}_um2" for library in CELLS)):
        points = table[[cost]].assign(error=1 - table.top1).to_numpy(float)
        table[f"front_{cost}"] = pareto_mask(points)
    return table


def main(arguments: list[str] | None = None) -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--images", type=Path, required=True)
    measuring.add_argument("--device", default="cpu")
    measuring.add_argument("--out", type=Path, default=ACCURACY)
    measuring.add_argument("--gptq", action="store_true", help="round weights by GPTQ: 80 s a setting on an H100")
    commands.add_parser("price")
    given = parser.parse_args(arguments)
    try:
        if given.command == "measure":
            measure(given.images, given.device, given.out, given.gptq)
        else:
            table = fronts(priced(pd.read_csv(ACCURACY)))
            write_atomic(RESULT, table.to_csv(index=False).encode())
            show_table(table, title=str(RESULT), as_json=False)
    except ValueError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
