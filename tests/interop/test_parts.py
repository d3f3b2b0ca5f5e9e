"""A PaLI from public parts: converted weights, new weights, and errors."""

from __future__ import annotations

import gc
import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    SiglipImageProcessor,
    SiglipModel,
    SiglipTokenizer,
    SiglipVisionModel,
    T5Tokenizer,
)

from openpali.architectures.halves.t5 import read_t5
from openpali.architectures.mask_vqvae import MaskVQVAEConfig
from openpali.architectures.pali import PaliModelConfig, assemble
from openpali.architectures.preprocessor import Inexpressible, read_preprocess
from openpali.architectures.registry import build
from openpali.architectures.siglip.architecture import extend_rows, read_image_encoder
from openpali.architectures.siglip.network import SigLIPConfig
from openpali.architectures.tokenizer import read_tokenizer
from openpali.data.media.images import FILTERS, Policy, Preprocess
from openpali.data.pipeline.encode import PairEncoder
from openpali.infer.pali import Pali
from openpali.model.init import materialise
from openpali.model.vit import resample_positions
from openpali.tensors import MappedTensors
from openpali.weights.convert import convert, write_stored
from openpali.weights.export import export
from openpali.weights.format import add_facts, open_model
from openpali.weights.write import write_model

from . import checkpoints

