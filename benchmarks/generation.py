"""Text generation on CPUs: ours against transformers and CTranslate2, same weights, inputs and lengths.

    pip install -e 'packages/openpali-lab[bench]'
    python benchmarks/generation.py --json generation.json
    python benchmarks/generation.py --tiny     # a quick check that it works

A T5 v1.1 base (12 + 12 layers, width 768, 32k vocabulary, random weights) reads 212 tokens and writes 32 with EOS
forbidden. Times are of whole calls, the encoder included; images are a SigLIP B/16 at 224 px. All sides use the
same number of threads, run in one process and alternate; times are medians. Both int8 sides have int8 weights and
matmuls; all else in ours, and transformers, is bf16 where the processor is faster with it. CTranslate2's int8 is
the faster of its int8 and int8_bfloat16. A target, if there is one, is shown with the peer: the lowest ratio that
we aim at. The roofline is the rate at which each decoder weight can be read once per token.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from _endless import Endless
from _report import Result, interleaved, machine, rate, read_bandwidth, report
from openpali.architectures.halves.t5 import read_t5
from openpali.architectures.pali import PaliModel, PaliModelConfig
from openpali.architectures.siglip.architecture import read_siglip
from openpali.infer.engines.openvino import OpenVinoPali
from openpali.infer.generate import Decoding, generate
from openpali.model.init import init_weights
from openpali.model.int8 import compute_in_int8
from openpali.processor import bf16_is_faster
from openpali_lab.sizes import parameters_per_token

EOS = 1
PEER = "transformers, eager"
TARGETS = {  # (what, peer, batch) -> lowest ratio that we aim at
    ("greedy, int8", "CTranslate2 int8", 1): 2.0,
    ("greedy, int8", "CTranslate2 int8", 8): 1.5,
    ("greedy, int8", PEER, 1): 4.0,
    ("greedy, int8", PEER, 8): 2.6,
    ("beam 4 to greedy, int8", "ours int8", 1): 1 / 1.6,
    ("image encoding, int8", PEER, 1): 1.5,
    ("image encoding, int8", PEER, 8): 1.5,
}


@dataclass(frozen=True)
class Shape:
    """Sizes of both models, and of their inputs and outputs."""

    input: int = 212
    new: int = 32
    vocab: int = 32_128
    width: int = 768
    ff: int = 2048
    mlp: int = 3072
    heads: int = 12
    layers: int = 12
    image: int = 224
    patch: int = 16


TINY = Shape(input=12, new=4, vocab=512, width=64, ff=128, mlp=128, heads=2, layers=2, image=32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="small shapes, for a quick check")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    peers = ["transformers", "openvino"]
    if importlib.util.find_spec("ctranslate2"):
        peers.append("ctranslate2")
    else:
        print("CTranslate2 is not installed and its rows are omitted: pip install ctranslate2")
    facts = machine(*peers) | {"transformers computes in": str(peer_dtype()).removeprefix("torch.")}
    with tempfile.TemporaryDirectory() as folder:
        shape = TINY if options.tiny else Shape()
        report(_measure(Path(folder), shape, options.batches, options.rounds), facts, options.file)


@torch.inference_mode()
def _measure(folder: Path, shape: Shape, batches: list[int], rounds: int) -> Iterator[Result]:
    torch.manual_seed(0)
    t5, siglip = random_models(folder, shape)
    language, vision = read_t5(folder / "t5"), read_siglip(folder / "siglip")
    ours = init_weights(PaliModel(PaliModelConfig(vision.vision, language.config))).eval()
    ours.text.load_state_dict(dict(language.weights))
    ours.vit.load_state_dict(vision.vit)
    ours.to(torch.float32)
    read, floats = parameters_per_token(ours), OpenVinoPali(ours)
    compute_in_int8(ours)
    int8 = OpenVinoPali(ours)
    t5, siglip = t5.to(peer_dtype()), siglip.to(peer_dtype())
    ct2 = _ctranslate2(folder)

    limit = read_bandwidth() / read  # one byte each; keys and values are not counted
    for batch in batches:
        texts = _texts(shape, batch, rounds, int8, floats, t5, ct2)
        yield from texts
        if batch == 1:
            yield rate(texts[0].name, texts[0].ours, limit, "int8 roofline", "tokens/s")
        yield from _images(shape, batch, rounds, int8, floats, siglip)


Run = Callable[[], object]
Writer = Callable[[torch.Tensor, int, int], None]
"""(ids ``[B, N]``, number of new tokens, beams) -> generates."""


def _texts(
    shape: Shape,
    batch: int,
    rounds: int,
    int8: OpenVinoPali,
    floats: OpenVinoPali,
    t5: Any,
    ct2: Mapping[str, Writer],
) -> list[Result]:
    ids, new = torch.randint(3, shape.vocab - 128, (batch, shape.input)), shape.new
    runs: dict[str, Run] = {
        "ours int8": partial(_ours, int8, ids, new, 1),
        "ours float": partial(_ours, floats, ids, new, 1),
        "ours int8, beam 4": partial(_ours, int8, ids, new, 4),
        PEER: partial(_transformers, t5, ids, new),
    }
    for kind, write in ct2.items():
        runs[f"CTranslate2 {kind}"] = partial(write, ids, new, 1)
        if kind != "float32":
            runs[f"CTranslate2 {kind}, beam 4"] = partial(write, ids, new, 4)
    speed = {name: batch * new / seconds for name, seconds in interleaved(runs, rounds).items()}
    for beams in ("", ", beam 4"):
        if found := [speed[f"CTranslate2 {kind}{beams}"] for kind in ct2 if kind != "float32"]:
            speed[f"CTranslate2 int8{beams}"] = max(found)
    pairs = [
        ("greedy, int8", "ours int8", "CTranslate2 int8"),
        ("greedy, int8", "ours int8", PEER),
        (f"greedy, {floats.precision}", "ours float", "CTranslate2 float32"),
        ("beam 4, int8", "ours int8, beam 4", "CTranslate2 int8, beam 4"),
        ("beam 4 to greedy, int8", "ours int8, beam 4", "ours int8"),
    ]
    return [_rate(name, batch, speed[a], speed[b], b, "tokens/s") for name, a, b in pairs if b in speed]


def _images(
    shape: Shape, batch: int, rounds: int, int8: OpenVinoPali, floats: OpenVinoPali, siglip: Any
) -> list[Result]:
    images = torch.randint(0, 256, (batch, 1, shape.image, shape.image, 3), dtype=torch.uint8)
    pixels = (images[:, 0].permute(0, 3, 1, 2) / 127.5 - 1).to(siglip.dtype)
    runs: dict[str, Run] = {
        "image encoding, int8": lambda: int8.encode_images(images),
        f"image encoding, {floats.precision}": lambda: floats.encode_images(images),
        PEER: lambda: siglip(pixel_values=pixels),
    }
    speed = {name: batch / seconds for name, seconds in interleaved(runs, rounds).items()}
    peer = speed.pop(PEER)
    return [_rate(name, batch, ours, peer, PEER, "images/s") for name, ours in speed.items()]


def peer_dtype() -> torch.dtype:
    """What transformers computes in: bf16 where the processor is faster with it, as ours does."""
    return torch.bfloat16 if bf16_is_faster(torch.device("cpu")) else torch.float32


def _rate(name: str, batch: int, ours: float, peer: float, peer_name: str, unit: str) -> Result:
    target = TARGETS.get((name, peer_name, batch))
    told = peer_name if target is None else f"{peer_name} (target {target:.3g})"
    return rate(f"{name}, batch {batch}", ours, peer, told, unit)


def _ours(model: OpenVinoPali, ids: torch.Tensor, new: int, beams: int) -> None:
    texts = generate(Endless(model, EOS), None, ids, decoding=Decoding(new, beams, max_repeats=None))
    assert all(len(row[0].ids) == new for row in texts)


def _transformers(model: Any, ids: torch.Tensor, new: int) -> None:
    out = model.generate(ids, max_new_tokens=new, min_new_tokens=new, do_sample=False)
    assert out.shape[1] == new + 1


def _ctranslate2(folder: Path) -> dict[str, Writer]:
    """Its ways to compute, by name; none where it is not installed."""
    if not importlib.util.find_spec("ctranslate2"):
        return {}
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder / "t5")).convert(str(folder / "ct2"), quantization="int8")

    def writer(kind: str) -> Writer:
        model = ctranslate2.Translator(
            str(folder / "ct2"), compute_type=kind, intra_threads=torch.get_num_threads()
        )

        def write(ids: torch.Tensor, new: int, beams: int) -> None:
            rows = [[f"t{token}" for token in row] for row in ids.tolist()]
            out = model.translate_batch(
                rows, beam_size=beams, max_decoding_length=new, min_decoding_length=new, max_batch_size=len(rows)
            )
            assert all(len(row.hypotheses[0]) == new for row in out)

        return write

    can = ctranslate2.get_supported_compute_types("cpu")
    return {kind: writer(kind) for kind in ("int8", "int8_bfloat16", "float32") if kind in can}


def random_models(folder: Path, shape: Shape) -> tuple[Any, Any]:
    """A T5 and a SigLIP image encoder of random weights, also written to ``t5`` and ``siglip`` in ``folder``."""
    return _random_t5(folder / "t5", shape), _random_siglip(folder / "siglip", shape)


def _random_t5(folder: Path, shape: Shape) -> Any:
    config = transformers.T5Config(
        vocab_size=shape.vocab,
        d_model=shape.width,
        d_kv=shape.width // shape.heads,
        d_ff=shape.ff,
        num_layers=shape.layers,
        num_heads=shape.heads,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"t{i}": i for i in range(3, shape.vocab)}
    words = {f"t{i}" if word == "<unk>" else word: i for word, i in words.items()}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="t2"))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="t2"
    ).save_pretrained(folder)
    return model


def _random_siglip(folder: Path, shape: Shape) -> Any:
    config = transformers.SiglipVisionConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.mlp,
        num_attention_heads=shape.heads,
        image_size=shape.image,
        patch_size=shape.patch,
        vision_use_head=False,  # ours has none either
    )
    model = transformers.SiglipVisionModel(config).eval()
    model.save_pretrained(folder)
    return model


if __name__ == "__main__":
    main()
