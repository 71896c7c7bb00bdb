"""Benchmark of the decode step of Llama-2-7B's shape: ``python -m kernels_gpu.bench_decode_step --output record.json``.

Random weights in each encoding, a random KV cache of integers, one CUDA graph for the whole step; printed are tokens a
second, the fraction of the memory bound (weights and cache at the measured copy rate) and the time that the cost model
predicts. Next to them, in the same run, the same step with its layers' products by FP16 cuBLAS and by torch's int4
kernel (tinygemm). Before a step is timed the stages of its first and last layer, the embedding, the vocabulary and the
choice of the token run on poisoned results and are compared with their references. ``--predict h100`` needs no GPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from hwmodel.gpu import Gpu
from hwmodel.gpu_narrow import COPY_SHARE
from hwmodel.gpu_presets import GPUS
from hwmodel.report import Measurement
from kernels_gpu import bench_record
from kernels_gpu.bench_record import CLOCKS, Row, conditions_of_run, exit_without_cuda, gather, write_json
from kernels_gpu.compile_ahead import add_jobs, compile_all, kept_ptx
from kernels_gpu.decode_columns import CUBLAS, SEED, TINYGEMM, build, case_of, choose_distinct, type_of
from kernels_gpu.decode_floor import StepCase, StepPrediction, data_sheet, predict
from kernels_gpu.decode_kernels import ahead, kernels_of
from kernels_gpu.decode_model import CACHES, LLAMA_2_7B, Decoder, random_cache
from kernels_gpu.decode_reference import verify
from kernels_gpu.decode_step import DecodeStep, Stage, make_state
from kernels_gpu.gemv_decode import VERSION
from kernels_gpu.gemv_launch import MAX_TOKENS
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.launch import device_facts
from kernels_gpu.native import peak_memory_bytes_per_s
from kernels_gpu.timing import Timing, copy_bytes_per_s, time_graph

COMMAND = "python -m kernels_gpu.bench_decode_step"
ENCODINGS = ("int4_g128", "bitmod4_g128", "bitmod3_g128", "int8")
CONTEXTS = (256, 4096)
QUICK_LAYERS = 4  # with weights of their own in a quick run
Timer = Callable[[DecodeStep], Timing]


@dataclass(frozen=True)
class StepRow:
    """A timed step."""

    column: str
    case: StepCase
    timing: Timing
    worst: dict[str, float]  # largest error over its tolerance, by kind of stage
    launches: int
    distinct: int
    bound_s: float
    predicted_s: float | None

    @property
    def tokens_per_s(self) -> float:
        """Of all sequences together."""
        return self.case.batch / self.timing.median_s


def compared(stage: Stage, layers: int) -> bool:
    """Whether a stage is compared with its reference: first and last layer, and what is outside of layers."""
    return stage.layer in (-1, 0, layers - 1, layers)


def measure(
    column: str, case: StepCase, decoder: Decoder, distinct: int, rate: float, gpu: Gpu | None, timer: Timer
) -> StepRow:
    """Compare a step, then time it.

    Raises:
        AssertionError: a stage beyond its tolerance.
    """
    generator = torch.Generator(decoder.embedding.device).manual_seed(SEED + 1)
    shape, batch = case.shape, case.batch
    caches = [random_cache(shape, batch, case.context, case.cache_bits, generator) for _ in range(shape.layers)]
    tokens = [(7 * b + 1) % shape.vocabulary for b in range(batch)]
    state = make_state(decoder, caches, tokens, [case.context] * batch)
    worst = verify(decoder, state, advance=False, wanted=partial(compared, layers=shape.layers))
    step = DecodeStep(decoder, state, advance=False)
    model = predicted(case, gpu, rate)
    seconds = None if model is None else model.seconds
    return StepRow(column, case, timer(step), worst, step.launches(), distinct, case.bound_s(rate), seconds)


def predicted(case: StepCase, gpu: Gpu | None, rate: float) -> StepPrediction | None:
    """What the cost model says, where it says anything."""
    try:
        return None if gpu is None else predict(case, gpu, rate)
    except (NotImplementedError, ValueError):
        return None


def table(rows: Sequence[StepRow]) -> str:
    """The rows as text; beside them how many times as fast as FP16 cuBLAS at the same batch and context."""
    halves = {(r.case.batch, r.case.context): r.timing.median_s for r in rows if r.column == CUBLAS}
    head = f"{'weights':20s}{'m':>3s}{'context':>8s}{'ms':>8s}{'spread':>8s}{'tokens/s':>10s}{'bound':>8s}{'of it':>7s}"
    lines = [head + f"{'model':>8s}{'error':>8s}{'x fp16':>8s}{'launches':>9s}{'check':>7s}"]
    for r in rows:
        seconds, half = r.timing.median_s, halves.get((r.case.batch, r.case.context))
        model = "" if r.predicted_s is None else f"{r.predicted_s * 1e3:.3f}"
        error = "" if r.predicted_s is None else f"{r.predicted_s / seconds - 1:+.1%}"
        lines.append(
            f"{r.column:20s}{r.case.batch:3d}{r.case.context:8d}{seconds * 1e3:8.3f}{r.timing.spread:8.1%}"
            f"{r.tokens_per_s:10.1f}{r.bound_s * 1e3:8.3f}{r.bound_s / seconds:7.1%}{model:>8s}{error:>8s}"
            f"{'' if half is None else f'{half / seconds:.2f}':>8s}{r.launches:9d}{max(r.worst.values()):7.2f}"
        )
    return "\n".join(lines)


def prediction_table(columns: Sequence[str], cases: Sequence[StepCase], gpu: Gpu, rate: float) -> str:
    """What the cost model says of the steps, part by part, in milliseconds; why it says nothing, on standard error."""
    parts = ("products", "vocabulary", "attention", "between")
    head = f"{'weights':20s}{'m':>3s}{'context':>8s}{'GB':>8s}{'bound':>8s}{'model':>8s}{'of it':>7s}{'tokens/s':>10s}"
    lines = [head + "".join(f"{part:>11s}" for part in parts) + f"{'launches':>9s}"]
    for base in cases:
        for column in columns:
            case = case_of(column, base)
            try:
                made, bound = predict(case, gpu, rate), case.bound_s(rate)
            except (NotImplementedError, ValueError) as error:
                print(f"{column}: {error}", file=sys.stderr)
                continue
            lines.append(
                f"{column:20s}{case.batch:3d}{case.context:8d}{case.step_bytes / 1e9:8.3f}{bound * 1e3:8.3f}"
                f"{made.seconds * 1e3:8.3f}{bound / made.seconds:7.1%}{case.batch / made.seconds:10.1f}"
                + "".join(f"{made.parts[part] * 1e3:11.3f}" for part in parts)
                + f"{made.launches:9d}"
            )
    return "\n".join(lines)


def measurement(row: StepRow, common: dict[str, str], device: str) -> Measurement:
    """A row as the cost model's record; its shape is (sequences, context, layers)."""
    case = row.case
    own = {
        "model": case.shape.name,
        "cache_bits": str(case.cache_bits),
        "vocabulary": "16 bits" if case.head is None else case.head.formats[0].name,
        "launches": str(row.launches),
        "version": str(VERSION),
        "layers_with_weights_of_their_own": str(row.distinct),
        "tokens_per_s": f"{row.tokens_per_s:.2f}",
        "worst_error_over_tolerance": ", ".join(f"{kind} {worst:.3f}" for kind, worst in row.worst.items()),
    }
    if row.predicted_s is not None:
        own["predicted_us"] = f"{row.predicted_s * 1e6:.1f}"
    shape = (case.batch, case.context, case.shape.layers)
    made = Row(
        f"decode step {row.column}", *shape, "", round(case.step_bytes), row.bound_s * 1e6,
        row.timing.median_s * 1e6, row.timing.spread, max(row.worst.values()),
    )  # fmt: skip
    return bench_record.measurement(made, shape, own, common=common, device=device, source=COMMAND)


