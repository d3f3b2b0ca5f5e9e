"""Model folders: round trips, and errors that name the file and the fix."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from openpali import Pali, tensors
from openpali.architectures.facts import Facts
from openpali.architectures.registry import build
from openpali.data.media.images import Preprocess
from openpali.eval.provenance import hash_model
from openpali.metrics.calibration import Calibration
from openpali.model.init import materialise
from openpali.model.lora import LoraConfig
from openpali.tensors import load_exactly
from openpali.weights.adapters import Adapter, read_adapter, write_adapter
from openpali.weights.bundle import mask_codec_of
from openpali.weights.format import add_facts, open_model
from openpali.weights.write import write_model
from weights.folders import CONFIGS, write


@pytest.mark.parametrize("kind", CONFIGS)
def test_round_trip(kind, tmp_path, tokenizer) -> None:
    opened = open_model(write(tmp_path / "model", kind, tokenizer, samples=7, langs=["en", "zh"]))
    assert (opened.kind, opened.config) == (kind, CONFIGS[kind])
    assert opened.preprocess == (None if kind == "mask_vqvae" else Preprocess(72, 72))
    assert opened.facts == Facts(samples=7, langs=["en", "zh"])
    assert opened.tokenizer.encode("a red star") == tokenizer.encode("a red star")
    torch.manual_seed(0)
    expected = materialise(build(CONFIGS[kind])).state_dict()
    model = opened.model()
    assert type(model) is type(build(CONFIGS[kind]))
    assert not model.training
    actual = model.state_dict()
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], expected[key]) for key in expected)
    assert sorted(path.name for path in opened.folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.model",
    ]


def test_bf16_on_disk_is_float32_in_memory(tmp_path) -> None:
    folder = write(tmp_path / "model", "pali")
    whole = load_file(folder / "model.safetensors")
    save_file({key: value.to(torch.bfloat16) for key, value in whole.items()}, folder / "model.safetensors")
    model = open_model(folder).model()
    for key, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, whole[key].to(torch.bfloat16).float())


def test_every_tensor_that_does_not_fit_is_listed(tmp_path) -> None:
    folder = write(tmp_path / "model", "siglip")
    weights = load_file(folder / "model.safetensors")
    del weights["pool.probe"], weights["bias"]
    weights |= {"extra": torch.zeros(1), "text.positions": torch.zeros(3, 32)}
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError) as error:
        open_model(folder).model()
    for part in (
        "pool.probe is missing",
        "bias is missing",
        "extra is not of this model",
        "text.positions has shape (3, 32), the model expects (16, 32)",
    ):
        assert part in str(error.value)
    assert str(folder) in str(error.value)
    assert str(error.value).count(";") == 3


def test_errors_name_a_few_of_hundreds_of_tensors(tmp_path) -> None:
    folder = write(tmp_path / "model", "siglip")
    weights = load_file(folder / "model.safetensors")
    (folder / "config.json").write_text((write(tmp_path / "masks", "mask_vqvae") / "config.json").read_text())
    with pytest.raises(ValueError) as error:
        open_model(folder).model()
    message = str(error.value).removeprefix(f"weights of {folder} ")
    assert message.count("is not of this model") == tensors.LISTED
    assert message.endswith(f"and {len(weights) - tensors.LISTED} more")
    assert len(message) < 800


@pytest.mark.parametrize(
    ("file", "text", "kind", "fix"),
    [
        ("config.json", '{"model_type": "siglip", "vision_config": {}}', ValueError, "`openpali convert`"),
        ("config.json", '{"name": "a"}', ValueError, "give a model folder, a run, or a model that ships"),
        ("vit.npz", "", FileNotFoundError, "no model in .*: it has no config.json; run `openpali convert`"),
        ("notes.txt", "", FileNotFoundError, "no model in .*: it has no config.json"),
    ],
)
def test_folders_without_a_model_name_the_fix(file, text, kind, fix, tmp_path) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(kind, match=fix):
        open_model(tmp_path)


def test_load_exactly_changes_nothing_if_it_fails() -> None:
    model = materialise(build(CONFIGS["classifier"]))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    weights = {key: value + 1 for key, value in before.items() if key != "head.bias"}
    with pytest.raises(ValueError):
        load_exactly(model, weights, "x")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_damaged_and_missing_weights(tmp_path) -> None:
    folder = write(tmp_path / "model", "classifier")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        open_model(folder).weights()
    weights.unlink()
    with pytest.raises(ValueError, match=re.escape(str(folder))):
        open_model(folder).weights()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "clip"},
        {"format": 2},
        {"config": {"vision": {}}},
        {"config": {"vison": {}, "labels": []}},
        {"preprocess": {"height": 8, "width": 8, "policy": "crop"}},
        {"facts": None},
        {"facts": "missing"},
        {"facts": {"samples": "many"}},
        "[]",
        "{",
    ],
)
def test_unreadable_configurations(change, tmp_path) -> None:
    folder = write(tmp_path / "model", "classifier")
    file = folder / "config.json"
    if isinstance(change, str):
        file.write_text(change)
    else:
        described = json.loads(file.read_text()) | change
        if change == {"facts": "missing"}:
            del described["facts"]
        file.write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"config.json is no model configuration that this version reads"):
        open_model(folder)


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("text.heads", 3.5, "a valid integer"),
        ("vision.depth", [], "a valid integer"),
        ("text.d_head", [], "a valid integer"),
        ("text.dropout", [1], "a valid number"),
        ("vision.heads", "3", "a valid integer"),
    ],
)
def test_a_value_of_a_wrong_type_is_named(place, value, expected, tmp_path, bundle) -> None:
    described = json.loads((bundle / "pali" / "config.json").read_text())
    half, key = place.split(".")
    described["config"][half][key] = value
    (tmp_path / "config.json").write_text(json.dumps(described))
    told = f"config.json is no model.*config.{place} = {json.dumps(value)} must be {expected}"
    with pytest.raises(ValueError, match=re.sub(r"[\[\]]", r"\\\g<0>", told)):
        open_model(tmp_path)


def test_an_unknown_key_of_a_shape_is_named(tmp_path, bundle) -> None:
    described = json.loads((bundle / "pali" / "config.json").read_text())
    described["config"]["text"]["layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"config.text has no layers; did you mean 'encoder_layers'\?"):
        open_model(tmp_path)


def test_a_model_without_text_keeps_no_tokenizer_of_the_one_it_replaces(tmp_path, bundle) -> None:
    known = open_model(bundle / "pali")
    folder = write(tmp_path / "model", "classifier")
    (folder / "tokenizer.model").write_bytes(known.tokenizer.proto)
    write(folder, "classifier")
    assert not open_model(folder).has_tokenizer
    other = tmp_path / "theirs"
    other.mkdir()
    (other / "tokenizer.model").write_bytes(b"not ours")
    write(other, "classifier")
    assert (other / "tokenizer.model").read_bytes() == b"not ours"


def test_a_base_holds_the_missing_tensors(tmp_path) -> None:
    whole = open_model(write(tmp_path / "whole", "pali", seed=1)).weights()
    write(tmp_path / "main", "pali", seed=2)
    own = {key: value for key, value in whole.items() if not key.startswith("vit.")}
    write_model(tmp_path / "part", own, CONFIGS["pali"], preprocess=None, tokenizer=None, facts=Facts(base="main"))
    weights = open_model(tmp_path / "part").weights()
    base = open_model(tmp_path / "main").weights()
    assert weights.keys() == whole.keys()
    assert all(torch.equal(v, (base if k.startswith("vit.") else whole)[k]) for k, v in weights.items())
    open_model(tmp_path / "part").model()
    (tmp_path / "main" / "config.json").unlink()
    with pytest.raises(FileNotFoundError):
        open_model(tmp_path / "part").weights()


def test_a_folder_holds_an_adapter_or_a_whole_model(tmp_path) -> None:
    base, folder = (write(tmp_path / name, "classifier") for name in ("base", "model"))
    adapter = Adapter(str(base), LoraConfig(2, 4.0, []), {})
    write_model(folder, adapter, CONFIGS["classifier"], preprocess=None, tokenizer=None)
    assert open_model(folder).base
    assert not (folder / "model.safetensors").exists()
    write(folder, "classifier", seed=1)
    assert open_model(folder).adapter is None
    assert not torch.equal(open_model(folder).weights()["pool.probe"], open_model(base).weights()["pool.probe"])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_an_adapter_of_an_adapter_or_of_another_size_is_refused(tmp_path) -> None:
    base = write(tmp_path / "base", "pali")
    changed = "text.decoder.0.ff.down"
    rows, columns = open_model(base).weights()[f"{changed}.weight"].shape

    def adapter(folder: str, of: Path, width: int) -> Path:
        tensors = {f"{changed}.lora.down": torch.zeros(2, width), f"{changed}.lora.up": torch.zeros(rows, 2)}
        write_adapter(tmp_path / folder, Adapter(str(of), LoraConfig(2, 4.0, [changed]), tensors))
        return tmp_path / folder

    first = adapter("first", base, columns)
    assert open_model(first).weights()[f"{changed}.weight"].shape == (rows, columns)
    with pytest.raises(ValueError, match=r"an adapter itself: .*openpali export --format openpali"):
        _ = open_model(adapter("second", first, columns)).weights()
    with pytest.raises(ValueError, match=rf"of shape \[{rows}, {columns + 1}\], and the model's is"):
        _ = open_model(adapter("wide", base, columns + 1)).weights()[f"{changed}.weight"]


def test_only_plain_adapters_are_read(tmp_path) -> None:
    """PEFT changes the base, too, when it loads what began as PiSSA and the like."""
    tensors = {f"layer.lora.{part}": torch.zeros(2, 2) for part in ("down", "up")}
    write_adapter(tmp_path, Adapter("base", LoraConfig(2, 4.0, ["layer"]), tensors))
    file = tmp_path / "adapter_config.json"
    plain = json.loads(file.read_text())

    def set_to(key: str, value: object) -> None:
        file.write_text(json.dumps({**plain, key: value}))

    for start in (True, False, None, "gaussian", "eva", "orthogonal", "mica"):
        set_to("init_lora_weights", start)
        assert read_adapter(tmp_path).tensors.keys() == tensors.keys()
    starts = ("pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga")
    for key, value in (
        *(("init_lora_weights", start) for start in starts),
        ("layer_replication", [[0, 2], [1, 3]]),
        ("alora_invocation_tokens", [5, 6]),
        ("target_parameters", ["text.embed.weight"]),  # an embedding's change, which only a merge would apply
    ):
        set_to(key, value)
        with pytest.raises(ValueError, match=f"{key} = {re.escape(repr(value))}: only plain .* merge_and_unload"):
            read_adapter(tmp_path)


def test_an_adapter_of_peft_has_the_facts_of_its_base_but_not_of_its_run(tmp_path) -> None:
    """They may be added, as `openpali calibrate` does."""
    run = {"run": "first", "samples": 7, "recipe": {"model": {"masks": str(tmp_path / "masks")}}}
    facts = {"tasks": {"detect": {"bins": 48}}, "max_prompt": 9}
    base = write(tmp_path / "base", "pali", **run, **facts, calibration={"caption": {"temperature": 3.0}})
    masks, folder = write(tmp_path / "masks", "mask_vqvae"), tmp_path / "adapter"
    write_adapter(folder, Adapter(str(base), LoraConfig(2, 4.0, []), {}))
    bare = open_model(folder)
    assert bare.facts == Facts(**facts)
    assert mask_codec_of(folder) == str(masks)
    add_facts(folder, calibration={"caption": {"temperature": 2.0}})
    opened = open_model(folder)
    assert opened.adapter
    assert opened.facts == Facts(**facts, calibration={"caption": Calibration(2.0)})
    assert (opened.config, opened.preprocess) == (bare.config, bare.preprocess)


def test_a_recipe_decides_the_normalisation_of_texts() -> None:
    assert Facts(recipe={"keep_case": True}).normalisation == "as is"
    assert Facts(recipe={"keep_case": False}, text_normalisation="canonical").normalisation == "canonical"


def test_score_cards_tell_models_of_other_shapes_apart(tmp_path, bundle) -> None:
    known = hash_model(Pali.from_pretrained(bundle))
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    file = folder / "pali" / "config.json"
    described = json.loads(file.read_text())
    described["config"]["vision"]["heads"] *= 2  # which no tensor tells
    file.write_text(json.dumps(described))
    assert hash_model(Pali.from_pretrained(folder)) != known
