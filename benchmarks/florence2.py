"""Florence-2 on CPUs beside transformers: image encoding, and tokens per second at batch 1.

    pip install -e 'packages/openpali-lab[bench]'
    python benchmarks/florence2.py --json florence2.json
    python benchmarks/florence2.py --tiny     # a quick check that it works

A Florence-2-base of random weights, the same on both sides. Images (768 pixels) go through the image encoder and
the projection. Tokens are written from 577 visual tokens and a prompt of 16, with EOS forbidden. All run in one
process and alternate; times are medians. int8 is of weights and matmuls; all else is bf16 in torch, and in
OpenVINO where the processor multiplies bf16. A target, if there is one, is shown with the peer: the lowest ratio
that we aim at.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from _endless import Endless
from _report import Result, cost, interleaved, machine, rate, report
from openpali.infer.engines.openvino import OpenVinoPali
from openpali.infer.generate import Ask, Decoding, Model, write
from openpali.model.init import init_weights
from openpali.model.int8 import compute_in_int8
from openpali.processor import multiplies_bf16
from openpali_lab.florence2.architecture import (
    Florence2Architecture,
    Florence2Config,
    Florence2Model,
    write_florence2,
)
from openpali_lab.florence2.bart import BartConfig
from openpali_lab.florence2.davit import DaViTConfig

PROMPT = 16
PEERS = {"fp32": "transformers, float32", "bf16": "transformers, bf16"}
TARGETS = {"image encoding": 1.3, "bf16": 1.3, "int8": 2.0}  # lowest ratios that we aim at
TINY = Florence2Config(
    DaViTConfig((2, 2), (8, 8, 16, 16), (1, 1, 1, 1), heads=(1, 2, 2, 4), groups=(2, 1, 2, 4), window=3),
    BartConfig(300, d_model=32, heads=2, d_ff=32, encoder_layers=1, decoder_layers=2),
    image_token=299,
)
Run = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=32, help="tokens to write")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="small shapes, for a quick check")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    config = TINY if options.tiny else Florence2Architecture.presets["florence2-base"]
    results = measure(config, options.tokens, options.rounds)
    report(results, machine("transformers", "openvino"), options.file)


@torch.inference_mode()
def measure(config: Florence2Config, tokens: int, rounds: int) -> Iterator[Result]:
    torch.manual_seed(0)
    plain = init_weights(Florence2Model(config)).eval()
    narrow = deepcopy(plain).bfloat16()
    peers = {"fp32": their(plain)}
    peers["bf16"] = deepcopy(peers["fp32"]).bfloat16()
    ours: dict[str, Model] = {"torch, fp32": plain, "openvino, fp32": OpenVinoPali(plain, "fp32")}
    ours["torch, bf16"] = narrow
    if fast := multiplies_bf16(torch.device("cpu")):
        ours["openvino, bf16"] = OpenVinoPali(plain, "bf16")
    for name, model in (("openvino, int8", plain), ("torch, int8", narrow)):
        rounded = deepcopy(model)
        compute_in_int8(rounded)
        ours[name] = OpenVinoPali(rounded) if name.startswith("openvino") else rounded
    seeing = {kind: peer for kind, peer in peers.items() if fast or kind == "fp32"}
    yield from images(config, ours, seeing, rounds)
    yield from texts(config, ours, peers, tokens, rounds)


def their(model: Florence2Model) -> Any:
    """transformers' model of the same weights."""
    weights, described = write_florence2(model.state_dict(), model.config)
    peer = transformers.Florence2ForConditionalGeneration(transformers.Florence2Config.from_dict(described))
    missing, unexpected = peer.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all("embed_tokens" in name or "lm_head" in name for name in missing), missing  # tied
    return peer.eval()


def images(
    config: Florence2Config, ours: Mapping[str, Model], peers: Mapping[str, Any], rounds: int
) -> Iterator[Result]:
    """Image encoding in milliseconds: floats beside the same dtype of transformers, OpenVINO's int8 beside both."""
    image = torch.randint(0, 256, (1, 1, *config.vision.image_size, 3), dtype=torch.uint8)
    pixels = (image[:, 0] / 127.5 - 1).permute(0, 3, 1, 2).contiguous()
    for kind, peer in peers.items():
        runs: dict[str, Run] = {
            name: partial(model.encode_images, image)
            for name, model in ours.items()
            if _kind(name) == kind or name == "openvino, int8"
        }
        runs[PEERS[kind]] = partial(peer.get_image_features, pixels.to(peer.dtype))
        seconds = interleaved(runs, rounds)
        theirs = 1000 * seconds.pop(PEERS[kind])
        for name, each in seconds.items():
            told = f"{PEERS[kind]} (target {TARGETS['image encoding']})"
            yield cost(f"image encoding, {name}", 1000 * each, theirs, told, "ms")


def texts(
    config: Florence2Config, ours: Mapping[str, Model], peers: Mapping[str, Any], tokens: int, rounds: int
) -> Iterator[Result]:
    """Tokens per second: floats beside the same dtype of transformers, int8 beside both."""
    visual = torch.randn(1, Florence2Architecture().visual_tokens(config), config.text.d_model)
    prompt = torch.randint(3, config.text.vocab_size, (1, PROMPT))
    runs: dict[str, Run] = {}
    for name, model in ours.items():
        memory = model.encode_tokens(visual, prompt)
        runs[name] = partial(write_ours, model, memory, tokens)
    for kind, peer in peers.items():
        outputs = torch.randn(1, visual.shape[1] + PROMPT + 2, config.text.d_model, dtype=peer.dtype)
        runs[PEERS[kind]] = partial(write_theirs, peer, outputs, tokens)
    speed = {name: tokens / seconds for name, seconds in interleaved(runs, rounds).items()}
    for name in ours:
        kind = _kind(name)
        for each in (kind,) if kind in PEERS else PEERS:
            told = f"{PEERS[each]} (target {TARGETS[kind]})" if kind in TARGETS else PEERS[each]
            yield rate(f"tokens, {name}", speed[name], speed[PEERS[each]], told, "tokens/s")


def _kind(name: str) -> str:
    """The dtype in the name of a row."""
    return name.rpartition(" ")[2]


def write_ours(model: Model, memory: Any, tokens: int) -> None:
    endless = Endless(model, Florence2Model.end)
    [[text]] = write(endless, memory, [Ask(Decoding(tokens, max_repeats=None))], Florence2Model.end)
    assert len(text.ids) == tokens


def write_theirs(peer: Any, outputs: Tensor, tokens: int) -> None:
    out = peer.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=outputs),
        attention_mask=torch.ones(outputs.shape[:2], dtype=torch.long),
        min_new_tokens=tokens,
        max_new_tokens=tokens,
        do_sample=False,
        forced_bos_token_id=None,
        forced_eos_token_id=None,
    )
    assert out.shape[1] == tokens + 1


if __name__ == "__main__":
    main()