VOCABULARY = 700  # rows of the embedding: more than there are tokens, as T5's is padded


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `siglip` and `t5` as if downloaded."""
    folder = tmp_path_factory.mktemp("sources")
    checkpoints.siglip(folder / "siglip", vocab_size=600)
    checkpoints.t5(folder / "t5", vocab_size=VOCABULARY, shard="40KB")
    for part in ("siglip", "t5"):
        (folder / part / "spiece.model").write_bytes(checkpoints.small_proto())
    return folder


def test_all_public_weights_are_taken(sources: Path, tmp_path: Path) -> None:
    write_stored(assemble(sources / "siglip", sources / "t5"), tmp_path / "pali")
    made = open_model(tmp_path / "pali")
    weights = made.weights()
    assert isinstance(made.config, PaliModelConfig)
    tokenizer, known = read_tokenizer(sources / "t5")
    assert made.tokenizer.proto == tokenizer.proto
    assert made.config.text.vocab_size == tokenizer.vocab_size == known + 3 + 128
    for key, value in read_image_encoder(sources / "siglip").vit.items():
        assert torch.equal(weights[f"vit.{key}"], value), key
    for key, value in read_t5(sources / "t5").weights.items():
        rows = known if key in ("embed.weight", "head.weight") else None
        assert torch.equal(weights[f"text.{key}"][:rows], value[:rows]), key
    assert (made.preprocess.height, made.preprocess.width) == (12, 12)
    assert made.facts.parts == {
        "vision": str(sources / "siglip"),
        "text": str(sources / "t5"),
    }
    assert made.facts.positions == {"method": "as trained", "from": [3, 3], "to": [3, 3]}
    assert made.facts.vocabulary == {"kept": known, "new": 131, "seed": 0}
    assert json.loads((tmp_path / "pali" / "config.json").read_text())["facts"] == made.facts.json_object()
    made.model()


def test_positions_are_resampled_and_recorded(sources: Path, tmp_path: Path) -> None:
    write_stored(assemble(sources / "siglip", sources / "t5"), tmp_path / "pali", (20, 28))
    made = open_model(tmp_path / "pali")
    assert made.config.vision.grid == (5, 7)
    assert (made.preprocess.height, made.preprocess.width) == (20, 28)
    expected = resample_positions(read_image_encoder(sources / "siglip").vit["positions"], (3, 3), (5, 7))
    assert torch.equal(made.weights()["vit.positions"], expected)
    assert made.facts.positions == {
        "method": "bilinear, corners aligned, no antialiasing",
        "from": [3, 3],
        "to": [5, 7],
    }
    for size in ((18, 20), (0, 20)):
        with pytest.raises(ValueError, match=rf"{size[0]} x 20 pixels do not divide into patches of 4: .*, as "):
            write_stored(assemble(sources / "siglip", sources / "t5"), tmp_path / "other", size)


def test_new_rows_are_like_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(500, 8, generator=generator) * torch.arange(1.0, 9.0) + 5
    extended = extend_rows(matrix.bfloat16(), 400, 4400, generator)
    assert extended.dtype == torch.bfloat16
    assert torch.equal(extended[:400], matrix[:400].bfloat16())
    fresh = extended[400:].float()
    torch.testing.assert_close(fresh.std(0), matrix[:400].std(0), rtol=0.1, atol=0)
    torch.testing.assert_close(fresh.mean(0), matrix[:400].mean(0), rtol=0, atol=0.6)
    assert torch.equal(extend_rows(matrix, 400, 400, generator), matrix[:400])


def test_a_model_from_parts_answers(sources: Path, tmp_path: Path) -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    pali = Pali.from_parts(vision=sources / "siglip", text=sources / "t5", size=16)
    folder = pali.folder
    assert open_model(folder).config.vision.grid == (4, 4)
    assert isinstance(pali.caption([image])[0], str)
    del pali
    gc.collect()  # its components know it
    assert not folder.exists()
    kept = Pali.from_parts(vision=sources / "siglip", text=sources / "t5", out=tmp_path / "kept")
    del kept
    assert isinstance(Pali.from_pretrained(tmp_path / "kept").answer([image], ["what is this?"])[0], str)


def test_tokenizer_and_embedding_must_belong_together(sources: Path, tmp_path: Path) -> None:
    checkpoints.t5(tmp_path / "text", vocab_size=300)
    (tmp_path / "text" / "spiece.model").write_bytes(checkpoints.small_proto())
    with pytest.raises(ValueError, match=r"its tokenizer has \d+ ids and its embedding 300 rows"):
        write_stored(assemble(sources / "siglip", tmp_path / "text"), tmp_path / "pali")
    assert not (tmp_path / "pali").exists()


def test_a_siglip_is_converted_alone(sources: Path, tmp_path: Path) -> None:
    """Both towers become an OpenPaLI SigLIP with the same similarities."""
    convert([sources / "siglip"], tmp_path / "siglip")
    made = open_model(tmp_path / "siglip")
    assert isinstance(made.config, SigLIPConfig)
    assert made.config.text.vocab_size == made.tokenizer.vocab_size
    pali = Pali(tmp_path / "siglip")
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    assert pali.similarity([image], ["a red circle", "dog"]).shape == (1, 2)
    checkpoints.image_encoder(tmp_path / "alone")
    with pytest.raises(ValueError, match="has only an image encoder: give a language model"):
        convert([tmp_path / "alone"], tmp_path / "other")


# ---- the commands


def test_convert_reports_parity_of_each_layer(openpali, sources: Path, tmp_path: Path) -> None:
    convert = "convert", sources / "t5", sources / "siglip", "--out", tmp_path / "pali"
    lines = openpali(*convert, "--size", "16x20", "--report").splitlines()
    said = "\n".join(lines)
    assert "image encoder and text tower, MAP head" in said
    assert "of 14 x 14 pixels, whole patches cover 12 x 12" in said
    assert "position embeddings: [3, 3] -> [4, 5], bilinear, corners aligned" in said
    compared = [line for line in lines if "max difference" in line]
    assert len(compared) == 2 + 2 + 3 + 2 + 5
    assert all(float(line.rsplit(" ", 1)[1]) <= 1e-5 for line in compared)
    assert any(line.startswith("worst: ") for line in lines)
    assert lines[-1] == f"model written to {tmp_path / 'pali'}"


def test_export_writes_what_transformers_opens(openpali, sources: Path, tmp_path: Path) -> None:
    write_stored(assemble(sources / "siglip", sources / "t5"), tmp_path / "pali")
    openpali("export", tmp_path / "pali", "--out", tmp_path / "out")
    ours = open_model(tmp_path / "pali")
    model = ours.model()
    for cls, part in ((SiglipVisionModel, "vision"), (AutoModelForSeq2SeqLM, "text")):
        _, info = cls.from_pretrained(tmp_path / "out" / part, output_loading_info=True)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs = T5Tokenizer.from_pretrained(tmp_path / "out" / "text")
    for text in checkpoints.TEXTS[:4]:
        assert theirs(text).input_ids == [*ours.tokenizer.encode(text), 1]
    write_stored(assemble(tmp_path / "out" / "vision", tmp_path / "out" / "text"), tmp_path / "again")
    again = open_model(tmp_path / "again")
    assert again.config == ours.config
    assert again.facts.vocabulary["new"] == 0
    for key, value in model.state_dict().items():
        if not key.startswith("project."):
            assert torch.equal(again.weights()[key], value), key


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP 2, of which transformers wrote model, tokenizer and image processor."""
    return checkpoints.siglip2_files(tmp_path_factory.mktemp("second"))


