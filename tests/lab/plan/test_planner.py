"""The planner against measured steps, and the paper's model sharded over fake ranks."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import planner
from openpali.architectures.pali import PRESETS
from openpali.architectures.registry import build, presets
from openpali.architectures.siglip.architecture import PRESETS as SIGLIP
from openpali.architectures.siglip.network import SigLIP
from openpali.cli.main import main
from openpali.data.media.images import Preprocess
from openpali.distributed import ALONE
from openpali.messages import duration
from openpali.model.init import materialise
from openpali.tasks.registry import get_task
from openpali.train.load import load_recipe, parse_recipe
from openpali.train.objectives.base import Lengths
from openpali.train.objectives.sequence import SequenceRecipe
from openpali.train.parallel import blocks_of
from openpali.train.recipe import ParallelSpec, Recipe
from openpali.train.step import TrainStep, weights_of
from openpali.weights.format import open_model
from openpali.weights.quantize import write_int8
from openpali.weights.write import write_model
from openpali_lab.plan.ledger import Ledger, simulated
from openpali_lab.plan.planner import (
    DEVICES,
    ROOM,
    Accountant,
    StepCosts,
    _suggest,
    build_without_data,
    find_device,
    make_plan,
    place_on_ranks,
    rehearse,
)
from openpali_lab.sizes import count_parameters, flops_per_image
from planner import HERE, recipe_of

RECIPES = Path(__file__).parents[3] / "recipes"


def native(objective: str = "siglip") -> Recipe:
    """A recipe whose images keep their proportions."""
    raw = recipe_of(objective).model_dump()
    raw["phases"][0] |= {"size": "", "tokens": 40}
    return parse_recipe(raw)


def smallest(recipe: Recipe) -> Recipe:
    """The recipe for the smallest model, of which a step is rehearsed soonest."""
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"preset": "pico"})})


def step_of(recipe: Recipe, dtype: torch.dtype = torch.float32) -> TrainStep:
    """The recipe's real step, on one rank."""
    return TrainStep(recipe, build_without_data(recipe, recipe.phases[0], "cpu"), ALONE, dtype)


def measure(folder: Path, shapes: Sequence[str]) -> None:
    """Compare predicted and measured memory and FLOPs of each shape."""
    file = folder / "planner.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENPALI_HOME", str(folder))
        patch.setattr(sys, "argv", [planner.__file__, "--json", str(file), "--shapes", *shapes])
        planner.main()  # which measures in a process of its own
    ratios = {result["name"]: result["ratio"] for result in json.loads(file.read_text())["results"]}
    assert ratios.keys() == {f"{name}: {what}" for name in shapes for what in ("memory", "FLOPs")}
    for name in shapes:
        assert ratios[f"{name}: memory"] == pytest.approx(1, rel=0.1), name
        assert ratios[f"{name}: FLOPs"] == pytest.approx(1, rel=0.02), name


SOME = ("sequence",)


def test_predictions_match_measurements(tmp_path: Path) -> None:
    measure(tmp_path, SOME)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_so_they_do_for_every_other_shape(tmp_path: Path) -> None:
    measure(tmp_path, [name for name in planner.SHAPES if name not in SOME])


