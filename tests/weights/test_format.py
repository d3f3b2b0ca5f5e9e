"""Model folders: what is written is what is read, and what is wrong with one is said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from openpali.data.media.images import Preprocess
from openpali.interop.names import read_config
from openpali.model.init import materialise
from openpali.model.sizes import PRESETS
from openpali.model.vit import ViT, resample_positions
from openpali.text.tokenizer import Tokenizer
from openpali.weights import tensors
from openpali.weights.family import find_model, open_family, open_tokenizer, pack_family
from openpali.weights.format import ClassifierConfig, build, open_model, write_model
from openpali.weights.mask_codec import open_mask_codec
from openpali.weights.quantize import write_int8
from openpali.weights.tensors import load_exactly
from openpali.weights.transplant import transplant

PICO = PRESETS["pico"]
CONFIGS = {
    "siglip": dataclasses.replace(PICO.siglip, bias=-3.0),
    "classifier": ClassifierConfig(PICO.vision, ("a", "b", "ç")),
    "pali": dataclasses.replace(PICO.pali, text=dataclasses.replace(PICO.language, dropout=0.25)),
    "mask_vqvae": PICO.masks,
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a red circle", "a blue star"] * 10, 700)


def write(folder: Path, kind: str, tokenizer: Tokenizer | None = None, seed: int = 0, **facts: object) -> Path:
    torch.manual_seed(seed)
    config = CONFIGS[kind]
    preprocess = None if kind == "mask_vqvae" else Preprocess(72, 72)
    weights = materialise(build(config)).state_dict()
    write_model(folder, weights, config, preprocess=preprocess, tokenizer=tokenizer, facts=facts)
    return folder


@pytest.mark.parametrize("kind", CONFIGS)
def test_round_trip(kind, tmp_path, tokenizer) -> None:
    bundle = open_model(write(tmp_path / "model", kind, tokenizer, samples=7, langs=["en", "zh"]))
    assert (bundle.kind, bundle.config) == (kind, CONFIGS[kind])
    assert bundle.preprocess == (None if kind == "mask_vqvae" else Preprocess(72, 72))
    assert bundle.facts == {"samples": 7, "langs": ["en", "zh"]}
    assert bundle.tokenizer.encode("a red star") == tokenizer.encode("a red star")
    torch.manual_seed(0)
    expected = materialise(build(CONFIGS[kind])).state_dict()
    model = bundle.model()
    assert type(model) is type(build(CONFIGS[kind]))
    assert not model.training
    actual = model.state_dict()
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], expected[key]) for key in expected)
    assert sorted(path.name for path in bundle.folder.iterdir()) == [
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
    with pytest.raises(ValueError, match=r"do not fit") as error:
        open_model(folder).model()
    for part in (
        "pool.probe is missing",
        "bias is missing",
        "extra is not of this model",
        "text.positions has shape (3, 32), the model wants (16, 32)",
    ):
        assert part in str(error.value)
    assert str(folder) in str(error.value)
    assert str(error.value).count(";") == 3


def test_of_hundreds_of_tensors_that_do_not_fit_a_few_are_named(tmp_path) -> None:
    folder = write(tmp_path / "model", "siglip")
    weights = load_file(folder / "model.safetensors")
    (folder / "config.json").write_text((write(tmp_path / "masks", "mask_vqvae") / "config.json").read_text())
    with pytest.raises(ValueError, match=r"do not fit") as error:
        open_model(folder).model()
    message = str(error.value).removeprefix(f"weights of {folder} ")
    assert message.count("is not of this model") == tensors.LISTED
    assert message.endswith(f"and {len(weights) - tensors.LISTED} more")
    assert len(message) < 800


def test_the_tokenizer_of_a_folder_is_parsed_once(tmp_path, tokenizer, monkeypatch) -> None:
    opened = open_model(write(tmp_path / "model", "pali", tokenizer))
    calls = []
    load = Tokenizer.load

    def counted(path: Path) -> Tokenizer:
        calls.append(path)
        return load(path)

    monkeypatch.setattr(Tokenizer, "load", counted)
    assert opened.tokenizer is opened.tokenizer
    assert opened.tokenizer.proto == tokenizer.proto
    assert calls == [opened.folder / "tokenizer.model"]


def test_folders_of_other_libraries_name_the_fix(tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "siglip", "vision_config": {}}')
    with pytest.raises(ValueError, match=r"it is a 'siglip' of transformers: .* with `openpali convert`"):
        open_model(tmp_path)
    (tmp_path / "config.json").write_text('{"name": "something"}')
    with pytest.raises(ValueError, match=r"it has no format: give a model folder, a run, or a model that ships"):
        open_model(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "vit.npz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"it has no config.json; run `openpali convert`"):
        open_model(tmp_path)


def test_load_exactly_changes_nothing_where_it_refuses() -> None:
    model = materialise(build(CONFIGS["classifier"]))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    weights = {key: value + 1 for key, value in before.items() if key != "head.bias"}
    with pytest.raises(ValueError, match=r"weights of x do not fit: head.bias is missing"):
        load_exactly(model, weights, "x")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_damaged_and_missing_files(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model in .*: it has no config.json"):
        open_model(tmp_path)
    folder = write(tmp_path / "model", "classifier")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged or missing"):
        open_model(folder).weights()
    weights.unlink()
    with pytest.raises(ValueError, match=r"model.safetensors is damaged or missing"):
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
        "[]",
        "{",
    ],
)
def test_configurations_that_cannot_be_read(change, tmp_path) -> None:
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


def test_weights_are_replaced_whole(tmp_path, monkeypatch) -> None:
    """Who has the old file mapped keeps it, and a full disk leaves it."""
    folder = write(tmp_path / "model", "classifier")
    mapped = open_model(folder).weights()
    before = {key: value.clone() for key, value in mapped.items()}
    write(folder, "classifier", seed=1)
    assert all(torch.equal(mapped[key], before[key]) for key in before)
    new = open_model(folder).weights()
    assert not torch.equal(new["pool.probe"], before["pool.probe"])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(OSError, match=r"model.safetensors cannot be written: .*No space left"):
        write(folder, "classifier", seed=2)
    assert torch.equal(open_model(folder).weights()["pool.probe"], new["pool.probe"])


def test_find_model(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    run = write(tmp_path / "runs" / "mine" / "first" / "model", "classifier")
    assert find_model("mine/first") == run
    assert find_model(str(run)) == run
    assert find_model(str(run.parent)) == run
    monkeypatch.chdir(run.parents[1])
    assert find_model("first").resolve() == run
    with pytest.raises(FileNotFoundError, match=r"no model 'mine/second': neither a model folder"):
        find_model("mine/second")


def test_a_tokenizer_that_is_not_there_is_built_only_if_it_can_be(tmp_path, monkeypatch, tokenizer) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    write(tmp_path / "run" / "model", "pali", tokenizer)
    assert open_tokenizer(str(tmp_path / "run")).proto == tokenizer.proto
    with pytest.raises(FileNotFoundError, match="run `openpali data build mini-vocabulary`"):
        open_tokenizer("mini-vocabulary")
    with pytest.raises(
        FileNotFoundError, match=r"no tokenizer 'nano-vocab': give its file, .* nano-vocabulary, mini"
    ):
        open_tokenizer("nano-vocab")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.json", open_model),
        ("config.json", read_config),
        ("family.json", open_family),
        ("family.toml", lambda folder: pack_family(folder / "family.toml", folder / "out")),
        (tensors.INDEX, tensors.MappedTensors),
    ],
)
def test_an_error_names_the_file_and_does_not_print_it(name, read, tmp_path) -> None:
    (tmp_path / name).write_bytes(b"\xff" * 10_000)
    with pytest.raises(ValueError, match=name) as raised:
        read(tmp_path)
    assert "UnicodeDecodeError: 'utf-8' codec" in str(raised.value)
    assert len(str(raised.value)) < 200 + len(str(tmp_path))


def test_a_base_holds_what_is_missing(tmp_path) -> None:
    whole = open_model(write(tmp_path / "whole", "pali", seed=1)).weights()
    write(tmp_path / "main", "pali", seed=2)
    own = {key: value for key, value in whole.items() if not key.startswith("vit.")}
    write_model(tmp_path / "part", own, CONFIGS["pali"], preprocess=None, tokenizer=None, facts={"base": "main"})
    weights = open_model(tmp_path / "part").weights()
    base = open_model(tmp_path / "main").weights()
    assert weights.keys() == whole.keys()
    assert all(torch.equal(v, (base if k.startswith("vit.") else whole)[k]) for k, v in weights.items())
    open_model(tmp_path / "part").model()
    (tmp_path / "main" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no model in .*main"):
        open_model(tmp_path / "part").weights()


def test_families_pack_and_pack_again(tmp_path, tokenizer) -> None:
    write(tmp_path / "main", "pali", tokenizer, seed=1)
    write(tmp_path / "masks", "mask_vqvae", tokenizer)
    tuned = load_file(tmp_path / "main" / "model.safetensors")
    tuned["project.weight"] = tuned["project.weight"] + 1
    write_model(
        tmp_path / "tuned", tuned, CONFIGS["pali"], preprocess=Preprocess(72, 72), tokenizer=tokenizer, facts={}
    )
    description = tmp_path / "family.toml"

    def describe(folder: Path) -> None:
        parts = {"pali": "main", "tuned": "tuned", "masks": "masks"}
        lines = [f'{part} = "{folder / name}"' for part, name in parts.items()]
        description.write_text(
            "\n".join(['languages = ["en", "ja"]', "[parts]", *lines, "[tasks]", 'refseg = "tuned"'])
        )

    describe(tmp_path)
    sizes = pack_family(description, tmp_path / "family")
    assert list(load_file(tmp_path / "family/tuned/model.safetensors")) == ["project.weight"]
    assert sizes["tuned"] < sizes["pali"] / 10
    parts, tasks, languages = open_family(tmp_path / "family")
    assert languages == ("en", "ja")
    assert (set(parts), tasks) == ({"pali", "tuned", "masks"}, {"refseg": "tuned"})
    for key, value in open_model(parts["tuned"]).model().state_dict().items():
        assert torch.equal(value, tuned[key].to(torch.bfloat16).float())
    # parts of a family pack into another, whichever of them is the main one
    description.write_text(f'[parts]\npali = "{parts["tuned"]}"\nother = "{tmp_path / "main"}"\n')
    pack_family(description, tmp_path / "again")
    again = open_family(tmp_path / "again").parts
    assert torch.equal(
        open_model(again["pali"]).model().project.weight, open_model(parts["tuned"]).model().project.weight
    )
    assert list(load_file(again["other"] / "model.safetensors")) == ["project.weight"]
    parts = f'[parts]\npali = "{tmp_path / "main"}"\n'
    for text in ("", "[parts]\nmain = 'x'", "parts", "parts = 1", parts + "x = 5", f"tasks = 1\n{parts}"):
        description.write_text(text)
        with pytest.raises(ValueError, match=r"family.toml names no \[parts\] with a pali"):
            pack_family(description, tmp_path / "third")


def test_a_single_model_is_a_family(tmp_path) -> None:
    folder = write(tmp_path / "model", "siglip")
    write(tmp_path / "other", "classifier")
    assert open_family(folder) == ({"siglip": folder}, {}, ())
    (tmp_path / "family.json").write_text('{"parts": {"pali": "model", "siglip": "other"}, "tasks": {}}')
    with pytest.raises(
        ValueError, match=rf"is a family of several models: name one of its parts, {folder}, .*other$"
    ):
        open_model(tmp_path)
    (folder / "family.json").write_text("{}")
    with pytest.raises(ValueError, match=r"family.json cannot be understood"):
        open_family(folder)


def test_mask_codec(tmp_path) -> None:
    codec = open_mask_codec(write(tmp_path / "masks", "mask_vqvae"))
    mask = torch.zeros(64, 64).numpy()
    mask[10:30, 20:40] = 1
    codes = codec.encode(mask)
    assert len(codes) == 16
    assert all(0 <= code < 128 for code in codes)
    assert codec.decode(codes).shape == (64, 64)
    with pytest.raises(ValueError, match=r"other is no mask VQ-VAE"):
        open_mask_codec(write(tmp_path / "other", "classifier"))


# ---- parts from elsewhere


def test_transplant_takes_a_part_and_leaves_the_rest(tmp_path) -> None:
    origin = write(tmp_path / "siglip", "siglip", seed=1)
    source = open_model(origin).weights()
    model = materialise(build(CONFIGS["pali"]))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    transplant(model, "vit", str(origin))
    for key, value in model.state_dict().items():
        assert torch.equal(value, source[key] if key.startswith("vit.") else before[key])
    assert all(p.requires_grad for p in model.parameters())


def test_transplant_by_another_name(tmp_path) -> None:
    origin = write(tmp_path / "siglip", "siglip", seed=1)
    source = open_model(origin).weights()
    model = materialise(build(CONFIGS["siglip"]))
    transplant(model, "text.encoder", f"{origin}#vit.encoder")
    assert torch.equal(model.text.encoder.norm.weight, source["vit.encoder.norm.weight"])
    assert torch.equal(model.text.encoder.blocks[0].mlp.up.weight, source["vit.encoder.blocks.0.mlp.up.weight"])


def test_transplant_refuses_what_embeds_another_vocabulary(tmp_path, tokenizer) -> None:
    origin = write(tmp_path / "pali", "pali", tokenizer, seed=1)
    other = Tokenizer.train(["ein roter Kreis", "ein blauer Stern"] * 10, 700)
    model = materialise(build(CONFIGS["pali"]))
    for part in ("", "text", "text.embed", "text.head"):
        transplant(model, part, str(origin), tokenizer)
        with pytest.raises(
            ValueError, match=r"pali was trained with another vocabulary \(\d+ of \d+ ids differ; .*pali'"
        ):
            transplant(model, part, str(origin), other)
    for part in ("vit", "text.encoder"):
        transplant(model, part, str(origin), other)


@pytest.mark.parametrize("part", ["", "vit"])
@pytest.mark.parametrize("grid", [(6, 6), (8, 8), (4, 7)])
def test_transplant_resamples_positions(part, grid, tmp_path) -> None:
    origin = write(tmp_path / "pali", "pali", seed=1)
    positions = open_model(origin).weights()["vit.positions"]
    model = materialise(build(CONFIGS["pali"]))
    assert isinstance(model.vit, ViT)
    model.vit.set_grid(grid)
    transplant(model, part, str(origin))
    assert torch.equal(model.vit.positions, resample_positions(positions, (6, 6), grid))
    assert model.vit(torch.zeros(1, grid[0] * 12, grid[1] * 12, 3)).shape == (1, grid[0] * grid[1], 32)


def test_transplant_of_what_does_not_fit(tmp_path) -> None:
    origin = write(tmp_path / "classifier", "classifier")
    model = materialise(build(CONFIGS["pali"]))
    with pytest.raises(ValueError, match=rf"weights of {origin}#head do not fit: .*is missing; .*is not of this"):
        transplant(model, "vit", f"{origin}#head")
    with pytest.raises(ValueError, match=r"model.init names 'tower', and the parts of the model are vit, project"):
        transplant(model, "tower", str(origin))
    with pytest.raises(FileNotFoundError, match=r"no model 'nowhere'"):
        transplant(model, "vit", "nowhere")


@pytest.mark.parametrize("kind", CONFIGS)
def test_int8_models_are_smaller_and_nearly_the_same(tmp_path, tokenizer, kind: str) -> None:
    torch.manual_seed(0)
    model = materialise(build(CONFIGS[kind]))
    source, out = tmp_path / "float", tmp_path / "int8"
    write_model(source, model.state_dict(), CONFIGS[kind], preprocess=None, tokenizer=tokenizer, facts={"run": "x"})
    write_int8(open_model(source), out)
    bundle = open_model(out)
    assert bundle.facts == {"run": "x", "int8": True}
    assert bundle.tokenizer.proto == tokenizer.proto
    restored = bundle.model().state_dict()
    for name, weight in model.state_dict().items():
        value = restored[name]
        if value.dtype == torch.int8:
            value = value * restored[name.removesuffix("weight") + "scale"][:, None]
        torch.testing.assert_close(value.float(), weight.float(), atol=weight.abs().max().item() / 100, rtol=1e-2)
    small = [name for name, value in restored.items() if value.dtype == torch.int8]
    assert bool(small) == any(isinstance(m, torch.nn.Linear) for m in model.modules())
    wide = {name: widened(restored, name) for name in model.state_dict()}
    weights = bundle.weights()
    assert list(weights) == list(open_model(source).weights())
    assert all(torch.equal(weights[name].float(), wide[name]) for name in weights)
    floats = bundle.model(int8=False).state_dict()
    assert all(torch.equal(floats[name], wide[name]) for name in floats)
    with pytest.raises(ValueError, match="has int8 weights already"):
        write_int8(bundle, tmp_path / "again")


def widened(weights: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """A tensor as float32, times its scales where it is int8."""
    value = weights[name]
    scale = weights[name.removesuffix("weight") + "scale"][:, None] if value.dtype == torch.int8 else 1
    return value.float() * scale


def test_an_int8_model_packs_and_is_started_from_as_the_floats_that_it_stands_for(tmp_path, tokenizer) -> None:
    write(tmp_path / "float", "pali", tokenizer)
    write_int8(open_model(tmp_path / "float"), tmp_path / "int8")
    expected = open_model(tmp_path / "int8").model(int8=False).state_dict()
    description = tmp_path / "family.toml"
    description.write_text(f'[parts]\npali = "{tmp_path / "int8"}"\n')
    pack_family(description, tmp_path / "family")
    packed = open_model(tmp_path / "family" / "pali")
    assert packed.facts == {}
    for name, value in packed.model().state_dict().items():
        assert torch.equal(value, expected[name].to(torch.bfloat16).float())
    model = materialise(build(CONFIGS["pali"]))
    transplant(model, "text", str(tmp_path / "int8"))
    assert torch.equal(model.text.head.weight, expected["text.head.weight"])
