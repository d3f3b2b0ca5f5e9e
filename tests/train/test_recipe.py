"""Recipes: what files resolve to, and that mistakes are named before anything is loaded, with the nearest key."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from openpali.train.load import load_recipe, parse_recipe, read_record
from openpali.train.objectives.sequence import SequenceRecipe
from openpali.train.objectives.siglip import SiglipRecipe
from openpali.train.recipe import FEW
from openpali.train.recipe_file import as_toml, merge

RECIPES = Path(__file__).parents[2] / "recipes"
HASHES: dict[str, str] = json.loads((Path(__file__).parent / "recipe_hashes.json").read_text())
SHIPPED = [  # files of a bundle, and those that recipes extend, are not recipes
    str(path.relative_to(RECIPES).with_suffix(""))
    for path in sorted(RECIPES.glob("*/*.toml"))
    if path.stem != "bundle" and path.parent.name != "study"
]
VALID = """
name = "tiny"
objective = "sequence"
batch = 4

[model]
preset = "pico"
tokenizer = "nano-vocabulary"

[optimizer]
lr = 1e-3
schedule = "constant"
warmup = 40
cooldown = 20

[[phases]]
samples = 400
size = 72

[[phases.mixture]]
source = "nano/single"
task = "caption"

[[phases.mixture]]
source = "nano/scene"
task = "detect"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(VALID)
    return file


def test_a_recipe_loads(recipe) -> None:
    loaded = load_recipe(recipe)
    assert (loaded.name, loaded.samples, loaded.optimizer.betas) == ("tiny", 400, (0.9, 0.95))
    assert [line.name for line in loaded.phases[0].mixture] == ["caption@nano/single", "detect@nano/scene"]


def test_bad_samples_are_allowed_by_number_or_by_share(recipe) -> None:
    assert load_recipe(recipe, ["max_bad=7"]).bad_limit(10**9) == 7
    share = load_recipe(recipe, ["max_bad=0.001"])
    assert share.bad_limit(10**9) == 10**6
    assert share.bad_limit(4) == FEW  # the first bad one is no end
    assert load_recipe(recipe, ["max_bad=0"]).bad_limit(10**9) == 0


def test_overrides_reach_everywhere(recipe) -> None:
    loaded = load_recipe(
        recipe,
        [
            "batch=8",
            "model.preset=mini",  # a bare word
            'model.init={ vit = "run" }',
            "optimizer.betas=[0.8, 0.9]",
            "phases.0.mixture.1.weight=0.5",
            "phases.0.mixture.1.options.min_objects=2",
            "name=a=b",
        ],
    )
    assert (loaded.batch, loaded.model.preset, loaded.name) == (8, "mini", "a=b")
    assert loaded.model.init == {"vit": "run"}
    assert loaded.optimizer.betas == (0.8, 0.9)
    assert [line.weight for line in loaded.phases[0].mixture] == [1.0, 0.5]
    assert loaded.phases[0].mixture[1].options == {"min_objects": 2}


def test_scale_shortens_in_whole_batches(recipe) -> None:
    loaded = load_recipe(recipe, ["scale=0.1", "batch=8"])
    assert (loaded.samples, loaded.optimizer.warmup, loaded.optimizer.cooldown) == (40, 4, 2)
    assert load_recipe(recipe, ["scale=1e-9"]).samples == 4
    assert load_recipe(recipe, ["scale=1e-9", "optimizer.schedule=rsqrt"]).optimizer.warmup == 1
    shortest = load_recipe(recipe, ["scale=1e-9", "batch=1"])
    assert (shortest.samples, shortest.optimizer.warmup, shortest.optimizer.cooldown) == (1, 1, 0)


def test_scale_shortens_the_schedule_of_a_phase(recipe) -> None:
    own = ["phases.0.lr=2e-3", "phases.0.warmup=40", "phases.0.cooldown=200"]
    [schedule] = load_recipe(recipe, [*own, "scale=0.1"]).schedules
    assert (schedule.spec.lr, schedule.spec.warmup, schedule.spec.cooldown) == (2e-3, 4, 20)
    assert schedule.samples == 40


