"""PaliGemma as transformers and big_vision write it: every layer, generated tokens, and files in and out."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

from openpali.architectures.paligemma import PIECES, PaliGemmaConfig, PaliGemmaModel, read_paligemma, read_tokenizer
from openpali.architectures.preprocessor import Inexpressible
from openpali.infer.engines.registry import EngineName
from openpali.infer.generate import Decoding, generate
from openpali.infer.pali import Pali
from openpali.tensors import INDEX, load_exactly
from openpali.weights.convert import convert
from openpali.weights.export import export
from openpali.weights.format import open_model
from openpali_lab.parity import compare_paligemma

from . import checkpoints
from .shared import answer_in_every_way
from .test_mask_codec import arrays as mask_codec_arrays

KINDS = ["gemma", "gemma2"]
SEPARATOR = 5


def ours(folder: Path) -> PaliGemmaModel:
    found = read_paligemma(folder)
    model = PaliGemmaModel(dataclasses.replace(found.config, separator=SEPARATOR))
    load_exactly(model, found.weights, "it")
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("images", [1, 3])
def test_every_layer_agrees(kind: str, images: int, tmp_path: Path) -> None:
    """In shards, like public checkpoints, with rows of different lengths and a window shorter than the texts."""
    checkpoints.paligemma(tmp_path, kind, shard="20KB")
    assert (tmp_path / INDEX).is_file()
    parities = compare_paligemma(read_paligemma(tmp_path), tmp_path, images=images)
    assert [p.name for p in parities] == ["visual tokens", "decoder layer 1", "decoder layer 2", "logits"]
    assert all(p.relative <= 1e-5 for p in parities), parities


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beams", [1, 3])
def test_generated_tokens_are_the_same(kind: str, beams: int, tmp_path: Path) -> None:
    """For a batch with padding and its rows alone; beams at a fixed length, since they end by different rules."""
    theirs, model = checkpoints.paligemma(tmp_path, kind), ours(tmp_path)
    images = torch.rand(2, 2, 8, 8, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    prompts = torch.tensor([[21, 22, 23, 24, 25], [26, 27, 0, 0, 0]])
    allowed = [token for token in range(300) if token != 1 or beams == 1]
    for rows in (slice(0, 2), slice(0, 1), slice(1, 2)):
        found = generate(model, images[rows], prompts[rows], None, Decoding(12, beams), 1, lambda _: allowed)
        expected = transformers_generate(theirs, images[rows], prompts[rows], beams)
        assert [row[0].ids for row in found] == expected


def transformers_generate(
    theirs: PaliGemmaForConditionalGeneration, images: Tensor, prompts: Tensor, beams: int
) -> list[list[int]]:
    visual, pad = 4 * images.shape[1], 0
    rows = [[299] * visual + [2, *filter(None, prompt.tolist()), SEPARATOR] for prompt in prompts]
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
    out: Any = theirs.generate(
        input_ids=ids,
        attention_mask=torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
        token_type_ids=torch.zeros_like(ids),
        pixel_values=images.flatten(0, 1).permute(0, 3, 1, 2),
        max_new_tokens=12,
        num_beams=beams,
        do_sample=False,
        length_penalty=0.0,
        suppress_tokens=None if beams == 1 else [1],
        early_stopping=False,
    )
    texts = out[:, longest:].tolist()
    return [text[: text.index(1)] if 1 in text else text for text in texts]


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return download(tmp_path_factory.mktemp("paligemma"))


def download(folder: Path, kind: str = "gemma2") -> Path:
    """A folder as if downloaded: in shards, with Gemma's vocabulary and more rows than tokens."""
    checkpoints.paligemma(folder, kind, vocab_size=1600, shard="40KB")
    (folder / "tokenizer.model").write_bytes(checkpoints.gemma_proto())
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_goes_in_and_out_bit_for_bit(kind: str, tmp_path: Path) -> None:
    downloaded = download(tmp_path / "downloaded", kind)
    lines = convert([downloaded], tmp_path / "ours")
    assert lines[0].startswith("PaliGemma 2: " if kind == "gemma2" else "PaliGemma: ")
    made = open_model(tmp_path / "ours")
    assert isinstance(made.config, PaliGemmaConfig)
    assert (made.config.bos, made.config.separator) == (2, made.tokenizer.piece_id("\n"))
    assert [made.preprocess.height, made.preprocess.filter] == [8, "bilinear"]
    with pytest.warns(Inexpressible):
        export(made, tmp_path / "theirs")
    before = PaliGemmaForConditionalGeneration.from_pretrained(downloaded)
    after, info = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "theirs", output_loading_info=True)
    assert not any(info.values()), info
    assert before.state_dict().keys() == after.state_dict().keys()
    pairs = zip(before.state_dict().values(), after.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    for name in ("query_pre_attn_scalar", "sliding_window", "final_logit_softcapping", "rope_parameters"):
        told, there = (getattr(each.config.text_config, name, None) for each in (after, before))
        assert told == there
    assert after.config.image_token_index == before.config.image_token_index
    tokenizer = AutoProcessor.from_pretrained(tmp_path / "theirs").tokenizer
    for text in ("detect red dog", "<loc0001><loc1023><seg003> a dog", "What is it?\n"):
        assert tokenizer(text, add_special_tokens=False).input_ids == made.tokenizer.encode(text)
    again = read_paligemma(tmp_path / "theirs")
    assert all(torch.equal(again.weights[key], value) for key, value in made.weights().items())


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("q_proj", "self_attn.q_proj, which that model does not have: "),
        ("embed_tokens", "only LoRA of linear layers"),
    ],
)
def test_an_adapter_with_names_of_transformers_is_refused(
    layer: str, said: str, downloaded: Path, bundle: Path, tmp_path: Path
) -> None:
    theirs = PaliGemmaForConditionalGeneration.from_pretrained(downloaded)
    get_peft_model(theirs, LoraConfig(target_modules=[layer])).save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    base = {"base_model_name_or_path": str(bundle / "pali")}
    file.write_text(json.dumps({**json.loads(file.read_text()), **base}))
    for plain in (False, True):
        with pytest.raises(ValueError, match=said):
            open_model(tmp_path).model(plain=plain)


