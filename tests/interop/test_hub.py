"""``hf://`` against a small local endpoint with the hub's layout: cut connections, 401, 404, offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from openpali.infer.pali import Pali
from openpali.weights.bundle import open_tokenizer
from openpali.weights.find import find_model
from openpali.weights.format import open_model
from openpali.weights.hub import pinned

from . import checkpoints
from .hub_endpoint import COMMIT, WEIGHTS, Endpoint, hub_of


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


def test_a_model_in_the_cache_is_not_calibrated(openpali, endpoint: type[Endpoint]) -> None:
    folder = find_model("hf://org/pg")
    assert re.search(
        rf"cp -rL {re.escape(str(folder))} mine", openpali("calibrate", "hf://org/pg", "mine.jsonl", fails=True)
    )


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


def test_checkpoints_are_converted_by_name(
    openpali, endpoint: type[Endpoint], repositories: Path, tmp_path: Path
) -> None:
    """Whole, at another size; a SigLIP under a T5, and alone; and what cannot be had."""
    openpali("convert", "hf://org/pg@v1", "--out", tmp_path / "pg", "--size", 16)
    whole = open_model(tmp_path / "pg")
    assert (whole.kind, whole.preprocess.height) == ("paligemma", 16)
    halves = ["hf://org/siglip", "hf://org/t5"]
    assert "language model: " in openpali("convert", *halves, "--out", tmp_path / "pali", "--report")
    pali = open_model(tmp_path / "pali").weights()
    openpali("convert", "hf://org/siglip", "--out", tmp_path / "siglip")
    alone = open_model(tmp_path / "siglip")
    assert alone.kind == "siglip"
    assert torch.equal(pali["vit.patch_embed.weight"], alone.weights()["vit.patch_embed.weight"])
    assert not (tmp_path / "home" / "hub" / "org--siglip" / COMMIT).exists()  # nothing was converted beside it
    assert "write hf://ORG/NAME" in openpali("convert", "hf://pg", "--out", tmp_path / "x", fails=True)
    assert "org/gated, then run" in openpali("convert", "hf://org/gated", "--out", tmp_path / "x", fails=True)


def test_a_lost_connection_is_said_in_a_sentence(
    openpali, endpoint: type[Endpoint], tmp_path: Path, monkeypatch
) -> None:
    """One that is cut again and again, and a hub that is not there."""
    endpoint.cut |= {"spiece.model": 100}
    fetch = ["convert", "--out", tmp_path / "x"]
    again = "hf://org/siglip cannot be downloaded: .*; the same command goes on"
    assert re.search(again, openpali(*fetch, "hf://org/siglip", fails=True))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    assert "hf://org/t5 is not complete in the cache" in openpali(*fetch, "hf://org/t5", fails=True)
