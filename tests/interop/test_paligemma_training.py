"""PaliGemma through an ordinary recipe: the loss of transformers' class, and the trainer's promises."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import PaliGemmaForConditionalGeneration

from openpali.architectures.paligemma import PRESETS, read_paligemma
from openpali.distributed import ALONE
from openpali.model.init import materialise
from openpali.model.losses import cross_entropy
from openpali.train.checkpoint import checkpoints
from openpali.train.load import load_recipe, parse_recipe
from openpali.train.objectives.registry import build_objective
from openpali.train.recipe import Recipe
from openpali.train.start import inherit
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer
from openpali.weights.convert import convert
from openpali.weights.export import export
from openpali.weights.format import open_model
from openpali.weights.transplant import transplant
from typed_commands import run_typed

from . import checkpoints as public
from .test_mask_codec import arrays as mask_codec_arrays


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny PaliGemma 2 of random weights; beside it the folder that it was made of."""
    folder = tmp_path_factory.mktemp("base")
    public.paligemma(folder / "theirs", vocab_size=1600)
    (folder / "theirs" / "tokenizer.model").write_bytes(public.gemma_proto())
    convert([folder / "theirs"], folder / "pg")
    return folder / "pg"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with (tmp_path / "mine.jsonl").open("w") as file:
        for i, answer in enumerate(("a dog", "two blue stars", "red", "a red circle on the table")):
            Image.fromarray(np.full((8, 8, 3), 60 * i, np.uint8)).save(tmp_path / f"{i}.png")
            found = {"name": answer, "mask": [[1, 1, 6, 1, 6, 6, 1, 6]]}
            line = {"images": [f"{i}.png"], "question": "What is it?", "answers": [answer], "objects": [found]}
            file.write(json.dumps({**line, "expression": answer, "referred": [0]}) + "\n")
    return tmp_path / "mine.jsonl"


def recipe(base: Path, data: Path, **changes: Any) -> Recipe:
    mine = {"source": str(data), "task": "vqa"}
    raw = {
        "name": "mine",
        "objective": "sequence",
        "batch": 4,
        "micro": 2,
        "workers": 0,
        "precision": "fp32",
        "save_minutes": 1e-9,
        "keep": 10,
        "max_target": 12,
        "ema": 0.5,
        "model": {"init": {"": str(base)}},
        "optimizer": {"lr": 1e-2, "schedule": "constant"},
        "phases": [{"samples": 12, "size": 8, "mixture": [mine]}],
        "evals": [{"name": "held", **mine, "every": 8}],
        "keep_best": "held/loss",
    }
    return inherit(parse_recipe({**raw, **changes}))