def time_column(column: str, bases: Sequence[StepCase], most: int, rate: float) -> Iterator[StepRow]:
    """The rows of a column, with weights made once; ``most`` layers have their own, or as many as fit."""
    facts = device_facts()
    cases = [case_of(column, base) for base in bases]
    longest = max(cases, key=lambda case: case.step_bytes)
    distinct = choose_distinct(longest, most, torch.cuda.mem_get_info()[0], facts.l2_bytes)
    decoder = build(longest, type_of(column), distinct, "cuda")
    for case in cases:
        yield measure(column, case, decoder, distinct, rate, data_sheet(facts.name), time_step)


def run(columns: Sequence[str], cases: Sequence[StepCase], most: int, rate: float) -> Iterator[StepRow]:
    """All rows; a column that cannot run, or not on, says why in a sentence."""
    for column in columns:
        try:
            yield from time_column(column, cases, most, rate)
        except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
            print(f"{column}: {str(error).splitlines()[0] if str(error) else repr(error)}", file=sys.stderr, flush=True)
        torch.cuda.empty_cache()


def time_step(step: DecodeStep) -> Timing:
    """One step in a graph, replayed: weights and cache of a step are far larger than L2."""
    return time_graph([step], least_s=0)


def main(given: Sequence[str] | None = None) -> int:
    """Run, print the table, write the records."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file of measurements to write")
    parser.add_argument("--encodings", nargs="*", choices=RECIPES, default=list(ENCODINGS))
    parser.add_argument("--contexts", nargs="+", type=int, default=list(CONTEXTS), help="tokens in the cache")
    parser.add_argument("--batch", type=int, default=1, help=f"sequences, 1 to {MAX_TOKENS}")
    parser.add_argument("--cache-bits", type=int, choices=sorted(CACHES), default=8)
    parser.add_argument("--head", choices=RECIPES, help="encoding of the vocabulary's weight; default: 16 bits, cuBLAS")
    parser.add_argument("--layers", type=int, default=LLAMA_2_7B.layers, help="fewer for a look")
    parser.add_argument("--distinct", type=int, default=0, help="layers with weights of their own; 0 for all that fit")
    parser.add_argument("--no-public", action="store_true", help="leave out cuBLAS and tinygemm")
    parser.add_argument("--quick", action="store_true", help="INT4 and cuBLAS at 256 tokens, under a minute")
    add_jobs(parser)
    parser.add_argument("--predict", metavar="GPU", choices=GPUS, help="print what the cost model says, and stop")
    arguments = parser.parse_args(given)
    if arguments.quick:
        arguments.encodings, arguments.contexts, arguments.distinct = ["int4_g128"], [256], QUICK_LAYERS
    wrong = _wrong(arguments)
    if wrong is not None:
        print(wrong, file=sys.stderr)
        return 2
    shape = replace(LLAMA_2_7B, layers=arguments.layers)
    head = None if arguments.head is None else RECIPES[arguments.head]
    cases = [
        StepCase(shape, None, arguments.batch, context, arguments.cache_bits, head) for context in arguments.contexts
    ]
    others = [] if arguments.no_public else [CUBLAS] if arguments.quick else [CUBLAS, TINYGEMM]
    columns = [*arguments.encodings, *others]
    if arguments.predict is not None:
        gpu = GPUS[arguments.predict]
        print(prediction_table(columns, cases, gpu, gpu.dram.bytes_per_s * COPY_SHARE))
        return 0
    exit_without_cuda()
    with kept_ptx():
        peak = peak_memory_bytes_per_s(torch.device("cuda"))
        found = (kernels_of(case_of(c, base), type_of(c), peak) for c in columns for base in cases)
        compile_all(ahead(set().union(*found)), arguments.jobs)
        rate = copy_bytes_per_s()
        print(f"copy {rate / 1e12:.3f} TB/s", flush=True)
        found_rows = run(columns, cases, arguments.distinct or shape.layers, rate)
        rows, status = gather(found_rows, table([]), lambda row: table([row]).splitlines()[1])
    name = device_facts().name
    common = conditions_of_run(rate, "weights of layers", CLOCKS, replay_s=0)
    print(f"{name}, {CLOCKS}: {common[CLOCKS.replace(',', ', ')]}")
    print(table(rows))
    if arguments.output is not None and rows:
        write_json(arguments.output, [asdict(measurement(row, common, name)) for row in rows])
    return status


def _wrong(arguments: argparse.Namespace) -> str | None:
    """What is wrong with the command line, in a sentence."""
    if not 1 <= arguments.batch <= MAX_TOKENS:
        return f"--batch must be 1 to {MAX_TOKENS}, not {arguments.batch!r}"
    if min(arguments.contexts) < 1 or arguments.layers < 1 or arguments.distinct < 0:
        return "--contexts and --layers must be at least 1, --distinct at least 0"
    output: Path | None = arguments.output
    if output is not None and (output.is_dir() or not output.resolve().parent.is_dir()):
        return f"--output must be a file whose folder exists, not {str(output)!r}"
    return None


if __name__ == "__main__":
    sys.exit(main())
