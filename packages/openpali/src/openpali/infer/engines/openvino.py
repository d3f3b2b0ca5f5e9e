"""The model on CPUs through OpenVINO: image encoder, encoder and decoder step as compiled graphs.

A compiled step has no Python overhead, which on a CPU takes as long as a token's arithmetic; int8 weights have a
quarter of the bytes to read. Needs the extra ``openpali[cpu]``.

Shapes: B hypotheses, M memories (each shared by B // M consecutive rows), N encoder tokens, L text tokens so far,
D width, h heads, d head width, V vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from mmap import ACCESS_COPY, mmap
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openpali.infer.engines.base import Engine
from openpali.infer.engines.languages import language_of
from openpali.infer.generate import evaluating
from openpali.messages import cannot_import
from openpali.model.attention import PLAIN, Scoring, attending, scaled, sdpa
from openpali.model.cache import Extending, Memories, split_pairs
from openpali.model.int4 import Int4Linear
from openpali.model.int8 import Int8Linear, QuantizedLinear, compute_in_int8
from openpali.model.lora import lora_names
from openpali.model.patches import Images
from openpali.model.vision_language import VisualTokens, in_rows
from openpali.processor import bf16_is_faster, multiplies_bf16

LARGEST_BIAS = 2**26  # elements of [h, N, N], about 2,400 tokens of 12 heads; beyond it torch runs the encoder,
# a block of queries at a time

HIDDEN = torch.finfo(torch.float32).min  # added to scores of positions that may not be seen
SPARE = 64  # positions of the past that no row sees, beside as many as the longest row has, before they are dropped

GROUP = 128  # activation values that share a scale in int8 matmuls; OpenVINO's default of 32 is slower

Precision = Literal["fp32", "bf16"]
Input = tuple[Tensor, list[int]]
"""Of a graph: an example, and the shape with -1 for dimensions that vary."""
MASK: dict[str, Input] = {"mask": (torch.zeros(1, 1, 1, 5), [-1, 1, 1, -1])}


@dataclass(frozen=True)
class OpenVinoMemory:
    """Encoder outputs, which of them are real, and keys and values of each decoder layer (OpenVINO tensors)."""

    outputs: Tensor
    mask: Tensor
    tensors: list[Any]


class OpenVinoCache:
    """State of the decoder between steps, for rows that may differ in length; the past is in a request's variables.

    A step appends to every row alike. A row that joined later begins with positions of another's past, which its
    bias hides: so rows come and go without a copy of the past, until :meth:`stepped` drops what no row sees.

    Args:
        step: the compiled step; one that only joins another cache never makes a request of it.
        memory: of the encoder; its keys and values are ``[M, h, N, d]``.
    """

    def __init__(self, step: Any, memory: OpenVinoMemory) -> None:
        self._step = step
        self._kind = memory.tensors[0].element_type
        arrays = [torch.from_numpy(tensor.data) for tensor in memory.tensors]
        self.memory = Memories(zip(arrays[::2], arrays[1::2], strict=True), memory.mask.sum(1), shared=True)
        self.lengths = np.zeros(len(self.memory), np.int64)  # of the past of each hypothesis, [B]
        self.past = _count(len(self.lengths))  # the row of the last step that each hypothesis continues, [B]
        self.length = 0  # of the variables
        self._fresh = True  # the memory has still to be set as the request's input

    @cached_property
    def request(self) -> Any:
        """Holds the past."""
        return self._step.create_infer_request()

    def changed_memory(self) -> list[Any]:
        """The memory as tensors and its mask, if it is another than in the last step; else nothing."""
        fresh, self._fresh = self._fresh, False
        if not fresh:
            return []
        tensors = [_tensor(each.numpy(), self._kind) for pair in self.memory.layers() for each in pair]
        return [*tensors, _tensor(_hiding(self.memory.real()))]

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` continue what row ``rows[i]`` was, as :meth:`openpali.model.cache.Cache.reorder`."""
        self._fresh |= self.memory.reorder(rows)
        self.past, self.lengths = self.past[rows.numpy()], self.lengths[rows.numpy()]

    def append(self, other: OpenVinoCache) -> None:
        """Take over the rows of ``other``, as :meth:`openpali.model.cache.Cache.append`."""
        if not len(other.lengths):
            return
        if not len(self.lengths):
            vars(self).clear()  # with the request of its own past
            vars(self).update(vars(other))
            return
        self.memory.append(other.memory)
        if other.length:
            self._take_past(other)
        else:
            before = self.past if self.length else np.zeros_like(self.past)
            self.past = np.pad(before, (0, len(other.lengths)))  # any row's past will do
        self.lengths = np.concatenate([self.lengths, other.lengths])
        self._fresh = True

    def _take_past(self, other: OpenVinoCache) -> None:
        """Put the past of ``other`` behind the rows of the variables; what is shorter begins with zeros."""
        length, rows = max(self.length, other.length), 0
        theirs = {state.name: state.state for state in other.request.query_state()}
        for state in self.request.query_state():
            both = [state.state.data, theirs[state.name].data]
            rows = len(both[0])
            padded = [np.pad(each, ((0, 0), (0, 0), (length - each.shape[2], 0), (0, 0))) for each in both]
            state.state = _tensor(np.concatenate(padded), theirs[state.name].element_type)
        self.past = np.concatenate([self.past, rows + other.past])
        self.length = length

    def bias(self, relative: Tensor) -> NDArray[np.float32]:
        """Bias of the next position ``[1 or B, h, 1, length + 1]``, of one per distance ``[h, length + 1]``."""
        bias = relative[None, :, None]
        if (self.lengths < self.length).any():
            before = self.length - torch.from_numpy(self.lengths)[:, None]
            bias = bias.masked_fill((torch.arange(self.length + 1) < before)[:, None, None], HIDDEN)
        return cast(NDArray[np.float32], bias.numpy())

    def stepped(self) -> None:
        """Count a position more in each row."""
        self.length += 1
        self.lengths = self.lengths + 1
        self.past = _count(len(self.lengths))
        longest = int(self.lengths.max())
        if self.length > 2 * longest + SPARE:
            for state in self.request.query_state():
                state.state = _tensor(state.state.data[:, :, self.length - longest :], state.state.element_type)
            self.length = longest


