"""T5's bundle as transformers writes it: every layer, generated tokens, and policies of the head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from openpali.architectures.halves.t5 import read_t5, write_t5
from openpali.architectures.pali import PaliModel, PaliModelConfig
from openpali.infer.generate import Decoding, generate
from openpali.model.init import init_weights
from openpali.model.t5 import EncoderDecoder, T5Config
from openpali.model.vit import ViTConfig
from openpali.tensors import INDEX, load_exactly, write_tensors
from openpali_lab.parity import compare_texts

from . import checkpoints


def edit(folder: Path, config: dict[str, Any] | None = None, **weights: torch.Tensor | None) -> None:
    """Change a checkpoint; None removes a key, and `__` stands for a dot."""
    tensors: dict[str, torch.Tensor | None] = dict(load_file(folder / "model.safetensors"))
    tensors |= {key.replace("__", "."): value for key, value in weights.items()}
    save_file({k: v.clone() for k, v in tensors.items() if v is not None}, folder / "model.safetensors")
    described = json.loads((folder / "config.json").read_text()) | (config or {})
    kept = {key: value for key, value in described.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


def pali(folder: Path, dtype: torch.dtype = torch.float32) -> PaliModel:
    """The checkpoint as the language half of a PaLI, to generate from text alone."""
    language = read_t5(folder)
    model = init_weights(PaliModel(PaliModelConfig(ViTConfig(4, (1, 1), 8, 1, 8, 1), language.config)))
    load_exactly(model.text, {key: value.to(dtype) for key, value in language.weights.items()}, "it")
    return model.eval()


@pytest.mark.parametrize("kind", checkpoints.FAMILIES)
def test_every_layer_agrees(kind: str, tmp_path: Path) -> None:
    """In shards, like public checkpoints; lengths exceed the longest distance with a separate bucket."""
    checkpoints.t5(tmp_path, kind, shard="20KB")
    assert (tmp_path / INDEX).is_file()
    assert len(list(tmp_path.glob("*.safetensors"))) > 5
    language = read_t5(tmp_path)
    assert language.config.bias_per_layer == (kind == "umt5")
    assert language.config.activation == ("silu" if kind == "ul2" else "gelu")
    assert language.config.tied_head == (kind == "t5_tied")
    parities = compare_texts(language, tmp_path)
    assert [p.name.strip() for p in parities] == [
        "encoder layer 1",
        "encoder output",
        "decoder layer 1",
        "decoder layer 2",
        "logits",
    ]
    assert all(p.absolute <= 1e-5 and p.relative <= 1e-5 for p in parities), parities


@pytest.mark.parametrize("kind", checkpoints.FAMILIES)
def test_generated_tokens_are_the_same(kind: str, tmp_path: Path) -> None:
    """Greedy and by beams, for a batch with padding and its rows alone.

    Beams are compared at a fixed length: transformers and big_vision end them by different rules.
    """
    theirs = checkpoints.t5(tmp_path, kind, seed=3, num_layers=3)  # as many layers in each: their cache needs it
    ours = pali(tmp_path)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 50, (3, 20), generator=generator)
    mask = torch.arange(20) < torch.tensor([[20], [11], [4]])
    ids = ids * mask

    def free(_: list[int]) -> list[int]:
        return [token for token in range(50) if token != 1]

    for beams in (1, 3):
        expected = theirs.generate(
            ids, attention_mask=mask.long(), num_beams=beams, do_sample=False, max_new_tokens=8, min_new_tokens=8
        )
        decoding = Decoding(max_tokens=8, beams=beams, max_repeats=None)
        together = [g[0].ids for g in generate(ours, None, ids, decoding=decoding, allowed=free)]
        assert together == expected[:, 1:].tolist()
        for row, length in enumerate((20, 11, 4)):
            (alone,) = generate(ours, None, ids[row : row + 1, :length], decoding=decoding, allowed=free)
            assert alone[0].ids == together[row]
    until_the_end = theirs.generate(ids, attention_mask=mask.long(), do_sample=False, max_new_tokens=20)
    got = generate(ours, None, ids, decoding=Decoding(max_tokens=20, max_repeats=None))
    wanted = [row[1 : row.index(1) if 1 in row else None] for row in until_the_end.tolist()]
    assert [g[0].ids for g in got] == wanted


@pytest.mark.parametrize("kind", ["t5_v11", "umt5"])
def test_bf16_checkpoints_agree(kind: str, tmp_path: Path) -> None:
    """Equal in float32, and within bf16's precision in bf16."""
    checkpoints.t5(tmp_path, kind, dtype=torch.bfloat16)
    language = read_t5(tmp_path)
    assert {value.dtype for value in language.weights.values()} == {torch.bfloat16}
    assert max(p.relative for p in compare_texts(language, tmp_path)) <= 1e-5
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    ours = pali(tmp_path, torch.bfloat16).text
    ids = torch.randint(3, 50, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = ours.logits(ours.decode(ids[:, :6], ours.encode(ours.embed(ids), None), None)).float()
        expected = theirs(input_ids=ids, decoder_input_ids=ids[:, :6]).logits.float()
    assert (logits - expected).abs().max() / expected.abs().max() < 0.05


# ---- the output head


def logits_agree(folder: Path) -> bool:
    return max(p.relative for p in compare_texts(read_t5(folder), folder)) <= 1e-5


@pytest.mark.parametrize("said", [True, None])
def test_a_tied_head_as_version_4_wrote_it(tmp_path: Path, said: bool | None) -> None:
    """With copies of the embedding under every name; the configuration says so or leaves out the default."""
    checkpoints.t5(tmp_path, "t5_tied")
    shared = load_file(tmp_path / "model.safetensors")["shared.weight"]
    old = "decoder__block__0__layer__1__EncDecAttention__relative_attention_bias__weight"
    names = ("encoder__embed_tokens__weight", "decoder__embed_tokens__weight", "lm_head__weight")
    edit(
        tmp_path,
        {"tie_word_embeddings": said, "scale_decoder_outputs": None},
        **dict.fromkeys(names, shared),
        **{old: torch.ones(32, 4)},
    )
    language = read_t5(tmp_path)
    assert language.config.tied_head
    assert "head.weight" not in language.weights
    assert logits_agree(tmp_path)


def test_mt5_always_has_a_separate_head(tmp_path: Path) -> None:
    checkpoints.t5(tmp_path, "mt5")
    for said in (True, False):
        edit(tmp_path, {"tie_word_embeddings": said})
        assert logits_agree(tmp_path)


def test_a_contradiction_names_the_setting_that_decides(tmp_path: Path) -> None:
    checkpoints.t5(tmp_path, "t5_v11")
    edit(tmp_path, {"tie_word_embeddings": True, "scale_decoder_outputs": None})
    for lacking in ({}, {"scale_decoder_outputs": True}):
        edit(tmp_path, lacking)
        with pytest.raises(ValueError, match="set scale_decoder_outputs there"):
            read_t5(tmp_path)
    edit(tmp_path, {"scale_decoder_outputs": False})
    assert not read_t5(tmp_path).config.tied_head
    edit(tmp_path, lm_head__weight=None)  # as transformers 5 writes a head that equals the embedding
    assert not read_t5(tmp_path).config.tied_head
    assert logits_agree(tmp_path)
    edit(tmp_path, {"tie_word_embeddings": False, "scale_decoder_outputs": None})
    with pytest.raises(ValueError, match="set scale_decoder_outputs there"):
        read_t5(tmp_path)


# ---- what does not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feed_forward_proj": "relu"}, "has feed_forward_proj = 'relu', and only .* for T5, use v1.1 or Flan-T5"),
        ({"feed_forward_proj": None}, "feed_forward_proj = 'relu'"),
        ({"model_type": "bart"}, "holds a 'bart', which is none of t5, mt5, umt5"),
        ({"num_layers": 3}, r"encoder.block.2.layer.0.layer_norm.weight is missing"),
    ],
)
def test_errors_name_what_cannot_be_read(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    checkpoints.t5(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        read_t5(tmp_path)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("notes.txt", "no weights in .*: it has no model.safetensors"),
        ("pytorch_model.bin", "no model.safetensors, but pytorch_model.bin: a pickle"),
    ],
)
def test_missing_weights_are_named_and_pickles_never_read(tmp_path: Path, file: str, message: str) -> None:
    with pytest.raises(FileNotFoundError):
        read_t5(tmp_path)
    checkpoints.t5(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / file)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=message):
        read_t5(tmp_path)


# ---- and back


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"activation": "gelu"},
        {"tied_head": True},
        {"bias_per_layer": True},
        {"max_distance": 20, "buckets": 16},
    ],
)
def test_transformers_opens_our_t5(change: dict[str, Any], tmp_path: Path) -> None:
    """transformers loads it without missing or unexpected keys, and we read the same weights back."""
    torch.manual_seed(0)
    config = T5Config(**{**dict(vocab_size=50, d_model=32, d_head=6, heads=4, d_ff=40), **change},
                      encoder_layers=2, decoder_layers=3)  # fmt: skip
    model = init_weights(EncoderDecoder(config)).eval()
    tensors, described = write_t5(model.state_dict(), config)
    write_tensors(tmp_path, tensors)
    (tmp_path / "config.json").write_text(json.dumps(described))
    theirs, info = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.randint(3, 50, (2, 30))
    with torch.no_grad():
        expected = theirs.eval()(input_ids=ids, decoder_input_ids=ids[:, :9]).logits
        logits = model.logits(model.decode(ids[:, :9], model.encode(model.embed(ids), None), None))
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    again = read_t5(tmp_path)
    assert again.config == config
    assert all(torch.equal(again.weights[key], value) for key, value in model.state_dict().items())
