"""Several LoRA adapters over one model: shared weights, names for clients, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from requests_to import chat, make_adapter, service_of, serving

from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Prediction
from openpali.model.lora import lora_names
from openpali.model.vision_language import VisionLanguageModel
from openpali.serve.options import Options, open_service
from openpali.serve.scheduler import Scheduler
from openpali.tasks.example import Image
from openpali.weights.format import open_model, write_merged
from openpali.weights.ood import OodDetector
from openpali.weights.quantize import write_int4, write_int8

ASK = "Answer in en: what? <extra_id_0>"
SHORT = Decoding(max_tokens=12)


@pytest.fixture(scope="module")
def folders(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Two adapters of the bundle's main part; the second changes the image encoder, too."""
    root = tmp_path_factory.mktemp("adapters")
    return {
        "one": make_adapter(bundle / "pali", root / "one", 1),
        "two": make_adapter(bundle / "pali", root / "two", 2, ("text", "vit")),
    }


@pytest.fixture(scope="module")
def adapters(pali: Pali, folders: Mapping[str, Path]) -> Mapping[str, Pali]:
    return {name: pali.adapted(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def client(pali: Pali, adapters: Mapping[str, Pali]) -> Iterator[Any]:
    with serving(service_of(pali, adapters=adapters)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("form", ["fp32", "bf16", "int8", "int4"])
def test_they_hold_no_second_copy_of_the_base(form: str, bundle: Path, tmp_path: Path) -> None:
    base = bundle / "pali"
    if form in ("int8", "int4"):
        (write_int8 if form == "int8" else write_int4)(open_model(base), tmp_path / form)
        base = tmp_path / form
    pali = Pali.from_pretrained(base, dtype="bf16" if form == "bf16" else "fp32")
    adapted = pali.adapted(make_adapter(base, tmp_path / "lora", 1)).pipeline().model
    held = {name: tensor.data_ptr() for name, tensor in pali.pipeline().model.state_dict().items()}
    own = {name for name, tensor in adapted.state_dict().items() if held.get(name) != tensor.data_ptr()}
    assert own == lora_names(adapted)


def test_a_folder_without_a_name_is_called_as_it_is(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle)
    service = open_service(Pali.from_pretrained("."), Options(model="."))
    assert [*service.models] == [bundle.name]


def test_int4_and_its_adapter_are_served(bundle: Path, tmp_path: Path, images: Sequence[Image]) -> None:
    """In bf16, where torch's kernel multiplies."""
    write_int4(open_model(bundle / "pali"), tmp_path / "int4", 32)
    pali = Pali.from_pretrained(tmp_path / "int4", dtype="bf16")
    adapters = {"one": pali.adapted(make_adapter(tmp_path / "int4", tmp_path / "lora", 1))}
    for name, model in (("", pali), ("one", adapters["one"])):
        scheduler = Scheduler(pali, slots=2)
        ticket = scheduler.submit([images[0]], ASK, pali=adapters.get(name), decoding=SHORT)
        while scheduler.turn():
            pass
        [alone] = model.predict([[images[0]]], [ASK], decoding=SHORT)
        assert ticket.predictions(0)[0].generation.ids == alone.generation.ids
    down = "text.decoder.0.ff.down"
    kernels = [each.pipeline().model.get_submodule(down)._kernel for each in (pali, adapters["one"])]
    assert kernels[0] is not None
    assert kernels[0] is kernels[1]


def test_each_answers_as_it_does_alone(
    pali: Pali, adapters: Mapping[str, Pali], folders: Mapping[str, Path], images: Sequence[Image]
) -> None:
    """Asked together, about the same images, in the same turns of one scheduler."""
    scheduler = Scheduler(pali, slots=5)
    asked = [(name, image) for image in images[:3] for name in ("", "one", "two")]
    tickets = [scheduler.submit([i], ASK, pali=adapters.get(name), decoding=SHORT) for name, i in asked]
    while scheduler.turn():
        pass
    alone = {name: Pali.from_pretrained(folder) for name, folder in folders.items()} | {"": pali}
    expected = [alone[name].predict([[image]], [ASK], decoding=SHORT)[0] for name, image in asked]
    found = [ticket.predictions(0)[0] for ticket in tickets]
    assert [each.generation.ids for each in found] == [each.generation.ids for each in expected]
    assert len({tuple(each.generation.ids) for each in found[:3]}) == 3


def test_those_that_see_alike_encode_an_image_once(
    pali: Pali, adapters: Mapping[str, Pali], images: Sequence[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first adapter changes the text model alone, the second the image encoder, too."""
    seen, embed = [], VisionLanguageModel.encode_images
    monkeypatch.setattr(
        VisionLanguageModel, "encode_images", lambda model, x: (seen.append(model), embed(model, x))[1]
    )
    scheduler = Scheduler(pali)

    def ask(name: str) -> Prediction:
        ticket = scheduler.submit([images[0]], ASK, pali=adapters.get(name), decoding=SHORT)
        while scheduler.turn():
            pass
        return ticket.predictions(0)[0]

    for name in ("one", "", "two", "one", "two", ""):
        ask(name)
    assert seen == [adapters["one"].pipeline().model, adapters["two"].pipeline().model]
    known = pali.pipeline().describe([images[0]])[0]
    seen.clear()
    judge = OodDetector(known - 1, torch.eye(len(known)), torch.zeros(1, len(known)), torch.tensor(1.0))
    monkeypatch.setattr(pali.pipeline(), "ood", judge)
    assert [ask(name).ood_score for name in ("one", "")] == [None, pytest.approx(len(known) ** 0.5, rel=1e-4)]
    assert ask("").out_of_distribution
    assert not seen, "what it is judged by is kept, too"


@pytest.mark.parametrize("engine", ["torch-int8", "openvino", "openvino-int8"])
def test_engines_that_quantize_merge_them(engine: Any, pali: Pali, folders: Mapping[str, Path]) -> None:
    prompt = torch.randint(2, 99, (1, 9), generator=torch.Generator().manual_seed(0))

    def encode(whole: Pali) -> torch.Tensor:
        pipeline = whole.pipeline()
        with torch.inference_mode():
            outputs: torch.Tensor = pipeline.engine.encode_tokens(None, prompt).outputs.float()
        return outputs

    base = encode(pali)
    adapted = encode(Pali.from_pretrained(folders["one"]))
    seen = encode(Pali.from_pretrained(folders["one"], engine))
    assert (seen - adapted).norm() < 0.1 * (base - adapted).norm()


def test_clients_choose_by_name(client: Any, adapters: Mapping[str, Pali], encoded: Sequence[str]) -> None:
    listed = client.get("/v1/models").json()["data"]
    assert [each["id"] for each in listed] == ["tiny", "one", "two"]
    assert {task["name"] for task in listed[1]["openpali"]["tasks"]} >= {"caption", "vqa", "detect"}
    assert client.get("/v1/models/two").json() == listed[2]
    said = {}
    for name in (None, "tiny", "one", "two"):
        own = {} if name is None else {"model": name}
        body = client.post("/v1/chat/completions", json=chat(ASK, encoded[0], max_tokens=12, **own)).json()
        assert body["model"] == (name or "tiny")
        said[name] = body["choices"][0]["message"]["content"]
        found = client.post("/v1/detect", json={"image": encoded[0], "name": "horse", **own}).json()
        assert found["model"] == (name or "tiny")
        said[name] += found["text"]
    assert said[None] == said["tiny"]
    assert len(set(said.values())) == 3
    api = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="any")
    streamed = api.completions.create(model="two", prompt=ASK, max_tokens=8, stream=True)
    assert {piece.model for piece in streamed} == {"two"}
    wrong = client.post("/v1/completions", json={"model": "three", "prompt": ASK})
    assert wrong.status_code == 404
    assert wrong.json()["error"]["message"] == "no model 'three' here: there are 'tiny', 'one', 'two'"
    lacks = client.post("/v1/embeddings", json={"model": "one", "input": "a"})
    assert lacks.status_code == 400
    assert lacks.json()["error"]["message"] == "the model one has no part 'siglip'; it has pali"


def test_what_does_not_belong_to_the_model_is_refused(
    openpali, bundle: Path, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    one = folders["one"]
    other = tmp_path / "other"
    write_merged(open_model(one), other)
    said = openpali("serve", "--model", other, "--adapter", f"one={one}", fails=True)
    assert f"changes the model {bundle / 'pali'}, not {other}: give one that was trained on this" in said
    for each, message in (
        (one, "write NAME=FOLDER"),
        (f"bundle={one}", "there is a model 'bundle' already"),
        (f"other={other}", "is a whole model, not an adapter"),
        (f"all={bundle}", "is a whole model, not an adapter"),
        ("gone=gone", "no model 'gone'"),
    ):
        assert message in openpali("serve", "--model", bundle, "--adapter", each, fails=True)
    twice = "--adapter", f"one={one}", "--adapter", f"one={one}"
    assert "there is a model 'one' already" in openpali("serve", "--model", bundle, *twice, fails=True)
    fast = Pali.from_pretrained(bundle, "torch-int8")
    with pytest.raises(ValueError, match="share their base's weights with engine torch"):
        fast.adapted(one)
