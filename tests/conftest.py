"""What several areas share: a home with the stand-in world, its vocabulary, and a bundle of tiny random models."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "packages" / "openpali-screen" / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "packages" / "openpali" / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

from hypothesis import settings

import openpali.infer.engines.openvino as openvino_module
import unmeasured
from openpali.architectures.facts import Facts
from openpali.architectures.pali import PaliModel
from openpali.architectures.registry import architectures, build
from openpali.architectures.siglip.architecture import PRESETS as SIGLIPS
from openpali.cli.main import app, main
from openpali.data.media.images import Preprocess
from openpali.data.media.native import NativePreprocess
from openpali.distributed import ALONE
from openpali.eval.registry import benchmarks, suites
from openpali.extensions import extensions
from openpali.home import home as find_home
from openpali.home import make_once
from openpali.infer.components import component_types
from openpali.metrics.calibration import Calibration
from openpali.model.init import init_weights
from openpali.train.load import parse_recipe
from openpali.train.objectives.registry import objectives
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer, pack_bundle
from openpali.weights.find import find_model
from openpali.weights.format import open_model
from openpali.weights.write import write_model
from openpali_lab.worlds.sources import _world
from openpali_lab.worlds.vocabulary_texts import train_nano_vocabulary
from openpali_lab.worlds.world import World
from page_readers import write_page_readers
from world_fixture import world, world_home, write_world

__all__ = ["world", "world_home"]  # fixtures

OPTIMIZER = {"lr": 1e-3}
_RAN_OPENVINO: list[str] = []

settings.register_profile("busy", deadline=None)  # no test is about the time it takes
settings.load_profile("busy")


@pytest.fixture(autouse=True, scope="session")
def _runs_neither_measure_nor_count_nor_draw_boards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        unmeasured.leave_out(patch.setattr)
        yield


@pytest.fixture(autouse=True, scope="session")
def _scores_of_tiny_models_are_not_recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENPALI_TESTS_LOG", str(tmp_path_factory.mktemp("log") / "tests.jsonl"))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that run OpenVINO come last, first of them one that trains before it does: see below."""

    def place(item: pytest.Item) -> int:
        marker = item.get_closest_marker("openvino")
        return 0 if marker is None else 1 if marker.kwargs.get("trains") else 2

    items.sort(key=place)


@pytest.fixture
def ran_openvino() -> list[str]:
    """Tests of this process that ran OpenVINO, in their order."""
    return _RAN_OPENVINO


