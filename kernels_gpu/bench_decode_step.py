"""Benchmark of the decode step of Llama-2-7B's shape: ``python -m kernels_gpu.bench_decode_step --output record.json``.

Random weights in each encoding, a random KV cache of integers, one CUDA graph for the whole step; printed are tokens a
second, the fraction of the memory bound (weights and cache at the measured copy rate) and the time that the cost model
predicts. Next to them, in the same run, the same step with its layers' products by FP16 cuBLAS and by torch's int4
kernel (tinygemm). Before a step is timed the stages of its first and last layer, the embedding, the vocabulary and the
choice of the token run on poisoned results and are compared with their references. ``--predict h100`` needs no GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from datatypes.layer_config import TensorConfig
from hwmodel.gpu import Gpu
from hwmodel.gpu_narrow import COPY_SHARE
from hwmodel.gpu_presets import GPUS
from hwmodel.report import Measurement
from kernels_gpu import bench_record
from kernels_gpu.bench_record import Row, conditions_of_run, exit_without_cuda, write_json
from kernels_gpu.decode_floor import StepCase, data_sheet, predict
from kernels_gpu.decode_kernels import compile_all, kernels_of
from kernels_gpu.decode_model import (
    CACHES,
    LAYER_MATRICES,
    LLAMA_2_7B,
    Decoder,
    Matrix,
    encoded_weights,
    random_cache,
    random_decoder,
)
from kernels_gpu.decode_reference import verify
from kernels_gpu.decode_step import DecodeStep, Stage, make_state
from kernels_gpu.decode_weights import Weight, random_tinygemm
from kernels_gpu.gemv_launch import MAX_TOKENS
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.launch import device_facts
from kernels_gpu.native import PTX_FOLDER
from kernels_gpu.timing import Timing, copy_bytes_per_s, time_graph

COMMAND = "python -m kernels_gpu.bench_decode_step"
ENCODINGS = ("int4_g128", "bitmod4_g128", "bitmod3_g128", "int8")
CUBLAS, TINYGEMM = "fp16 cuBLAS", "tinygemm int4 g128"
CONTEXTS = (256, 4096)
CLOCKS = "clocks.sm,clocks.mem,clocks.max.sm,power.draw,power.limit"  # fields of nvidia-smi
QUICK_LAYERS = 4  # with weights of their own in a quick run
TEMPORARIES = 8  # float32 copies of the largest matrix while it is quantized, at most
SEED = 0
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


def case_of(column: str, base: StepCase) -> StepCase:
    """The step of a column: an encoding's, or another library's."""
    if column == TINYGEMM:
        return replace(base, tinygemm=True)
    return replace(base, weights=None if column == CUBLAS else RECIPES[column])


def type_of(column: str) -> torch.dtype:
    """What activations are: torch's int4 kernel takes bfloat16 alone."""
    return torch.bfloat16 if column == TINYGEMM else torch.float16


def bytes_needed(case: StepCase, distinct: int) -> float:
    """Device memory of a step with weights for ``distinct`` layers, its making included."""
    layers = distinct * sum(case.matrix_bytes(which) for which in LAYER_MATRICES)
    largest = max(n * k for n, k in map(case.shape.matrix, Matrix))
    table = case.shape.vocabulary * case.shape.hidden * 2
    cache = (case.shape.layers + 2) * case.layer_cache_bytes  # one is copied to be compared
    return layers + case.matrix_bytes(Matrix.HEAD) + table + cache + 4 * TEMPORARIES * largest


def choose_distinct(case: StepCase, most: int, free_bytes: float, l2_bytes: int) -> int:
    """Layers with weights of their own: ``most`` where they fit, else as many as do.

    Raises:
        RuntimeError: not enough fit that a layer's weights have left L2 when it is their turn again.
    """
    distinct = min(most, case.shape.layers)
    while distinct > 1 and bytes_needed(case, distinct) > free_bytes:
        distinct -= 1
    layer = sum(case.matrix_bytes(which) for which in LAYER_MATRICES)
    cold = distinct == case.shape.layers or distinct * layer >= 4 * l2_bytes
    if bytes_needed(case, distinct) > free_bytes or not cold:
        least = next(i for i in range(1, case.shape.layers + 1) if i * layer >= 4 * l2_bytes or i == case.shape.layers)
        raise RuntimeError(
            f"free device memory must be at least {bytes_needed(case, least) / 1e9:.1f} GB for a step of "
            f"{case.shape.name} at {case.context} tokens, not {free_bytes / 1e9:.1f}"
        )
    return distinct


