"""study.yaml: every mistake is one sentence with the file and the key."""

import pytest

from codesign.study_file import StudySpec, read_study

GOOD = """
name: small
model: some/folder
recipes: [fp16, bitmod4_g128]
accelerators: [bitmod]
evaluation: {text: brown, tokens: 2048, context: 256}
calibration: {tokens: 1024}
workload: {batch: 2, prompt: 128, generate: 32}
objectives: [loss, -top1]
seed: 3
"""


def written(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


def test_every_key_arrives(tmp_path):
    assert read_study(written(tmp_path, GOOD)) == StudySpec(
        name="small",
        model="some/folder",
        recipes=("fp16", "bitmod4_g128"),
        accelerators=("bitmod",),
        text="brown",
        tokens=2048,
        context=256,
        calibration_tokens=1024,
        batch=2,
        prompt=128,
        generate=32,
        objectives=("loss", "-top1"),
        seed=3,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model:", "modle:"), r"study.yaml: key 'modle' is not known; did you mean 'model'\?"),
        (("context: 256", "contxt: 256"), r"study.yaml: evaluation: key 'contxt' is not known; did you mean 'context'"),
        (("tokens: 2048", "tokens: many"), r"evaluation: key 'tokens' must be int, not 'many'"),
        (("tokens: 2048", "tokens: true"), r"evaluation: key 'tokens' must be int, not True"),
        (("tokens: 2048", "tokens: 100"), r"tokens of study small must be at least context 256, not 100"),
        (("[fp16, bitmod4_g128]", "[]"), r"recipes of study small must name at least one"),
        (("[fp16, bitmod4_g128]", "[fp16, fp16]"), r"recipes of study small must differ, not repeat fp16"),
        (("[fp16, bitmod4_g128]", "[fp16, 4]"), r"key 'recipes' must list names, not 4"),
        (("[loss, -top1]", "[loss, speed]"), r"objectives of study small must be columns .* not 'speed'"),
        (("[loss, -top1]", "[loss, recipe]"), r"objectives of study small must be columns of numbers, not 'recipe'"),
        (("[loss, -top1]", "[loss, -on_front]"), r"objectives of study small must be columns of numbers, not '-on_fr"),
        (("[loss, -top1]", "[loss, -loss]"), r"objectives of study small must differ, not repeat loss"),
        (("[loss, -top1]", "[]"), r"objectives of study small must name at least one, not none"),
        (("name: small", "name: ''"), r"study.yaml: name of a study must be a line of text, not ''"),
        (("name: small", "name: ' '"), r"study.yaml: name of a study must be a line of text, not ' '"),
        (("seed: 3", "name: again"), r"study.yaml line \d+ must be YAML: key 'name' is given twice"),
        (("seed: 3", "seed: [3"), r"study.yaml line \d+ must be YAML"),
        (("batch: 2", "batch: 0"), r"batch of study small must be at least 1, not 0"),
        (("name: small", ""), r"study.yaml: key 'name' must be given"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_study(written(tmp_path, GOOD.replace(*change)))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.yaml must be a readable YAML file: No such file"):
        read_study(tmp_path / "nowhere.yaml")


def test_no_objects_are_built_from_tags(tmp_path):
    with pytest.raises(ValueError, match="must be YAML"):
        read_study(written(tmp_path, "name: !!python/object/apply:os.system ['true']"))


def test_a_recipe_may_be_written_out(tmp_path):
    own = "{name: mine, base: bitmod4_g128, algorithm: gptq, options: {damping: 0.05}}"
    spec = read_study(written(tmp_path, GOOD.replace("bitmod4_g128", own)))
    assert spec.recipes == ("fp16", "mine")
    made = spec.recipe("mine")
    assert made.algorithm is not None and made.algorithm.name == "gptq"
    assert made.linear == spec.recipe("bitmod4_g128").linear
    with pytest.raises(ValueError, match=r"study\.yaml: recipes: key of a recipe must be one of .*nearest: base"):
        read_study(written(tmp_path, GOOD.replace("bitmod4_g128", own.replace("base:", "bas:"))))