@pytest.fixture(autouse=True)
def _training_does_not_follow_openvino(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On processors with AMX, training after OpenVINO can end in a segmentation fault, which names no test."""
    train, compiled = Trainer.train, openvino_module._compiled

    def remember(*args: Any, **options: Any) -> Any:
        _RAN_OPENVINO.append(request.node.nodeid)
        return compiled(*args, **options)

    def train_alone(trainer: Trainer, *args: Any, **options: Any) -> Path:
        before = [test for test in _RAN_OPENVINO if test != request.node.nodeid]
        if before:
            raise RuntimeError(f"{before[0]} ran OpenVINO in this process: mark it with pytest.mark.openvino")
        return train(trainer, *args, **options)

    monkeypatch.setattr(openvino_module, "_compiled", remember)
    monkeypatch.setattr(Trainer, "train", train_alone)


@pytest.fixture(autouse=True, scope="module")
def _old_objects_are_not_searched_for_garbage() -> None:
    """Each run of a trainer ends with a collection, which takes 0.4 s where it looks at all modules."""
    gc.collect()
    gc.freeze()


def _train(name: str, objective: str, task: str, kind: str, **model: object) -> None:
    """One step of a run; its model is what is wanted."""
    line = {"source": f"nano/{kind}", "task": task}
    if task in ("detect", "refseg"):
        line["task_options"] = {"bins": 100}
    if task == "refseg":
        line["options"] = {"expressions": True}
    recipe = parse_recipe(
        {
            "name": name,
            "objective": objective,
            "batch": 4,
            "workers": 0,
            **({"max_target": 96} if objective == "sequence" else {}),
            "model": {"preset": "pico", "tokenizer": "nano-vocabulary", **model},
            "optimizer": OPTIMIZER,
            "phases": [{"samples": 4, "size": 72, "mixture": [line]}],
        }
    )
    Trainer(recipe, find_home() / "runs" / name, ALONE, open_tokenizer("nano-vocabulary")).train()


@pytest.fixture
def openpali(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command in this process; gives what it prints, or with ``fails`` the sentence that it ends with.

    What it wrote to standard error is ``openpali.errors``.
    """

    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object, fails: bool = False) -> str:
        monkeypatch.setattr(sys, "argv", ["openpali", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        assert bool(end.value.code) == fails, end.value.code
        if fails:
            return str(end.value.code)
        printed, run.errors = capsys.readouterr()  # type: ignore[attr-defined]
        return printed

    return run


@pytest.fixture(scope="session")
def world_with_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``OPENPALI_HOME`` with the stand-in world, a vocabulary of its captions, and a stand-in for easy-VQA."""
    home = tmp_path_factory.mktemp("home")
    write_world(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENPALI_HOME", str(home))
        _world.cache_clear()
        stamps = World.load("nano").stamps
        captions = [(lang, text) for stamp in stamps for lang, text in sorted(stamp.captions.items())]
        folder = home / "data" / "nano-vocabulary"
        folder.mkdir()
        tokenizer = train_nano_vocabulary(captions, texts=[stamp.name for stamp in stamps])
        (folder / "tokenizer.model").write_bytes(tokenizer.proto)
        _write_questions(home / "data" / "easy-vqa")
        yield home
        _world.cache_clear()


@pytest.fixture(scope="session")
def bundle(world_with_vocabulary: Path) -> Path:
    """A bundle with every part, each trained for one step: it answers nonsense, through all the real code.

    Processes with the same ``OPENPALI_TESTS_BUNDLE``, such as those of ``make test``, train one together.
    """
    home, shared = world_with_vocabulary, os.environ.get("OPENPALI_TESTS_BUNDLE")
    if shared and Path(shared).is_dir():
        shutil.copytree(shared, home, dirs_exist_ok=True)
    else:
        _write_bundle(home, home / "bundle")
        if shared:
            make_once(Path(shared), lambda out: _copy_models(home, out))
    assert find_model(str(home / "bundle")) == home / "bundle"
    return home / "bundle"


@pytest.fixture(scope="session")
def native(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The PaLI of the bundle for images in their own proportions, of up to 40 patches."""
    of_one_size, folder = open_model(bundle / "pali"), tmp_path_factory.mktemp("native") / "pali"
    vision = replace(of_one_size.config.vision, tokens=40)
    write_model(
        folder,
        of_one_size.weights(),
        replace(of_one_size.config, vision=vision),
        preprocess=NativePreprocess(vision.patch_size, vision.tokens),
        tokenizer=of_one_size.tokenizer,
        facts=of_one_size.facts,
    )
    return folder


@pytest.fixture(scope="session")
def detecting(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose image encoder, which is beside it as `siglip`, tells sides, and finds a dog everywhere."""
    folder = tmp_path_factory.mktemp("detecting")
    tokenizer, shape = open_model(bundle / "pali").tokenizer, SIGLIPS["pico"]
    config = replace(shape, text=replace(shape.text, vocab_size=tokenizer.vocab_size), sides=True)
    torch.manual_seed(0)
    weights = init_weights(build(config)).state_dict() | {"bias": torch.full((1,), 50.0)}
    torch.nn.init.normal_(weights["sides.weight"])
    facts = Facts(calibration={"detect": Calibration(2.0, 0.0)})
    write_model(folder / "siglip", weights, config, preprocess=Preprocess(72, 72), tokenizer=tokenizer, facts=facts)
    (folder / "bundle.toml").write_text(f'[parts]\npali = "{bundle / "pali"}"\nsiglip = "{folder / "siglip"}"\n')
    pack_bundle(folder / "bundle.toml", folder / "both")
    return folder / "both"


def _copy_models(home: Path, out: Path) -> None:
    """The bundle, and the runs that it is made of."""
    for each in ("bundle", "runs/t"):
        shutil.copytree(home / each, out / each)


def _write_bundle(home: Path, folder: Path) -> None:
    _train("t/siglip", "siglip", "contrastive", "single")
    _train("t/classifier", "classify", "classify", "single")
    _train("t/masks", "mask_vqvae", "refseg", "scene")
    _train("t/pali", "sequence", "detect", "scene")
    _train("t/refseg", "sequence", "refseg", "scene", init={"": "t/pali"}, frozen=["vit"], masks="t/masks")
    _train("t/video", "sequence", "video_qa", "video", init={"": "t/pali"}, frozen=["vit"])
    write_page_readers(home / "pages")
    description = home / "bundle.toml"
    description.write_text(
        'languages = ["en", "de", "fr", "ja"]\n'
        '[parts]\npali = "t/pali"\nsiglip = "t/siglip"\nclassifier = "t/classifier"\nmask_vqvae = "t/masks"\n'
        'refseg = "t/refseg"\nvideo = "t/video"\n'
        f'finder = "{home}/pages/finder"\nreader = "{home}/pages/reader"\n'
        f'elements = "{home}/pages/elements"\nicons = "{home}/pages/icons"\n'
        '[tasks]\nrefseg = "refseg"\nvideo_qa = "video"\n'
    )
    pack_bundle(description, folder)


@pytest.fixture(scope="session")
def _operators_are_read_once() -> Iterator[None]:
    """For each graph, torch parses the sources of all operators of onnxscript, which takes 2 s."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture(scope="session")
def exported(bundle: Path, tmp_path_factory: pytest.TempPathFactory, _operators_are_read_once: None) -> Path:
    """Graphs of the bundle's main part and its masks, by the command."""
    out = tmp_path_factory.mktemp("graphs")
    said = CliRunner().invoke(app, ["export", str(bundle / "pali"), "--out", str(out), "--format", "onnx"])
    assert said.exit_code == 0
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {line.split(",")[0] for line in said.output.splitlines()}
    return out


@pytest.fixture(scope="session")
def readers(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two parts that read: the main model, and one for lines. Neither is calibrated."""
    stored, folder = open_model(bundle / "pali"), tmp_path_factory.mktemp("readers")
    model = stored.model()
    assert isinstance(model, PaliModel)
    model.vit.set_grid((2, 8))
    config = replace(stored.config, vision=model.vit.config)
    sizes = Preprocess(*model.vit.config.image_size, policy="pad")
    write_model(folder / "line", model.state_dict(), config, preprocess=sizes, tokenizer=stored.tokenizer)
    (folder / "bundle.toml").write_text(
        f'[parts]\npali = "{bundle / "pali"}"\nline = "{folder / "line"}"\n[tasks]\nocr = ["pali", "line"]\n'
    )
    pack_bundle(folder / "bundle.toml", folder / "both")
    return folder / "both"


@pytest.fixture
def shipped(bundle: Path, world_with_vocabulary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny bundle as the one that ships, ``nano``."""
    folder = world_with_vocabulary / "shipped"
    if not folder.is_dir():
        (folder / "nano").mkdir(parents=True)
        for part in bundle.iterdir():
            (folder / "nano" / part.name).symlink_to(part)
        (folder / "nano" / "line").symlink_to(bundle / "pali")
        described = json.loads((bundle / "bundle.json").read_text())
        (folder / "nano" / "bundle.json").unlink()
        (folder / "nano" / "bundle.json").write_text(json.dumps(described | {"names": ["red apple"]}))
    monkeypatch.setattr("openpali.weights.find.SHIPPED", folder)
    return folder


def _write_questions(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), "red").save(folder / "0.png")
    sample = {"key": "0", "images": ["0.png"], "question": "is it red?", "answers": ["yes"], "lang": "en"}
    (folder / "train.jsonl").write_text(json.dumps(sample) + "\n")


@pytest.fixture(scope="module")
def toy_package() -> Iterator[None]:
    """The packages of :mod:`toy_architecture` and :mod:`toy_brightness` are installed."""
    caches = (extensions, architectures, objectives, component_types, suites, benchmarks)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent / "toy")
        for each in caches:
            each.cache_clear()
        yield
    for each in caches:
        each.cache_clear()
