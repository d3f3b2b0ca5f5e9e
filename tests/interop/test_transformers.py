"""PaLI in transformers: the same model as ours, through all of its interfaces."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.modeling_outputs import BaseModelOutput

from openpali.architectures.facts import Facts
from openpali.architectures.pali import PRESETS, PaliModel, PaliModelConfig
from openpali.data.media.images import Preprocess
from openpali.infer.generate import Decoding, generate
from openpali.infer.pali import Pali
from openpali.interop.transformers import (
    PaliConfig,
    PaliForConditionalGeneration,
    PaliImageProcessor,
    PaliProcessor,
    PaliTokenizer,
)
from openpali.model.init import init_weights
from openpali.model.losses import cross_entropy
from openpali.text.tokenizer import Tokenizer
from openpali.weights.bundle import BundleConfig
from openpali.weights.format import open_model
from openpali.weights.quantize import write_int8
from openpali.weights.write import write_model

PROMPTS = ["detect: a red apple", "Answer in en: how many?"]
ANSWERS = ["ten", "a green car"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(
        [f"detect: a red apple and {i} green cars, answer in en: how many?" for i in range(99)], 640
    )


@pytest.fixture(scope="module")
def core(tokenizer: Tokenizer) -> PaliModel:
    """Our model, with numbers of layers that all differ."""
    preset = PRESETS["pico"]
    text = dataclasses.replace(
        preset.text, vocab_size=tokenizer.vocab_size, encoder_layers=2, decoder_layers=3, bias_per_layer=True
    )
    torch.manual_seed(0)
    return init_weights(PaliModel(PaliModelConfig(dataclasses.replace(preset.vision, depth=2), text))).eval()


@pytest.fixture(scope="module")
def folder(core: PaliModel, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "pali"
    facts = Facts(recipe={"max_target": 9})
    preprocess = Preprocess(72, 72)
    write_model(folder, core.state_dict(), core.config, preprocess=preprocess, tokenizer=tokenizer, facts=facts)
    return folder


@pytest.fixture
def model(folder: Path) -> PaliForConditionalGeneration:
    found = AutoModelForImageTextToText.from_pretrained(folder)
    assert isinstance(found, PaliForConditionalGeneration)
    return found


@pytest.fixture(scope="module")
def processor(folder: Path) -> PaliProcessor:
    return AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def images() -> list[PILImage.Image]:
    rng = np.random.default_rng(0)
    return [PILImage.fromarray(rng.integers(0, 256, (90, 70 + i, 3), dtype=np.uint8)) for i in range(2)]


@pytest.fixture(scope="module")
def inputs(processor: PaliProcessor, images: list[PILImage.Image]) -> dict[str, Tensor]:
    return dict(processor(images=images, text=PROMPTS, return_tensors="pt"))


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def ours(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Images and prompts as our own model takes them."""
    return inputs["pixel_values"].permute(0, 2, 3, 1)[:, None], inputs["input_ids"]


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.usefixtures("no_sockets")
def test_a_folder_of_ours_loads_and_one_of_theirs_is_ours(core: PaliModel, folder: Path, tmp_path: Path) -> None:
    config, model = AutoConfig.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)
    processor, tokenizer = AutoProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert isinstance(config, PaliConfig)
    assert isinstance(processor, PaliProcessor)
    assert isinstance(tokenizer, PaliTokenizer)
    assert config.core == core.config
    assert same_weights(model, core)

    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    saved, original = open_model(tmp_path), open_model(folder)
    assert (saved.config, saved.preprocess, saved.facts) == (
        original.config,
        original.preprocess,
        original.facts,
    )
    assert saved.tokenizer.proto == original.tokenizer.proto
    assert same_weights(saved.model(), core)
    assert same_weights(AutoModelForImageTextToText.from_pretrained(tmp_path), core)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert again.image_processor.to_dict() == processor.image_processor.to_dict()
    assert again.tokenizer.get_vocab() == tokenizer.get_vocab()


def test_a_part_of_a_bundle_is_read_with_its_base(core: PaliModel, folder: Path, tokenizer: Tokenizer) -> None:
    part = folder.parent / "part"
    weights = {k: v + 1 for k, v in core.state_dict().items() if k.startswith("text.")}
    write_model(
        part, weights, core.config, preprocess=Preprocess(72, 72), tokenizer=tokenizer, facts=Facts(base="pali")
    )
    model = AutoModelForImageTextToText.from_pretrained(part)
    assert torch.equal(model.vit.positions, core.vit.positions)
    assert torch.equal(model.text.embed.weight, core.text.embed.weight + 1)
    assert "base" not in model.config.facts  # it saves a complete model