def test_pages_need_no_task(recipe) -> None:
    plain = ['phases.0.mixture=[{ source = "pages/pdf@2" }]', "objective=find"]
    loaded = load_recipe(recipe, plain)
    assert [entry.name for entry in loaded.phases[0].mixture] == ["pages/pdf@2"]


def test_every_recipe_that_ships_has_a_hash() -> None:
    assert set(SHIPPED) == HASHES.keys()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_recipes_that_ship_resolve_to_the_runs_that_they_describe(name) -> None:
    """Hashes were recorded before recipes could extend each other. A recipe changed on purpose gets a new one."""
    raw = load_recipe(RECIPES / f"{name}.toml").model_dump(mode="json")
    raw["keep"] = raw["keep"] or 2  # which 0 means since
    added = ("evals", "keep_best", "softmax", "regions", "dense", "sides")
    for later in added:  # keys since then
        if not raw.get(later):
            raw.pop(later, None)
    for phase in raw["phases"]:
        for later in ("tokens", "lr", "warmup", "cooldown"):
            if not phase[later]:
                del phase[later]
    for later in ("dialect", "knows", "resize", "filter", "padding", "text_normalisation"):
        if not raw["model"].get(later):
            raw["model"].pop(later, None)
    for evaluation in raw.get("evals", ()):
        if not evaluation["task"]:
            for later in ("task", "options", "task_options"):
                del evaluation[later]
    if not raw["model"]["lora"]["rank"]:
        del raw["model"]["lora"]
    resolved = json.dumps(raw, sort_keys=True)
    assert hashlib.sha256(resolved.encode()).hexdigest() == HASHES[name]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_resolved_recipe_reads_back_from_toml_and_json(name) -> None:
    recipe = load_recipe(RECIPES / f"{name}.toml")
    assert parse_recipe(tomllib.loads(as_toml(recipe.model_dump()))) == recipe
    assert read_record(recipe.model_dump_json()) == recipe


def test_toml_is_written_with_quotes_where_they_are_needed() -> None:
    table = {
        "text": 'a "b"\n\x7f\u00fc',
        "none": "",
        "large": 1_000_000,
        "small": 1e-05,
        "flag": True,
        "pairs": [[1, 2], ["a", {"b.c": 0.5, "d": {}}]],
        "inner": {"vit.positions": 0.1, "": "all", "deeper": {"x": 1}},
        "lines": [{"a": 1, "b": [{"c": 2}, {"c": 3}]}, {"a": 4}],
    }
    text = as_toml(table)
    assert tomllib.loads(text) == {key: value for key, value in table.items() if key != "none"}
    assert "large = 1_000_000\n" in text
    assert "[[lines.b]]" in text
    assert "deeper = { x = 1 }" in text


# ---- extends, entries and mixtures


def test_a_recipe_extends_another(recipe, tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "middle.toml").write_text('extends = "../tiny.toml"\n[optimizer]\nlr = 2e-3\nclip = 0.5\n')
    child = tmp_path / "child.toml"
    child.write_text('extends = "sub/middle.toml"\nname = "child"\nbatch = 8\n[optimizer]\nclip = 0.25\n')
    loaded, base = load_recipe(child, ["optimizer.warmup=8"]), load_recipe(recipe)
    assert (loaded.name, loaded.batch) == ("child", 8)
    spec = loaded.optimizer
    assert (spec.lr, spec.clip, spec.warmup, spec.schedule) == (2e-3, 0.25, 8, "constant")
    assert loaded.phases == base.phases


def test_tables_merge_and_everything_else_is_replaced() -> None:
    base = {"a": 1, "table": {"x": 1, "y": {"z": 1}}, "list": [1, 2], "other": {"x": 1}}
    changes = {"a": 2, "table": {"y": {"w": 2}, "v": 3}, "list": [3], "other": "text", "new": {}}
    table = {"x": 1, "y": {"z": 1, "w": 2}, "v": 3}
    assert merge(base, changes) == {"a": 2, "table": table, "list": [3], "other": "text", "new": {}}
    assert base["table"] == {"x": 1, "y": {"z": 1}}