@pytest.fixture(scope="module")
def bundle(downloaded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    np.savez(folder / "vae-oid.npz", **mask_codec_arrays())
    convert([folder / "vae-oid.npz", downloaded], folder / "pg")
    return folder / "pg"


def test_the_command_converts_and_compares(openpali, downloaded: Path, bundle: Path, tmp_path: Path) -> None:
    run = openpali
    masks = bundle.parent / "vae-oid.npz"
    printed = run("convert", downloaded, masks, "--out", tmp_path / "pg", "--report")
    assert "PaliGemma 2: " in printed
    assert "mask VQ-VAE: 128 codes" in printed
    assert "worst: " in printed
    assert {path.name for path in (tmp_path / "pg").iterdir()} == {"bundle.json", "pali", "mask_vqvae"}
    assert "128 codes" in run("convert", masks, "--out", tmp_path / "masks")
    assert "make no model" in run("convert", downloaded, downloaded, "--out", tmp_path / "x", fails=True)
    assert "PaliForConditional" not in run("export", tmp_path / "pg", "--out", tmp_path / "theirs")
    assert (tmp_path / "theirs" / "pali" / "model.safetensors").is_file()


@pytest.mark.parametrize(("engine", "taken"), [("auto", "torch"), ("torch-int8", "torch-int8")])
@pytest.mark.openvino
def test_its_tasks_answer(engine: EngineName, taken: EngineName, bundle: Path) -> None:
    pali = Pali.from_pretrained(bundle, engine)
    assert pali.engine == taken
    image = np.full((20, 30, 3), 90, np.uint8)
    for name, text in (("caption", ""), ("ocr", ""), ("vqa", "why?"), ("detect", "dog ; cat"), ("refseg", "dog")):
        task = pali.task(name)
        [found] = pali.predict([[image]], [pali.write_prompt(task, text)], decoding=Decoding(8))
        assert found.prompt.startswith({"vqa": "answer en why?", "refseg": "segment dog"}.get(name, name))
        assert len(found.generation.ids) == 8
        assert pali.recognise(found.prompt) == name
    assert pali.task("refseg").masks is not None
    rows, prompts = [[image], [image, image[:9]]], ["ocr", "answer en why?"]
    answer_in_every_way(pali, rows, prompts)
    losses = pali.log_perplexity([[image]], "caption en", ["a dog", "a cat"])
    assert losses.shape == (1, 2)
    with pytest.raises(ValueError, match="paligemma"):
        Pali(bundle, "openvino")


def test_one_box_and_one_mask_in_the_answer(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says what a "mix" checkpoint would, by a bias on its logits."""
    pali = Pali.from_pretrained(bundle)
    tokenizer, model = pali.pipeline().tokenizer, pali.pipeline().model
    answer = "<loc0256><loc0128><loc0767><loc0640>" + "<seg090>" * 16 + " dog"
    said = [*tokenizer.encode(answer), tokenizer.eos_id]
    step = type(model).step

    def say(self: PaliGemmaModel, ids: Tensor, cache: Any) -> Tensor:
        logits = step(self, ids, cache)
        logits[..., said[int(cache.text.lengths[0]) - 1]] += 1000
        return logits

    monkeypatch.setattr(type(model), "step", say)
    [[thing]] = pali.segment([np.zeros((40, 60, 3), np.uint8)], ["dog"])
    assert thing.name == "dog"
    assert thing.box == pytest.approx((10, 7.5, 30, 37.5), abs=0.1)
    assert thing.mask.shape == (40, 60)


def test_files_are_checked_asked_and_scored(
    openpali, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = openpali
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save("photo.png")
    record = {"images": ["photo.png"], "objects": [{"name": "dog", "box": [5, 5, 30, 40]}]}
    Path("mine.jsonl").write_text(json.dumps(record) + "\n")
    assert "detect dog" in run("data", "validate", "mine.jsonl", "--model", bundle)
    assert "f1@0.5" in run("eval", "mine.jsonl", "--task", "detect", "--model", bundle)
    run("quantize", bundle / "pali", "--out", "small")
    assert open_model(Path("small")).facts.int8
    assert open_model(Path("small")).stored()["text.embed.weight"].dtype == torch.int8  # each token reads all of it
    asked = ("predict", "photo.png", "--task", "ocr", "--model", "small", "--dtype", "bf16", "--json")
    assert json.loads(run(*asked).splitlines()[0])["prompt"] == "ocr"


def edit(folder: Path, config: dict[str, Any] | None = None, rename: Any = None) -> Path:
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {rename(key) if rename else key: value for key, value in tensors.items()}, folder / "model.safetensors"
    )
    described = json.loads((folder / "config.json").read_text())
    described["text_config"] |= config or {}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def test_names_of_every_version_of_transformers(tmp_path: Path) -> None:
    model = checkpoints.paligemma(tmp_path)
    weights = dict(read_paligemma(tmp_path).weights)
    published = lambda key: key.replace("vision_tower.", "vision_tower.vision_model.")  # noqa: E731
    edit(tmp_path, rename=published)
    assert read_paligemma(tmp_path).weights.keys() == weights.keys()
    save_file(
        {k: v.clone() for k, v in model.state_dict().items()}, tmp_path / "model.safetensors"
    )  # model.language_model..., and the head
    again = read_paligemma(tmp_path).weights
    assert all(torch.equal(again[key], value) for key, value in weights.items())
    save_file(
        {k: v.clone() + ("lm_head" in k) for k, v in model.state_dict().items()}, tmp_path / "model.safetensors"
    )
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from language_model\.model\.embed"):
        read_paligemma(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llama"}, "'llama' as its language model"),
        ({"attention_bias": True}, "attention_bias = True"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_type = 'linear'"),
        ({"hidden_size": 32}, "has shape"),
    ],
)
def test_other_models_are_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    checkpoints.paligemma(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_paligemma(edit(tmp_path, config))


def test_the_vocabulary_is_gemmas_with_paligemmas_tokens(downloaded: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(checkpoints.gemma_proto())
    tokenizer = read_tokenizer(tmp_path)
    known = tokenizer.vocab_size - 1024 - 128
    assert tokenizer.pieces(range(known, tokenizer.vocab_size)) == PIECES
    tokenizer.save(tmp_path / "tokenizer.model")
    assert read_tokenizer(tmp_path).proto == tokenizer.proto
    text = "<loc0012><loc0345><loc1023><loc0000><seg003><seg127> a red dog"
    ids = tokenizer.encode(text)
    assert ids[:6] == [known + place for place in (12, 345, 1023, 0, 1024 + 3, 1024 + 127)]
    assert tokenizer.decode([2, *ids, 1]) == text
    (tmp_path / "tokenizer.model").unlink()
    checkpoints.paligemma(tmp_path)
    with pytest.raises(FileNotFoundError):
        convert([tmp_path], tmp_path / "out")


def test_a_tokenizer_that_is_not_gemmas_is_refused(tmp_path: Path) -> None:
    for rows, proto, message in (
        (2000, checkpoints.small_proto(), "the vocabulary has no token '\\\\n'"),
        (1000, checkpoints.gemma_proto(), "1000 rows"),
    ):
        checkpoints.paligemma(tmp_path, vocab_size=rows)
        (tmp_path / "tokenizer.model").write_bytes(proto)
        with pytest.raises(ValueError, match=message):
            convert([tmp_path], tmp_path / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_benchmark_beside_transformers_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: a new one imports transformers for seconds."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    benchmark = importlib.import_module("paligemma")
    asking = {"ours": benchmark.ask_ours, "theirs": benchmark.ask_theirs}
    monkeypatch.setattr(benchmark, "run", lambda who, *given: asking[who](*given))
    vision = {"patch_size": 4, "width": 16, "depth": 1, "heads": 2, "mlp_dim": 32, "grid": [2, 2]}
    text = {"vocab_size": 300, "d_model": 24, "d_head": 8, "heads": 4, "kv_heads": 2, "d_ff": 48, "layers": 2}
    text |= {"query_scalar": 8, "post_norms": True, "score_cap": 50.0, "logit_cap": 30.0, "window": 64}
    shapes = tmp_path / "shapes.json"
    shapes.write_text(json.dumps({"vision": vision, "text": text, "image_token": 299}))
    options = ["--config", str(shapes), "--tokens", "3", "--json", str(tmp_path / "x.json")]
    monkeypatch.setattr(sys, "argv", ["paligemma.py", *options])
    benchmark.main()
    found = json.loads((tmp_path / "x.json").read_text())["results"]
    assert [result["name"] for result in found if result["peer_name"] == "transformers, bf16"] == [
        f"{kind}: {measured}"
        for kind in ("bf16", "int8")
        for measured in ("peak memory", "image, prompt and first token", "tokens")
    ]
    assert all(result["ours"] > 0 and result["peer"] > 0 for result in found)