@pytest.mark.parametrize(
    ("source", "config", "expected"),
    [
        ("siglip", {}, ("canonical", "eos")),
        ("siglip", {"tokenizer_class": "SiglipTokenizer"}, ("canonical", "eos")),
        ("siglip", {"tokenizer_class": "SiglipTokenizer", "pad_token": "<pad>", "eos_token": "</s>"},
         ("canonical", "pad")),
        ("second", {"tokenizer_class": "GemmaTokenizer"}, ("lower", "pad")),
        ("second", {"tokenizer_class": "Siglip2Tokenizer", "pad_token": {"content": "<pad>"}, "eos_token": "<eos>"},
         ("lower", "pad")),
        ("second", {}, ("lower", "pad")),
    ],
)  # fmt: skip
def test_texts_are_read_as_the_checkpoints_tokenizer_does(
    sources: Path, second: Path, tmp_path: Path, source: str, config: dict[str, object], expected: tuple[str, str]
) -> None:
    folder = tmp_path / "siglip"
    shutil.copytree({"siglip": sources / "siglip", "second": second}[source], folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    convert([folder], tmp_path / "ours")
    made = open_model(tmp_path / "ours")
    assert (made.facts.normalisation, made.facts.padding) == expected
    encoder = Pali(tmp_path / "ours").embedding._encoder
    assert (encoder.normalisation, encoder.padding) == expected


def test_a_siglip_2_embeds_texts_as_transformers_does(second: Path, tmp_path: Path) -> None:
    """One EOS, then padding."""
    convert([second], tmp_path / "ours")
    pali, theirs = Pali(tmp_path / "ours"), SiglipModel.from_pretrained(second).eval()
    texts = ["a red circle", "two BLUE stars, and (one) dog"]
    length, tokenizer = pali.embedding.model.config.text.length, AutoTokenizer.from_pretrained(second)
    lower = [text.lower() for text in texts]
    ids = tokenizer(lower, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    assert (ids[0] == tokenizer.eos_token_id).sum() == 1
    assert ids[0, -1] == tokenizer.pad_token_id
    assert pali.embedding._encoder.text(texts[0]).tolist() == ids[0].tolist()
    with torch.inference_mode():
        expected = theirs.get_text_features(ids, return_dict=True).pooler_output
    expected = torch.nn.functional.normalize(expected, dim=-1).numpy()
    np.testing.assert_allclose(pali.embed_text(texts), expected, atol=1e-5)
    assert pali.embedding.count([texts[0]]) == len(pali.embedding.tokenizer.encode(texts[0]))
    export(open_model(tmp_path / "ours"), tmp_path / "theirs")
    written = AutoTokenizer.from_pretrained(tmp_path / "theirs")
    assert written(texts, padding="max_length", max_length=length).input_ids == ids.tolist()
    convert([tmp_path / "theirs"], tmp_path / "again")
    np.testing.assert_array_equal(Pali(tmp_path / "again").embed_text(texts), pali.embed_text(texts))


def test_an_exported_siglip_keeps_its_text_normalisation(sources: Path, tmp_path: Path) -> None:
    """transformers' tokenizer honours it, but for punctuation, which is said."""
    convert([sources / "siglip"], tmp_path / "ours")
    for facts, normalisation in (
        ({}, "canonical"),
        ({"text_normalisation": "lower"}, "lower"),
        ({"recipe": {"keep_case": True}}, "as is"),
    ):
        add_facts(tmp_path / "ours", **facts)
        ours = open_model(tmp_path / "ours")
        with nullcontext() if normalisation == "canonical" else pytest.warns(Inexpressible):
            export(ours, tmp_path / "theirs")
        theirs = AutoTokenizer.from_pretrained(tmp_path / "theirs")
        assert (type(theirs), theirs.model_max_length) == (SiglipTokenizer, 5)
        text = "A RED circle" + (", it's!" if normalisation == "canonical" else "")
        ids = theirs(text, padding="max_length", max_length=24).input_ids
        assert ids == PairEncoder(ours.tokenizer, 24, normalisation).text(text).tolist()
        convert([tmp_path / "theirs"], tmp_path / "again")
        assert open_model(tmp_path / "again").facts.normalisation == normalisation


def test_ids_are_those_of_transformers_siglip_tokenizer(sources: Path, tmp_path: Path) -> None:
    theirs = SiglipTokenizer(str(sources / "siglip" / "spiece.model"))
    tokenizer = read_tokenizer(sources / "siglip")[0]
    for text in (
        "A RED circle, on the table!",
        "it's  (one) dog?",
        "two-tone  #1\n",  # not at the front: there theirs keeps a space, which says nothing
        "der Hund läuft...",
        "What: 12+30",
    ):
        expected = theirs(text, padding="max_length", max_length=24, truncation=True).input_ids
        assert PairEncoder(tokenizer, 24, "canonical").text(text).tolist() == expected
    assert PairEncoder(tokenizer, 24).text("a dog?").tolist() != PairEncoder(tokenizer, 24).text("a dog").tolist()


@pytest.mark.parametrize(("policy", "filtered"), product(get_args(Policy), FILTERS))
def test_transformers_sees_the_same_pixels(sources: Path, tmp_path: Path, policy: Policy, filtered: str) -> None:
    """Where it cannot, that is said."""
    convert([sources / "siglip"], tmp_path / "ours")
    ours = open_model(tmp_path / "ours")
    preprocess = Preprocess(12, 12, policy, filtered)
    with pytest.warns(Inexpressible) if filtered == "bilinear" else nullcontext():
        export(replace(ours, preprocess=preprocess), tmp_path / "theirs")
    assert same_pixels(tmp_path / "theirs", preprocess) == (filtered != "bilinear")
    convert([tmp_path / "theirs"], tmp_path / "again")
    assert open_model(tmp_path / "again").preprocess == preprocess


def same_pixels(theirs: Path, preprocess: Preprocess) -> bool:
    """Whether transformers' processor gives the pixels of ours."""
    image = np.random.default_rng(0).integers(0, 256, (48, 24, 3), np.uint8)
    found = AutoImageProcessor.from_pretrained(theirs)(image, return_tensors="pt").pixel_values[0].permute(1, 2, 0)
    return torch.allclose(found, torch.from_numpy(preprocess(image)) / 127.5 - 1, atol=1.01 / 127.5)


@pytest.mark.parametrize(("resample", "filtered"), [(2, "bilinear-antialias"), (3, "bicubic-antialias")])
def test_images_are_resized_as_the_checkpoint_says(
    sources: Path, tmp_path: Path, resample: int, filtered: str
) -> None:
    shutil.copytree(sources / "siglip", tmp_path / "siglip")
    processor = SiglipImageProcessor(size={"height": 12, "width": 12}, resample=resample)
    processor.save_pretrained(tmp_path / "siglip")
    convert([tmp_path / "siglip"], tmp_path / "ours")
    write_stored(assemble(tmp_path / "siglip", sources / "t5"), tmp_path / "pali")
    for made in (open_model(tmp_path / "ours"), open_model(tmp_path / "pali")):
        assert made.preprocess == Preprocess(12, 12, filter=filtered)
        assert same_pixels(tmp_path / "siglip", made.preprocess)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"image_mean": [0.48, 0.45, 0.40]}, "image_mean = "),
        ({"image_std": 0.27}, "image_std = "),
        ({"do_normalize": False}, "do_normalize = False"),
        ({"rescale_factor": 1.0}, "rescale_factor = "),
        ({"do_center_crop": True}, "do_center_crop = True"),
        ({"resample": 1}, "resample = 1"),
        ({"resample": 3, "antialias": False}, "bicubic without antialiasing"),
        ({"size": {"shortest_edge": 12}}, "keeps proportions"),
    ],
)
@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_images_that_ours_cannot_be_prepared_as_are_refused(
    tmp_path: Path, file: str, config: dict[str, object], message: str
) -> None:
    described = config if file.startswith("pre") else {"image_processor": config}
    (tmp_path / file).write_text(json.dumps(described))
    with pytest.raises(ValueError, match=message):
        read_preprocess(tmp_path, 12, 12)
    (tmp_path / file).write_text(json.dumps({"image_mean": 0.5, "do_center_crop": None, "resample": 2}))
    assert read_preprocess(tmp_path, 12, 8) == Preprocess(12, 8)