def test_files_that_cannot_be_extended(recipe, tmp_path) -> None:
    for name, base in (("a", "b.toml"), ("b", "./c.toml"), ("c", "a.toml"), ("self", "self.toml")):
        (tmp_path / f"{name}.toml").write_text(f'extends = "{base}"\n')
    for name in ("a", "self"):
        with pytest.raises(ValueError):
            load_recipe(tmp_path / f"{name}.toml")
    recipe.write_text('extends = "nowhere.toml"\n' + VALID)
    with pytest.raises(FileNotFoundError, match=r"tiny.toml.*\S*nowhere.toml"):
        load_recipe(recipe)


NAMED = """
[entries.caption]
source = "nano/single"
task = "caption"

[entries.detect]
source = "nano/scene"
task = "detect"
options = { min_objects = 1 }

[mixtures.both]
detect = 0.25
caption = 1

[mixtures.one]
caption = 2.0
"""


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """The recipe with three phases: a mixture by name, a table of weights, and a list."""
    (tmp_path / "entries.toml").write_text(NAMED)
    head, _, first = VALID.partition("[[phases]]")
    phase = "[[phases]]\nsamples = 400\nsize = 72\n"
    file = tmp_path / "named.toml"
    file.write_text(
        f'extends = "entries.toml"\n{head}{phase}mixture = "both"\n'
        f"{phase}[phases.mixture]\ncaption = 0.5\ndetect = 0.1\n[[phases]]{first}"
    )
    return file


def weights_of(recipe: Any) -> list[list[tuple[str, float]]]:
    return [[(line.task, line.weight) for line in phase.mixture] for phase in recipe.phases]


def test_mixtures_by_name_keep_the_order_in_which_they_are_written(named) -> None:
    loaded = load_recipe(named)
    assert weights_of(loaded) == [
        [("detect", 0.25), ("caption", 1.0)],
        [("caption", 0.5), ("detect", 0.1)],
        [("caption", 1.0), ("detect", 1.0)],
    ]
    assert loaded.phases[0].mixture[0].options == loaded.phases[1].mixture[1].options == {"min_objects": 1}
    assert not {"entries", "mixtures", "extends"} & loaded.model_dump().keys()


def test_overrides_reach_mixtures_by_name_and_by_place(named) -> None:
    loaded = load_recipe(
        named,
        [
            "mixtures.both.caption=3",
            "entries.caption.source=nano/scene",
            "phases.0.mixture.0.options.min_objects=2",  # of this phase alone
            "phases.2.mixture=one",
        ],
    )
    assert weights_of(loaded) == [
        [("detect", 0.25), ("caption", 3.0)],
        [("caption", 0.5), ("detect", 0.1)],
        [("caption", 2.0)],
    ]
    first, second, third = (phase.mixture for phase in loaded.phases)
    assert first[1].source == third[0].source == "nano/scene"
    assert (first[0].options, second[1].options) == ({"min_objects": 2}, {"min_objects": 1})


def test_the_documents_example_resolves(tmp_path) -> None:
    text = (RECIPES.parent / "docs" / "recipes.md").read_text("utf-8")
    child, base, rates = re.findall(r"```toml\n(.*?)```", text, re.S)
    (tmp_path / "base.toml").write_text(base)
    (tmp_path / "child.toml").write_text(child)
    loaded = load_recipe(tmp_path / "child.toml", ["phases.1.mixture.0.weight=2", "phases.0.samples=640"])
    assert weights_of(loaded) == [[("ocr", 0.8), ("caption", 0.2)], [("detect", 2.0), ("caption", 0.25)]]
    assert (loaded.optimizer.lr, loaded.optimizer.warmup) == (5e-4, 640)
    assert weights_of(load_recipe(tmp_path / "child.toml", ["phases.1.mixture=reading"]))[1][0] == ("ocr", 0.8)
    (tmp_path / "rates.toml").write_text(f'extends = "child.toml"\n{rates}')
    assert [(each.spec.lr, each.end) for each in load_recipe(tmp_path / "rates.toml").schedules] == [
        (1.2e-3, 153_600),
        (5e-4, 256_000),
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("phases.0.mixture=bith", r"phases.0.mixture: .*mixtures.bith \(nearest: both\)"),
        ("phases.1.mixture={ captoin = 1 }", r"phases.1.mixture: .*entries.captoin \(nearest: caption"),
        ("phases.1.mixture={ caption = true }", "phases.1.mixture.0.weight = true"),
        ("mixtures.both.detect=0", "mixtures.both.detect = 0"),
        ("entries.caption.sorce=x", r"unknown key entries.caption.sorce; did you mean 'source'"),
        ("entries.caption.task=1", "entries.caption.task = 1 must be a valid string"),
        ("entries.new.task=ocr", "entries.new.source is missing"),
    ],
)
def test_mistakes_in_mixtures_are_named(override, message, named) -> None:
    with pytest.raises(ValueError, match=message):
        load_recipe(named, [override])


