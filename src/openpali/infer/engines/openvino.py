"""The same model on CPUs through OpenVINO: vision, encoder and decoder step as compiled graphs, int8 if wanted.

A compiled step spares Python's share of each token, which on a CPU is as large as the arithmetic, and int8 weights
leave a quarter of the bytes to read. Needs the extra ``openpali[cpu]``.

Shapes: B hypotheses, M memories (B // M rows after one another share each), N encoder tokens, L text tokens so far,
D width, h heads, d head width, V vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openpali.model.attention import sdpa, set_attention, unfold_bias
from openpali.model.pali import Pali
from openpali.model.t5 import DecoderLayer, EncoderDecoder, shared_memory

LARGEST_BIAS = 2**26  # elements of [h, N, N]; above (some 2,400 tokens of 12 heads) the encoder stays with torch,
# which takes it a block of queries at a time

GROUP = 128  # values of an activation that share a scale where they meet int8 weights; OpenVINO's 32 is slower

Precision = Literal["f32", "bf16"]


@dataclass(frozen=True)
class OpenVinoMemory:
    """Encoder outputs, already as keys and values of each decoder layer (tensors of OpenVINO)."""

    outputs: Tensor
    tensors: list[Any]


@dataclass
class OpenVinoCache:
    """A decoder in the middle of its texts; their past is in the request."""

    request: Any
    memory: list[Any]  # tensors: keys and values by layer, each [M, h, N, d], then the mask [M, 1, 1, N]
    past: NDArray[np.int32]  # the row that each hypothesis continues, [B]
    length: int = 0
    fresh: bool = True  # the request has not been given this memory

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` continue what row ``rows[i]`` was, as :meth:`openpali.model.t5.Cache.reorder`."""
        count = self.memory[0].shape[0]
        owners = shared_memory(rows // max(1, len(self.past) // count)).numpy()
        if owners.tolist() != list(range(count)):
            self.memory = [_tensor(tensor.data[owners], tensor.element_type) for tensor in self.memory]
            self.fresh = True
        self.past = self.past[rows.numpy()]


class OpenVinoPali:
    """What :func:`openpali.infer.generate.generate` needs of a model, compiled for this CPU.

    Args:
        model: in float32; it is not needed afterwards but for inputs that are too long for a compiled encoder.
        int8: keep the weights of matrices as int8, one scale for each output.
        precision: of activations; by default bf16 where the processor multiplies it. Logits are float32: rounded,
            they would be equal too often.

    Raises:
        ValueError: OpenVINO is not installed.
    """

    pad = Pali.pad

    def __init__(self, model: Pali, int8: bool = True, precision: Precision | Literal["auto"] = "auto") -> None:
        self.model = model.eval()
        set_attention(model, sdpa)  # one operator of the traced graph
        self.text = model.text
        config = model.config.text
        heads, width, d = config.heads, config.d_model, config.d_head
        layers, biases = config.decoder_layers, len(self.text.decoder_bias)
        kv = [f"{name}.{i}" for i in range(layers) for name in ("key", "value")]
        memory = {f"memory_{name}": (torch.zeros(1, heads, 5, d), [-1, heads, -1, d]) for name in kv}
        mask = {"mask": (torch.zeros(1, 1, 1, 5), [-1, 1, 1, -1])}
        past = {f"past_{name}": (torch.zeros(2, heads, 3, d), [-1, heads, -1, d]) for name in kv}

        if precision == "auto":
            precision = "bf16" if torch.cpu._is_avx512_bf16_supported() else "f32"
        self.precision = precision
        size = model.config.vision.image_size
        self._vision = _compiled(
            _Vision(model), {"pixels": (torch.zeros(1, *size, 3), [-1, *size, 3])}, ["visual"], int8, precision
        )
        self._encoder = _compiled(
            _Encoder(self.text),
            {
                "x": (torch.zeros(1, 5, width), [-1, -1, width]),
                **mask,
                **{
                    f"bias.{i}": (torch.zeros(1, heads, 5, 5), [1, heads, -1, -1])
                    for i in range(len(self.text.encoder_bias))
                },
            },
            ["outputs", *memory],
            int8,
            precision,
            narrow=memory,
        )
        self._step = _compiled(
            _Step(self.text),
            {
                "ids": (torch.zeros(2, 1, dtype=torch.long), [-1, 1]),
                "rows": (torch.arange(2, dtype=torch.int32), [-1]),
                **{f"bias.{i}": (torch.zeros(1, heads, 1, 4), [1, heads, 1, -1]) for i in range(biases)},
                **mask,
                **memory,
                **past,
            },
            ["hidden", *(f"next_{name}" for name in kv)],
            int8,
            precision,
            narrow=memory,
            state={f"past_{name}": f"next_{name}" for name in kv},
        )
        self._head = _compiled(
            _Head(self.text), {"hidden": (torch.zeros(1, 1, width), [-1, 1, width])}, ["logits"], int8, "f32"
        )
        self._memory_names = [*memory, "mask"]

    @torch.inference_mode()
    def encode(self, images: Tensor | None, prompt: Tensor, frames: Tensor | None = None) -> OpenVinoMemory:
        """As :meth:`openpali.model.pali.Pali.encode`."""
        visual = None if images is None else self.embed_images(images)
        x, real = self.model.assemble(visual, prompt, frames)
        mask = torch.zeros(real.shape).masked_fill(~real, torch.finfo(torch.float32).min)[:, None, None]
        n = x.shape[1]
        if self.model.config.text.heads * n * n > LARGEST_BIAS:
            outputs = self.text.encode(x, real)
            pairs = [cast(DecoderLayer, layer).cross.memory(outputs) for layer in self.text.decoder]
            memory = [_narrow(t, self.precision) for pair in pairs for t in pair]
            return OpenVinoMemory(outputs, [*memory, _tensor(mask.numpy())])
        biases = [unfold_bias(bias(1 - n, n - 1), n)[None] for bias in self.text.encoder_bias]
        request = self._encoder.create_infer_request()  # its outputs are the memory: a request for each
        request.infer([_tensor(t.numpy()) for t in (x, mask, *biases)])
        outputs, *memory = [request.get_tensor(port) for port in self._encoder.outputs]
        return OpenVinoMemory(torch.from_numpy(outputs.data), [*memory, _tensor(mask.numpy())])

    def embed_images(self, images: Tensor) -> Tensor:
        """As :meth:`openpali.model.pali.Pali.embed_images`."""
        pixels = images.flatten(0, 1)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float().div_(127.5).sub_(1)
        [tokens] = self._vision(pixels.numpy()).values()
        return torch.from_numpy(tokens).reshape(images.shape[0], -1, tokens.shape[-1])

    def start(self, memory: OpenVinoMemory, max_length: int) -> OpenVinoCache:
        """A cache to generate from these memories; it grows as it needs to."""
        return OpenVinoCache(self._step.create_infer_request(), memory.tensors, _count(len(memory.outputs)))

    @torch.inference_mode()
    def step(self, ids: Tensor, cache: OpenVinoCache) -> Tensor:
        """Feed the next token of each row ``[B, 1]``; logits of the one after it, ``[B, 1, V]``."""
        if cache.fresh:
            for name, tensor in zip(self._memory_names, cache.memory, strict=True):
                cache.request.set_tensor(name, tensor)
            cache.fresh = False
        for i, bias in enumerate(self.text.decoder_bias):
            cache.request.set_tensor(f"bias.{i}", _tensor(bias(-cache.length, 0)[None, :, None].numpy()))
        cache.request.set_tensor("ids", _tensor(ids.numpy()))
        cache.request.set_tensor("rows", _tensor(cache.past))
        cache.request.infer()
        cache.length += 1
        cache.past = _count(len(ids))
        [logits] = self._head([cache.request.get_tensor("hidden")]).values()
        return torch.from_numpy(logits)


def require_openvino() -> Any:
    """The package.

    Raises:
        ValueError: it is not installed; the message says how to.
    """
    try:
        import openvino
    except ImportError as error:
        raise ValueError("engine openvino needs OpenVINO: pip install 'openpali[cpu]'") from error
    return openvino


class _Vision(nn.Module):
    def __init__(self, model: Pali) -> None:
        super().__init__()
        self.vit, self.project = model.vit, model.project

    def forward(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.project(self.vit(pixels)))


class _Encoder(nn.Module):
    def __init__(self, text: EncoderDecoder) -> None:
        super().__init__()
        self.text = text

    def forward(self, x: Tensor, mask: Tensor, *biases: Tensor) -> tuple[Tensor, ...]:
        x = self.text.run_encoder(x, [bias + mask for bias in biases], None)
        memories = [t for layer in self.text.decoder for t in cast(DecoderLayer, layer).cross.memory(x)]
        return (x, *memories)


@dataclass
class _Past:
    """The cache of a traced layer: inputs that it extends, after picking the ``rows`` that hypotheses continue."""

    keys: Tensor
    values: Tensor
    rows: Tensor

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.keys = torch.cat([self.keys.index_select(0, self.rows), keys], dim=2)
        self.values = torch.cat([self.values.index_select(0, self.rows), values], dim=2)
        return self.keys, self.values


class _Step(nn.Module):
    def __init__(self, text: EncoderDecoder) -> None:
        super().__init__()
        self.text = text

    def forward(self, ids: Tensor, rows: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(self.text.decoder_bias)
        biases, mask, others = tensors[:count], tensors[count], tensors[count + 1 :]
        pairs = list(zip(others[::2], others[1::2], strict=True))  # keys and values by layer: memory, then past
        memories, pasts = pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]
        caches = [_Past(keys, values, rows) for keys, values in pasts]
        x = self.text.run_decoder(self.text.embed(ids), biases, memories, mask, caches=caches)
        return (x, *(t for cache in caches for t in (cache.keys, cache.values)))


class _Head(nn.Module):
    def __init__(self, text: EncoderDecoder) -> None:
        super().__init__()
        self.text = text

    def forward(self, hidden: Tensor) -> Tensor:
        return self.text.logits(hidden)


def _compiled(
    module: nn.Module,
    inputs: Mapping[str, tuple[Tensor, list[int]]],
    outputs: list[str],
    int8: bool,
    precision: Precision,
    narrow: Iterable[str] = (),
    state: Mapping[str, str] | None = None,
) -> Any:
    """A module as a graph for this CPU.

    Args:
        inputs: by name, in order: an example, and the shape with -1 where it varies.
        outputs: their names.
        narrow: inputs and outputs that are of ``precision`` themselves; all others of their examples' kind.
        state: inputs that the next call takes from outputs of this one, see :func:`_keep`.
    """
    openvino = require_openvino()
    examples = tuple(example for example, _ in inputs.values())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of checks that tracing makes constant, as they should be
        traced = torch.jit.trace(module, examples, check_trace=False)  # type: ignore[no-untyped-call]
        graph = openvino.convert_model(traced, example_input=examples)
    shapes = {}
    for port, (name, (_, shape)) in zip(graph.inputs, inputs.items(), strict=True):
        port.get_tensor().set_names({name})
        shapes[port] = openvino.PartialShape(shape)
    for port, name in zip(graph.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})
    graph.reshape(shapes)
    if state:
        _keep(graph, state)
    if int8:
        _to_int8(graph)
    ports = openvino.preprocess.PrePostProcessor(graph)
    for name in narrow:
        port = ports.input(name) if name in inputs else ports.output(name)
        port.tensor().set_element_type(getattr(openvino.Type, precision))
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "KV_CACHE_PRECISION": precision,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    return openvino.Core().compile_model(ports.build(), "CPU", settings)


