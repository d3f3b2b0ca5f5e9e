"""Write a model as ONNX graphs."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from openpali.infer.generate import evaluating
from openpali.infer.pali import Pali
from openpali.messages import cannot_import
from openpali.model.attention import attending, sdpa
from openpali.onnx.graphs import Graph, graphs_of
from openpali.weights.files import CONFIG, TOKENIZER
from openpali.weights.format import open_model
from openpali.weights.write import describe

OPSET = 18
_QUANTIZED = ["MatMul", "Gemm", "Gather"]  # the last are embeddings


def write(model: Path, out: Path, *, int8: bool = False, parts: Collection[str] | None = None) -> Iterator[Path]:
    """Write the graphs of each part of a model, in float32, its ``config.json`` and tokenizer; yield each file.

    Args:
        model: a model folder, or a bundle, whose parts get folders of their own.
        int8: weights of matmuls and embeddings in 8 bits, with one scale for each output of a matmul, activations
            rounded while running (onnxruntime's dynamic quantisation).
        parts: of a bundle, that are written; by default all.

    Raises:
        ValueError: a part has no graphs, or a package is missing.
    """
    _need("onnx")
    _need("onnxscript")
    quantization = _need("onnxruntime.quantization") if int8 else None
    pali = Pali.from_pretrained(model)
    wanted = pali.parts if parts is None else parts
    sources = {part: open_model(pali.parts[part]) for part in wanted}
    networks = {part: source.model(plain=True) for part, source in sources.items()}
    graphs = {
        part: graphs_of(sources[part].kind, network) for part, network in networks.items()
    }  # all of them, or an error
    for part, some in graphs.items():
        source, network = sources[part], networks[part]
        folder = out / part if len(pali.parts) > 1 else out
        folder.mkdir(parents=True, exist_ok=True)
        with evaluating(network), attending(network, sdpa):
            for name, graph in some.items():
                file = folder / f"{name}.onnx"
                trace(graph, file)
                if quantization:
                    whole = file.rename(file.with_suffix(".whole"))
                    quantization.quantize_dynamic(
                        whole,
                        file,
                        op_types_to_quantize=_QUANTIZED,
                        per_channel=True,
                        # of signed weights, CPUs without VNNI add two products in 16 bits, which overflow
                        weight_type=quantization.QuantType.QUInt8,
                    )
                    for floats in (whole, _weights_of(file)):
                        floats.unlink(missing_ok=True)
                yield file
                if _weights_of(file).is_file():
                    yield _weights_of(file)
        if source.has_tokenizer:
            (folder / TOKENIZER).write_bytes(source.tokenizer.proto)
            yield folder / TOKENIZER
        describe(folder, source.config, source.preprocess, source.lasting_facts)
        yield folder / CONFIG


def _weights_of(file: Path) -> Path:
    """Where torch writes the weights of a graph that are more than a file of its format may hold."""
    return file.with_name(f"{file.name}.data")


def trace(graph: Graph, file: Path, opset: int = OPSET) -> None:
    """Write a graph, as one file unless it is larger than 1.5 GiB."""
    dims: dict[str, Any] = {}
    shapes = tuple(_dims(varying, dims) for _, varying in graph.inputs.values())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about its own internals
        program = torch.onnx.export(
            graph,
            tuple(example for example, _ in graph.inputs.values()),
            input_names=[*graph.inputs],
            output_names=[*graph.outputs],
            dynamic_shapes=(shapes,),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        for value, (_, varying) in zip(program.model.graph.inputs, graph.inputs.values(), strict=True):
            # Python's len() of a tensor makes its size constant, and nothing is said
            shape = value.shape
            assert shape is not None
            assert not any(isinstance(shape[axis], int) for axis in varying), value
        # shapes are inferred and constants are folded: else onnxruntime logs that this be done before quantisation
        program.model.metadata_props["onnx.quant.pre_process"] = "onnxruntime.quant"
        program.save(file, external_data=False)


def _dims(varying: Mapping[int, str], dims: dict[str, Any]) -> dict[int, Any]:
    found = {}
    for axis, text in varying.items():
        factor, _, name = text.rpartition("*")
        dim = dims.setdefault(name, Dim(name, min=1, max=4096))
        found[axis] = int(factor) * dim if factor else dim
    return found


def _need(module: str) -> Any:
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:
        raise ValueError(cannot_import("export --format onnx needs ONNX", "openpali[onnx]", error)) from error