def test_the_loss_is_that_of_transformers(base: Path, data: Path) -> None:
    """Of padded rows, in value and gradients; the head's cap and the window are at work."""
    spec = recipe(base, data)
    tokenizer = open_tokenizer(spec.model.tokenizer)
    objective = build_objective(spec, tokenizer)
    transplant(materialise(objective.model), "", str(base), tokenizer)
    prompts, targets = [[21, 22, 23, 24, 25], [26, 27]], [[31, 32, 1], [33, 34, 35, 36, 37, 38, 1]]
    images = torch.randint(0, 256, (2, 1, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    places = pad(targets).flatten().nonzero()[:, 0]
    batch = {"images": images, "prompt": pad(prompts), "target": pad(targets), "places": places}
    losses = objective.losses(batch, objective.weight(batch))
    losses.total.backward()

    theirs = PaliGemmaForConditionalGeneration.from_pretrained(base.parent / "theirs").eval()
    config: Any = objective.config
    rows = [[config.image_token] * 4 + [2, *prompt, config.separator] for prompt in prompts]

    def left_padded(fill: int, parts: list[tuple[list[int], list[int]]]) -> Tensor:
        return torch.tensor([[fill] * (16 - len(a) - len(b)) + a + b for a, b in parts])

    pairs = list(zip(rows, targets, strict=True))
    ids = left_padded(0, pairs)
    labels = left_padded(-100, [([-100] * len(row), target) for row, target in pairs])
    kinds = left_padded(0, [([0] * len(row), [1] * len(target)) for row, target in pairs])
    real = left_padded(0, [([1] * len(row), [1] * len(target)) for row, target in pairs])
    pixels = (images[:, 0].permute(0, 3, 1, 2) / 127.5) - 1
    reference = theirs(input_ids=ids, pixel_values=pixels, attention_mask=real, token_type_ids=kinds, labels=labels)
    reference.loss.backward()
    torch.testing.assert_close(losses.total, reference.loss, rtol=1e-5, atol=0)
    ours, there = objective.model, theirs.model
    layer = there.language_model.layers[1]
    for got, wanted in (
        (ours.project.weight, there.multi_modal_projector.linear.weight),
        (ours.vit.patch_embed.weight, there.vision_tower.embeddings.patch_embedding.weight),
        (ours.text.embed.weight, there.language_model.embed_tokens.weight),
        (ours.text.layers[1].attention.query.weight, layer.self_attn.q_proj.weight),
        (ours.text.layers[1].ff.down.weight, layer.mlp.down_proj.weight),
    ):
        expected = wanted.grad.permute(0, 2, 3, 1).flatten(1) if wanted.ndim == 4 else wanted.grad
        rounding = 1e-4 * float(expected.abs().max())  # small gradients are sums of large ones
        torch.testing.assert_close(got.grad.view_as(expected), expected, rtol=1e-3, atol=rounding)


def pad(rows: list[list[int]]) -> Tensor:
    return torch.tensor([row + [0] * (max(map(len, rows)) - len(row)) for row in rows])


def test_a_capped_loss_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(n, 6, generator=generator, requires_grad=True) for n in (5, 9))
    targets, weights = torch.tensor([0, 3, 8, 1, 1]), torch.rand(5, generator=generator)
    loss, _ = cross_entropy(hidden, head, targets, weights, label_smoothing=0.1, z_loss=1e-2, cap=1.5, chunk=2)
    found = torch.autograd.grad(loss, (hidden, head))
    logits = 1.5 * torch.tanh(hidden @ head.T / 1.5)
    log_p, log_z = logits.log_softmax(-1), logits.logsumexp(-1)
    q = torch.full_like(logits, 0.1 / 8).scatter(1, targets[:, None], 0.9)
    expected = (weights * (-(q * log_p).sum(1) + 1e-2 * log_z**2)).sum()
    torch.testing.assert_close(loss, expected)
    for got, wanted in zip(found, torch.autograd.grad(expected, (hidden, head)), strict=True):
        torch.testing.assert_close(got, wanted)


def train(spec: Recipe, run: Path) -> Trainer:
    return Trainer(spec, run, ALONE, open_tokenizer(spec.model.tokenizer))


def test_a_killed_run_goes_on_bit_for_bit_and_its_model_exports(base: Path, data: Path, tmp_path: Path) -> None:
    spec = recipe(base, data)
    assert (spec.model.filter, spec.model.dialect) == ("bilinear", "paligemma")
    train(spec, tmp_path / "whole").train()
    broken = train(spec, tmp_path / "broken")
    update = broken.optimizer.step

    def die_in_the_third(*_: Any) -> None:
        if broken.step == 2:
            raise KeyboardInterrupt
        update()

    broken.optimizer.step = die_in_the_third  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    assert len(checkpoints(tmp_path / "broken")) == 2
    again = train(spec, tmp_path / "broken")
    assert again.step == 2
    again.train()
    whole, resumed = (open_model(tmp_path / run / "model") for run in ("whole", "broken"))
    before, after, started = whole.weights(), resumed.weights(), open_model(base).weights()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(torch.equal(before[key], started[key]) for key in before)
    assert whole.preprocess == open_model(base).preprocess
    assert open_model(tmp_path / "whole" / "best").kind == "paligemma"
    export(whole, tmp_path / "exported")
    back = read_paligemma(tmp_path / "exported")
    assert all(torch.equal(back.weights[key], before[key]) for key in before)


def test_the_way_with_an_adapter_runs(
    base: Path,
    world_with_vocabulary: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every command of that section of docs/finetune.md, on the tiny model, also for the size that it names."""
    root = Path(__file__).parents[2]
    section = (root / "docs" / "finetune.md").read_text("utf-8").partition("## With an adapter")[2]
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("openpali ")]
    assert [line.split()[1] for line in lines] == [
        "convert", "quantize", "explain", "plan", "train", "eval", "predict", "export",
        "explain", "train", "predict", "explain", "train", "predict", "plan", "explain",
    ]  # fmt: skip
    monkeypatch.setitem(PRESETS, "paligemma2-3b", open_model(base).config)
    np.savez(tmp_path / "vae-oid.npz", **mask_codec_arrays())
    shutil.copytree(base.parent / "theirs", tmp_path / "paligemma2-3b-pt-224")
    for part in ("train", "validation", "test"):
        shutil.copy(data, tmp_path / f"mine-{part}.jsonl")
    (tmp_path / "images").mkdir()
    shutil.copy(tmp_path / "0.png", tmp_path / "images" / "00000.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("openpali.reports.curves.draw_curves", lambda *_: None)  # takes most of the time
    monkeypatch.setattr("openpali.reports.samples.draw_samples", lambda *_: None)
    short = ["batch=2", "workers=0", "phases.0.samples=4", "phases.0.size=8", "optimizer.warmup=0", "max_target=40"]
    for line in lines:
        run_typed(line, monkeypatch, capsys, {"train": [*short, "evals.0.limit=1"], "plan": short})
    small, best = open_model(Path("models/small/pali")), world_with_vocabulary / "runs" / "mine-lora" / "best"
    assert small.int8
    assert open_model(best).adapter is not None
    assert open_model(Path("models/merged")).adapter is None
    assert Path("found.png").is_file()


PUBLISHED = {  # task: pixels, learning rate, weight decay in big_vision's convention, epochs, examples, batch
    "cococap": (448, 1e-5, 1e-6, 5, 113_287, 256),
    "vqav2": (448, 1e-5, 0, 10, 647_871, 256),
    "okvqa": (448, 5e-6, 0, 10, 9_009, 128),
    "textvqa": (896, 3e-6, 0, 10, 34_602, 256),
    "tallyqa": (448, 1e-5, 1e-6, 2, 249_318, 256),
    "docvqa": (896, 1e-5, 1e-6, 10, 39_463, 256),
    "infovqa": (896, 3e-6, 3e-7, 3, 23_946, 32),
    "chartqa": (448, 1e-5, 1e-6, 30, 28_299, 256),
    "refcoco_seg": (448, 1e-5, 0, 100, 24_400, 256),
}
FROM_MEMORY = {"okvqa", "textvqa", "tallyqa", "docvqa"}  # sizes of data sets without a source that was read


def test_the_published_transfers_are_recipes(base: Path, data: Path, tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "recipes" / "transfer" / "paligemma"
    assert {path.stem for path in folder.glob("*.toml")} == PUBLISHED.keys()
    for name, (size, lr, decay, epochs, examples, batch) in PUBLISHED.items():
        spec = load_recipe(folder / f"{name}.toml", ['model.preset="x"', 'model.tokenizer="x"'])
        [phase], optimizer = spec.phases, spec.optimizer
        assert (phase.size, optimizer.lr, spec.batch) == (size, lr, batch)
        assert optimizer.lr * optimizer.weight_decay == pytest.approx(decay)
        assert 0 <= phase.samples - epochs * examples < batch
        told = "from memory" in (folder / f"{name}.toml").read_text()
        assert told == (name in FROM_MEMORY)
        assert optimizer.warmup == pytest.approx(0.05 * phase.samples, abs=1)
        assert spec.model.start == f"hf://google/paligemma-3b-pt-{size}"
    short = [f'model.init={{"" = "{base}"}}', "batch=2", "phases.0.samples=2", "phases.0.size=8", "workers=0"]
    short += [f'phases.0.mixture.0.source="{data}"', "optimizer.warmup=0"]
    one = inherit(load_recipe(folder / "vqav2.toml", short))
    written = train(one, tmp_path / "run").train()
    assert open_model(written).preprocess.filter == "bilinear-antialias"


def test_what_a_gemma_has_not_is_refused(base: Path, data: Path) -> None:
    spec = recipe(base, data, model={"init": {"": str(base)}, "dropout": 0.1})
    with pytest.raises(ValueError, match="has no dropout"):
        build_objective(spec, open_tokenizer(str(base)))
