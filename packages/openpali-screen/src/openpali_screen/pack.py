"""Write the networks of a bundle as graphs for :mod:`openpali_screen.runtime`, in 8 bits, checked against torch.

    python -m openpali_screen.pack MODEL --out DIR --images SCREENS.tar

Weights have 8 bits with a scale for each output; activations have 8 bits by static quantisation, with ranges that
they have on the given screens, on which nothing is scored.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn
from torch.nn import functional

import onnx
from openpali.data.sources.registry import open_source
from openpali.infer.bundle import Bundle
from openpali.infer.generate import evaluating
from openpali.infer.pali import Pali
from openpali.model.attention import PLAIN, Scoring, attending
from openpali.onnx.export import trace
from openpali.onnx.graphs import Dims, Graph
from openpali_screen.bundles import torch_networks_of
from openpali_screen.geometry import Image
from openpali_screen.language import stored
from openpali_screen.networks import Networks
from openpali_screen.parts import ELEMENTS, FINDER, ICONS, READER
from openpali_screen.reader import ScreenReader
from openpali_screen.runtime import ABOUT, ARRAYS

OPSET = 23  # the first that has attention as one operator
CALLS = 24  # of each network by which ranges are set
CLOSE = 1e-3  # most difference of outputs in float32 from torch's
_QUANTIZED = ["MatMul", "Gemm", "Conv"]

Inputs = list[tuple[Any, ...]]
_KEPT = {
    FINDER: ("tile",),
    READER: ("size", "steps", "characters"),
    ELEMENTS: ("side", "roles"),
    ICONS: ("side", "labels"),
}
"""What a network has beside its graph."""
_DIMS: Mapping[str, Sequence[Dims]] = {
    FINDER: [{0: "batch"}],
    READER: [{0: "batch", 2: "16*columns"}, {0: "batch"}],
    ELEMENTS: [{0: "proposals"}, {0: "proposals"}, {0: "proposals"}, {}],
    ICONS: [{0: "batch"}],
}


def pack(bundle: Bundle, out: Path, images: Sequence[Image], *, int8: bool = True) -> None:
    """Write the folder of a reader of screens.

    Args:
        images: screens uint8 ``[H, W, 3]`` by which ranges are set and graphs are checked.
        int8: in 8 bits; else in float32.
    """
    networks = torch_networks_of(bundle)
    recorded: dict[str, Inputs] = {part: [] for part in _DIMS}
    reader = ScreenReader(_recording(networks, recorded))
    for image in images:
        reader.screen(image)
    own = {part: network for part in _KEPT if (network := getattr(networks, part))}
    about: dict[str, Any] = {
        "name": bundle.name,
        "networks": {part: {k: getattr(own[part], k) for k in _KEPT[part]} for part in own},
        **{k: asdict(each) for k in ("words", "roles") if (each := getattr(networks, k))},
    }
    out.mkdir(parents=True, exist_ok=True)
    for part in own:
        module, calls = bundle.load(part)[1], recorded[part]
        chosen = [calls[i] for i in np.linspace(0, len(calls) - 1, min(CALLS, len(calls))).astype(int)]
        print(f"{part}: {write_graph(part, module, out / f'{part}.onnx', chosen, int8=int8)}")
    arrays: dict[str, Any] = stored(networks.language) if networks.language else {}
    if detector := networks.detector:
        arrays |= {"mean": detector.mean, "limit": np.float32(detector.limit)}
        arrays |= {name: getattr(detector, name).astype(np.float16) for name in ("whiten", "centres")}
    np.savez_compressed(out / ARRAYS, **arrays)
    (out / ABOUT).write_text(json.dumps(about, ensure_ascii=False) + "\n", "utf-8")


def _recording(networks: Networks, recorded: Mapping[str, Inputs]) -> Networks:
    """The networks, whose inputs are appended to ``recorded``."""

    def wrapped(part: str) -> Any:
        network = getattr(networks, part)
        if network is None:
            return None

        def run(*inputs: Any) -> Any:
            recorded[part].append(inputs)
            return network.run(*inputs)

        return replace(network, run=run)

    return replace(networks, **{part: wrapped(part) for part in recorded})


def write_graph(part: str, module: nn.Module, out: Path, calls: Inputs, *, int8: bool) -> str:
    """Write the graph of one network; says how large it is, and how far its outputs are from torch's."""
    function = _FUNCTIONS[part](module)
    largest = max(calls, key=lambda inputs: len(inputs[0]))
    names = [f"input{i}" for i in range(len(largest))]
    twice = 2 if len(largest[0]) == 1 else 1  # an axis of length 1 is taken for constant
    examples = {
        name: (torch.from_numpy(each.repeat(twice if dims else 1, 0)), dims)
        for name, each, dims in zip(names, largest, _DIMS[part], strict=True)
    }
    outputs = [f"output{i}" for i in range(len(function(*(each for each, _ in examples.values()))))]
    with tempfile.TemporaryDirectory() as folder, evaluating(module), attending(module, _attention):
        whole = Path(folder) / "whole.onnx"
        trace(Graph(module, function, examples, outputs), whole, OPSET)
        apart = _apart(whole, function, calls[:4])
        if apart > CLOSE:
            raise ValueError(
                f"the graph of {part} differs from torch by {apart:.2g}: this version writes it wrongly"
            )
        if int8:
            _quantize(whole, out, names, calls)
            apart = _apart(out, function, calls[:4])
        else:
            shutil.copy(whole, out)
    return f"{out.stat().st_size / 1e6:.1f} MB, largest difference from torch {apart:.2g}"