@pytest.mark.parametrize(
    ("ranks", "shard", "cut", "layers"),
    [
        pytest.param(64, "hybrid", 8, None, marks=pytest.mark.slow),
        pytest.param(24, "full", 24, None, marks=pytest.mark.slow),
        (24, "full", 24, 2),  # of each kind
    ],
)
def test_the_papers_model_is_sharded_evenly(
    ranks: int, shard: str, cut: int, layers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = 5.59e9
    if layers:
        whole = PRESETS["pali3-5b"]
        text = replace(whole.text, encoder_layers=layers, decoder_layers=layers)
        less = replace(whole, vision=replace(whole.vision, depth=layers), text=text)
        monkeypatch.setitem(PRESETS, "pali3-5b", less)
        parameters = sum(count_parameters(less).values())
    recipe = load_recipe(RECIPES / "5b" / "1_multimodal.toml", [f"parallel.shard={shard}", 'model.frozen=["vit"]'])
    ledger = Ledger(8, 1)
    objective = build_without_data(recipe, recipe.phases[0], "meta")
    with simulated(ledger, cuda=True, world=ranks):
        model = place_on_ranks(recipe, objective, torch.bfloat16, ranks, Accountant(ledger)).model
        expected = local = 0
        vectors = {p for block in blocks_of(model) for p in block.parameters() if p.ndim < 2}
        for name, parameter in model.named_parameters():
            rows, *rest = parameter.shape or (1,)
            whole = name == "vit.positions" or parameter in vectors
            expected += 4 * (rows if whole else math.ceil(rows / cut)) * math.prod(rest)
            local += 4 * (parameter if whole else parameter.to_local()).numel()
        held = ledger.totals["weights"]
    assert local == expected
    assert held == pytest.approx(expected, rel=1e-3)  # each sharded bias may have an element of padding
    kept = sum(vector.numel() for vector in vectors)
    share = 4 * ((parameters - kept) / cut + kept)
    assert expected == pytest.approx(share, rel=0.01 if cut == 8 else 0.1)  # 1,664 rows are not divisible by 24
    assert not dist.is_initialized()


def test_no_attribute_of_torch_is_replaced() -> None:
    owners = [(F, "scaled_dot_product_attention"), (F, "layer_norm"), (torch.UntypedStorage, "resize_")]
    before = [getattr(*owner) for owner in owners]
    with simulated(Ledger(8, 1), cuda=True, world=2):
        assert [getattr(*owner) for owner in owners] == before


@pytest.mark.slow
def test_what_sharding_checkpointing_and_micro_batches_save_and_cost() -> None:
    def costs(ranks: int = 1, batch: int = 64, micro: int = 1, **parallel: str):
        raw = recipe_of("sequence").model_dump() | {"batch": batch, "micro": micro, "parallel": parallel}
        raw["phases"][0]["samples"] = batch
        recipe = parse_recipe(raw)
        return rehearse(recipe, recipe.phases[0], DEVICES["h100"], ranks)

    plain = costs()
    full, halves, cut = costs(checkpointing="full"), costs(micro=2), costs(8, 512, shard="full")
    some = costs(checkpointing="selective")
    assert full.memory["activations"] < 0.9 * some.memory["activations"] < 0.81 * plain.memory["activations"]
    assert plain.flops == pytest.approx(some.flops)  # it keeps the results of matmuls
    assert full.memory["activations"] < 0.5 * plain.memory["activations"]
    assert 1.15 * plain.flops < full.flops < 1.34 * plain.flops
    assert halves.memory["activations"] < 0.6 * plain.memory["activations"]
    assert halves.flops == pytest.approx(plain.flops)
    assert cut.flops == pytest.approx(plain.flops)
    assert cut.held < 0.2 * plain.held
    assert plain.sent == {"node": 0, "network": 0}
    # blocks have 5.5M parameters: two all-gathers in bf16 and a reduce-scatter of gradients in float32
    assert cut.sent["node"] > 7 / 8 * 5.5e6 * 8
    assert cut.sent["network"] == 0
    hybrid = costs(16, 1024, shard="hybrid")
    assert 0 < hybrid.sent["network"] < hybrid.sent["node"]


def test_texts_go_around_the_ring_of_ranks() -> None:
    recipe = recipe_of("siglip")
    sent = rehearse(recipe, recipe.phases[0], replace(DEVICES["h100"], node=2), 4).sent
    ring = 4 * 8 * 2 * PRESETS["nano"].vision.width * 4  # hops, rows, texts and their gradients, float32
    gradients = 2 * 3 / 4 * 4 * sum(p.numel() for p in SigLIP(SIGLIP["nano"]).parameters())
    assert sent["network"] == pytest.approx(ring + gradients, rel=0.01)


def test_a_ring_passes_on_the_parts_of_all_other_ranks() -> None:
    part, ledger = torch.zeros(1024), Ledger(8, 1)
    with simulated(ledger, cuda=False, world=8):
        dist.all_gather([torch.empty_like(part) for _ in range(8)], part)
    assert ledger.sent == {"node": 7 * part.nbytes, "network": 0}


def test_a_plan_names_the_most_patches_of_images_that_keep_their_proportions() -> None:
    plan = make_plan(smallest(native()), DEVICES["h100"], 1)
    assert (plan.as_json()["phases"][0]["size"], plan.as_json()["phases"][0]["tokens"]) == ("", 40)
    assert any(line.startswith("  up to 40 patches, 32 rows per rank") for line in plan.lines())


def test_a_plan_names_the_device_of_its_times() -> None:
    plan = make_plan(smallest(recipe_of("siglip")), DEVICES["h100"], 1)
    lines = list(plan.lines())
    assert f"the run: {duration(plan.training)}" in lines
    [times] = [line for line in lines if "all times are those of" in line]
    assert "1 x h100;" in times
    assert "--device cpu" in times


def test_videos_have_the_frames_of_their_sources() -> None:
    raw = recipe_of("sequence").model_dump()
    lines = [("caption", {}), ("video_qa", {"frames": 4}), ("video_caption", {"frames": 2})]
    raw["phases"][0]["mixture"] = [
        {"source": "nano/video", "task": task, "options": options} for task, options in lines
    ]

    def frames(lengths: Lengths) -> int:
        recipe = parse_recipe(raw)
        objective = build_without_data(recipe, recipe.phases[0], "meta")
        return objective.example_batch(recipe.phases[0], 2, lengths)["images"].shape[1]

    assert frames(Lengths()) == 4
    assert frames(Lengths(frames=3)) == 3
    raw["phases"][0]["mixture"][1]["options"] = {}
    assert frames(Lengths()) == 8


def test_a_step_has_three_times_the_flops_of_its_forward_pass() -> None:
    recipe = recipe_of("sequence")
    lengths = Lengths(prompt=16, target=1)
    costs = rehearse(recipe, recipe.phases[0], DEVICES["h100"], 1, lengths)
    assert costs.flops / recipe.batch == pytest.approx(3 * flops_per_image(PRESETS["nano"], prompt=16), rel=0.1)


@pytest.mark.parametrize("objective", ["sequence", "siglip"])
@pytest.mark.parametrize("make", [recipe_of, native], ids=["of one size", "native"])
def test_flops_are_those_that_torch_counts(objective: str, make: Callable[[str], Recipe]) -> None:
    recipe = smallest(make(objective))
    with sdpa_kernel(SDPBackend.MATH):  # torch's counter does not know the CPU's fused kernel
        costs = rehearse(recipe, recipe.phases[0], HERE, 1)
        step = step_of(recipe)
        batch = step.objective.example_batch(recipe.phases[0], recipe.batch, Lengths())
        with FlopCounterMode(display=False) as counter:
            step.run([batch], weight=1.0)
    assert costs.flops == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_average_is_counted_and_updated() -> None:
    plain = smallest(recipe_of("sequence"))
    recipe = plain.model_copy(update={"ema": 0.75})
    with_it, without = (rehearse(r, r.phases[0], HERE, 1).memory["optimizer"] for r in (recipe, plain))
    step = step_of(recipe)
    learning = dict(step.model.named_parameters())
    assert with_it - without >= 4 * sum(p.numel() for p in learning.values())
    before = {name: p.detach().clone() for name, p in learning.items()}
    batch = step.objective.example_batch(recipe.phases[0], 2, Lengths())
    step.run([batch], weight=1.0)
    assert step.average.keys() == learning.keys()
    for name, average in step.average.items():
        torch.testing.assert_close(average, 0.75 * before[name] + 0.25 * learning[name])


def test_a_bf16_step_on_a_cpu_uses_eager_attention() -> None:
    recipe = smallest(recipe_of("sequence"))
    step = step_of(recipe, torch.bfloat16)
    batch = step.objective.example_batch(recipe.phases[0], 2, Lengths())
    with torch.profiler.profile() as seen:
        step.run([batch], weight=1.0)
    assert not [event.key for event in seen.key_averages() if "scaled_dot_product" in event.key]


def with_batch(recipe: Recipe, batch: int) -> Recipe:
    """The recipe for one step of another batch."""
    [phase] = recipe.phases
    return recipe.model_copy(update={"batch": batch, "phases": [phase.model_copy(update={"samples": batch})]})


@pytest.mark.slow
def test_a_recipe_that_does_not_fit_gets_settings_that_do() -> None:
    recipe = recipe_of("sequence")
    small = replace(DEVICES["h100"], memory=0.2e9)
    plan = make_plan(with_batch(recipe, 32), small, 1)
    assert not plan.fits
    assert plan.suggestion
    assert all(phase.costs.peak <= 0.9 * small.memory for phase in plan.suggested)
    assert "does not fit; this does" in "\n".join(plan.lines())
    assert make_plan(recipe, replace(small, memory=1e6), 1).suggestion is None


def test_a_model_that_fits_on_each_device_is_not_sharded() -> None:
    recipe = with_batch(smallest(recipe_of("sequence")), 64)
    recipe = recipe.model_copy(update={"parallel": ParallelSpec(shard="full")})
    small = replace(DEVICES["h100"], memory=20e6)
    found = _suggest(recipe, small, 2, Lengths())
    assert found is not None
    assert found.parallel.shard == "none"
    assert found.micro > recipe.micro
    clipped = smallest(recipe_of("micro-batches, Muon and QK-clip"))  # cannot be sharded
    assert _suggest(clipped, replace(small, memory=1e6), 2, Lengths()) is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_papers_largest_images_fit_on_64_devices() -> None:
    recipe = load_recipe(RECIPES / "5b" / "2c_resolution.toml")
    [phase] = recipe.phases
    assert rehearse(recipe, phase, DEVICES["h100"], 64).peak < ROOM * DEVICES["h100"].memory


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError):
        find_device("h10", 1)
    recipe = recipe_of("sequence")
    with pytest.raises(ValueError, match="leaves no row for each of 64 devices"):
        rehearse(recipe, recipe.phases[0], HERE, 64)


