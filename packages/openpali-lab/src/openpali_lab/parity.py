"""Run the same inputs through our modules and transformers', and compare layer by layer, in float32."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openpali.architectures.base import Stored
from openpali.architectures.halves.image_encoder import ImageEncoder
from openpali.architectures.halves.t5 import LanguageModel, is_t5, read_t5
from openpali.architectures.paligemma import PaliGemmaModel, read_paligemma
from openpali.architectures.rules import read_json
from openpali.architectures.siglip.architecture import SigLIPArchitecture, read_siglip
from openpali.architectures.siglip.network import SigLIP, SigLIPConfig
from openpali.architectures.t5gemma2.architecture import read_t5gemma2
from openpali.architectures.t5gemma2.network import T5Gemma2Model
from openpali.data.media.native import NativePreprocess
from openpali.model.losses import sigmoid_loss
from openpali.model.patches import Images, Patches, visible
from openpali.model.t5 import EncoderDecoder
from openpali.model.vit import MAPHead, ViT
from openpali.tasks.example import Size
from openpali.tensors import load_exactly

AGREEMENT = 1e-5


@dataclass(frozen=True)
class Deviation:
    """The difference between two tensors.

    Attributes:
        name: name of the layer.
        absolute: largest absolute difference of two elements.
        relative: ``absolute`` divided by the largest element of the reference.
    """

    name: str
    absolute: float
    relative: float

    def __str__(self) -> str:
        return f"{self.name:28} max difference {self.absolute:.1e}, relative {self.relative:.1e}"


def report(sources: Sequence[Path]) -> Iterator[str]:
    """Compare what ``openpali convert`` has read, a line for each layer; otherwise one that says why not."""
    if importlib.util.find_spec("transformers") is None:
        yield "no parity report: transformers is not installed (pip install 'openpali[transformers]')"
        return
    found: list[Deviation] = []
    for source in sources:
        kind = read_json(source / "config.json").get("model_type", "")
        if is_t5(source):
            found += compare_texts(read_t5(source), source)
        elif kind in SigLIPArchitecture.model_types:
            found += compare_images(read_siglip(source), source)
        elif kind == "t5gemma2":
            found += compare_t5gemma2(read_t5gemma2(source), source)
        elif kind == "paligemma":
            found += compare_paligemma(read_paligemma(source), source)
        else:
            yield f"no parity report of {source}: transformers does not read it"
    yield from (str(deviation) for deviation in found)
    if found:
        worst = max(found, key=lambda deviation: deviation.relative)
        yield f"worst: {worst.name.strip()}, relative {worst.relative:.1e} (float32 agrees below {AGREEMENT:.0e})"


@torch.no_grad()
def compare_images(encoder: ImageEncoder, source: Path) -> list[Deviation]:
    """Each layer of the image encoder and, if present, its pooling, the text tower and the sigmoid loss.

    Args:
        encoder: the image encoder read from ``source``.
        source: a transformers checkpoint folder.
    """
    from transformers import Siglip2Model, Siglip2VisionModel, SiglipModel, SiglipVisionModel

    generator = torch.Generator().manual_seed(0)
    images, pixels = _images(encoder, generator)
    seen = visible(images)

    def real(tokens_BND: Tensor) -> Tensor:
        """Tokens without those of padding, which mean nothing."""
        return tokens_BND if seen is None else tokens_BND[seen[:, 0, 0]]

    theirs: Any
    if encoder.text is None:
        theirs = _load(Siglip2VisionModel if encoder.vision.tokens else SiglipVisionModel, source)
        vit = _build(lambda: ViT(encoder.vision), encoder, "vit")
        with _outputs(vit.encoder.blocks) as layers:
            tokens = vit(images)
        reference = theirs(**pixels, output_hidden_states=True)
        found = _layers("image layer", [*map(real, layers)], [*map(real, reference.hidden_states[1:])])
        found.append(_deviation("image tokens", real(tokens), real(reference.last_hidden_state)))
        if encoder.has_pool:
            v = encoder.vision
            pool = _build(lambda: MAPHead(v.width, v.mlp_dim, v.heads), encoder, "pool")
            found.append(_deviation("image embedding", pool(tokens, seen), reference.pooler_output))
        return found
    config = SigLIPConfig(encoder.vision, encoder.text)
    model = _build(lambda: SigLIP(config), encoder, "")
    rows = len(pixels["pixel_values"])
    ids = torch.randint(0, encoder.text.vocab_size, (rows, encoder.text.length), generator=generator)
    theirs = _load(Siglip2Model if encoder.vision.tokens else SiglipModel, source)
    with _outputs(model.vit.encoder.blocks) as layers, _outputs(model.text.encoder.blocks) as text_layers:
        ours = model(images, ids)
    by_image = theirs.vision_model(**pixels, output_hidden_states=True)
    by_text = theirs.text_model(input_ids=ids, output_hidden_states=True)
    reference = theirs(input_ids=ids, **pixels, return_loss=True)
    return [
        *_layers("image layer", [*map(real, layers)], [*map(real, by_image.hidden_states[1:])]),
        _deviation("image tokens", real(model.vit(images)), real(by_image.last_hidden_state)),
        _deviation("image embedding", ours.image, reference.image_embeds),
        *_layers("text layer", text_layers, by_text.hidden_states[1:]),
        _deviation("text embedding", ours.text, reference.text_embeds),
        _deviation("sigmoid loss", sigmoid_loss(ours), reference.loss),
    ]


def _images(encoder: ImageEncoder, generator: torch.Generator) -> tuple[Images, dict[str, Tensor]]:
    """Random images as ours and as transformers' model takes them; of several proportions, if it keeps them."""
    vision = encoder.vision
    if not vision.tokens:
        images = torch.rand(2, *encoder.image_size, 3, generator=generator) * 2 - 1
        height, width = vision.image_size  # transformers' convolution ignores partial patches
        return images[:, :height, :width], {"pixel_values": images.permute(0, 3, 1, 2)}
    cut = NativePreprocess(vision.patch_size, vision.tokens)
    grids = torch.tensor([cut.grid(Size(*size)) for size in ((300, 300), (200, 600), (500, 200))])
    values = torch.rand(len(grids), vision.tokens, 3 * vision.patch_size**2, generator=generator) * 2 - 1
    mask = torch.arange(vision.tokens) < grids.prod(1, keepdim=True)
    inputs = {"pixel_values": values, "pixel_attention_mask": mask.int(), "spatial_shapes": grids}
    return Patches(values, grids), inputs