def build(case: StepCase, dtype: torch.dtype, distinct: int, device: str) -> Decoder:
    """A decoder of random weights."""
    generator = torch.Generator(device).manual_seed(SEED)

    def config_of(layer: int, which: Matrix) -> TensorConfig | None:
        return case.head if which is Matrix.HEAD else case.weights

    encoded = encoded_weights(config_of, dtype, generator)

    def make(layer: int, which: Matrix, size: tuple[int, int]) -> Weight:
        if case.tinygemm and which is not Matrix.HEAD:
            return random_tinygemm(*size, device)
        return encoded(layer, which, size)

    return random_decoder(case.shape, make, dtype=dtype, generator=generator, distinct=distinct)


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
    predicted = None if gpu is None else predict(case, gpu, rate).seconds
    return StepRow(column, case, timer(step), worst, step.launches(), distinct, case.bound_s(rate), predicted)


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
    """What the cost model says of the steps, part by part, in milliseconds."""
    parts = ("products", "vocabulary", "attention", "between")
    head = f"{'weights':20s}{'m':>3s}{'context':>8s}{'GB':>8s}{'bound':>8s}{'model':>8s}{'of it':>7s}{'tokens/s':>10s}"
    lines = [head + "".join(f"{part:>11s}" for part in parts) + f"{'launches':>9s}"]
    for base in cases:
        for column in columns:
            case = case_of(column, base)
            made, bound = predict(case, gpu, rate), case.bound_s(rate)
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
        "launches": str(row.launches),
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


def run(columns: Sequence[str], cases: Sequence[StepCase], most: int, rate: float) -> list[StepRow]:
    """All rows; a column that cannot run, or not on, says why in a sentence."""
    rows: list[StepRow] = []
    for column in columns:
        try:
            for row in time_column(column, cases, most, rate):
                rows.append(row)
                print(table([row]).splitlines()[1], flush=True)
        except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
            print(f"{column}: {str(error).splitlines()[0] if str(error) else repr(error)}", file=sys.stderr, flush=True)
        torch.cuda.empty_cache()
    return rows


def time_step(step: DecodeStep) -> Timing:
    """One step in a graph, replayed: weights and cache of a step are far larger than L2."""
    return time_graph([step], most_calls=1)


@contextmanager
def kept_ptx() -> Iterator[None]:
    """A folder for compiled kernels, so that other processes can compile them: the user's own or a temporary one."""
    if PTX_FOLDER in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ[PTX_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[PTX_FOLDER]


def main(given: Sequence[str] | None = None) -> int:
    """Run, print the table, write the records."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file of measurements to write")
    parser.add_argument("--encodings", nargs="*", choices=RECIPES, default=list(ENCODINGS))
    parser.add_argument("--contexts", nargs="+", type=int, default=list(CONTEXTS), help="tokens in the cache")
    parser.add_argument("--batch", type=int, default=1, help=f"sequences, 1 to {MAX_TOKENS}")
    parser.add_argument("--cache-bits", type=int, choices=sorted(CACHES), default=8)
    parser.add_argument("--layers", type=int, default=LLAMA_2_7B.layers, help="fewer for a look")
    parser.add_argument("--distinct", type=int, default=0, help="layers with weights of their own; 0 for all that fit")
    parser.add_argument("--no-public", action="store_true", help="leave out cuBLAS and tinygemm")
    parser.add_argument("--quick", action="store_true", help="INT4 and cuBLAS at 256 tokens, under a minute")
    parser.add_argument("--jobs", type=int, default=min(8, os.cpu_count() or 1), help="compile in so many processes")
    parser.add_argument("--predict", metavar="GPU", choices=GPUS, help="print what the cost model says, and stop")
    arguments = parser.parse_args(given)
    if arguments.quick:
        arguments.encodings, arguments.contexts, arguments.distinct = ["int4_g128"], [256], QUICK_LAYERS
    wrong = _wrong(arguments)
    if wrong is not None:
        print(wrong, file=sys.stderr)
        return 2
    shape = replace(LLAMA_2_7B, layers=arguments.layers)
    cases = [StepCase(shape, None, arguments.batch, context, arguments.cache_bits) for context in arguments.contexts]
    others = [] if arguments.no_public else [CUBLAS] if arguments.quick else [CUBLAS, TINYGEMM]
    columns = [*arguments.encodings, *others]
    if arguments.predict is not None:
        gpu = GPUS[arguments.predict]
        print(prediction_table(columns, cases, gpu, gpu.dram.bytes_per_s * COPY_SHARE))
        return 0
    exit_without_cuda()
    with kept_ptx():
        if arguments.jobs > 1:
            found = (kernels_of(case_of(c, base), type_of(c)) for c in columns for base in cases)
            compile_all(set().union(*found), arguments.jobs)
        rate = copy_bytes_per_s()
        print(f"copy {rate / 1e12:.3f} TB/s", flush=True)
        rows = run(columns, cases, arguments.distinct or shape.layers, rate)
    name = device_facts().name
    common = conditions_of_run(rate, "weights of layers", CLOCKS)
    print(f"{name}, {CLOCKS}: {common[CLOCKS.replace(',', ', ')]}")
    print(table(rows))
    if arguments.output is not None:
        write_json(arguments.output, [asdict(measurement(row, common, name)) for row in rows])
    return 0 if rows else 1


def _wrong(arguments: argparse.Namespace) -> str | None:
    """What is wrong with the command line, in a sentence."""
    if not 1 <= arguments.batch <= MAX_TOKENS:
        return f"--batch must be 1 to {MAX_TOKENS}, not {arguments.batch!r}"
    if min(arguments.contexts) < 1 or arguments.layers < 1 or arguments.distinct < 0:
        return "--contexts and --layers must be at least 1, --distinct at least 0"
    if arguments.output is not None and not arguments.output.resolve().parent.is_dir():
        return f"the folder of --output must exist, not {str(arguments.output)!r}"
    return None


if __name__ == "__main__":
    sys.exit(main())