def test_int8_weights_are_read_as_the_floats_that_they_stand_for(
    core: PaliModel, folder: Path, tmp_path: Path
) -> None:
    write_int8(open_model(folder), tmp_path / "int8")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "int8", dtype=torch.float32)
    weight = core.project.weight
    step = weight.abs().max(1, keepdim=True).values / 127
    assert ((model.project.weight - weight).abs() <= 0.51 * step + weight.abs() / 256).all()  # scales are bf16
    model.save_pretrained(tmp_path / "again")
    assert same_weights(open_model(tmp_path / "again").model(), model)


def test_other_kinds_of_model_are_refused(tmp_path: Path) -> None:
    described = {"model_type": PaliConfig.model_type, "format": 1, "kind": "siglip"}
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="holds a siglip"):
        AutoConfig.from_pretrained(tmp_path)


def test_logits_and_loss_are_ours(
    core: PaliModel, model: PaliForConditionalGeneration, processor: PaliProcessor, images: list[PILImage.Image]
) -> None:
    batch = dict(processor(images=images, text=PROMPTS, suffix=ANSWERS, return_tensors="pt"))
    real = batch["labels"] != -100
    targets = batch["labels"].where(real, 0)
    assert (targets == 1).sum(1).tolist() == [1, 1]  # each ends in one EOS
    with torch.no_grad():
        out = model(**batch)
        hidden = core(*ours(batch), targets)
        loss, _ = cross_entropy(
            hidden[real], core.text.head_weight, targets[real], torch.ones(real.sum()) / real.sum()
        )
    torch.testing.assert_close(out.logits[real], core.text.logits(hidden)[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.loss, loss)


def test_frames_and_text_alone(
    core: PaliModel, model: PaliForConditionalGeneration, processor: PaliProcessor, images: list[PILImage.Image]
) -> None:
    batch = processor(images=[images, images[:1]], text=PROMPTS, return_tensors="pt")
    assert batch["frames"].tolist() == [2, 1]
    start = torch.zeros(2, 1, dtype=torch.long)
    with torch.no_grad():
        memory = core.encode(batch["pixel_values"].permute(0, 1, 3, 4, 2), batch["input_ids"], batch["frames"])
        expected = core.text.logits(core.text.decode(start, *memory))
        torch.testing.assert_close(model(**batch, decoder_input_ids=start).logits, expected)
        text = {key: batch[key] for key in ("input_ids", "attention_mask")}
        expected = core.text.logits(core.text.decode(start, *core.encode(None, batch["input_ids"])))
        torch.testing.assert_close(model(**text, decoder_input_ids=start).logits, expected)


def test_padding_may_stand_on_either_side(model: PaliForConditionalGeneration, inputs: dict[str, Tensor]) -> None:
    lengths = inputs["attention_mask"].sum(1)
    assert lengths[0] != lengths[1]
    left = {"pixel_values": inputs["pixel_values"]}
    for key in ("input_ids", "attention_mask"):
        left[key] = torch.stack([row.roll(-int(n)) for row, n in zip(inputs[key], lengths, strict=True)])
    start = torch.zeros(2, 1, dtype=torch.long)
    with torch.no_grad():
        right_logits = model(**inputs, decoder_input_ids=start).logits
        torch.testing.assert_close(model(**left, decoder_input_ids=start).logits, right_logits)


def test_greedy_is_ours_whatever_the_cache(
    core: PaliModel, model: PaliForConditionalGeneration, inputs: dict[str, Tensor]
) -> None:
    expected = [[0, *best[0].ids] for best in generate(core, *ours(inputs), decoding=Decoding(max_tokens=9))]
    encoded = model.get_encoder()(**inputs)
    foreign = BaseModelOutput(encoded.last_hidden_state)  # has no mask, so the prompt's is used
    start = torch.zeros(2, 1, dtype=torch.long)
    with torch.no_grad():
        prompt = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        found = model(**prompt, encoder_outputs=foreign, decoder_input_ids=start).logits
        torch.testing.assert_close(found, model(**inputs, decoder_input_ids=start).logits)
    for options in (
        {},  # as long as the targets that the model was trained on
        {"use_cache": False},
        {"num_beams": 1, "encoder_outputs": encoded},
        {"encoder_outputs": foreign},
        {"prompt_lookup_num_tokens": 2},
    ):
        rows = inputs if "prompt_lookup_num_tokens" not in options else {k: v[:1] for k, v in inputs.items()}
        texts = model.generate(**rows, **options).tolist()
        assert texts == expected[: len(texts)], options


@pytest.mark.parametrize("beams", [2, 4])
def test_beams_are_ours(
    core: PaliModel, model: PaliForConditionalGeneration, inputs: dict[str, Tensor], beams: int
) -> None:
    """Texts without EOS, since the two searches treat it differently."""
    allowed = [token for token in range(model.config.vocab_size) if token != 1]
    decoding = Decoding(max_tokens=6, beams=beams, samples=beams, max_repeats=None)
    rows = generate(core, *ours(inputs), decoding=decoding, allowed=lambda _: allowed)
    found = model.generate(
        **inputs,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=6,
        suppress_tokens=[1],
        length_penalty=0.0,
    )
    assert found.tolist() == [[0, *text.ids] for row in rows for text in row]


def test_new_tokens_can_be_added(
    model: PaliForConditionalGeneration, processor: PaliProcessor, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path)
    old, first = model.text.embed.weight.clone(), tokenizer.vocab_size
    assert tokenizer.add_tokens(["<here>"]) == 1
    assert tokenizer("a <here>")["input_ids"][-1] == first
    model.resize_token_embeddings(len(tokenizer))
    assert torch.equal(model.text.embed.weight[:-1], old)
    assert model.text.head.out_features == model.config.vocab_size == first + 1
    batch = tokenizer(["a <here>"], return_tensors="pt")
    expected = model.generate(**batch)
    assert model(**batch, labels=torch.tensor([[first]])).loss.isfinite()
    model.save_pretrained(tmp_path)
    assert torch.equal(AutoModelForImageTextToText.from_pretrained(tmp_path).generate(**batch), expected)
    assert open_model(tmp_path).config.text.vocab_size == first + 1  # type: ignore[union-attr]


class Pairs(torch.utils.data.Dataset[dict[str, Any]]):
    """One pair for each prompt, over and over."""

    def __init__(self, processor: PaliProcessor, images: list[PILImage.Image]) -> None:
        self.rows = list(zip(images, PROMPTS, ANSWERS, strict=True))
        self.processor = processor

    def __len__(self) -> int:
        return 48

    def __getitem__(self, i: int) -> dict[str, Any]:
        image, prompt, answer = self.rows[i % 2]
        return {"images": image, "text": prompt, "suffix": answer}

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        return dict(self.processor(**columns, return_tensors="pt"))


def train(model: Any, data: Pairs, folder: Path, **options: Any) -> list[float]:
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        logging_steps=1,
        report_to=[],
        remove_unused_columns=False,
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    trainer = Trainer(model, arguments, data_collator=data.collate, train_dataset=data)
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def test_transformers_trainer_learns(
    model: PaliForConditionalGeneration, processor: PaliProcessor, images: list[PILImage.Image], tmp_path: Path
) -> None:
    losses = train(
        model, Pairs(processor, images), tmp_path, max_steps=24, save_steps=24, gradient_accumulation_steps=2
    )
    assert losses[-1] < losses[0] / 10
    trained = open_model(tmp_path / "checkpoint-24").model()
    assert isinstance(trained, PaliModel)
    batch = dict(processor(images=images, text=PROMPTS, return_tensors="pt"))
    for beams in (1, 4):  # both our generation and theirs give the learned answers
        rows = generate(trained, *ours(batch), decoding=Decoding(beams=beams))
        assert [processor.decode(row[0].ids) for row in rows] == ANSWERS
        said = model.generate(**batch, num_beams=beams, length_penalty=0.0)
        assert processor.batch_decode(said, skip_special_tokens=True) == ANSWERS


def test_lora_trains_only_adapters(
    model: PaliForConditionalGeneration, processor: PaliProcessor, images: list[PILImage.Image], tmp_path: Path
) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    targets = ["qkv", "query", "key_value", "out", "gate", "up", "down", "project"]
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="SEQ_2_SEQ_LM"))
    wrapped = {name for name, module in adapted.named_modules() if hasattr(module, "lora_A")}
    linear = 2 * 4 + 1 + 2 * 5 + 3 * 8  # of the blocks, the projection, encoder and decoder layers
    assert len(wrapped) == linear
    losses = train(adapted, Pairs(processor, images), tmp_path, max_steps=12, save_strategy="no")
    assert losses[-1] < losses[0] * 0.8, losses
    adapted.eval()
    batch = processor(images=images, text=PROMPTS, return_tensors="pt")
    said = adapted.generate(**batch, max_new_tokens=6)
    adapted.save_pretrained(tmp_path / "adapter")
    base = PaliForConditionalGeneration.from_pretrained(model.name_or_path)
    assert not torch.equal(base.generate(**batch, max_new_tokens=6), said)
    merged = PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload()
    assert torch.equal(merged.generate(**batch, max_new_tokens=6), said)
    merged.save_pretrained(tmp_path / "merged")
    assert same_weights(open_model(tmp_path / "merged").model(), merged)


