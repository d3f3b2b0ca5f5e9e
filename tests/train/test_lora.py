"""LoRA in a recipe: what learns, what is written, exact resume, int8 bases, and PEFT's file format."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import assert_same_run, make_recipe, train_and_kill

import openpali.reports.samples as samples_module
import openpali.train.trainer as trainer_module
from openpali.infer.pali import Pali
from openpali.model.int4 import Int4Linear
from openpali.model.int8 import Int8Linear, QuantizedLinear
from openpali.model.lora import LoraConfig, add_lora, find_targets, lora_names
from openpali.reports.samples import draw_samples
from openpali.tensors import write_tensors
from openpali.train.recipe import Recipe
from openpali.train.snapshot import export_checkpoint
from openpali.train.start import inherit
from openpali.train.step import describe_learning
from openpali.train.watch import Watch
from openpali.weights.adapters import Adapter, read_adapter, write_adapter
from openpali.weights.format import open_model, write_merged
from openpali.weights.quantize import write_int4, write_int8

ALWAYS = 1e-9  # minutes between checkpoints
CAPTION = {"source": "nano/single", "task": "caption"}


@pytest.fixture(scope="module")
def base(bundle: Path) -> Path:
    return bundle / "pali"


def lora_recipe(base: Path, /, lora: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    model = {"init": {"": str(base)}, "lora": {"rank": 2, "dropout": 0.1, **(lora or {})}}
    return inherit(
        make_recipe(**{"model": model, "max_target": 32, "optimizer__lr": 1e-2, **changes})  # type: ignore[arg-type]
    )


def test_phases_of_an_adapter_have_one_size(base) -> None:
    """Its checkpoints hold no position embeddings, which each change of size resamples."""
    phase = {"samples": 8, "mixture": [CAPTION]}
    with pytest.raises(ValueError, match="several sizes"):
        lora_recipe(base, phases=[{**phase, "size": 48}, {**phase, "size": 72}])
    lora_recipe(base, phases=[{**phase, "size": 48}, {**phase, "size": 48}])


def test_sizes_of_an_adapter_are_compared_in_pixels(base) -> None:
    phase = {"samples": 8, "mixture": [CAPTION]}
    lora_recipe(base, phases=[{**phase, "size": 72}, {**phase, "size": "72x72"}])


def test_frozen_parts_have_no_changes(base, make_trainer) -> None:
    """A change that never learns would look as if it had."""
    model = make_trainer(lora_recipe(base, lora={"targets": ["query", "text"]}, model__frozen=["vit"])).model
    assert {name.partition(".")[0] for name in lora_names(model)} == {"text"}
    with pytest.raises(ValueError, match=r"'vit', which is no linear layer outside model\.frozen"):
        make_trainer(lora_recipe(base, lora={"targets": ["text", "vit"]}, model__frozen=["vit"]))


def test_a_killed_run_equals_one_that_was_not(base, make_trainer, tmp_path, monkeypatch) -> None:
    """With dropout, an average and the best of its evaluations; the folder holds the adapter alone."""
    monkeypatch.setattr(trainer_module, "LOG_EVERY", 4)
    held = {"name": "held", **CAPTION, "every": 12, "limit": 2}
    recipe = lora_recipe(base, ema=0.5, evals=[held], keep_best="held/loss", save_minutes=ALWAYS, keep=10)
    before = {k: v.clone() for k, v in open_model(base).weights().items()}
    make_trainer(recipe, "whole").train()
    train_and_kill(make_trainer(recipe, "broken"), 4)
    make_trainer(recipe, "broken").train()
    assert_same_run(tmp_path / "broken", tmp_path / "whole")
    written = tmp_path / "whole" / "model"
    files = {"adapter_config.json", "adapter_model.safetensors", "config.json", "tokenizer.model"}
    assert {path.name for path in written.iterdir()} == files
    assert all(torch.equal(before[k], v) for k, v in open_model(base).weights().items())
    changed = {k for k, v in open_model(written).weights().items() if not torch.equal(v, before[k].float())}
    expected = {f"{name}.weight" for name in find_targets(open_model(base).model(), ["text"])}
    assert changed == expected
    stored = read_adapter(written)
    assert (tmp_path / "whole" / "best" / "adapter_config.json").is_file()
    snapshot = export_checkpoint(sorted((tmp_path / "whole" / "checkpoints").iterdir())[-1])
    again = read_adapter(snapshot)
    assert all(torch.equal(again.tensors[k], v) for k, v in stored.tensors.items())


@pytest.mark.parametrize(
    ("write", "kinds"), [(None, set()), (write_int8, {Int8Linear}), (write_int4, {Int4Linear, Int8Linear})]
)
def test_apart_and_merged_are_the_same_model(base, write, kinds, make_trainer, tmp_path, openpali) -> None:
    if write:
        write(open_model(base), tmp_path / "narrow")
        base = tmp_path / "narrow"
    trainer = make_trainer(lora_recipe(base, lora={"targets": ["text", "vit"]}, phases__0__samples=8))
    written = trainer.train()
    [_, frozen] = describe_learning(trainer.recipe, trainer.objective)
    count = sum(weight.numel() for name, weight in open_model(base).weights().items() if name.startswith("text."))
    assert f"text {count:,}" in frozen  # two int4 weights are in a byte
    adapted = open_model(written)
    apart, plain = adapted.model(), adapted.model(plain=True)
    assert {type(module) for module in apart.modules() if isinstance(module, QuantizedLinear)} == kinds
    images = torch.randint(0, 256, (2, 1, 72, 72, 3), dtype=torch.uint8)
    inputs = images, torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[11, 12], [13, 1]])
    torch.testing.assert_close(apart(*inputs), plain(*inputs), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(apart(*inputs), open_model(base).model()(*inputs), rtol=1e-2, atol=1e-2)
    kept = (base / "model.safetensors").read_bytes()
    for out in (base, tmp_path / "merged"):
        openpali("export", written, "--format", "openpali", "--out", out, fails=out == base)  # an input, too
    assert (base / "model.safetensors").read_bytes() == kept
    merged = open_model(tmp_path / "merged")
    assert merged.adapter is None
    for key, value in adapted.weights().items():
        torch.testing.assert_close(merged.weights()[key].float(), value.float(), rtol=1e-2, atol=1e-3)
    [caption] = Pali.from_pretrained(written).caption([images[0, 0].numpy()])
    assert isinstance(caption, str)


def test_images_of_a_run_are_drawn_in_its_precision(base, make_trainer, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(samples_module, "COUNT", 1)
    trainer = make_trainer(lora_recipe(base, precision="bf16"))
    watch = Watch(lambda model: draw_samples(model, trainer.stream, 0, tmp_path / "samples.png"))
    watch.saved(trainer.model, trainer.train_step.dtype)
    assert (tmp_path / "samples.png").is_file()


def test_peft_loads_it_onto_our_model_of_transformers(base, make_trainer, tmp_path) -> None:
    from peft import LoraConfig as Theirs
    from peft import PeftModel, get_peft_model

    from openpali.interop.transformers.modeling import PaliForConditionalGeneration

    written = make_trainer(lora_recipe(base, phases__0__samples=8)).train()
    theirs = PeftModel.from_pretrained(
        PaliForConditionalGeneration.from_pretrained(base, dtype=torch.float32), written
    ).eval()
    images = torch.rand(1, 1, 72, 72, 3) * 2 - 1
    prompt, target = torch.tensor([[5, 6, 7]]), torch.tensor([[0, 11, 12]])
    ours = open_model(written).model()
    expected = ours.logits(ours(images, prompt, torch.tensor([[11, 12, 13]])))
    found = theirs(input_ids=prompt, pixel_values=images.movedim(-1, 2), decoder_input_ids=target).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    fresh = PaliForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    made = get_peft_model(fresh, Theirs(r=3, target_modules=["query", "gate"], init_lora_weights=False))
    made.save_pretrained(tmp_path / "peft")
    model = open_model(tmp_path / "peft").model()
    made.eval()
    expected = made(input_ids=prompt, pixel_values=images.movedim(-1, 2), decoder_input_ids=target).logits
    torch.testing.assert_close(
        model.logits(model(images, prompt, torch.tensor([[11, 12, 13]]))), expected, rtol=1e-4, atol=1e-4
    )
    described = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps({**described, "use_dora": True}))
    with pytest.raises(ValueError):
        open_model(tmp_path / "peft")


def test_a_lost_base_is_named(base, tmp_path, make_trainer) -> None:
    written = make_trainer(lora_recipe(base, phases__0__samples=4)).train()
    file = written / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "gone"}))
    with pytest.raises(FileNotFoundError):
        open_model(written).model()


def test_a_changed_base_is_refused(base, tmp_path, make_trainer) -> None:
    start = tmp_path / "start"
    shutil.copytree(base, start)
    recipe = lora_recipe(start, phases__0__samples=8, save_minutes=ALWAYS)
    train_and_kill(make_trainer(recipe), 2)
    weights = {name: value.clone() for name, value in open_model(start).weights().items()}
    matrix = weights["text.encoder.0.ff.down.weight"]
    write_tensors(start, {**weights, "text.encoder.0.ff.down.weight": matrix + 1e-3})
    with pytest.raises(ValueError, match=r"the model .*start changed since the run began"):
        make_trainer(recipe)
    write_tensors(start, weights)
    make_trainer(recipe).train()


def test_an_adapter_is_not_opened_on_a_changed_base(base, tmp_path, make_trainer) -> None:
    start = tmp_path / "start"
    shutil.copytree(base, start)
    written = make_trainer(lora_recipe(start, phases__0__samples=4, save_minutes=ALWAYS)).train()
    [checkpoint] = (written.parent / "checkpoints").iterdir()
    snapshot, beneath = export_checkpoint(checkpoint), open_model(start).model()
    before = open_model(written).weights()
    weights = {name: value.clone() for name, value in open_model(start).weights().items()}
    write_tensors(start, {**weights, "text.head.weight": weights["text.head.weight"] + 1e-3})
    message = "start has other weights than when the adapter .* remove base_fingerprint from .*config.json"
    for folder in (written, snapshot):
        opened = open_model(folder)
        for read in (
            opened.weights,
            opened.model,
            partial(opened.model, plain=True),
            partial(opened.model, base=beneath),
            partial(write_merged, opened, tmp_path / "merged"),
        ):
            with pytest.raises(ValueError, match=message):
                read()
    described = json.loads((written / "config.json").read_text())
    del described["facts"]["base_fingerprint"]  # as an older version wrote it
    (written / "config.json").write_text(json.dumps(described))
    assert not torch.equal(open_model(written).weights()["text.head.weight"], before["text.head.weight"])
    write_tensors(start, weights)
    write_merged(open_model(snapshot), tmp_path / "merged")
    assert not open_model(tmp_path / "merged").facts.base_fingerprint


def test_impossible_recipes_are_refused(base, make_trainer, tmp_path) -> None:
    layer = "text.encoder.0.ff.down"
    tensors = {f"{layer}.lora.{part}": torch.zeros(1) for part in ("down", "up")}
    write_adapter(tmp_path / "adapter", Adapter(str(base), LoraConfig(2, 4.0, [layer]), tensors))
    with pytest.raises(ValueError, match=r"is an adapter itself: .* `openpali export --format openpali`"):
        make_trainer(lora_recipe(tmp_path / "adapter"))
    with pytest.raises(ValueError, match=r"model\.lora"):
        make_recipe(model__lora={"rank": 2})
    with pytest.raises(ValueError, match=r"model\.lora needs a rank"):
        lora_recipe(base, lora={"rank": 0, "alpha": 2.0})
    with pytest.raises(ValueError):
        lora_recipe(base, optimizer__qk_clip=1.0)
    with pytest.raises(ValueError):
        find_targets(open_model(base).model(), ["nope"])


def test_changes_keep_the_names_of_layers_and_the_head_is_none(base) -> None:
    model = open_model(base).model()
    before = set(model.state_dict())
    names = find_targets(model, ["text", "query"])
    assert "text.head" not in names
    add_lora(model, LoraConfig(2, 4.0, names))
    assert set(model.state_dict()) - before == lora_names(model)
    assert len(lora_names(model)) == 2 * len(names)
