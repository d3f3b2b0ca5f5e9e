"""T5Gemma 2 as transformers writes it: every layer, generated tokens, and files in and out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, T5Gemma2ForConditionalGeneration

from openpali.architectures.preprocessor import Inexpressible
from openpali.architectures.t5gemma2.architecture import IMAGE_PIECES, read_t5gemma2
from openpali.architectures.t5gemma2.network import T5Gemma2Model
from openpali.infer.generate import Decoding, generate
from openpali.infer.pali import Pali
from openpali.model.int8 import Int8Linear
from openpali.tensors import INDEX, load_exactly
from openpali.train.load import parse_recipe
from openpali.train.start import inherit
from openpali.train.step import check_sizes
from openpali.weights.convert import convert
from openpali.weights.export import export
from openpali.weights.format import open_model
from openpali.weights.quantize import write_int8
from openpali_lab.parity import compare_t5gemma2
from openpali_lab.plan.planner import find_device, rehearse

from . import checkpoints
from .shared import MINE, answer_in_every_way, raw_recipe, trainer
from .test_mask_codec import arrays as mask_codec_arrays

Saved = tuple[Path, T5Gemma2ForConditionalGeneration]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A folder as if downloaded: in shards, with Gemma 3's vocabulary and more rows than tokens."""
    folder = tmp_path_factory.mktemp("t5gemma2")
    (folder / "tokenizer.model").write_bytes(checkpoints.gemma_proto(*IMAGE_PIECES, "\n\n"))
    return folder, checkpoints.t5gemma2(folder, vocab_size=400, image_token=340, shard="60KB")


@pytest.mark.parametrize(("images", "length"), [(1, 5), (3, 40)])
def test_every_layer_agrees(images: int, length: int, saved: Saved) -> None:
    """In shards, with padding, an image within the prompt, and a window shorter than prompts and texts."""
    folder, _ = saved
    assert (folder / INDEX).is_file()
    parities = compare_t5gemma2(read_t5gemma2(folder), folder, images=images, length=length)
    assert len(parities) == 1 + 3 + 1 + 2 + 1
    assert all(p.relative <= 1e-5 for p in parities), parities


