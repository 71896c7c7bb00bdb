"""``kill -9`` anywhere in a study: the next run goes on after the last finished block and ends with the same bits."""

import json
import math
import os
import signal
import subprocess
import sys

import pytest

TEXT = "The quick brown fox jumps over the lazy dog. She read the whole book, and then she read it again. " * 40
BLOCKS = 4  # of tiny_deep_dir
STAGES = (
    "calibrate", "gradients, forwards", "gradients, backwards", "quantize", "evaluate the original", "evaluate",
)  # fmt: skip
# where a process kills itself: after how many blocks of which stage
QUICK = (("gradients, backwards", 2), ("evaluate", 2))
OTHERS = (*((stage, 2) for stage in STAGES), ("evaluate the original", 4), ("evaluate", 4), ("layer errors", 2))

# Runs the undisturbed study, then forks a process for every other one, which so finds the packages loaded: a kill is a
# kill, and the next process knows nothing of the last.
SERVER = """
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)  # a fork would lose the others
from codesign import recipe_accuracy
from codesign.layer_error import layer_sqnr_db
from codesign.models import resolve_model
from codesign.recipe_accuracy import Bench, Protocol, measure_all
from codesign.recipes import recipe
from codesign.store import Store

model, text, root, points = json.loads(sys.argv[1])

def study(cache, answer, point):
    os.environ["CODESIGN_CACHE"] = cache
    seen = []
    def step(what, done, total):
        seen.append([what, done])
        if [what, done] == point:
            os.kill(os.getpid(), signal.SIGKILL)
    def counted(*args, **kwargs):
        for number, found in enumerate(layer_sqnr_db(*args, **kwargs), start=1):
            yield found
            step("layer errors", number, None)
    recipe_accuracy.layer_sqnr_db = counted
    protocol = Protocol(text, 192, 64, text, 128)
    bench = Bench(resolve_model(model), protocol, store=Store(Path(cache) / "store"), steps=step)
    made = measure_all(bench, [recipe("gwq4_g128")])["gwq4_g128"]
    left = os.listdir(os.path.join(cache, "in_work"))
    found = {"numbers": dict(made.numbers), "layers": dict(made.layer_sqnr_db), "seen": seen, "left": left}
    Path(answer).write_text(json.dumps(found))

def in_a_process(*args):
    child = os.fork()
    if not child:
        try:
            study(*args)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]

study(f"{root}/whole", f"{root}/whole.json", None)
ends = []
for number, point in enumerate(points):
    ends.append(in_a_process(f"{root}/{number}", f"{root}/never.json", point))
    ends.append(in_a_process(f"{root}/{number}", f"{root}/{number}.json", None))
print(json.dumps(ends))
"""


@pytest.fixture(scope="module", params=[QUICK, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["two", "all"])
def studies(request, tiny_deep_dir, tmp_path_factory):
    """Points, exit statuses of the killed study and the next at each, answers of an undisturbed study and of those."""
    if not hasattr(os, "fork"):
        pytest.skip("processes must be forked here")
    points = request.param
    root = tmp_path_factory.mktemp("studies")
    (root / "text.txt").write_text(TEXT)
    told = json.dumps([str(tiny_deep_dir), str(root / "text.txt"), str(root), points])
    done = subprocess.run([sys.executable, "-c", SERVER, told], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not (root / "never.json").exists()
    whole, *answers = (json.loads((root / f"{name}.json").read_text()) for name in ("whole", *range(len(points))))
    return points, json.loads(done.stdout.splitlines()[-1]), whole, answers


def test_a_killed_study_goes_on_after_the_last_finished_block(studies):
    points, ends, whole, answers = studies
    order = (*STAGES, "layer errors")
    every = {name: list(range(1, BLOCKS + 1)) for name in order}
    assert {name: [done for what, done in whole["seen"] if what == name] for name in order} == every
    assert ends == [signal.SIGKILL, 0] * len(points)
    for (stage, done), answer in zip(points, answers, strict=True):
        expected = {name: [] if order.index(name) < order.index(stage) else blocks for name, blocks in every.items()}
        # of layer errors only those that are measured are seen, and counted from 1
        expected[stage] = every[stage][:-done] if stage == "layer errors" else every[stage][done:]
        ran = {name: [d for what, d in answer["seen"] if what == name] for name in order}
        assert ran == expected, (stage, done)


def test_a_killed_study_ends_with_the_same_bits(studies):
    points, _, whole, answers = studies
    for point, answer in zip(points, answers, strict=True):
        for name, value in whole["numbers"].items():
            if name.endswith("_s"):
                assert 0 < answer["numbers"][name] < math.inf
            else:
                assert answer["numbers"][name] == value, (point, name)
        assert answer["layers"] == whole["layers"], point
        assert answer["left"] == whole["left"] == [], "nothing stays in work"