def test_export_of_a_siglip_a_bundle_and_others(openpali, sources: Path, tmp_path: Path) -> None:
    convert([sources / "siglip"], tmp_path / "siglip")
    openpali("export", tmp_path / "siglip", "--out", tmp_path / "out")
    convert([tmp_path / "out"], tmp_path / "again")
    a, b = MappedTensors(tmp_path / "siglip"), MappedTensors(tmp_path / "again")
    assert all(torch.equal(a[key], b[key]) for key in a)
    write_stored(assemble(sources / "siglip", sources / "t5"), tmp_path / "pali")
    masks = MaskVQVAEConfig(code_dim=8, width=16)
    write_model(tmp_path / "masks", materialise(build(masks)).state_dict(), masks, preprocess=None, tokenizer=None)
    described = {"parts": {"pali": "pali", "siglip": "siglip", "mask_vqvae": "masks"}, "tasks": {}}
    (tmp_path / "bundle.json").write_text(json.dumps(described))
    printed = openpali("export", tmp_path, "--out", tmp_path / "bundle")
    assert [line.split()[0] for line in printed.splitlines()] == ["pali", "pali", "siglip"]
    assert f"left out: mask_vqvae; `openpali export {tmp_path}/PART`" in openpali.errors
    assert "a mask_vqvae cannot be exported" in openpali("export", tmp_path / "masks", "--out", "x", fails=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["T5", "--size", "big"], "size 'big' must be pixels per side or HEIGHTxWIDTH"),
        (["T5", "--size", "15"], "15 x 15 pixels do not divide into patches of 4: use multiples"),
        (["nowhere"], "no checkpoint in nowhere: it has no config.json"),
        (["nowhere.npz"], "no file nowhere.npz"),
        (["SIGLIP"], "make no model: give a whole one, with or without its mask VQ-VAE, or an image encoder"),
        (["T5", "BROKEN"], "broken/config.json is not a configuration of transformers"),
    ],
)
def test_mistakes_end_in_one_sentence(
    openpali, sources: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": ["t5"]}')
    named = {"T5": str(sources / "t5"), "SIGLIP": str(sources / "siglip"), "BROKEN": str(tmp_path / "broken")}
    given = ["convert", named["SIGLIP"], "--out", str(tmp_path / "out")]
    assert message in openpali(*given, *(named.get(a, a) for a in arguments), fails=True)