def test_nodes_that_are_not_full_share_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = with_batch(smallest(recipe_of("sequence")), 12)
    hybrid = recipe.model_copy(update={"parallel": ParallelSpec(shard="hybrid")})
    with pytest.raises(ValueError, match="12 ranks are not divisible by 8 per node"):
        rehearse(hybrid, hybrid.phases[0], DEVICES["h100"], 12)
    tried: list[str] = []

    def too_much(recipe: Recipe, *_: object) -> StepCosts:
        tried.append(recipe.parallel.shard)
        return StepCosts({"weights": 10**12}, 0, 0, {}, 1)

    monkeypatch.setattr("openpali_lab.plan.planner.rehearse", too_much)
    assert _suggest(recipe, DEVICES["h100"], 12, Lengths()) is None
    assert set(tried) == {"none", "full"}


@pytest.mark.parametrize(("precision", "flops"), [("fp32", 19.5e12), ("auto", 312e12)])
def test_a_step_takes_the_time_of_its_precision(precision: str, flops: float) -> None:
    recipe, device = smallest(recipe_of("sequence")), replace(DEVICES["a100-80"], bandwidth=math.inf)
    plan = make_plan(recipe.model_copy(update={"precision": precision}), device, 1, efficiency=0.5)
    [phase] = plan.phases
    assert phase.seconds == pytest.approx(phase.costs.flops / (0.5 * flops))
    name = "fp32" if precision == "fp32" else "bf16"
    assert f"matmuls at 50% of {flops / 1e12:g} TFLOP/s ({name})" in plan.assumptions


