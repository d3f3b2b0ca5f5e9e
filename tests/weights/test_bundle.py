"""Finding models by name, and bundles of several."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from openpali.architectures.facts import Facts
from openpali.data.media.images import Preprocess
from openpali.model.lora import LoraConfig
from openpali.text.tokenizer import Tokenizer
from openpali.weights.adapters import Adapter, write_adapter
from openpali.weights.bundle import BundleConfig, open_bundle, open_tokenizer, pack_bundle
from openpali.weights.find import find_model
from openpali.weights.format import open_model
from openpali.weights.write import write_model
from weights.folders import CONFIGS, write


def test_find_model(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    run = write(tmp_path / "runs" / "mine" / "first" / "model", "classifier")
    assert find_model("mine/first") == run
    assert find_model(str(run)) == run
    assert find_model(str(run.parent)) == run
    monkeypatch.chdir(run.parents[1])
    assert find_model("first").resolve() == run
    with pytest.raises(FileNotFoundError):
        find_model("mine/second")
    for typo, meant in (("nnao", "nano"), ("nano/lin", "nano/line"), ("mine/first/modle", "mine/first/model")):
        with pytest.raises(FileNotFoundError, match=f"did you mean '{meant}'"):
            find_model(typo)
    with pytest.raises(FileNotFoundError, match=r"nor a finished run$"):
        find_model("zzzzzzzz")
    checkpoint = tmp_path / "runs" / "mine" / "second" / "checkpoints" / "step-00000003"
    checkpoint.mkdir(parents=True)
    with pytest.raises(
        FileNotFoundError, match=f"mine/second is not finished: give a checkpoint of it, {checkpoint}"
    ):
        find_model("mine/second")


def test_a_missing_tokenizer_names_the_command_that_builds_it(tmp_path, monkeypatch, tokenizer) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    write(tmp_path / "run" / "model", "pali", tokenizer)
    assert open_tokenizer(str(tmp_path / "run")).proto == tokenizer.proto
    for name, fix in (
        ("mini-vocabulary", "run `openpali data build mini-vocabulary`"),
        ("nano-vocab", "give its file, .*nano-vocabulary, mini"),
    ):
        with pytest.raises(FileNotFoundError, match=fix):
            open_tokenizer(name)


def test_an_adapter_in_the_current_folder_gives_no_other_model_its_tokenizer(
    tmp_path, monkeypatch, tokenizer
) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    base = write(tmp_path / "runs" / "base" / "model", "pali", tokenizer)
    other = Tokenizer.train(["another text"] * 9, 640)
    write(tmp_path / "runs" / "other" / "model", "pali", other)
    write_adapter(tmp_path / "mine", Adapter(str(base), LoraConfig(2, 4.0, []), {}))
    assert open_tokenizer(str(tmp_path / "mine")).proto == tokenizer.proto
    monkeypatch.chdir(tmp_path / "mine")
    assert open_tokenizer("other").proto == other.proto
    with pytest.raises(FileNotFoundError):
        open_tokenizer("none")


def test_bundles_pack_and_pack_again(tmp_path, tokenizer) -> None:
    write(tmp_path / "main", "pali", tokenizer, seed=1)
    write(tmp_path / "masks", "mask_vqvae", tokenizer)
    tuned = load_file(tmp_path / "main" / "model.safetensors")
    tuned["project.weight"] = tuned["project.weight"] + 1
    write_model(tmp_path / "tuned", tuned, CONFIGS["pali"], preprocess=Preprocess(72, 72), tokenizer=tokenizer)
    description = tmp_path / "bundle.toml"

    def describe(folder: Path) -> None:
        parts = {"pali": "main", "tuned": "tuned", "masks": "masks"}
        lines = [f'{part} = "{folder / name}"' for part, name in parts.items()]
        description.write_text(
            "\n".join(
                [
                    'languages = ["en", "ja"]',
                    'about = "It knows cats."',
                    'names = ["cat", "wild cat"]',
                    "[parts]",
                    *lines,
                    "[tasks]",
                    'refseg = "tuned"',
                ]
            )
        )

    describe(tmp_path)
    sizes = pack_bundle(description, tmp_path / "bundle")
    assert list(load_file(tmp_path / "bundle/tuned/model.safetensors")) == ["project.weight"]
    assert sizes["tuned"] < sizes["pali"] / 10
    packed = open_bundle(tmp_path / "bundle")
    parts = packed.parts
    assert (packed.languages, packed.about, packed.names) == (("en", "ja"), "It knows cats.", ("cat", "wild cat"))
    assert (set(parts), packed.tasks) == ({"pali", "tuned", "masks"}, {"refseg": ("tuned",)})
    for key, value in open_model(parts["tuned"]).model().state_dict().items():
        assert torch.equal(value, tuned[key].to(torch.bfloat16).float())
    # parts of a bundle pack into another, whichever of them is the main one
    description.write_text(f'[parts]\npali = "{parts["tuned"]}"\nother = "{tmp_path / "main"}"\n')
    pack_bundle(description, tmp_path / "again")
    again = open_bundle(tmp_path / "again").parts
    assert torch.equal(
        open_model(again["pali"]).model().project.weight, open_model(parts["tuned"]).model().project.weight
    )
    assert list(load_file(again["other"] / "model.safetensors")) == ["project.weight"]
    parts = f'[parts]\npali = "{tmp_path / "main"}"\n'
    for text in (
        "",
        "[parts]\nmain = 'x'",
        "parts",
        "parts = 1",
        parts + "x = 5",
        f"about = 1\n{parts}",
        f"tasks = 1\n{parts}",
    ):
        description.write_text(text)
        with pytest.raises(ValueError, match=r"bundle.toml must have \[parts\] with a pali"):
            pack_bundle(description, tmp_path / "third")


def test_parts_share_what_they_have_in_common(tmp_path, tokenizer) -> None:
    """A part may have fewer layers than the main one, and may have none of its values."""
    whole = load_file(write(tmp_path / "main", "pali", tokenizer, seed=1) / "model.safetensors")
    config = replace(CONFIGS["pali"], text=replace(CONFIGS["pali"].text, decoder_layers=0))
    fewer = {key: value for key, value in whole.items() if ".decoder.0." not in key}
    for name, weights in {"few": fewer, "apart": {k: v + 1 for k, v in fewer.items()}}.items():
        write_model(tmp_path / name, weights, config, preprocess=None, tokenizer=tokenizer)
    description, names = tmp_path / "bundle.toml", {"pali": "main", "few": "few", "apart": "apart"}
    description.write_text("[parts]\n" + "".join(f'{part} = "{tmp_path / name}"\n' for part, name in names.items()))
    pack_bundle(description, tmp_path / "bundle")
    parts = open_bundle(tmp_path / "bundle").parts
    few, apart = open_model(parts["few"]), open_model(parts["apart"])
    assert few.weights().keys() == apart.weights().keys() == fewer.keys()
    assert (few.facts, apart.facts) == (Facts(base="pali"), Facts())
    few.model()
    apart.model()
    # a part is not replaced before another that inherits from it is read
    description.write_text(f'[parts]\npali = "{tmp_path / "apart"}"\nfew = "{parts["few"]}"\n')
    with pytest.raises(ValueError, match=r"bundle.few is read for the bundle and would be overwritten"):
        pack_bundle(description, tmp_path / "bundle")


def test_a_single_model_is_a_bundle(tmp_path) -> None:
    folder = write(tmp_path / "model", "siglip")
    write(tmp_path / "other", "classifier")
    assert open_bundle(folder) == BundleConfig(parts={"siglip": folder})
    (tmp_path / "bundle.json").write_text('{"parts": {"pali": "model", "siglip": "other"}, "tasks": {}}')
    adapter = Adapter(str(folder), LoraConfig(2, 4.0, []), {})
    adapt = partial(write_model, weights=adapter, config=CONFIGS["siglip"], preprocess=None, tokenizer=None)
    for use, fix in (
        (open_model, f"is a bundle of several models: name one of its parts, {folder}, .*other$"),
        (partial(write, kind="classifier"), "holds a bundle of models, .*: choose another --out"),
        (adapt, "holds a bundle of models, .*: choose another --out"),
    ):
        with pytest.raises(ValueError, match=fix):
            use(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.json", "model", "other"]
    (folder / "bundle.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bundle.json is no description of a bundle"):
        open_bundle(folder)
