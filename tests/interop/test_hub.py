"""``hf://`` against a small local endpoint with the hub's layout: cut connections, 401, 404, offline."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from openpali.cli.main import main
from openpali.infer.pali import Pali
from openpali.model.lora import LoraConfig
from openpali.weights.adapters import Adapter, write_adapter
from openpali.weights.bundle import open_bundle, open_tokenizer
from openpali.weights.find import find_model
from openpali.weights.format import add_facts, open_model
from openpali.weights.hub import pinned, push
from openpali.weights.write import write_bundle

from . import checkpoints
from .hub_endpoint import COMMIT, WEIGHTS, Endpoint, commit_of, hub_of


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repos")
    for name in ("org/pg", "org/gated"):
        checkpoints.paligemma(root / name, vocab_size=1600)
        (root / name / "tokenizer.model").write_bytes(checkpoints.gemma_proto())
        (root / name / "pytorch_model.bin").write_bytes(b"a pickle")
    checkpoints.siglip(root / "org" / "siglip", vocab_size=600)
    checkpoints.t5(root / "org" / "t5", vocab_size=700)
    for name in ("siglip", "t5"):
        (root / "org" / name / "spiece.model").write_bytes(checkpoints.small_proto())
    return root


@pytest.fixture
def endpoint(repositories: Path, tmp_path: Path) -> Iterator[type[Endpoint]]:
    with hub_of(repositories, tmp_path) as handler:
        yield handler


def test_a_model_is_downloaded_once_and_converted(endpoint: type[Endpoint], tmp_path: Path, monkeypatch) -> None:
    """Through a connection that is cut twice; without the pickle; from the cache when offline."""
    endpoint.cut[WEIGHTS] = 2
    folder = find_model("hf://org/pg")
    assert (open_model(folder).kind, folder.name) == ("paligemma", COMMIT)
    assert [line for line in endpoint.seen if line.startswith("GET") and WEIGHTS in line][2:]  # three tries
    assert not any("pytorch_model.bin" in line for line in endpoint.seen)
    assert find_model("hf://org/pg@v1") == folder
    assert pinned("hf://org/pg") == f"hf://org/pg@{COMMIT}"
    assert Pali.from_pretrained("hf://org/pg").dialect.name == "paligemma"
    assert open_tokenizer("hf://org/pg").vocab_size == open_model(folder).tokenizer.vocab_size
    endpoint.seen.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_model("hf://org/pg") == folder
    with pytest.raises(FileNotFoundError, match="unset HF_HUB_OFFLINE"):
        find_model("hf://org/other")
    assert endpoint.seen == []


def test_a_model_in_the_cache_is_not_calibrated(endpoint: type[Endpoint], monkeypatch) -> None:
    folder = find_model("hf://org/pg")
    monkeypatch.setattr(sys, "argv", ["openpali", "calibrate", "hf://org/pg", "mine.jsonl"])
    with pytest.raises(SystemExit, match=rf"cp -rL {re.escape(str(folder))} mine"):
        main()


def test_a_new_process_loads_what_it_needs(tmp_path: Path) -> None:
    """Here, transformers has loaded modules of huggingface_hub that a new process must load itself."""
    code = "from openpali.weights.find import find_model; find_model('hf://org/none')"
    alone = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=alone, capture_output=True, text=True, check=False)
    assert "FileNotFoundError: hf://org/none is not complete in the cache" in run.stderr


def test_what_is_wrong_is_said_in_a_sentence(endpoint: type[Endpoint], monkeypatch) -> None:
    for token in ("", "hf_of_another"):  # answered by 401 and 403
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(
            PermissionError, match=r"gated: accept its conditions at http.*/org/gated, .* set HF_TOKEN"
        ):
            find_model("hf://org/gated")
    for name, kind, named in (
        ("hf://org/none", FileNotFoundError, "/org/none"),
        ("hf://org/pg@v9", FileNotFoundError, "'v9'"),
        ("hf://pg", ValueError, "write hf://ORG/NAME"),
    ):
        with pytest.raises(kind, match=named):
            find_model(name)


def test_a_file_that_is_not_the_hubs_is_deleted(endpoint: type[Endpoint], monkeypatch) -> None:
    monkeypatch.setattr(endpoint, "spoil", True)
    with pytest.raises(OSError, match="not what the hub says"):
        find_model("hf://org/pg")
    monkeypatch.setattr(endpoint, "spoil", False)
    assert open_model(find_model("hf://org/pg")).kind == "paligemma"


def openpali(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str | None:
    monkeypatch.setattr(sys, "argv", ["openpali", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return str(end.value.code) if end.value.code else None


def test_checkpoints_are_converted_by_name(
    endpoint: type[Endpoint], repositories: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """Whole, at another size; its image encoder alone, under a T5; a SigLIP; and what cannot be had."""
    run = partial(openpali, monkeypatch)
    assert run("convert", "--model", "hf://org/pg@v1", "--out", tmp_path / "pg", "--size", 16) is None
    whole = open_model(tmp_path / "pg")
    assert (whole.kind, whole.preprocess.height) == ("paligemma", 16)
    halves = ["--vision", "hf://org/pg", "--text", "hf://org/t5"]
    assert run("convert", *halves, "--out", tmp_path / "pali", "--report") is None
    assert "language model: " in capsys.readouterr().out
    pali = open_model(tmp_path / "pali").weights()
    assert torch.equal(pali["vit.patch_embed.weight"], whole.weights()["vit.patch_embed.weight"])
    assert run("convert", "--vision", "hf://org/siglip", "--out", tmp_path / "siglip") is None
    assert open_model(tmp_path / "siglip").kind == "siglip"
    assert not (tmp_path / "home" / "hub" / "org--siglip" / COMMIT).exists()  # nothing was converted beside it
    assert "write hf://ORG/NAME" in (run("convert", "--model", "hf://pg", "--out", tmp_path / "x") or "")
    assert "org/gated, then run" in (run("convert", "--vision", "hf://org/gated", "--out", tmp_path / "x") or "")


def test_push_shows_first_and_names_a_missing_token(
    endpoint: type[Endpoint], repositories: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    folder = find_model("hf://org/pg")
    (tmp_path / "card.json").write_text('{"cider": 12.5}')
    endpoint.seen.clear()
    arguments = ["push", folder, "hf://me/mine", "--license", "gemma", "--scores", tmp_path / "card.json"]
    assert openpali(monkeypatch, *arguments) is None
    printed = capsys.readouterr().out
    assert "license: gemma" in printed
    assert '"cider": 12.5' in printed
    assert "model.safetensors  " in printed
    assert "nothing was uploaded" in printed
    assert endpoint.seen == []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    assert "no token that may write there" in (openpali(monkeypatch, *arguments, "--upload") or "")


def test_a_part_that_shares_weights_is_not_pushed_alone(
    endpoint: type[Endpoint], repositories: Path, tmp_path: Path, monkeypatch
) -> None:
    folder = tmp_path / "part"
    shutil.copytree(find_model("hf://org/pg"), folder)
    add_facts(folder, base="pali")
    said = openpali(monkeypatch, "push", folder, "hf://me/mine", "--license", "mit")
    assert "shares weights with the part pali" in (said or "")


def test_what_was_pushed_is_fetched(endpoint: type[Endpoint], repositories: Path, monkeypatch, capsys) -> None:
    """To the main branch, and with its card to one that is made for it."""
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    folder = find_model("hf://org/pg")
    for name, there in (("hf://me/pushed", "pushed"), ("hf://me/pushed@small", "pushed@small")):
        assert openpali(monkeypatch, "push", folder, name, "--license", f"of {there}", "--upload") is None
        printed = capsys.readouterr()
        assert "/me/pushed" in printed.out
        assert "which only this machine has" not in printed.err
        assert f"license: of {there}\n" in (repositories / "me" / there / "README.md").read_text()
        fetched = find_model(name)
        assert fetched.name == commit_of(repositories / "me" / there)
        weights, before = open_model(fetched).weights(), open_model(folder).weights()
        assert all(torch.equal(weights[key], value) for key, value in before.items())
    assert "license: of pushed\n" in (repositories / "me" / "pushed" / "README.md").read_text()


def test_a_push_replaces_an_adapter_and_bundles_keep_their_tokenizers(
    endpoint: type[Endpoint], repositories: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    folder, there = find_model("hf://org/pg"), repositories / "me" / "new"
    write_adapter(tmp_path / "adapter", Adapter("hf://org/pg", LoraConfig(2, 4.0, []), {}))
    for name in ("ood/model.safetensors", "onnx/config.json"):
        (tmp_path / "adapter" / name).parent.mkdir()
        (tmp_path / "adapter" / name).write_bytes(b"{}")
    push(tmp_path / "adapter", "hf://me/new", "card")
    push(folder, "hf://me/new", "card")
    left = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}
    assert left == {path.name for path in folder.iterdir()} | {"README.md", "onnx/config.json"}
    shutil.copytree(folder, repositories / "me" / "bundle" / "pali")
    write_bundle(repositories / "me" / "bundle", ["pali"], {}, [])
    [part] = open_bundle(find_model("hf://me/bundle")).parts.values()
    assert open_model(part).tokenizer.proto == open_model(folder).tokenizer.proto


def test_a_base_that_others_do_not_have_is_said(
    endpoint: type[Endpoint], tmp_path: Path, monkeypatch, capsys
) -> None:
    tensors = {f"text.layers.0.ff.down.lora.{part}": torch.zeros(2, 2) for part in ("down", "up")}
    config = LoraConfig(2, 4.0, ["text.layers.0.ff.down"])
    for base, said in ((str(find_model("hf://org/pg")), True), ("nano/pali", False), ("hf://org/pg", False)):
        write_adapter(tmp_path / "adapter", Adapter(base, config, tensors))
        assert openpali(monkeypatch, "push", tmp_path / "adapter", "hf://me/mine", "--license", "gemma") is None
        wanted = (
            f"it starts from {base}, which only this machine has: push that first, then correct base_model_name"
        )
        assert (wanted in capsys.readouterr().err) == said


def test_a_lost_connection_is_said_in_a_sentence(endpoint: type[Endpoint], tmp_path: Path, monkeypatch) -> None:
    """One that is cut again and again, and a hub that is not there."""
    run, push = partial(openpali, monkeypatch), ["hf://me/lost", "--license", "gemma", "--upload"]
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    folder = find_model("hf://org/pg")
    endpoint.cut |= {"spiece.model": 100, "commit": 100}
    fetch = ["convert", "--out", tmp_path / "x", "--vision"]
    again = "hf://org/siglip cannot be downloaded: .*; the same command goes on"
    assert re.search(again, run(*fetch, "hf://org/siglip") or "")
    assert re.search("hf://me/lost cannot be uploaded: .*disconnected", run("push", folder, *push) or "")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    assert "hf://org/t5 is not complete in the cache" in (run(*fetch, "hf://org/t5") or "")
    assert re.search("hf://me/lost cannot be uploaded: .*refused", run("push", folder, *push) or "")