@torch.no_grad()
def compare_texts(language: LanguageModel, source: Path) -> list[Deviation]:
    """Each layer of encoder and decoder, and the logits, on rows of different lengths."""
    from transformers import AutoModelForSeq2SeqLM

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, language.config.vocab_size, (2, 24), generator=generator)
    mask = torch.arange(24) < torch.tensor([[24], [15]])
    ids = ids * mask
    targets = torch.randint(3, language.config.vocab_size, (2, 8), generator=generator)
    targets[:, 0] = 0
    model = _ours(lambda: EncoderDecoder(language.config), language.weights, str(source))
    with _outputs(model.encoder) as layers, _outputs(model.decoder) as decoder_layers:
        memory = model.encode(model.embed(ids), mask)
        hidden = model.decode(targets, memory, mask)
    theirs = _load(AutoModelForSeq2SeqLM, source)
    reference = theirs(
        input_ids=ids, attention_mask=mask.long(), decoder_input_ids=targets, output_hidden_states=True
    )
    # transformers' last state is taken after the final norm, our last layer's output before it
    return [
        *_layers(
            "encoder layer",
            [x[mask] for x in layers[:-1]],
            [x[mask] for x in reference.encoder_hidden_states[1:-1]],
        ),
        _deviation("encoder output", memory[mask], reference.encoder_last_hidden_state[mask]),
        *_layers("decoder layer", decoder_layers[:-1], reference.decoder_hidden_states[1:-1]),
        _deviation("logits", model.logits(hidden), reference.logits),
    ]


@torch.no_grad()
def compare_paligemma(checkpoint: Stored[Any], source: Path, *, images: int = 2) -> list[Deviation]:
    """Visual tokens, each layer of the decoder and the logits of a text, on two rows of different lengths.

    Args:
        checkpoint: read from ``source``.
        source: a transformers checkpoint folder.
        images: of each row.
    """
    from transformers import PaliGemmaForConditionalGeneration

    config = checkpoint.config
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, images, *config.vision.image_size, 3, generator=generator) * 2 - 1
    ids = torch.randint(3, config.text.vocab_size, (2, 16), generator=generator)
    prompt, targets = ids[:, :9] * (torch.arange(9) < torch.tensor([[9], [5]])), ids[:, 9:]
    model = _ours(lambda: PaliGemmaModel(config), checkpoint.weights, str(source))
    visual = model.embed_images(pixels)
    memory = model.encode_tokens(visual, prompt)
    with _outputs(model.text.layers) as layers:
        logits = model.logits(model.decode(targets, memory))
    assert memory.mask is not None
    text = model.shift(targets)
    del model  # there may be no room for both
    real = torch.cat([memory.mask, torch.ones_like(text, dtype=torch.bool)], dim=1)

    # transformers pads on the left, and is asked in the ids that it puts in the place of visual tokens
    blanks = torch.full((2, memory.outputs.shape[1] - 10), config.image_token)
    rows = torch.cat([blanks, torch.full((2, 1), config.bos), prompt, text], dim=1)
    order = torch.argsort(real.long(), dim=1, stable=True)
    suffix = torch.arange(rows.shape[1]).expand_as(rows) > memory.outputs.shape[1]  # the separator is of the prefix
    theirs = _load(PaliGemmaForConditionalGeneration, source)
    mask = real.gather(1, order)
    reference = theirs(
        input_ids=rows.gather(1, order),
        pixel_values=pixels.flatten(0, 1).permute(0, 3, 1, 2),
        attention_mask=mask.long(),
        token_type_ids=suffix.gather(1, order).long(),
        position_ids=mask.cumsum(1),
        output_hidden_states=True,
    )
    seen = theirs.get_image_features(pixels.flatten(0, 1).permute(0, 3, 1, 2)).pooler_output
    return [
        _deviation("visual tokens", visual, seen.unflatten(0, (2, images)).flatten(1, 2)),
        *_layers(
            "decoder layer",
            [x[real] for x in layers[:-1]],
            [x[mask] for x in reference.hidden_states[1:-1]],
        ),
        _deviation("logits", logits, reference.logits[:, -targets.shape[1] :]),
    ]