class OpenVinoPali:
    """What :func:`openpali.infer.generate.generate` needs of a model, compiled for this CPU.

    Args:
        model: its linear layers may be int8 (:mod:`openpali.model.int8`); their matmuls also round activations,
            after :func:`~openpali.model.int8.compute_in_int8`. All else is float32, or else torch encodes images
            and prompts, and the decoder alone is compiled. Weights in int8 and int4 are compiled as they are;
            OpenVINO widens those in bf16 meanwhile. The model stays as it is.
        precision: of activations; "auto": bf16 if the processor multiplies it faster; where matmuls are int8, if it
            does so natively, as less is moved. Logits are float32: in bf16 too many would tie.
    """

    def __init__(self, model: Any, precision: Precision | Literal["auto"] = "auto") -> None:
        self.model = model
        self.first = model.first
        self.language = language_of(model)
        if precision == "auto":
            precision = best_precision(model)
        self.precision = precision
        if lora_names(model):
            raise ValueError(
                "OpenVINO runs no adapter beside its base: merge them with `openpali export --format openpali`"
            )
        self._vision = self._encoder = None
        whole = model.precision == "fp32"
        left_out = () if whole else ("model.vit.", "model.project.", "model.text.encoder.")
        # attention as one operator of the traced graph
        with evaluating(model), attending(model, _sdpa), _stand_ins(self.language, left_out) as stored:
            memory = self._compile_decoder(stored)
            if whole:
                self._compile_encoder(memory, stored)

    def _compile_decoder(self, stored: Mapping[int, nn.Module]) -> dict[str, Input]:
        """Compile the step and the head; the step's inputs of keys and values of the memory."""
        config = self.model.config.text
        heads, width, d = config.heads, config.d_model, config.d_head
        kv = [f"{name}.{i}" for i in range(config.decoder_layers) for name in ("key", "value")]
        memory: dict[str, Input] = {
            f"memory_{name}": (torch.zeros(1, heads, 5, d), [-1, heads, -1, d]) for name in kv
        }
        past = {f"past_{name}": (torch.zeros(2, heads, 3, d), [-1, heads, -1, d]) for name in kv}
        biases = range(self.language.decoder_biases)
        bias = torch.zeros(2, self.language.bias_heads, 1, 4), [-1, self.language.bias_heads, 1, -1]
        self._step = _compiled(
            self._run_step,
            {
                "x": (torch.zeros(2, 1, width), [-1, 1, width]),
                "rows": (torch.arange(2, dtype=torch.int32), [-1]),
                **{f"bias.{i}": bias for i in biases},
                **MASK,
                **memory,
                **past,
            },
            ["hidden", *(f"next_{name}" for name in kv)],
            stored,
            self.precision,
            narrow=memory,
            state={f"past_{name}": f"next_{name}" for name in kv},
        )
        # OpenVINO writes the last product in float32 if weights are floats
        quantized = any(isinstance(layer, QuantizedLinear) for layer in self.language.modules())
        self._head = _compiled(
            self._run_head,
            {"hidden": (torch.zeros(1, 1, width), [-1, 1, width])},
            ["logits"],
            stored,
            "fp32" if quantized else self.precision,
        )
        self._memory_names = [*memory, "mask"]
        return memory

    def _compile_encoder(self, memory: Mapping[str, Input], stored: Mapping[int, nn.Module]) -> None:
        """Compile the image encoder, and the encoder with its outputs as keys and values of the decoder."""
        vision = self.model.vit.config
        if not vision.tokens:  # torch takes images in their own proportions
            size = vision.image_size
            pixels = {"pixels": (torch.zeros(1, *size, 3), [-1, *size, 3])}
            self._vision = _compiled(self._run_vision, pixels, ["patches", "visual"], stored, self.precision)
        heads, width = self.model.config.text.heads, self.model.config.text.d_model
        biases = range(self.language.encoder_biases)
        self._encoder = _compiled(
            self._run_encoder,
            {
                "x": (torch.zeros(1, 5, width), [-1, -1, width]),
                **MASK,
                **{f"bias.{i}": (torch.zeros(1, heads, 5, 5), [1, heads, -1, -1]) for i in biases},
            },
            ["outputs", *memory],
            stored,
            self.precision,
            narrow=memory,
        )

    def _run_vision(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.model.vit(pixels)
        return patches, self.model.visual(patches)

    def _run_encoder(self, x: Tensor, mask: Tensor, *biases: Tensor) -> tuple[Tensor, ...]:
        x = self.language.run_encoder(x, biases, mask)
        return (x, *(t for cross in self.language.crosses for t in cross.memory(x)))

    def _run_step(self, x: Tensor, rows: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = self.language.decoder_biases
        biases, mask, others = tensors[:count], tensors[count], tensors[count + 1 :]
        memories, pasts = split_pairs(others)
        extend = Extending(pasts, rows)  # the rows that hypotheses continue
        x = self.language.run_decoder(x, biases, memories, mask, extend)
        return (x, *extend.extended)

    def _run_head(self, hidden: Tensor) -> Tensor:
        return self.language.logits(hidden)

    @torch.inference_mode()
    def encode_tokens(
        self, visual_BND: Tensor | None, prompt: Tensor, counts: Tensor | None = None
    ) -> OpenVinoMemory:
        """As :meth:`openpali.architectures.pali.PaliModel.encode_tokens`."""
        x, real = self.model.assemble(visual_BND, prompt, counts)
        n = x.shape[1]
        if self._encoder is None or self.model.config.text.heads * n * n > LARGEST_BIAS:
            with evaluating(self.model), torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
                outputs = self.model.text.encode(x, real)
                pairs = (cross.memory(outputs) for cross in self.language.crosses)
                memory = [_narrow(t, self.precision) for pair in pairs for t in pair]
            return OpenVinoMemory(outputs, real, memory)
        x, biases = self.language.enter_encoder(x)
        request = self._encoder.create_infer_request()  # one per memory: its outputs are the memory
        request.infer([_tensor(x.numpy()), _tensor(_hiding(real)), *(_tensor(t.numpy()) for t in biases)])
        outputs, *memory = [request.get_tensor(port) for port in self._encoder.outputs]
        return OpenVinoMemory(torch.from_numpy(outputs.data), real, memory)

    @torch.inference_mode()
    def encode_images(self, images: Images, frames: Tensor | None = None) -> VisualTokens:
        """As :meth:`openpali.architectures.pali.PaliModel.encode_images`."""
        if self._vision is None or not isinstance(images, Tensor):
            with evaluating(self.model):
                return cast(VisualTokens, self.model.encode_images(images, frames))
        pixels = images.flatten(0, 1)
        if pixels.dtype == torch.uint8:
            pixels = pixels.div(127.5).sub_(1)
        patches, tokens = self._vision(pixels.numpy()).values()
        return in_rows(torch.from_numpy(patches), torch.from_numpy(tokens), images, frames)

    def start(self, memory: OpenVinoMemory, max_length: int) -> OpenVinoCache:
        """A cache to generate from these memories; it grows step by step."""
        return OpenVinoCache(self._step, memory)

    @torch.inference_mode()
    def step(self, ids: Tensor, cache: OpenVinoCache) -> Tensor:
        """Feed the next token of each row ``[B, 1]``; logits of the one after it, ``[B, 1, V]``."""
        for name, tensor in zip(self._memory_names, cache.changed_memory(), strict=False):
            cache.request.set_tensor(name, tensor)
        for i, relative in enumerate(self.language.relative(cache.length)):
            cache.request.set_tensor(f"bias.{i}", _tensor(cache.bias(relative)))
        x = self.language.enter_decoder(ids, torch.from_numpy(cache.lengths))
        cache.request.set_tensor("x", _tensor(x.float().numpy()))
        cache.request.set_tensor("rows", _tensor(cache.past))
        cache.request.infer()
        cache.stepped()
        [logits] = self._head([cache.request.get_tensor("hidden")]).values()
        return torch.from_numpy(logits)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, how: Scoring = PLAIN) -> Tensor:
    """:func:`sdpa` of scaled queries: OpenVINO would scale and transpose the keys of a memory at each step."""
    return sdpa(scaled(q, how.scale), k, v, how._replace(scale=1.0))


def require_openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise ValueError(cannot_import("engine openvino needs OpenVINO", "openpali[cpu]", error)) from error
    return openvino


def _compiled(
    compute: Callable[..., Any],
    inputs: Mapping[str, Input],
    outputs: list[str],
    stored: Mapping[int, nn.Module],
    precision: Precision,
    narrow: Iterable[str] = (),
    state: Mapping[str, str] | None = None,
) -> Any:
    """Trace a function of a model and compile it for this CPU.

    Args:
        compute: the function of the inputs, in whose trace weights are constants.
        inputs: by name, in order.
        outputs: their names.
        stored: linear layers by the address of the float32 weight that stands for each, see :func:`_stand_ins`.
        narrow: inputs and outputs with dtype ``precision``; others have the dtype of their examples.
        state: input -> output of the previous call that it continues, see :func:`_keep`.
    """
    openvino = require_openvino()
    graph = _traced(compute, tuple(example for example, _ in inputs.values()))
    shapes = {}
    for port, (name, (_, shape)) in zip(graph.inputs, inputs.items(), strict=True):
        port.get_tensor().set_names({name})
        shapes[port] = openvino.PartialShape(shape)
    for port, name in zip(graph.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})
    graph.reshape(shapes)
    if state:
        _keep(graph, state)
    _keep_mlps_apart(graph)
    _put_stored(graph, stored)
    ports, kind = openvino.preprocess.PrePostProcessor(graph), {"fp32": "f32"}.get(precision, precision)
    for name in narrow:
        port = ports.input(name) if name in inputs else ports.output(name)
        port.tensor().set_element_type(getattr(openvino.Type, kind))
    rounds = _rounds(stored.values())
    settings = {
        "INFERENCE_PRECISION_HINT": kind,
        "KV_CACHE_PRECISION": kind,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP if rounds else 0,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    return openvino.Core().compile_model(ports.build(), "CPU", settings)


def best_precision(model: nn.Module) -> Precision:
    """In which activations are computed soonest on this CPU: see :class:`OpenVinoPali`."""
    wanted = multiplies_bf16 if _rounds(model.modules()) else bf16_is_faster
    return "bf16" if wanted(torch.device("cpu")) else "fp32"


def _rounds(layers: Iterable[nn.Module]) -> bool:
    """Whether one of the layers rounds activations to int8."""
    return any(isinstance(layer, QuantizedLinear) and layer.rounds for layer in layers)


def _traced(compute: Callable[..., Any], examples: tuple[Tensor, ...]) -> Any:
    """Trace a function, and convert it with OpenVINO's frontend: `openvino.convert_model` reports its use online.

    For a module instead of a function, torch makes a script of each part, which takes most of the time.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about Python checks, which tracing rightly makes constant
        traced = torch.jit.trace(compute, examples, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced, example_input=examples)  # the frontend holds no reference to it
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


def _keep_mlps_apart(graph: Any) -> None:
    """Put a clamp to the range of float32, which changes nothing, behind the product in each gated MLP.

    On processors with AMX, OpenVINO 2026.4 fuses a gated MLP into one kernel whose blocks fit only some widths; for
    others it divides by zero, which ends the process. The clamp keeps the pattern from matching.
    """
    from openvino import opset13

    largest = torch.finfo(torch.float32).max
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        product = node.input(0).get_source_output()
        factors = {each.get_source_output().get_node().get_type_name() for each in product.get_node().inputs()}
        if product.get_node().get_type_name() == "Multiply" and factors & {"Swish", "Gelu"}:
            node.input(0).replace_source_output(opset13.clamp(product, -largest, largest).output(0))


def _keep(graph: Any, state: Mapping[str, str]) -> None:
    """Turn inputs ``[rows, h, L, d]`` into variables that outputs are assigned to, in place; at first L is 0.

    OpenVINO fuses attention over such variables, gathered by int32 ``rows`` and concatenated, into one kernel.
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


@contextmanager
def _stand_ins(model: nn.Module, left_out: tuple[str, ...] = ()) -> Iterator[dict[int, nn.Module]]:
    """Within it, the model can be traced in float32; gives the layers that were replaced for that.

    Linear layers of another dtype are replaced by float32 ones, whose weights are mapped zeros: one value is
    written to tell them apart, the rest takes no memory. The address of such a weight is the key of the layer.
    Other parameters are widened, except for embeddings, which are not traced.

    Args:
        left_out: beginnings of the names of modules that are not traced.
    """
    layers: dict[str, nn.Linear | QuantizedLinear] = {}
    narrow: list[tuple[nn.Module, str, nn.Parameter]] = []
    for name, module in model.named_modules():
        if f"{name}.".startswith(left_out):
            continue
        if isinstance(module, nn.Linear | QuantizedLinear) and module.weight.dtype != torch.float32:
            layers[name] = module
        elif not isinstance(module, nn.Embedding):
            own = module.named_parameters(recurse=False)
            narrow += [(module, key, value) for key, value in own if value.dtype != torch.float32]
    traced: dict[int, nn.Module] = {}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)  # constants of a graph require none
        for number, (name, layer) in enumerate(layers.items()):
            outputs, inputs = layer.out_features, layer.in_features
            zeros = torch.frombuffer(mmap(-1, 4 * outputs * inputs, access=ACCESS_COPY), dtype=torch.float32)
            zeros[0] = number  # OpenVINO would merge equal weights
            linear = nn.Linear(inputs, outputs, bias=layer.bias is not None, device="meta")
            linear.weight = nn.Parameter(zeros.view(outputs, inputs), requires_grad=False)
            if layer.bias is not None:
                linear.bias = nn.Parameter(layer.bias.float(), requires_grad=False)
            traced[zeros.data_ptr()] = layer
            model.set_submodule(name, linear)
        for module, key, value in narrow:
            setattr(module, key, nn.Parameter(value.float(), requires_grad=False))
        yield traced
    finally:
        for name, layer in layers.items():
            model.set_submodule(name, layer)
        for module, key, value in narrow:
            setattr(module, key, value)
        for parameter in learning:
            parameter.requires_grad_(True)


