"""Text generation on CPUs: ours against transformers and CTranslate2, same weights, inputs and lengths.

    pip install 'openpali[cpu]' transformers ctranslate2
    python benchmarks/generation.py --json generation.json

A T5 v1.1 base (12 + 12 layers, width 768, 32k vocabulary, random weights) reads 212 tokens, as many as 196 patches
and 16 words are, and writes 32, EOS forbidden. Times are of whole calls, the encoder included. Images: a SigLIP
B/16 at 224 px. The roofline is what reading each decoder weight once a token would allow.

All sides have the same number of threads, run in one process and take turns; times are medians. int8 is of weights,
on both sides; products with them are of int8 too, and what else ours computes is bf16 where the processor has it.
"float" is OpenVINO's without int8, in the same precision, beside CTranslate2's float32.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctranslate2
import tokenizers
import torch
import transformers
from ctranslate2.converters import TransformersConverter

from _report import Result, interleaved, machine, rate, read_bandwidth, report
from openpali.infer.generate import Decoding, generate
from openpali.infer.openvino import OpenVinoPali
from openpali.interop.siglip import read_siglip
from openpali.interop.t5 import read_t5
from openpali.model.pali import Pali, PaliConfig

INPUT, NEW, VOCAB, EOS = 212, 32, 32_128, 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12, help="of encoder and decoder: fewer to try this out")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    facts = machine("transformers", "ctranslate2", "openvino")
    with tempfile.TemporaryDirectory() as folder:
        results = _measure(Path(folder), options)
    report(results, facts, options.file)


@torch.inference_mode()
def _measure(folder: Path, options: Any) -> list[Result]:
    torch.manual_seed(0)
    t5 = _random_t5(folder / "t5", options.layers)
    siglip = _random_siglip(folder / "siglip")
    language, vision = read_t5(folder / "t5"), read_siglip(folder / "siglip")
    ours = Pali(PaliConfig(vision.vision, language.config)).eval()
    ours.text.load_state_dict(dict(language.weights))
    ours.vit.load_state_dict(vision.vit)
    ours.to(torch.float32)
    int8, floats = OpenVinoPali(ours, int8=True), OpenVinoPali(ours, int8=False)
    TransformersConverter(str(folder / "t5")).convert(str(folder / "ct2"), quantization="int8")
    ct2 = {
        kind: ctranslate2.Translator(str(folder / "ct2"), compute_type=kind, intra_threads=torch.get_num_threads())
        for kind in ("int8", "float32")
    }
    t5_bf16, siglip_bf16 = t5.to(torch.bfloat16), siglip.to(torch.bfloat16)

    results = []
    for batch in options.batches:
        results += _texts(batch, options.rounds, int8, floats, t5_bf16, ct2)
        results += _images(batch, options.rounds, int8, siglip_bf16)
    decoder = sum(p.numel() for p in ours.text.decoder.parameters()) + ours.text.head_weight.numel()
    limit = read_bandwidth() / decoder  # one byte each; keys and values of the memory are not counted
    [batch_1] = [r for r in results if r.name == "greedy, batch 1" and r.peer_name == "CTranslate2 int8"]
    results.append(rate("greedy, batch 1", batch_1.ours, limit, "int8 roofline", "tokens/s"))
    return results


def _texts(
    batch: int, rounds: int, int8: OpenVinoPali, floats: OpenVinoPali, t5: Any, ct2: dict[str, Any]
) -> list[Result]:
    ids = torch.randint(3, 32_000, (batch, INPUT))
    runs: dict[str, Callable[[], object]] = {
        "ours int8": lambda: _ours(int8, ids, 1),
        "ours float": lambda: _ours(floats, ids, 1),
        "ours int8, beam 4": lambda: _ours(int8, ids, 4),
        "transformers bf16": lambda: _transformers(t5, ids),
        "CTranslate2 int8": lambda: _ctranslate2(ct2["int8"], ids, 1),
        "CTranslate2 float32": lambda: _ctranslate2(ct2["float32"], ids, 1),
        "CTranslate2 int8, beam 4": lambda: _ctranslate2(ct2["int8"], ids, 4),
    }
    speed = {name: batch * NEW / seconds for name, seconds in interleaved(runs, rounds).items()}
    pairs = [
        ("greedy", "ours int8", "CTranslate2 int8"),
        ("greedy", "ours int8", "transformers bf16"),
        ("greedy float", "ours float", "CTranslate2 float32"),
        ("beam 4", "ours int8, beam 4", "CTranslate2 int8, beam 4"),
        ("beam 4 to greedy", "ours int8, beam 4", "ours int8"),
    ]
    return [rate(f"{name}, batch {batch}", speed[a], speed[b], b, "tokens/s") for name, a, b in pairs]


def _images(batch: int, rounds: int, model: OpenVinoPali, siglip: Any) -> list[Result]:
    images = torch.randint(0, 256, (batch, 1, 224, 224, 3), dtype=torch.uint8)
    pixels = (images[:, 0].permute(0, 3, 1, 2) / 127.5 - 1).to(torch.bfloat16)
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: model.embed_images(images),
        "transformers": lambda: siglip(pixel_values=pixels),
    }
    speed = {name: batch / seconds for name, seconds in interleaved(runs, rounds).items()}
    name = f"image encoding, batch {batch}"
    return [rate(name, speed["ours"], speed["transformers"], "transformers bf16", "images/s")]


def _ours(model: OpenVinoPali, ids: torch.Tensor, beams: int) -> None:
    allowed = torch.ones(VOCAB, dtype=torch.bool)
    allowed[EOS] = False
    texts = generate(model, None, ids, decoding=Decoding(NEW, beams, max_repeats=None), allowed=allowed)
    assert all(len(row[0].ids) == NEW for row in texts)


def _transformers(model: Any, ids: torch.Tensor) -> None:
    out = model.generate(ids, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)
    assert out.shape[1] == NEW + 1


def _ctranslate2(model: ctranslate2.Translator, ids: torch.Tensor, beams: int) -> None:
    rows = [[f"t{token}" for token in row] for row in ids.tolist()]
    out = model.translate_batch(
        rows, beam_size=beams, max_decoding_length=NEW, min_decoding_length=NEW, max_batch_size=len(rows)
    )
    assert all(len(row.hypotheses[0]) == NEW for row in out)


def _random_t5(folder: Path, layers: int) -> Any:
    config = transformers.T5Config(
        vocab_size=VOCAB,
        d_model=768,
        d_kv=64,
        d_ff=2048,
        num_layers=layers,
        num_heads=12,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"t{i}": i for i in range(3, VOCAB)}
    words = {f"t{i}" if word == "<unk>" else word: i for word, i in words.items()}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="t2"))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="t2"
    ).save_pretrained(folder)
    return model


def _random_siglip(folder: Path) -> Any:
    config = transformers.SiglipVisionConfig(
        hidden_size=768, num_hidden_layers=12, intermediate_size=3072, num_attention_heads=12, image_size=224
    )
    model = transformers.SiglipVisionModel(config).eval()
    model.save_pretrained(folder)
    return model


if __name__ == "__main__":
    main()