@torch.no_grad()
def compare_t5gemma2(checkpoint: Stored[Any], source: Path, *, images: int = 2, length: int = 9) -> list[Deviation]:
    """Visual tokens, each layer of encoder and decoder, and the logits of a text, on two rows of different lengths.

    Args:
        checkpoint: read from ``source``.
        source: a transformers checkpoint folder.
        images: of each row; the last stands within the prompt, the others before it.
        length: of the longer prompt and of the text, in tokens.
    """
    from transformers import T5Gemma2ForConditionalGeneration

    config = checkpoint.config
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, images, *config.vision.image_size, 3, generator=generator) * 2 - 1
    special = max(*config.before, *config.after, 2) + 1
    ids = torch.randint(special, config.encoder.vocab_size - 1, (2, 2 * length), generator=generator)
    prompt, targets = (
        ids[:, :length] * (torch.arange(length) < torch.tensor([[length], [length // 2 + 1]])),
        ids[:, length:],
    )
    prompt[:, 2] = config.before[-1]
    model = _ours(lambda: T5Gemma2Model(config), checkpoint.weights, str(source))
    visual = model.embed_images(pixels)
    with _outputs(model.text.encoder.layers) as layers, _outputs(model.text.decoder.layers) as decoder_layers:
        memory = model.encode_tokens(visual, prompt)
        logits = model.logits(model.decode(targets, memory))
    assert memory.mask is not None

    image = [*config.before, *[config.image_token] * (visual.shape[1] // images), *config.after]
    rows = [
        [config.bos, *image * (images - 1), *row[:2], *image, *(token for token in row[3:] if token)]
        for row in prompt.tolist()
    ]
    longest = memory.outputs.shape[1]
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = padded != 0
    decoder_ids = model.shift(targets)
    del model  # there may be no room for both
    theirs = _load(T5Gemma2ForConditionalGeneration, source)
    flat = pixels.flatten(0, 1).permute(0, 3, 1, 2)
    reference = theirs(
        input_ids=padded,
        pixel_values=flat,
        attention_mask=mask.long(),
        decoder_input_ids=decoder_ids,
        output_hidden_states=True,
    )
    seen = theirs.get_image_features(flat).pooler_output
    real = memory.mask
    return [
        _deviation("visual tokens", visual, seen.unflatten(0, (2, images)).flatten(1, 2)),
        *_layers(
            "encoder layer",
            [x[real] for x in layers[:-1]],
            [x[mask] for x in reference.encoder_hidden_states[1:-1]],
        ),
        _deviation("encoder output", memory.outputs[real], reference.encoder_last_hidden_state[mask]),
        *_layers("decoder layer", decoder_layers[:-1], reference.decoder_hidden_states[1:-1]),
        _deviation("logits", logits, reference.logits),
    ]


def _build(build: Callable[[], nn.Module], encoder: ImageEncoder, part: str) -> Any:
    prefix = f"{part}." if part else ""
    weights = {key.removeprefix(prefix): v for key, v in encoder.weights.items() if key.startswith(prefix)}
    return _ours(build, weights, part)


def _ours(build: Callable[[], nn.Module], weights: Mapping[str, Tensor], name: str) -> Any:
    """Our network with weights in float32."""
    with torch.device("meta"):
        model = build()
    load_exactly(model, {key: value.float() for key, value in weights.items()}, name)
    return model.eval()


def _load(cls: Any, source: Path) -> Any:
    return cls.from_pretrained(str(source), dtype=torch.float32, local_files_only=True).eval()


@contextmanager
def _outputs(layers: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """The outputs of each layer while this context is open."""
    seen: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda _, __, output: seen.append(output)) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _layers(name: str, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[Deviation]:
    return [_deviation(f"{name} {i}", a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=True), 1)]


def _deviation(name: str, ours: Tensor, theirs: Tensor) -> Deviation:
    absolute = (ours - theirs).abs().max().item()
    return Deviation(name, absolute, absolute / max(theirs.abs().max().item(), 1e-30))