@pytest.mark.parametrize("name", ["paligemma2-3b", "t5gemma2-270m"])
def test_a_size_needs_neither_checkpoint_nor_tokenizer(name: str) -> None:
    changes = [f"model.preset={name}", "model.tokenizer=later", 'model.init={"" = "later"}']
    recipe = load_recipe(RECIPES / "transfer" / "paligemma" / "vqav2.toml", changes)
    model = build_without_data(recipe, recipe.phases[0], "meta").model
    expected = sum(count_parameters(presets()[name]).values())  # with positions of another resolution
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(expected, rel=1e-2)
    pairs = load_recipe(RECIPES / "nano" / "0a_siglip.toml", changes)
    with pytest.raises(ValueError, match="not a model that objective = siglip trains"):
        build_without_data(pairs, pairs.phases[0], "meta")


def test_the_command_prints_plans(capsys, monkeypatch) -> None:
    recipe = str(RECIPES / "nano" / "0a_siglip.toml")
    phases = ", ".join(f"{{samples={samples}, size=72, mixture={{english=1.0}}}}" for samples in (25_600, 102_400))
    for extra in ([], ["--json"]):
        command = ["openpali", "plan", recipe, "model.preset=pico", f"phases=[{phases}]", "--device", "a100-40"]
        command += extra
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
    shown = capsys.readouterr()
    assert shown.err.startswith("rehearsing a step at 72 px\n")
    text, _, printed = shown.out.partition("{")
    assert "nano/0a_siglip: " in text
    assert "fits as it is" in text
    assert "assumed: " in text
    found = json.loads("{" + printed)["phases"]
    assert [phase["steps"] for phase in found] == [400, 1600]
    for phase in found:
        kinds = [size for kind, size in phase["memory"].items() if kind not in ("all", "between_steps")]
        assert phase["memory"]["all"] == sum(kinds)