def _keep(graph: Any, state: Mapping[str, str]) -> None:
    """Make inputs ``[rows, h, L, d]`` variables that outputs are assigned to, in place. They begin with L = 0.

    OpenVINO has a kernel for attention whose past is kept this way, picked out by int32 ``rows`` and extended.
    """
    from openvino import opset13
    from openvino.op.util import Variable, VariableInfo

    inputs = {name: each for each in graph.get_parameters() for name in each.output(0).get_names()}
    outputs = {name: each for each in graph.get_results() for name in each.output(0).get_names()}
    count = opset13.shape_of(inputs["rows"], output_type="i32")
    for name, following in state.items():
        parameter, result = inputs[name], outputs[following]
        info = VariableInfo()
        info.data_shape, info.data_type = parameter.get_partial_shape(), parameter.get_element_type()
        info.variable_id = name
        variable = Variable(info)
        _, heads, _, d = (each.get_min_length() for each in info.data_shape)
        shape = opset13.concat([count, opset13.constant(np.array([heads, 0, d], np.int32))], 0)
        empty = opset13.broadcast(opset13.constant(np.float32(0)), shape)
        parameter.output(0).replace(opset13.read_value(empty, variable).output(0))
        graph.add_variables([variable])
        graph.add_sinks([opset13.assign(result.input_value(0).get_node(), variable)])
        graph.remove_result(result)
        graph.remove_parameter(parameter)
    graph.validate_nodes_and_infer_types()


