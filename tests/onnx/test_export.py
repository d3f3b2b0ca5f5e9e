"""ONNX graphs give what torch gives, for sizes other than those that they were traced with."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import onnx
from _graphs import GraphModel
from openpali import Pali
from openpali.architectures.registry import architectures
from openpali.cli.main import app
from openpali.infer.generate import Decoding, evaluating
from openpali.onnx import export
from openpali.onnx.graphs import Graph, graphs_of
from openpali.weights.format import open_model
from openpali.weights.quantize import write_int4

pytestmark = pytest.mark.usefixtures("_operators_are_read_once")
SIZES = {"batch": 3, "visual": 11, "prompt": 7, "memory": 6, "past": 4, "columns": 5, "proposals": 6}
OTHERS = {  # inputs that are not just any number
    "columns": torch.tensor([5, 2, 3]),
    "kinds": torch.tensor([0, 0, 1, 2, 1, 2]),
    "boxes": torch.tensor([[4.0 * i, 9 * i, 4 * i + 12, 14 * i + 30] for i in range(6)]),
    "size": torch.tensor([[500.0, 700]]),
    "prompt": torch.tensor([[5, 6, 1, 0, 0, 0, 0], [2, 3, 4, 5, 6, 7, 1], [5, 1, 0, 0, 0, 0, 0]]),
    "real": torch.tensor([[True] * 6, [True] * 2 + [False] * 4, [True] * 5 + [False]]),
}


def other_inputs(graph: Graph) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, (example, varying) in graph.inputs.items():
        shape = list(example.shape)
        for axis, text in varying.items():
            factor, _, dim = text.rpartition("*")
            shape[axis] = int(factor or 1) * SIZES[dim]
        some = torch.rand(shape, generator=generator) * 2 - 1
        found[name] = OTHERS.get(name, some if example.is_floating_point() else torch.ones(shape, dtype=torch.long))
    return found


@pytest.fixture(scope="module")
def pali(bundle: Path) -> Pali:
    return Pali.from_pretrained(bundle)


@pytest.fixture(scope="module")
def traced(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, Graph], Path]:
    """The file of a part's graph, which is written once."""
    folder, trace = tmp_path_factory.mktemp("traced"), export.trace  # a test may replace it

    def find(part: str, name: str, graph: Graph) -> Path:
        written, file = exported / part / f"{name}.onnx", folder / f"{part}-{name}.onnx"
        if not written.exists() and not file.exists():
            trace(graph, file)
        return written if written.exists() else file

    return find


@pytest.mark.parametrize(
    "part",
    ["pali", "siglip", "mask_vqvae", "finder", "elements", "icons", pytest.param("reader", marks=pytest.mark.slow)],
)
def test_graphs_give_what_torch_gives(pali: Pali, traced: Callable[[str, str, Graph], Path], part: str) -> None:
    stored, model = pali.load(part)
    for name, graph in graphs_of(stored.kind, model).items():
        with evaluating(model):
            file = traced(part, name, graph)
            inputs = other_inputs(graph)
            with torch.no_grad():
                expected = graph(*inputs.values())
        check(file, graph, inputs, expected)


def check(
    file: Path, graph: Graph, inputs: dict[str, torch.Tensor], expected: torch.Tensor | tuple[torch.Tensor, ...]
) -> None:
    session = onnxruntime.InferenceSession(file)
    assert [port.name for port in session.get_outputs()] == graph.outputs
    found = session.run(None, {key: value.numpy() for key, value in inputs.items()})
    for ours, theirs in zip(expected if isinstance(expected, tuple) else [expected], found, strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)


def test_quantized_weights_are_written_as_the_floats_that_they_stand_for(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "graphs_of", decoder_of)  # one graph is enough
    write_int4(open_model(bundle / "pali"), tmp_path / "int4", 32)
    model = open_model(tmp_path / "int4").model(plain=True)
    list(export.write(tmp_path / "int4", tmp_path / "out"))
    [graph] = decoder_of("pali", model).values()
    with evaluating(model), torch.no_grad():
        inputs = other_inputs(graph)
        check(tmp_path / "out" / "decoder.onnx", graph, inputs, graph(*inputs.values()))


def decoder_of(kind: str, model: torch.nn.Module) -> dict[str, Graph]:
    return {"decoder": graphs_of(kind, model)["decoder"]}


def test_the_graphs_answer_prompts(pali: Pali, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"image.onnx", "prompt.onnx", "decoder.onnx", "config.json", "tokenizer.model"}
    assert {path.name for path in (exported / "pali").iterdir()} == names
    image = np.random.default_rng(0).integers(0, 256, (3, 80, 90, 3), np.uint8)
    prompts = [
        "Generate the alt_text in en at 0: <extra_id_0>",
        "detect: horse",
        "Answer in en: what? <extra_id_0>",
    ]
    pipeline = pali.pipeline()
    expected = [
        p.answer.text for p in pipeline.predict([[one] for one in image], prompts, decoding=Decoding(max_tokens=8))
    ]
    monkeypatch.setattr(pipeline, "engine", GraphModel(exported / "pali"))
    for picture, prompt, text in zip(image, prompts, expected, strict=True):
        [found] = pipeline.predict([[picture]], [prompt], decoding=Decoding(max_tokens=8))
        assert found.answer.text == text


def test_int8_is_near(
    pali: Pali,
    bundle: Path,
    traced: Callable[[str, str, Graph], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        export, "trace", lambda graph, file: shutil.copy(traced("elements", "elements", graph), file)
    )
    said = CliRunner().invoke(
        app, ["export", str(bundle / "elements"), "--out", str(tmp_path), "--format", "onnx", "--int8"]
    )
    assert said.exit_code == 0
    assert not [each for each in caplog.records if "pre-processing" in each.getMessage()]
    graph = graphs_of("elements", pali.load("elements")[1])["elements"]
    session = onnxruntime.InferenceSession(tmp_path / "elements.onnx")
    inputs = other_inputs(graph)
    with torch.no_grad():
        whole, _ = graph(*inputs.values())
    small, _ = session.run(None, {key: value.numpy() for key, value in inputs.items()})
    assert 1e-5 < np.abs(small - whole.numpy()).mean() < 0.1 * whole.std()
    written = onnx.load(tmp_path / "elements.onnx").graph
    assert any(node.op_type == "MatMulInteger" for node in written.node)
    types = {each.data_type for each in written.initializer}
    assert onnx.TensorProto.UINT8 in types
    assert onnx.TensorProto.INT8 not in types  # of which sums may overflow


def test_what_has_no_graphs_says_so(bundle: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "graphs")]
    said = CliRunner().invoke(app, ["export", str(bundle / "classifier"), *out, "--format", "onnx"])
    assert isinstance(said.exception, ValueError)
    assert "classifier has no ONNX graphs" in str(said.exception)
    said = CliRunner().invoke(app, ["export", str(bundle / "siglip"), *out, "--int8"])
    assert isinstance(said.exception, ValueError)


@pytest.mark.parametrize("kind", ["paligemma", "t5gemma2"])
def test_other_models_that_answer_have_no_graphs(kind: str) -> None:
    architecture = architectures()[kind]
    with torch.device("meta"):
        model = architecture.build(next(iter(architecture.presets.values())))
    with pytest.raises(ValueError, match="has no ONNX graphs"):
        graphs_of(kind, model)