@pytest.mark.parametrize("path", sorted((RECIPES / "5b").glob("*.toml")), ids=lambda path: path.stem)
def test_the_papers_recipes_are_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == f"5b/{path.stem}"
    patch = PRESETS[recipe.model.preset].vision.patch_size
    tools, origins = {}, [*recipe.model.init.values()]
    if isinstance(recipe, SequenceRecipe):
        limits = {"max_inputs": recipe.max_prompt, "max_targets": recipe.max_target - 1}
        tools = {"denoise": {"tokenizer": None, **limits}}
        origins += filter(None, [recipe.model.masks])
    for phase in recipe.phases:
        assert phase.pixels.height % patch == 0
        for line in phase.mixture:
            get_task(line.task, **{**line.task_options, **tools.get(line.task, {})})
    assert all((RECIPES / f"{origin}.toml").is_file() for origin in origins)
    comments = path.read_text()
    assert all(mark in comments for mark in ("[paper]", "[kin]", "[ours]"))


def test_objectives_whose_shapes_depend_on_their_data_are_refused() -> None:
    for name in ("elements", "read"):
        recipe = smallest(load_recipe(RECIPES / "pages" / f"{name}.toml"))
        with pytest.raises(ValueError, match="depend on their data"):
            make_plan(recipe, DEVICES["h100"], 1)


def test_a_plan_counts_quantized_weights(tmp_path: Path) -> None:
    """Of the same model in float32 and int8."""
    config = replace(PRESETS["pico"], text=replace(PRESETS["pico"].text, vocab_size=400))
    weights = materialise(build(config)).state_dict()
    write_model(tmp_path / "wide", weights, config, preprocess=Preprocess(72, 72), tokenizer=None)
    write_int8(open_model(tmp_path / "wide"), tmp_path / "int8")
    wide, int8 = (
        sum(count for *_, count in weights_of(open_model(tmp_path / name).model())) for name in ("wide", "int8")
    )
    assert 0.99 < int8 / wide <= 1  # biases beside int8 weights are buffers, which are not counted