def _put_stored(graph: Any, layers: Mapping[int, nn.Module]) -> None:
    """Give matmuls the weights of ``layers``, by the address of the floats that stand for them, in place."""
    import openvino
    from openvino import opset13

    for matmul in graph.get_ops():
        if matmul.get_type_name() != "MatMul":
            continue
        constant = matmul.input_value(1).get_node()
        if constant.get_type_name() != "Constant":
            continue
        if (layer := layers.get(constant.data.ctypes.data)) is None:
            if layers and not constant.data[1:].any():
                raise ValueError(f"OpenVINO {openvino.__version__} copies weights: take engine torch, or update it")
            continue
        if isinstance(layer, Int8Linear):
            weight = opset13.constant(layer.weight.numpy(), shared_memory=True)
            scale = opset13.constant(layer.scale.float()[:, None].numpy())
            wide = opset13.multiply(opset13.convert(weight, "f32"), scale)
        elif isinstance(layer, Int4Linear):
            groups = openvino.Tensor(layer.weight.numpy(), [*layer.scale.shape, layer.group], openvino.Type.i4)
            weight = openvino.op.Constant(groups, shared_memory=True)
            scale = opset13.constant(layer.scale.float()[..., None].numpy())
            wide = opset13.multiply(opset13.convert(weight, "f32"), scale)
            wide = opset13.reshape(wide, [layer.out_features, layer.in_features], special_zero=False)
        else:
            bits = cast(Tensor, layer.weight).detach().view(torch.int16).numpy()
            weight = openvino.op.Constant(_tensor(bits, openvino.Type.bf16), shared_memory=True)
            wide = opset13.convert(weight, "f32")
        matmul.input(1).replace_source_output(wide.output(0))


def _tensor(array: NDArray[Any], kind: Any = None) -> Any:
    """An OpenVINO tensor of an array; ``kind``: the dtype of its bits if NumPy has none for it (bf16)."""
    import openvino

    array = np.ascontiguousarray(array)
    return openvino.Tensor(array) if kind is None else openvino.Tensor(array, array.shape, kind)


def _narrow(tensor: Tensor, precision: Precision) -> Any:
    import openvino

    if precision == "fp32":
        return _tensor(tensor.float().numpy())
    return _tensor(tensor.bfloat16().view(torch.int16).numpy(), openvino.Type.bf16)


def _hiding(real: Tensor) -> NDArray[np.float32]:
    """What to add to scores, ``[M, 1, 1, N]``, so that positions that are not real are not seen."""
    return cast(NDArray[np.float32], torch.zeros(real.shape).masked_fill(~real, HIDDEN)[:, None, None].numpy())


def _count(rows: int) -> NDArray[np.int32]:
    return np.arange(rows, dtype=np.int32)


OPENVINO = Engine(
    OpenVinoPali, require=require_openvino, compiles=True, devices=("cpu",), auto=("fp32",), widens=True
)
INT8 = replace(OPENVINO, prepare=compute_in_int8, auto=(), widens=False)
