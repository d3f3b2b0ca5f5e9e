"""The compiled model says what the model says."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import inputs, tiny

from openpali.data.media.images import Preprocess
from openpali.infer.engines import openvino as engine
from openpali.infer.engines.openvino import OpenVinoPali
from openpali.infer.engines.registry import EngineName
from openpali.infer.generate import Decoding, encode, generate
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Pipeline
from openpali.model.attention import AttentionLayer, eager, set_attention
from openpali.model.int8 import Int8Linear, compute_in_int8
from openpali.model.lora import LoraConfig, add_lora, find_targets
from openpali.weights.format import open_model
from openpali.weights.ood import OodDetector
from openpali.weights.quantize import write_int4, write_int8

DECODINGS = [
    Decoding(max_tokens=12),
    Decoding(max_tokens=12, beams=3, samples=2),
    Decoding(max_tokens=12, temperature=1.0, samples=2, top_p=0.9),
]


@pytest.mark.parametrize("decoding", DECODINGS, ids=["greedy", "beams", "samples"])
@pytest.mark.parametrize("with_images", [True, False])
def test_the_same_texts_at_the_same_log_probabilities(compiled, decoding: Decoding, with_images: bool) -> None:
    images, prompt, frames = inputs(1)
    batch = (images, prompt, frames) if with_images else (None, prompt, None)
    ours, theirs = (generate(m, *batch, decoding=decoding) for m in (compiled, tiny(0)))
    for mine, reference in zip(ours, theirs, strict=True):
        assert [g.ids for g in mine] == [g.ids for g in reference]
        for a, b in zip(mine, reference, strict=True):
            assert a.log_probs == pytest.approx(b.log_probs, abs=1e-4)


def test_compiling_leaves_the_model_as_it_is_and_starts_no_process(monkeypatch) -> None:
    """The telemetry of `openvino.convert_model` starts one for each report that it sends."""
    started: list[object] = []
    monkeypatch.setattr("multiprocessing.Process.start", lambda self: started.append(self))
    model = tiny(0).train()
    model.vit.eval()
    set_attention(model, eager)
    modes = [module.training for module in model.modules()]
    OpenVinoPali(model, precision="fp32")
    assert started == []
    assert [module.training for module in model.modules()] == modes
    assert {layer.attend for layer in model.modules() if isinstance(layer, AttentionLayer)} == {eager}


def test_int8_weights_move_logits_little() -> None:
    model = tiny(0)
    images, prompt, frames = inputs(1)
    rounded = tiny(0)
    compute_in_int8(rounded)
    int8 = OpenVinoPali(rounded, precision="fp32")
    memory, reference = encode(int8, images, prompt, frames), model.encode(images, prompt, frames)
    cache, reference_cache = int8.start(memory, 4), model.start(reference, 4)
    for token in (0, 3, 5):
        ids = torch.full((5, 1), token)
        got, expected = int8.step(ids, cache), model.step(ids, reference_cache)
        assert not torch.equal(got, expected)  # they are int8 indeed
        assert (got - expected).abs().max() < 0.05 * expected.abs().max()


def test_an_input_too_long_for_the_compiled_encoder_goes_through_torch(compiled, monkeypatch) -> None:
    images, prompt, frames = inputs(2)
    expected = generate(compiled, images, prompt, frames)
    monkeypatch.setattr(engine, "LARGEST_BIAS", 1)
    monkeypatch.setattr(compiled, "_encoder", object())  # fails if it is asked
    assert [r[0].ids for r in generate(compiled, images, prompt, frames)] == [r[0].ids for r in expected]


def test_the_facade_answers_alike_with_every_engine(bundle, monkeypatch) -> None:
    # a random model is sure of nothing
    monkeypatch.setattr("openpali.infer.engines.openvino.bf16_is_faster", lambda device: False)
    image = torch.randint(0, 256, (90, 120, 3), dtype=torch.uint8).numpy()
    answers = {name: Pali.from_pretrained(bundle, name).caption([image] * 2) for name in ("torch", "openvino")}
    assert answers["torch"] == answers["openvino"]
    with pytest.raises(ValueError):
        Pali.from_pretrained(bundle, "tpu")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match=r"pip install 'openpali\[cpu\]'"):
        Pali.from_pretrained(bundle, "openvino")


def test_memories_and_caches_of_one_model_do_not_disturb_each_other(compiled) -> None:
    first, second = (encode(compiled, *inputs(seed)) for seed in (1, 2))
    caches = [compiled.start(memory, 4) for memory in (first, second, first)]
    logits = [[compiled.step(torch.full((5, 1), token), cache) for cache in caches] for token in (0, 3, 5)]
    for one, other, again in logits:
        assert torch.equal(one, again)
        assert not torch.allclose(one, other, atol=1e-2)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_the_decoder_alone_of_a_model_that_is_not_float32(int8: bool, precision: Any) -> None:
    """Torch encodes; the decoder is compiled from the weights as they are stored, which stay."""
    model = tiny(0).bfloat16()
    if int8:
        compute_in_int8(model)
    reference = tiny(0)
    reference.load_state_dict({name: tensor.float() for name, tensor in tiny(0).bfloat16().state_dict().items()})
    before = {name: (each.data_ptr(), each.dtype) for name, each in model.state_dict().items()}
    compiled = OpenVinoPali(model, precision=precision)
    assert {name: (each.data_ptr(), each.dtype) for name, each in model.state_dict().items()} == before
    images, prompt, frames = inputs(1)
    memory, exact = encode(compiled, images, prompt, frames), reference.encode(images, prompt, frames)
    assert memory.outputs.dtype == torch.bfloat16
    cache, exact_cache = compiled.start(memory, 4), reference.start(exact, 4)
    for token in (0, 3, 5):
        ids = torch.full((5, 1), token)
        got, expected = compiled.step(ids, cache), reference.step(ids, exact_cache)
        assert (got - expected).abs().max() < 0.05 * expected.abs().max()
        for each in (cache, exact_cache):
            each.reorder(torch.tensor([4, 3, 2, 1, 0]))


@pytest.mark.parametrize("name", ["openvino", "openvino-int8"])
@pytest.mark.parametrize("int8", [False, True])
def test_the_facade_with_bf16_compiles_the_decoder_alone(bundle, tmp_path, name: Any, int8: bool) -> None:
    folder = bundle / "pali"
    if int8:
        write_int8(open_model(folder), folder := tmp_path / "int8")
    pipeline = Pali.from_pretrained(folder, name, dtype="bf16").pipeline()
    assert pipeline.engine._vision is None
    linears = {type(each) for each in pipeline.model.modules() if isinstance(each, torch.nn.Linear | Int8Linear)}
    assert (linears == {Int8Linear}) == (name == "openvino-int8")
    prompt = torch.randint(2, 99, (2, 9), generator=torch.Generator().manual_seed(0))
    exact = open_model(bundle / "pali").model()
    seen = pipeline.engine.step(
        torch.zeros(2, 1, dtype=torch.long), pipeline.engine.start(encode(pipeline.engine, None, prompt), 1)
    )
    expected = exact.step(torch.zeros(2, 1, dtype=torch.long), exact.start(exact.encode(None, prompt), 1))
    assert (seen - expected).norm() < 0.05 * expected.norm()


def test_an_adapter_beside_its_base_is_refused() -> None:
    model = tiny(0)
    add_lora(model, LoraConfig(2, 4.0, find_targets(model, ["text"])))
    for use, fix in ((OpenVinoPali, "merge them"), (compute_in_int8, "merge the adapter")):
        with pytest.raises(ValueError, match=fix):
            use(model)


def test_int8_computes_the_rest_in_bf16_also_where_floats_are_faster(monkeypatch) -> None:
    monkeypatch.setattr(engine, "bf16_is_faster", lambda device: False)
    monkeypatch.setattr(engine, "multiplies_bf16", lambda device: True)
    model = tiny(0)
    assert engine.best_precision(model) == OpenVinoPali(model).precision == "fp32"
    compute_in_int8(model)
    assert engine.best_precision(model) == "bf16"


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="the processor does not multiply bf16")
def test_bf16_moves_logits_little_and_does_not_round_them() -> None:
    model = tiny(0)
    batch = inputs(1)
    compiled = OpenVinoPali(model, precision="bf16")
    cache, reference = (m.start(encode(m, *batch), 4) for m in (compiled, model))
    rows = torch.tensor([4, 2, 2])  # a row that ends, two hypotheses of another
    for token, count in ((0, 5), (3, 5), (5, 3), (7, 3)):
        if token == 5:
            cache.reorder(rows)
            reference.reorder(rows)
        ids = torch.full((count, 1), token)
        got, expected = compiled.step(ids, cache), model.step(ids, reference)
        assert (got - expected).abs().max() < 0.05 * expected.abs().max()
        assert not torch.equal(got, got.bfloat16().float())


def test_steps_read_the_memory_as_it_is() -> None:
    """Keys that are scaled are also copied and transposed, at each step."""
    nodes = OpenVinoPali(tiny(0), precision="fp32")._step.get_runtime_model().get_ordered_ops()
    kinds = {node: node.get_rt_info()["layerType"].astype(str) for node in nodes}
    memories = [n for n, kind in kinds.items() if kind == "Input" and n.get_output_partial_shape(0).rank == 4]
    readers = [
        kinds[reader.get_node()]
        for node in memories
        if node.get_output_partial_shape(0)[3].is_static
        for reader in node.output(0).get_target_inputs()
    ]
    assert len(readers) >= 2
    assert set(readers) == {"MatMul", "ShapeOf"}


@pytest.mark.slow
def test_an_int8_folder_gives_what_its_floats_give(bundle, tmp_path) -> None:
    write_int8(open_model(bundle / "pali"), tmp_path / "int8")
    assert open_model(tmp_path / "int8").facts.int8
    image = torch.randint(0, 256, (1, 1, 72, 72, 3), dtype=torch.uint8)
    expected = open_model(bundle / "pali").model().embed_images(image)

    def embed(folder: Path, name: EngineName) -> torch.Tensor:
        return Pali.from_pretrained(folder, name).pipeline().engine.encode_images(image).tokens

    widened, stored = embed(tmp_path / "int8", "openvino"), embed(tmp_path / "int8", "openvino-int8")
    for seen in (widened, stored):
        assert (seen - expected).norm() < 0.05 * expected.norm()
    assert torch.equal(stored, embed(bundle / "pali", "openvino-int8"))  # quantized when loaded, by the same rule


@pytest.mark.parametrize(("name", "dtype"), [("openvino", "fp32"), ("openvino", "bf16"), ("openvino-int8", "bf16")])
def test_an_int4_folder_gives_what_its_floats_give(
    bundle, tmp_path, monkeypatch, name: EngineName, dtype: Any
) -> None:
    """And OpenVINO keeps its weights in int4: nothing widens them but the matmul that reads them."""
    if dtype == "fp32":
        monkeypatch.setattr("openpali.infer.engines.openvino.bf16_is_faster", lambda device: False)
    write_int4(open_model(bundle / "pali"), tmp_path / "int4", 32)
    floats = open_model(tmp_path / "int4").model(plain=True)
    pipeline = Pali.from_pretrained(tmp_path / "int4", name, dtype=dtype).pipeline()
    compiled = pipeline.engine
    assert isinstance(compiled, OpenVinoPali)
    for graph, stored in ((compiled._step, {"i4", "u4"}), (compiled._head, {"i8", "u8"})):
        kinds = {
            node.input_value(1).get_element_type().get_type_name()
            for node in graph.get_runtime_model().get_ops()
            if node.get_rt_info()["layerType"].astype(str) == "FullyConnected"
        }
        assert kinds
        assert kinds <= stored
    assert (compiled._vision is None) == (dtype == "bf16")
    images = torch.randint(0, 256, (2, 1, *floats.vit.config.image_size, 3), dtype=torch.uint8)
    prompt = torch.randint(2, 99, (2, 9), generator=torch.Generator().manual_seed(0))
    memory, exact = encode(compiled, images, prompt), floats.encode(images, prompt)
    cache, exact_cache = compiled.start(memory, 4), floats.start(exact, 4)
    for token in (0, 3, 5):
        ids = torch.full((2, 1), token)
        got, expected = compiled.step(ids, cache), floats.step(ids, exact_cache)
        assert (got - expected).norm() < (1e-4 if dtype == "fp32" else 5e-2) * expected.norm()


def test_every_stored_layer_has_a_stand_in_for_as_long_as_it_is_traced() -> None:
    model = tiny(0)
    compute_in_int8(model)
    layers = {each for each in model.modules() if isinstance(each, Int8Linear)}
    with engine._stand_ins(model, ("vit.",)) as stored:
        assert {each for each in model.modules() if isinstance(each, Int8Linear)} == set(
            model.vit.modules()
        ) & layers
        assert set(stored.values()) == layers - set(model.vit.modules())
    assert {each for each in model.modules() if isinstance(each, Int8Linear)} == layers


def test_weights_that_are_not_found_in_the_graph_are_not_taken_for_zeros(monkeypatch) -> None:
    model = tiny(0)
    compute_in_int8(model)
    real = engine._put_stored
    monkeypatch.setattr(engine, "_put_stored", lambda graph, stored: real(graph, dict.fromkeys([1, *stored][:1])))
    with pytest.raises(ValueError, match="copies weights: take engine torch"):
        OpenVinoPali(model, precision="fp32")


def test_int8_layers_keep_their_bias() -> None:
    model = tiny(0)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    compute_in_int8(model)
    images = torch.randint(0, 256, (2, 1, 8, 8, 3), dtype=torch.uint8)
    seen, expected = OpenVinoPali(model, precision="fp32").encode_images(images).tokens, model.embed_images(images)
    assert (seen - expected).norm() < 0.05 * expected.norm()


def test_a_model_of_another_resolution_is_compiled_for_it() -> None:
    model = tiny(0)
    model.vit.set_grid((3, 1))
    images = torch.randint(0, 256, (2, 1, 12, 4, 3), dtype=torch.uint8)
    seen = OpenVinoPali(model, precision="fp32").encode_images(images).tokens
    torch.testing.assert_close(seen, model.embed_images(images), rtol=0, atol=1e-4)


def test_the_compiled_encoder_sees_each_image_once(compiled: OpenVinoPali, monkeypatch: pytest.MonkeyPatch) -> None:
    """The OOD score is computed from its patch tokens, without another pass through the model's."""
    tokenizer: Any = SimpleNamespace(encode=lambda _: [7, 8, 9], decode=lambda _: "", pad_id=0, eos_id=1)
    d = 2 * compiled.model.vit.config.width
    known = OodDetector(torch.zeros(d), torch.eye(d), torch.zeros(1, d), torch.tensor(1.0))
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)

    def score(engine: Any) -> float | None:
        pipeline = Pipeline(compiled.model, tokenizer, Preprocess(8, 8), engine=engine, ood=known)
        [found] = pipeline.predict([[image]], ["what?"], decoding=Decoding(max_tokens=2))
        return found.ood_score

    expected = score(compiled.model)
    monkeypatch.setattr(compiled.model.vit, "forward", None)
    assert score(compiled) == pytest.approx(expected, rel=1e-3)
