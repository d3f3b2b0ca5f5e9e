"""The commands of docs/weights.md run on tiny checkpoints with the names in it."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openpali.architectures.t5gemma2.architecture import IMAGE_PIECES
from openpali.cli.main import app, main
from openpali.infer.pali import Pali
from openpali.weights.format import open_model

from . import checkpoints
from .test_mask_codec import arrays as mask_codec_arrays

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "weights.md").read_text("utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    for line in block.splitlines()
    if line.startswith("openpali ") and "hf://" not in line  # see test_hub.py
]
[PYTHON] = re.findall(r"```python\n(.*?)```", TEXT, re.S)
INLINE = [" ".join(text.split()) for text in re.findall(r"(?s)(?<!`)`(openpali [^`]+)`", TEXT)]
SHORT = ["batch=2", "workers=0", "phases.0.samples=4", "optimizer.warmup=0"]


def test_commands_within_the_text_are_verbs_alone() -> None:
    """What has arguments stands in a block, and is run."""
    assert INLINE
    assert {verb for command in INLINE for verb in command.split()[1:]} <= {
        each.name for each in app.registered_commands
    }


@pytest.mark.openvino(trains=True)
def test_from_two_folders_to_a_pali_that_trains_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order, in one folder, since each command builds on those before it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "home"))
    checkpoints.siglip(Path("siglip-base-patch16-224"), vocab_size=600, image_size=224, patch_size=16)
    checkpoints.naflex(Path("siglip2-base-patch16-naflex"), vocab_size=600)
    checkpoints.t5(Path("t5-v1_1-base"), vocab_size=700)
    checkpoints.paligemma(Path("paligemma2-3b-mix-448"), vocab_size=1600)
    (Path("paligemma2-3b-mix-448") / "tokenizer.model").write_bytes(checkpoints.gemma_proto())
    checkpoints.t5gemma2(Path("t5gemma-2-270m-270m"), vocab_size=400)
    proto = checkpoints.gemma_proto(*IMAGE_PIECES)
    (Path("t5gemma-2-270m-270m") / "tokenizer.model").write_bytes(proto)
    np.savez("vae-oid.npz", **mask_codec_arrays())
    for folder in ("siglip-base-patch16-224", "siglip2-base-patch16-naflex", "t5-v1_1-base"):
        (Path(folder) / "spiece.model").write_bytes(checkpoints.small_proto())
    for name in ("packages", "recipes"):
        Path(name).symlink_to(ROOT / name)
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save("photo.png")
    record = {"images": ["photo.png"], "question": "What is it?", "answers": ["a dog"]}
    for name in ("mine-train.jsonl", "mine-validation.jsonl"):
        Path(name).write_text(json.dumps(record) + "\n")

    assert [shlex.split(command)[1] for command in COMMANDS] == [
        "convert", "train", "predict", "convert", "export", "convert", "convert", "export", "convert", "predict",
        "train", "quantize", "export", "convert", "predict", "train", "export", "quantize", "quantize", "predict",
        "predict", "predict", "predict", "quantize", "read",
    ]  # fmt: skip
    for drawing in ("curves.draw_curves", "samples.draw_samples"):  # takes most of the time
        monkeypatch.setattr(f"openpali.reports.{drawing}", lambda *anything: None)
    monkeypatch.setattr("openpali.onnx.export.trace", lambda graph, file: file.touch())  # see tests/onnx
    printed = []
    for command in COMMANDS:
        small = re.sub(r"phases.0.size=(448|896)", "phases.0.size=16", command)  # of few patches
        arguments = shlex.split(small)
        monkeypatch.setattr(sys, "argv", arguments + (SHORT if arguments[1] == "train" else []))
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code, (command, end.value.code)
        printed.append(capsys.readouterr().out)
    assert "worst: " in printed[0]

    start, trained = open_model(Path("models/start")), open_model(Path("home/runs/first/model"))
    assert trained.config == start.config
    before, after = start.weights(), trained.weights()
    frozen = [key for key in before if key.startswith("vit.")]
    assert frozen
    assert all((before[key] == after[key]).all() for key in frozen)
    assert (before["project.weight"] != after["project.weight"]).any()
    assert open_model(Path("models/start448")).config.vision.grid == (28, 28)
    for name in ("siglip", "naflex"):
        assert Pali(Path("models") / name).similarity(["photo.png"], ["a dog"]).shape == (1, 1)

    tuned = open_model(Path("home/runs/tuned/model"))
    assert (tuned.kind, tuned.facts.recipe["model"]["masks"]) == ("paligemma", "models/paligemma/mask_vqvae")
    assert open_model(Path("models/paligemma-int8/pali")).int8
    assert open_model(Path("models/smaller")).int4

    names: dict[str, object] = {}
    exec(compile(PYTHON, "docs/weights.md", "exec"), names)
    assert isinstance(names["pali"], Pali)