def _to_int8(graph: Any) -> None:
    """Keep the matrices that inputs are multiplied with as int8, with a scale for each output, in place."""
    from openvino import opset13

    for product in graph.get_ops():
        if product.get_type_name() != "MatMul":
            continue
        constant = product.input_value(1).get_node()
        if constant.get_type_name() != "Constant":
            continue
        weight = constant.data  # [outputs, inputs] where the product transposes it
        axis = -1 if product.get_attributes()["transpose_b"] else -2
        scale = np.abs(weight).max(axis, keepdims=True).clip(1e-12) / 127
        rounded = opset13.constant(np.round(weight / scale).astype(np.int8))
        product.input(1).replace_source_output(
            opset13.multiply(opset13.convert(rounded, "f32"), opset13.constant(scale)).output(0)
        )


def _tensor(array: NDArray[Any], kind: Any = None) -> Any:
    """An array, or the bits of what NumPy does not know (bf16), as a tensor of OpenVINO."""
    import openvino

    array = np.ascontiguousarray(array)
    return openvino.Tensor(array) if kind is None else openvino.Tensor(array, array.shape, kind)


def _narrow(tensor: Tensor, precision: Precision) -> Any:
    import openvino

    if precision == "f32":
        return _tensor(tensor.numpy())
    return _tensor(tensor.bfloat16().view(torch.int16).numpy(), openvino.Type.bf16)


def _count(rows: int) -> NDArray[np.int32]:
    return np.arange(rows, dtype=np.int32)