# ---- options of objectives


def test_each_objective_has_its_own_options(recipe) -> None:
    loaded = load_recipe(recipe)
    assert isinstance(loaded, SequenceRecipe)
    assert (loaded.max_target, loaded.model.dropout) == (64, 0.0)
    assert not hasattr(loaded, "keep_case")
    pairs = load_recipe(recipe, ["objective=siglip", "keep_case=true", "model.bias=-4.0"])
    assert isinstance(pairs, SiglipRecipe)
    assert (pairs.keep_case, pairs.model.bias, pairs.model.temperature) == (True, -4.0, 10.0)
    assert not hasattr(pairs, "max_target")


def test_records_with_keys_that_this_version_does_not_have_are_refused(recipe) -> None:
    raw = load_recipe(recipe).model_dump(mode="json")
    for record in (json.dumps(raw | {"xyzzy": 1}), json.dumps(raw)[:-9]):
        with pytest.raises(ValueError):
            read_record(record)


# ---- mistakes


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # unknown keys
        ("bach=8", r"key bach \(nearest: batch\)"),
        ("optimizer.wieght_decay=1", r"key optimizer.wieght_decay \(nearest: optimizer.weight_decay\)"),
        ("phases.0.mixture.1.weigth=2", r"key phases.0.mixture.1.weigth \(nearest: phases.0.mixture.1.weight\)"),
        ("lr=1e-4", r"key lr \(nearest: optimizer.lr\)"),
        ("optimizer.learning_rate=1", r"key optimizer.learning_rate; optimizer has betas, clip, .* lr, "),
        ("weight=1", r"key weight \(nearest: phases.0.mixture.0.weight\)"),
        ("dropuot=0.1", r"key dropuot \(nearest: model.dropout\)"),
        ("extend=base.toml", r"key extend \(nearest: extends\)"),
        ("xyzzy=1", "key xyzzy; a recipe has batch, .*, z_loss$"),
        # wrong types and values
        ('name=""', "name"),
        ("name=..", "name"),
        ("name=mine/../../other", "name"),
        (r"name='a\b'", "name"),
        ("max_bad=1.5", "max_bad"),
        ("max_bad=many", "max_bad"),
        ('batch="8"', 'batch = "8"'),
        ("batch=0", "batch = 0"),
        ("optimizer.lr=inf", "optimizer.lr = inf"),
        ("optimizer.lr_scale={ vit = -1.0 }", "optimizer.lr_scale.vit = -1.0"),
        ("optimizer.betas=[0.9, 1.0]", "optimizer.betas.1 = 1.0"),
        ("optimizer.schedule=cosin", "optimizer.schedule .*'cosine', 'linear', 'rsqrt' or 'constant'"),
        ("objective=clip", "'siglip', 'classify', 'sequence', 'mask_vqvae'"),
        ("model.init=nano", "model.init"),
        ("phases=[]", "phases"),
        # options of another objective
        ("objective=siglip max_target=96", 'max_target is for objective = "sequence"'),
        ("model.temperature=1.0", 'model.temperature is for objective = "siglip"'),
        ("objective=siglip label_smoothing=0.1", 'label_smoothing is for objective = "classify" or "sequence"'),
        # impossible combinations
        ("micro=3", "micro = 3"),
        ("optimizer.qk_clip=4 parallel.shard=full", "optimizer.qk_clip .*parallel.shard"),
        ("phases.0.samples=402", r"phases.0.samples = 402 .*take 404 \(or 400\)$"),
        ("optimizer.warmup=0 optimizer.schedule=rsqrt", "optimizer.warmup"),
        ("optimizer.schedule=cosine", "remove optimizer.cooldown"),
        ("optimizer.warmup=390", r"optimizer.warmup \+ optimizer.cooldown = 410"),
        ("objective=mask_vqvae parallel.compile=true", "remove the parallel table"),
        (
            'objective=read phases.0.size=32x192 phases.0.mixture=[{source="a.tar"}] parallel.shard=full',
            'set parallel.shard = "none"',
        ),
        ("objective=siglip micro=2", "micro = 1"),
        ("objective=siglip dense=true", "set regions"),
        ("objective=siglip regions=1 sides=1", "set dense = true"),
        ("objective=mask_vqvae micro=2", "micro = 1"),
        ("objective=mask_vqvae ema=0.9", "ema = 0"),
        ("phases.0.warmup=40", "set its lr"),
        ("phases.0.lr=1e-3 phases.0.cooldown=404", r"phases\.0\.warmup \+ phases\.0\.cooldown = 404"),
        ("phases.0.lr=1e-3 optimizer.schedule=rsqrt", r"set phases\.0\.warmup"),
        ('phases.0.mixture.1.task=""', r"phases\.0\.mixture\.1\.task is missing"),
        ("objective=find", r"phases\.0\.mixture\.0: .* remove task"),
        # several at once
        ("batch=-1 micro=-1 model.presett=x", "tiny.toml: batch = -1 .*; micro = -1 .*; .* model.presett"),
        # overrides
        ("batch", "'batch' is not an override: write key=value"),
        ("phases.1.size=48", "override phases.1.size"),
        ("phases.7=1", "override phases.7"),
        ("batch.size=1", "override batch.size"),
        ("scale=half", "scale = half"),
        ("entries=3", "entries.NAME"),
        ("=3", "unknown key"),
    ],
)
def test_mistakes_are_named(override, message, recipe) -> None:
    spaced = "=" in override and (" = " in override or ", " in override)
    with pytest.raises(ValueError, match=message):
        load_recipe(recipe, [override] if spaced else override.split(" "))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            VALID.replace("lr = 1e-3", "").replace('source = "nano/scene"', "").encode(),
            "optimizer.lr is missing; phases.0.mixture.1.source is missing$",
        ),
        (VALID.replace('objective = "sequence"', "").encode(), "objective is missing"),
        (f"extends = [1]\n{VALID}".encode(), "extends"),
        (b'extends = "base.toml"\n[[phases]]\nsamples = 80\nsize = 48\nmixture = []\n', "phases.0.mixture"),
        (b"name = ", ""),
        (b"\xff\xfe", ""),
        (b"name = " + b"[" * 5000, ""),
    ],
    ids=["keys", "objective", "extends", "mixture", "value", "encoding", "depth"],
)
def test_a_mistake_in_a_file_is_named_with_the_file(content, message, recipe) -> None:
    (recipe.parent / "base.toml").write_text(VALID)
    recipe.write_bytes(content)
    with pytest.raises(ValueError, match=f"tiny.toml.*{message}"):
        load_recipe(recipe)


@pytest.mark.usefixtures("recipe")
def test_recipes_that_are_not_found(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, instead in (
        ("tyny.toml", r"did you mean tiny\.toml\?"),
        ("tiny", r"did you mean tiny\.toml\?"),
        ("other.toml", r"beside it: tiny\.toml"),
        ("vqa", "`openpali explain --source vqa > vqa.toml` writes it"),
        ("nano/3_video", "`openpali explain --source nano/3_video > 3_video.toml` writes it"),
    ):
        with pytest.raises(FileNotFoundError, match=rf"^no recipe {name}; {instead}$"):
            load_recipe(Path(name))