@pytest.mark.usefixtures("no_sockets")
def test_the_pipeline_gives_our_answers(
    folder: Path,
    core: PaliModel,
    processor: PaliProcessor,
    images: list[PILImage.Image],
    inputs: dict[str, Tensor],
) -> None:
    pipe = pipeline("image-text-to-text", model=str(folder))
    rows = generate(core, *ours(inputs), decoding=Decoding(max_tokens=9))
    expected = [processor.tokenizer.decode(row[0].ids) for row in rows]
    for image, prompt, text in zip(images, PROMPTS, expected, strict=True):
        found = pipe(images=image, text=prompt, return_full_text=False)
        assert [row["generated_text"] for row in found] == [text]
        content = [{"type": "image", "image": image}, {"type": "text", "text": prompt}]
        found = pipe([{"role": "user", "content": content}], return_full_text=False)
        assert [row["generated_text"] for row in found] == [text]


def test_the_documentation_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tiny model in the place of nano."""
    page = (Path(__file__).parents[2] / "docs" / "transformers.md").read_text()
    (tmp_path / "shipped" / "nano").mkdir(parents=True)
    (tmp_path / "shipped" / "nano" / "pali").symlink_to(folder)
    BundleConfig(parts={"pali": folder}).write(tmp_path / "shipped" / "nano")
    monkeypatch.setattr("openpali.weights.find.SHIPPED", tmp_path / "shipped")
    PILImage.new("RGB", (99, 80), "red").save(tmp_path / "photo.png")
    rows = [{"images": ["photo.png"], "question": "which?", "answers": [answer]} for answer in ANSWERS]
    rows += [{"images": "photo.png", "question": "which?", "answers": answer} for answer in ANSWERS]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall("```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, names)
    assert isinstance(AutoModel.from_pretrained(folder), PaliForConditionalGeneration)
    assert isinstance(Pali.from_pretrained(tmp_path / "trained" / "model").caption(["photo.png"])[0], str)
    before, after = (open_model(path).weights() for path in (folder, tmp_path / "trained" / "model"))
    changed = {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"project", "text"}
    trained = [name for name, p in names["adapted"].named_parameters() if p.requires_grad]
    assert trained
    assert all(".text." in name for name in trained)


def test_images_are_resized_as_ours(processor: PaliProcessor, images: list[PILImage.Image]) -> None:
    expected = Preprocess(72, 72)(np.array(images[0]))
    channels_first = np.array(images[0]).transpose(2, 0, 1)
    for image in (images[0], np.array(images[0]), torch.from_numpy(channels_first.copy())):
        pixels = processor.image_processor(image)["pixel_values"]
        assert pixels.dtype == np.float32
        restored = np.round((pixels[0].transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
        assert np.array_equal(restored, expected)


@pytest.fixture(scope="module")
def texts(processor: PaliProcessor) -> PaliTokenizer:
    return processor.tokenizer


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200, deadline=None)
def test_ids_and_texts_are_ours(texts: PaliTokenizer, text: str) -> None:
    assume(not any(token in text for token in texts.all_special_tokens))  # those are ids
    ids = texts(text)["input_ids"]
    assert ids == texts.core.encode(text)
    assert texts.decode(ids) == texts.core.decode(ids)


def test_mismatched_inputs_are_refused(processor: PaliProcessor, images: list[PILImage.Image]) -> None:
    for options, message in (
        ({"images": images}, "text is missing"),
        ({"images": images, "text": "one"}, "1 prompts were given with 2 images"),
        ({"text": PROMPTS, "suffix": "one"}, "2 prompts were given with 1 answers"),
        ({"images": [np.zeros((9, 9, 3))], "text": "one"}, "uint8"),
        ({"images": [], "text": "one"}, "no images"),
    ):
        with pytest.raises(ValueError, match=message):
            processor(**options)
    with pytest.raises(ValueError):
        PaliImageProcessor(72, 72, filter="sharp")
