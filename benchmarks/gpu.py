"""One GPU: training steps, generation and image encoding against what the card can do, and open_clip.

    pip install -e 'packages/openpali-lab[bench]'
    python benchmarks/gpu.py --json gpu.json      # under 8 minutes on an H100
    python benchmarks/gpu.py --tiny               # small shapes, also on a CPU: a check that it runs

"stage 1" and "stage 2" are the trainer's own step in bf16, on random weights. "matmuls" stands beside the peak of
the data sheet, "step" and "peak memory" beside what `openpali plan` predicts for this card. base learns with
AdamW, large and pali3-5b with Adafactor and selective checkpointing; where the plan does not fit, layers are left
out and the name says how many. "siglip" is the step of base beside open_clip's, both compiled. "generation" is a
T5 of XL shape in bf16 (260 to 440 tokens in, 128 out) beside the rate at which weights can be read, and beside
what TensorRT-LLM states for an H100 at batches of 32 to 128. "attention" is the encoder's of the 5B, beside a
compiled flex_attention. Rows that would begin after `--seconds` are named and left out.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from _endless import Endless
from _report import Result, cost, interleaved, machine, rate, report
from openpali.architectures.pali import PRESETS, PaliModel, PaliModelConfig
from openpali.architectures.siglip.architecture import PRESETS as SIGLIP
from openpali.infer.generate import Decoding, generate
from openpali.model.attention import attend_with_bias, auto
from openpali.model.init import materialise
from openpali.model.vit import ViT, ViTConfig
from openpali.train.machine import peak_memory
from openpali.train.recipe import Recipe
from openpali_lab.plan.flops import count_flops
from openpali_lab.plan.planner import DEVICES, Device, find_device, rehearse, step_seconds
from openpali_lab.sizes import parameters_per_token
from train import Step, make_open_clip, make_ours, recipe_of

EOS, NEW, INPUTS = 1, 128, (260, 440)
PUBLISHED = {32: 3312, 64: 4184, 128: 4768}  # batch -> tokens/s of TensorRT-LLM, T5-XL shape, H100
EFFICIENCY = 0.4  # that the planner assumes
WARM, ROUNDS = 2, 5
BF16 = torch.bfloat16
Row = Callable[[], Iterator[Result]]


@dataclass(frozen=True)
class Bench:
    """What runs where.

    Attributes:
        device: of torch.
        card: what the planner knows about it.
        tiny: small shapes.
    """

    device: torch.device
    card: Device
    tiny: bool

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Rows by name, the shortest first."""
        giant = PRESETS["pico" if self.tiny else "pali3-5b"].vision
        for side, batch in ((24, 2), (48, 1)) if self.tiny else ((224, 128), (812, 8)):
            yield f"ViT, {side} px", partial(self.encoding, giant, side, batch)
        for tokens in (10, 20) if self.tiny else (320, 3428):
            yield f"attention, {tokens} tokens", partial(self.attention, tokens)
        for batch in (1, 2) if self.tiny else (1, 32, 64, 128):
            yield f"generation, batch {batch}", partial(self.generation, batch)
        for name, batch in (("stage 1", 128), ("stage 2", 64)):
            yield f"{name}, base", partial(self.training, name, "base", batch)
        yield "siglip, base", self.siglip
        for preset, batch in (("large", 16), ("pali3-5b", 8)):
            for name in ("stage 1", "stage 2"):
                small = {"optimizer": "adafactor", "checkpointing": "selective"}
                yield f"{name}, {preset}", partial(self.training, name, preset, batch, **small)

    def encoding(self, config: ViTConfig, side: int, batch: int) -> Iterator[Result]:
        """Images per second of a ViT's patch tokens, beside the peak."""
        grid = side // config.patch_size
        with torch.device("meta"):
            vit = ViT(replace(config, grid=(grid, grid)))
        vit = materialise(vit, self.device).to(BF16).eval()
        images = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, device=self.device)

        @torch.no_grad()  # in inference mode, matmuls are not counted
        def step() -> Tensor:
            return vit(images)

        flops = count_flops(step)
        seconds = self.seconds(step)
        peak = batch * self.card.bf16 / flops
        name = f"ViT, {side} px, batch {batch}"
        yield rate(name, batch / seconds, peak, "the data sheet's peak", "images/s")
        yield self.memory(name)

    def generation(self, batch: int) -> Iterator[Result]:
        """Tokens per second of greedy decoding."""
        preset = PRESETS["pico" if self.tiny else "large"]
        small = PRESETS["pico"].vision  # no images are read
        with torch.device("meta"):
            model = PaliModel(replace(preset, vision=small))
        model = materialise(model, self.device).to(BF16).eval()
        low, high, new = (5, 9, 4) if self.tiny else (*INPUTS, NEW)
        prompt = torch.randint(3, preset.text.vocab_size, (batch, high), device=self.device)
        lengths = torch.linspace(high, low, batch, device=self.device).long()
        prompt[torch.arange(high, device=self.device) >= lengths[:, None]] = 0  # padding
        endless = Endless(model, EOS)

        def write_texts() -> None:
            texts = generate(endless, None, prompt, decoding=Decoding(new, max_repeats=None))
            assert all(len(row[0].ids) == new for row in texts)

        speed = batch * new / self.seconds(write_texts, warm=1, rounds=2)
        name, weights = f"generation, batch {batch}", BF16.itemsize * parameters_per_token(model)
        limit = batch * self.card.bandwidth / weights
        yield rate(name, speed, limit, "reading the weights once per step", "tokens/s")
        if batch in PUBLISHED and self.card.name == "h100":
            yield rate(name, speed, PUBLISHED[batch], "TensorRT-LLM, as published", "tokens/s")
        yield self.memory(name)

    def attention(self, tokens: int) -> Iterator[Result]:
        """Attention with relative bias, as in the encoder, beside flex_attention."""
        text = PRESETS["pico" if self.tiny else "pali3-5b"].text
        shape = 1, text.heads, tokens, text.d_head
        q, k, v = (torch.randn(shape, dtype=BF16, device=self.device) for _ in range(3))
        bias = torch.randn(text.heads, 2 * tokens - 1, dtype=BF16, device=self.device)

        def biased(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score + bias[head, key - query + tokens - 1]

        flex = flex_attention if self.tiny else torch.compile(flex_attention)
        ours = partial(attend_with_bias, auto, q, k, v, bias, None)
        theirs = partial(flex, q, k, v, biased, scale=1.0)
        with torch.no_grad():
            torch.testing.assert_close(theirs(), ours(), rtol=0.05, atol=0.05)
            seconds = [self.seconds(each) for each in (ours, theirs)]
        name = f"attention with bias, {tokens} tokens"
        yield cost(name, *(1000 * each for each in seconds), "flex_attention", "ms")

    def training(self, name: str, preset: str, batch: int, **changes: str) -> Iterator[Result]:
        """The trainer's step beside the planner's prediction and the peak."""
        label, (shape, size) = f"{name}, {preset}", self.shape(preset)
        known = PRESETS[shape]
        with patch.dict(PRESETS) as sizes:  # for smaller ones
            while True:
                recipe = recipe_of(name, shape, size, 2 if self.tiny else batch, **changes)
                costs = rehearse(recipe, recipe.phases[0], self.card, 1)
                if costs.peak <= self.card.memory:
                    break
                smaller, depths = halved(known)
                if smaller == known:
                    print(f"{label}: left out, since {costs.peak / 1e9:,.0f} GB do not fit", flush=True)
                    return
                shape = f"{preset} with {' + '.join(map(str, depths))} layers"
                sizes[shape] = known = smaller
                label = f"{name}, {shape}"
            step = self.ours(recipe, known.text.vocab_size)
        flops = count_flops(step)
        seconds = self.seconds(step)
        predicted = step_seconds(costs, self.card, BF16, EFFICIENCY)
        yield rate(
            f"{label}: matmuls", flops / seconds / 1e9, self.card.bf16 / 1e9, "the data sheet's peak", "GFLOP/s"
        )
        yield cost(f"{label}: step", seconds, predicted, "planned", "s")
        if self.device.type == "cuda":
            yield cost(f"{label}: peak memory", peak_memory(self.device) / 1e9, costs.peak / 1e9, "planned", "GB")

    def siglip(self) -> Iterator[Result]:
        """The step of both towers beside open_clip's."""
        if not importlib.util.find_spec("open_clip"):
            print("siglip, base: left out without open_clip: pip install open_clip_torch", flush=True)
            return
        name, size = self.shape("base")
        batch, preset = 2 if self.tiny else 256, SIGLIP[name]
        recipe = recipe_of("siglip", name, size, batch, compiled=not self.tiny)
        ours = self.ours(recipe, preset.text.vocab_size)
        for _ in range(2):  # the first creates the optimizer's state
            self.finished(ours)
        yield self.memory("siglip, base")
        model, theirs = make_open_clip(preset, batch, BF16, device=self.device)
        if not self.tiny:
            model.compile()
        runs = {side: partial(self.finished, step) for side, step in (("ours", ours), ("open_clip", theirs))}
        seconds = interleaved(runs, ROUNDS, warm=WARM)
        yield rate("siglip, base", batch / seconds["ours"], batch / seconds["open_clip"], "open_clip", "samples/s")

    def ours(self, recipe: Recipe, vocabulary: int) -> Step:
        return make_ours(recipe, vocabulary, BF16, self.device)[1]

    def shape(self, preset: str) -> tuple[str, int]:
        """The size by name, and the pixels of its images."""
        name = "pico" if self.tiny else preset
        return name, _side(PRESETS[name])

    def seconds(self, step: Step, warm: int = WARM, rounds: int = ROUNDS) -> float:
        """Median seconds of a step."""
        if self.tiny:
            warm, rounds = 0, 1
        return interleaved({"step": partial(self.finished, step)}, rounds, warm=warm)["step"]

    def finished(self, step: Step) -> None:
        """Run a step until the device is done."""
        step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def memory(self, name: str) -> Result:
        """Peak memory of a row beside the card's."""
        peak = peak_memory(self.device) / 1e9
        return cost(f"{name}: peak memory", peak, self.card.memory / 1e9, "the device's memory", "GB")

    def clear(self) -> None:
        """Free what a row has left."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


def halved(preset: PaliModelConfig) -> tuple[PaliModelConfig, tuple[int, int, int]]:
    """A preset with half of the layers of ViT, encoder and decoder, but at least one; and how many these are."""
    vision, language = preset.vision, preset.text
    depths = vision.depth, language.encoder_layers, language.decoder_layers
    vit, encoder, decoder = (max(1, depth // 2) for depth in depths)
    language = replace(language, encoder_layers=encoder, decoder_layers=decoder)
    return replace(preset, vision=replace(vision, depth=vit), text=language), (vit, encoder, decoder)


def _side(preset: PaliModelConfig) -> int:
    return preset.vision.image_size[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--card", choices=[*DEVICES, "cpu"], help="by default guessed from the name of the GPU")
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose name begins so")
    parser.add_argument("--seconds", type=float, default=420.0, help="begin no row after that")
    parser.add_argument("--tiny", action="store_true", help="small shapes, for a quick check, also on a CPU")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    if not cuda and not options.tiny:
        sys.exit("this measures a GPU, and torch finds none: --tiny checks the script on a CPU")
    card = find_device(options.card or (_card() if cuda else "cpu"), 1)
    bench = Bench(torch.device("cuda" if cuda else "cpu"), card, options.tiny)
    facts = machine() | {"card": card.name}
    report(measure(bench, tuple(options.only), options.seconds), facts, options.file)


def measure(bench: Bench, only: tuple[str, ...], limit: float) -> Iterator[Result]:
    """Measure row by row."""
    began = time.monotonic()
    torch.manual_seed(0)
    for name, row in bench.rows():
        if not name.startswith(only):
            continue
        if time.monotonic() - began > limit:
            print(f"{name}: left out, {limit:.0f} seconds are over", flush=True)
            continue
        try:
            yield from row()
        except torch.OutOfMemoryError as error:
            print(f"{name}: out of memory: {error}", flush=True)
        bench.clear()


def _card() -> str:
    """The planner's name of this GPU."""
    name = torch.cuda.get_device_name().lower().replace(" ", "")
    size = round(torch.cuda.get_device_properties(0).total_memory / 1e9 / 40) * 40
    for known in DEVICES:
        if name.find(known.partition("-")[0]) >= 0 and known.partition("-")[2] in ("", str(size)):
            return known
    raise SystemExit(f"the planner does not know this GPU, {name}: name the nearest one with --card")


if __name__ == "__main__":
    main()