def _apart(graph: Path, function: Callable[..., Sequence[Tensor]], calls: Inputs) -> float:
    """The largest difference of outputs from torch's; of large ones, their share."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    most = 0.0
    for inputs in calls:
        own = session.run(None, dict(zip(names, inputs, strict=True)))
        with torch.inference_mode():
            true = function(*map(torch.from_numpy, inputs))
        pairs = [(a, b.numpy()) for a, b in zip(own, true, strict=True)]
        most = max(most, *(float((np.abs(a - b) / (1 + np.abs(b))).max()) for a, b in pairs))
    return most


def _attention(q: Tensor, k: Tensor, v: Tensor, how: Scoring = PLAIN) -> Tensor:
    """As :func:`~openpali.model.attention.sdpa`, with a row of the mask for each query, as ONNX Runtime needs."""
    mask = how.mask if how.mask is None else how.mask.expand(-1, -1, q.shape[2], -1)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=how.scale)


class _Calls(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, names: Sequence[str], calls: Inputs) -> None:
        self._calls = iter([dict(zip(names, inputs, strict=True)) for inputs in calls])

    def get_next(self) -> Any:
        return next(self._calls, None)


def _quantize(whole: Path, out: Path, names: Sequence[str], calls: Inputs) -> None:
    model = onnx.load(whole)
    stored = {each.name for each in model.graph.initializer}
    products = [
        node.name for node in model.graph.node if node.op_type == "MatMul" and not stored.intersection(node.input)
    ]  # of activations with each other, which stay in float32
    quantize_static(
        whole,
        out,
        _Calls(names, calls),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=_QUANTIZED,
        nodes_to_exclude=products,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"OpTypesToExcludeOutputQuantization": _QUANTIZED},
    )


def _finder(module: Any) -> Callable[..., Sequence[Tensor]]:
    def run(tiles: Tensor) -> Sequence[Tensor]:
        tokens, cells = module.vit(tiles)
        found = module.run_head(tokens, cells)
        return torch.stack((found.logits.sigmoid(), found.up, found.down), 1), tokens.flatten(1, 2)

    return run


def _reader(module: Any) -> Callable[..., Sequence[Tensor]]:
    return lambda lines, columns: (module(lines, columns).softmax(-1),)


def _elements(module: Any) -> Callable[..., Sequence[Tensor]]:
    def run(views: Tensor, kinds: Tensor, boxes: Tensor, size: Tensor) -> Sequence[Tensor]:
        known = module.embed(views, kinds, boxes, size.expand(kinds.shape[0], 2))
        found = module.run_head(module.run_encoder(known[None])[0], boxes)
        return found.logits.sigmoid(), found.sides

    return run


def _icons(module: Any) -> Callable[..., Sequence[Tensor]]:
    return lambda icons: (module(icons).softmax(1),)


_FUNCTIONS: Mapping[str, Callable[[Any], Callable[..., Sequence[Tensor]]]] = {
    FINDER: _finder,
    READER: _reader,
    ELEMENTS: _elements,
    ICONS: _icons,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m openpali_screen.pack", description="Write graphs of a reader of screens."
    )
    parser.add_argument("model", help="a bundle, or its name")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", nargs="+", required=True, help="data sets of screens that nothing is scored on")
    parser.add_argument("--float32", action="store_true", help="not in 8 bits")
    given = parser.parse_args()
    sources = [open_source(each, {}) for each in given.images]
    images = [source[i].images[0] for source in sources for i in range(len(source))]
    pack(Pali.from_pretrained(given.model), given.out, images, int8=not given.float32)


if __name__ == "__main__":
    main()