@pytest.mark.parametrize("beams", [1, 3])
def test_generated_tokens_are_the_same(beams: int, saved: Saved) -> None:
    """For a batch with padding and its rows alone, longer than the window; beams at a fixed length, since they end
    by different rules."""
    folder, theirs = saved
    found = read_t5gemma2(folder)
    model = T5Gemma2Model(found.config).eval()
    load_exactly(model, found.weights, "it")
    images = torch.rand(2, 2, 16, 16, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    prompts = torch.tensor([[21, 6, 23, 6, 25], [6, 27, 6, 0, 0]])
    allowed = [token for token in range(400) if token != 1 or beams == 1]
    written = set()
    for rows in (slice(0, 2), slice(0, 1), slice(1, 2)):
        ours = generate(model, images[rows], prompts[rows], None, Decoding(12, beams), 1, lambda _: allowed)
        assert [row[0].ids for row in ours] == transformers_generate(theirs, images[rows], prompts[rows], beams)
        written |= {token for row in ours for token in row[0].ids}
    assert len(written) > 2  # not one token again and again


def transformers_generate(
    theirs: T5Gemma2ForConditionalGeneration, images: Tensor, prompts: Tensor, beams: int
) -> list[list[int]]:
    image = [6, *[340] * 4, 7]
    rows = [
        [2, *(token for part in prompt if part for token in (image if part == 6 else [part]))]
        for prompt in prompts.tolist()
    ]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    out: Any = theirs.generate(
        input_ids=ids,
        attention_mask=(ids != 0).long(),
        pixel_values=images.flatten(0, 1).permute(0, 3, 1, 2),
        max_new_tokens=12,
        num_beams=beams,
        do_sample=False,
        length_penalty=0.0,
        suppress_tokens=None if beams == 1 else [1],
        early_stopping=False,
    )
    texts = out[:, 1:].tolist()
    return [text[: text.index(1)] if 1 in text else text for text in texts]


@pytest.fixture(scope="module")
def converted(saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    [line, vocabulary, positions] = convert([saved[0]], folder)
    assert line.startswith("T5Gemma 2: 119 tensors")
    assert line.endswith("language model of 4 + 3 layers of 24")
    assert positions.endswith("16 x 16 pixels, 4 tokens")
    assert vocabulary == "vocabulary: 340 tokens, 400 rows"
    return folder


def test_a_folder_goes_in_and_out_bit_for_bit(saved: Saved, converted: Path, tmp_path: Path) -> None:
    made = open_model(converted)
    assert (made.config.before, made.config.after) == ((8, 6), (7, 8))
    with pytest.warns(Inexpressible):
        export(replace(made, preprocess=replace(made.preprocess, policy="pad")), tmp_path)
    export(made, tmp_path)
    before = saved[1]
    after, info = T5Gemma2ForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert before.state_dict().keys() == after.state_dict().keys()
    pairs = zip(before.state_dict().values(), after.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    for ours, theirs in (
        (after.config.decoder, before.config.decoder),
        (after.config.encoder.text_config, before.config.encoder.text_config),
    ):
        for name in ("query_pre_attn_scalar", "sliding_window", "layer_types", "rope_parameters", "vocab_size"):
            assert getattr(ours, name) == getattr(theirs, name), name
    again = read_t5gemma2(tmp_path)
    assert all(torch.equal(again.weights[key], value) for key, value in made.weights().items())

    processor = AutoProcessor.from_pretrained(tmp_path)
    image, text = np.full((20, 30, 3), 90, np.uint8), "one <start_of_image> two"
    asked = processor(text=text, images=[image], return_tensors="pt")
    export(replace(made, config=replace(made.config, image_token=300)), tmp_path / "inside")  # of the vocabulary
    inside = AutoProcessor.from_pretrained(tmp_path / "inside")(text=text, images=[image], return_tensors="pt")
    assert (inside.input_ids == 300).sum() == 4
    pipeline = Pali(converted).pipeline()
    batch = pipeline.read([([image], pipeline.prompt_ids(text))])
    with torch.no_grad():
        memory = pipeline.model.encode(*batch)
        assert batch.images is not None
        pixels = batch.images[0].permute(0, 3, 1, 2) / 127.5 - 1
        theirs = after.eval().model.encoder(input_ids=asked.input_ids, pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(memory.outputs[:, : theirs.shape[1]], theirs, atol=1e-5, rtol=1e-5)
    assert (asked.pixel_values - pixels).abs().max() <= 1.01 / 127.5


def test_commands_take_it(openpali, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = openpali
    monkeypatch.chdir(tmp_path)
    assert "worst: " in run("convert", saved[0], "--out", "t5", "--size", 24, "--report")
    assert open_model(Path("t5")).preprocess.height == 24
    assert "multiples of 8 pixels" in run("convert", saved[0], "--out", "t5", "--size", 20, fails=True)
    np.savez("vae-oid.npz", **mask_codec_arrays())
    refused = run("convert", saved[0], "vae-oid.npz", "--out", "y", fails=True)
    assert f"{saved[0]} has no tokens for masks: leave out vae-oid.npz" in refused
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save("photo.png")
    record = {"images": ["photo.png"], "question": "What is it?", "answers": ["a dog"]}
    Path("mine.jsonl").write_text(json.dumps(record) + "\n")
    assert "What is it?" in run("data", "validate", "mine.jsonl", "--model", "t5")
    assert "exact_match" in run("eval", "mine.jsonl", "--task", "vqa", "--model", "t5")
    run("quantize", "t5", "--out", "small")
    assert open_model(Path("small")).facts.int8
    two = ("photo.png", "photo.png", "--as-frames", "<start_of_image> or <start_of_image>?")
    answer = json.loads(run("predict", *two, "--model", "small", "--dtype", "bf16", "--json").splitlines()[0])
    assert answer["prompt"] == two[-1]
    alone = run("predict", "photo.png", "<start_of_image> or <start_of_image>?", "--model", "t5", fails=True)
    assert "has 2 times <start_of_image>, and there are 1 images" in alone


def test_it_answers_with_int8_activations(converted: Path) -> None:
    pali = Pali.from_pretrained(converted, "torch-int8")
    image = np.full((20, 30, 3), 90, np.uint8)
    [found] = pali.predict([[image]], ["<start_of_image> or not"], decoding=Decoding(10))
    assert found.generation.ids
    assert any(isinstance(module, Int8Linear) and module.rounds for module in pali.pipeline().model.modules())


def test_it_answers_and_the_server_says_the_same(converted: Path) -> None:
    pali = Pali.from_pretrained(converted, engine="auto")
    assert pali.engine == "torch"
    images = [np.full((20, 30, 3), shade, np.uint8) for shade in (90, 200)]
    caption = pali.write_prompt(pali.task("caption"), lang="de")
    assert caption == "Caption in de:"
    assert pali.write_prompt(pali.task("vqa"), "in this image, there is") == "in this image, there is"
    rows = [[images[0]], images, [], [images[1]]]
    prompts = [caption, "<start_of_image> or <start_of_image>?", "a longer text without any image", caption]
    ids = answer_in_every_way(pali, rows, prompts)
    assert len({tuple(each) for each in ids}) == 4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0"),
        ({"layer_types": ["sliding_attention", "full_attention", "full_attention"]}, "layer_types"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_type = 'yarn'"),
        ({"hidden_size": 32}, "has shape"),
    ],
)
def test_other_models_are_refused(config: dict[str, Any], message: str, saved: Saved, tmp_path: Path) -> None:
    for file in saved[0].iterdir():
        (tmp_path / file.name).symlink_to(file)
    described = json.loads((saved[0] / "config.json").read_text())
    described["decoder"] |= config
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=message):
        read_t5gemma2(tmp_path)


def test_the_tokenizer_must_be_its_own(saved: Saved, tmp_path: Path) -> None:
    for file in saved[0].iterdir():
        (tmp_path / file.name).symlink_to(file)
    for proto, message in (
        (checkpoints.gemma_proto(), "no tokens <start_of_image> and <end_of_image>"),
        (checkpoints.gemma_proto("x", *IMAGE_PIECES), "6 and 7 are <start_of_image> and <end_of_image>"),
    ):
        (tmp_path / "tokenizer.model").unlink()
        (tmp_path / "tokenizer.model").write_bytes(proto)
        with pytest.raises(ValueError, match=message):
            convert([tmp_path], tmp_path / "out")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two samples, and runs that take a second."""
    monkeypatch.chdir(tmp_path)
    with Path("mine.jsonl").open("w") as file:
        for shade, answer in ((20, "a dog"), (200, "two blue stars")):
            Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(f"{shade}.png")
            line = {"images": [f"{shade}.png"], "question": "a <start_of_image>?", "answers": [answer]}
            file.write(json.dumps(line) + "\n")


@pytest.mark.usefixtures("data")
def test_it_trains_with_the_loss_of_transformers(saved: Saved, converted: Path, tmp_path: Path) -> None:
    raw = raw_recipe(converted, 16)
    recipe = inherit(parse_recipe(raw))
    run = trainer(recipe, tmp_path / "run")
    images = torch.randint(0, 256, (2, 1, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    prompts, targets = torch.tensor([[21, 6, 23], [6, 0, 0]]), torch.tensor([[31, 32, 1, 0], [33, 34, 35, 1]])
    batch = {"images": images, "prompt": prompts, "target": targets}
    batch["places"] = targets.flatten().nonzero()[:, 0]
    objective = run.objective
    losses = objective.losses(batch, objective.weight(batch))
    losses.total.backward()
    image = [8, 6, *[340] * 4, 7, 8]
    ids = torch.tensor([[2, 21, *image, 23], [2, *image, 0, 0]])
    theirs = T5Gemma2ForConditionalGeneration.from_pretrained(saved[0]).eval()
    reference = theirs(
        input_ids=ids,
        attention_mask=(ids != 0).long(),
        pixel_values=images[:, 0].permute(0, 3, 1, 2) / 127.5 - 1,
        labels=targets.masked_fill(targets == 0, -100),
    )
    reference.loss.backward()
    torch.testing.assert_close(losses.total, reference.loss, rtol=1e-5, atol=0)
    ours, there = objective.model, theirs.model
    keys = there.decoder.layers[1].self_attn.k_norm.weight
    for got, expected in (
        (ours.project.linear.weight, there.encoder.multi_modal_projector.mm_input_projection_weight.grad.T),
        (ours.text.embed.weight, there.encoder.text_model.embed_tokens.weight.grad),
        (ours.text.embed.after_image, there.encoder.text_model.embed_tokens.eoi_embedding.grad),
        (ours.text.encoder.layers[0].ff.down.weight, there.encoder.text_model.layers[0].mlp.down_proj.weight.grad),
        (ours.text.decoder.layers[1].attention.norm_key.weight, keys.grad),
    ):
        rounding = 1e-4 * float(expected.abs().max())  # small gradients are sums of large ones
        torch.testing.assert_close(got.grad, expected, rtol=1e-3, atol=rounding)
    ours.zero_grad()
    run.train()
    trained, started = open_model(tmp_path / "run" / "model"), open_model(converted)
    after, before = trained.weights(), started.weights()
    assert not any(torch.equal(after[key], before[key]) for key in before)
    assert (trained.preprocess, trained.facts.dialect) == (started.preprocess, "plain")
    export(trained, tmp_path / "exported")
    assert all(torch.equal(read_t5gemma2(tmp_path / "exported").weights[key], after[key]) for key in after)
    costs = rehearse(recipe, recipe.phases[0], find_device("h100", 1), 1)
    assert costs.memory["weights"] == 4 * sum(p.numel() for p in ours.parameters())
    elsewhere = {"samples": 4, "size": 12, "mixture": [MINE]}
    with pytest.raises(ValueError, match="size = 12"):
        check_sizes(parse_recipe({**raw, "phases": [elsewhere]}), objective)


@pytest.mark.slow
@pytest.mark.usefixtures("data")
def test_an_adapter_of_it_in_int8_trains_resumes_and_answers(openpali, converted: Path, tmp_path: Path) -> None:
    """Killed in its last step, the run goes on bit for bit; `predict` and `eval` take what it writes."""
    base = tmp_path / "int8"
    write_int8(open_model(converted), base)
    lora = {"rank": 2, "dropout": 0.1}
    recipe = inherit(parse_recipe({**raw_recipe(base, 16, lora=lora), "save_minutes": 1e-9, "ema": 0.5}))
    whole = open_model(trainer(recipe, tmp_path / "whole").train())
    broken = trainer(recipe, tmp_path / "broken")
    update = broken.optimizer.step

    def die_in_the_second(*_: Any) -> None:
        if broken.step == 1:
            raise KeyboardInterrupt
        update()

    broken.optimizer.step = die_in_the_second  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    again = trainer(recipe, tmp_path / "broken")
    assert again.step == 1
    resumed = open_model(again.train())
    assert whole.adapter is not None
    assert resumed.adapter is not None
    assert {name.split(".")[1] for name in whole.adapter.config.targets} == {"encoder", "decoder"}
    assert all(torch.equal(resumed.adapter.tensors[key], value) for key, value in whole.adapter.tensors.items())
    assert all(value.any() for value in whole.adapter.tensors.values())
    inputs = torch.zeros(1, 1, 16, 16, 3), torch.tensor([[21, 6, 23]]), torch.tensor([[31, 32, 1]])
    models = whole.model(), whole.model(plain=True), open_model(base).model()
    apart, merged, before = (model(*inputs) for model in models)
    torch.testing.assert_close(apart, merged, rtol=1e-2, atol=1e-2)
    assert not torch.allclose(apart, before, rtol=1e-2, atol=1e-2)
    run = openpali
    asked = "predict", "20.png", "a <start_of_image>?", "--json", "--model"
    assert '"score": ' in run(*asked, "whole")
    assert "exact_match" in run("eval", "mine.jsonl", "--task", "vqa", "--model", "whole")
