"""Training steps on CPUs: ours against open_clip (SigLIP) and transformers (SigLIP + T5), same shapes and dtype.

    pip install -e 'packages/openpali-lab[bench]'
    python benchmarks/train.py --json train.json                     # under 10 minutes
    python benchmarks/train.py --batch 16 --rounds 5 --compiled      # as published; compiling takes longer
    python benchmarks/train.py --preset nano --batch 64              # how near nano's steps are to the matmul peak

Ours is the trainer's own step (`openpali.train.step`): forward, backward, gradient clipping (not in open_clip) and
fused AdamW, on random weights, images and ids of equal lengths. `--compiled` also measures both sides compiled
(our blocks, the peer's whole model); the peer of each row is the better of its two. It needs a C++ compiler.
"siglip" trains both towers, "stage 1" a T5 behind a frozen image encoder, "stage 2" both. transformers has no such
model: the peer gives the projected tokens of its SigLIP and the embedded prompt to its T5 as ``inputs_embeds``.
Sides take turns; times are medians of `--rounds`. Memory is the peak of a second step, minus the memory before the
model was built, each side alone (Linux).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from _report import Result, cost, interleaved, machine, need, rate, release, report, resident
from openpali.architectures.pali import PRESETS, PaliModelConfig
from openpali.architectures.siglip.architecture import PRESETS as SIGLIP
from openpali.architectures.siglip.network import SigLIPConfig
from openpali.distributed import Ranks
from openpali.train.load import parse_recipe
from openpali.train.machine import kept_memory
from openpali.train.objectives.base import Lengths
from openpali.train.recipe import Recipe
from openpali.train.step import TrainStep
from openpali_lab.plan.flops import count_flops, matmul_peak
from openpali_lab.plan.planner import build_without_data

PROMPT, TARGET = 16, 32
CPU = torch.device("cpu")
STEPS = {"siglip": "open_clip", "stage 1": "transformers", "stage 2": "transformers"}  # step -> peer
Step = Callable[[], object]
Side = tuple[nn.Module, Step]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--preset", default="base", choices=PRESETS, help="the shapes; pico to try the script")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each side")
    parser.add_argument("--compiled", action="store_true", help="measure compiled blocks, too")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--profile", action="store_true", help="print a profile of each step, too")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    needed = {STEPS[step] for step in options.steps}
    packages = {"open_clip": "open_clip_torch", "transformers": "transformers"}
    for module in needed:
        need(module, packages[module])
    facts = machine(*(packages[module] for module in sorted(needed)))
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    peak = matmul_peak(CPU, dtype, seconds=2.0)
    results = (result for name in options.steps for result in _measure(name, dtype, peak, options))
    facts |= {"preset": options.preset, "dtype": options.precision, "batch": options.batch}
    report(results, facts, options.file)


def _measure(name: str, dtype: torch.dtype, peak: float, options: argparse.Namespace) -> Iterator[Result]:
    peer, batch = STEPS[name], options.batch
    make_theirs = make_open_clip if peer == "open_clip" else make_transformers

    def makers(preset: str) -> dict[str, Callable[[], Side]]:
        shape = (SIGLIP if name == "siglip" else PRESETS)[preset]
        vocabulary = shape.text.vocab_size

        def ours(compiled: bool) -> Side:
            recipe = recipe_of(name, preset, shape.vision.image_size[0], batch, compiled=compiled)
            return make_ours(recipe, vocabulary, dtype)

        def theirs() -> Side:
            model, step = make_theirs(shape, batch, dtype, frozen=name == "stage 1")
            if options.compiled:
                model.compile()
            return model, step

        found = {name: lambda: ours(False), peer: theirs}
        if options.compiled:
            found |= {f"{name}, compiled": lambda: ours(True), f"{peer}, compiled": theirs}
        return found

    ours = [side for side in makers(options.preset) if side.startswith(name)]
    within: dict[str, Callable[[], AbstractContextManager[object]]] = dict.fromkeys(ours, partial(kept_memory, CPU))
    within[peer] = partial(torch.compiler.set_stance, "force_eager")
    for side, make in makers("pico").items():  # so that imports and caches of libraries are not counted
        with within.get(side, nullcontext)():
            make()[1]()
    torch.compiler.reset()  # or it would compile the second shape for any size
    memory = {
        side: peak_memory(make, within.get(side, nullcontext)) / 1e9
        for side, make in makers(options.preset).items()
    }
    for side in ours:
        yield cost(f"{side}: peak memory", memory[side], *better(memory, peer), "GB")
    sides = {side: make() for side, make in makers(options.preset).items() if side != f"{peer}, compiled"}
    sizes = {side: sum(p.numel() for p in model.parameters()) for side, (model, _) in sides.items()}
    if sizes[name] != sizes[peer]:
        raise RuntimeError(f"{name}: ours has {sizes[name]:,} parameters and {peer} has {sizes[peer]:,}")
    steps = {side: step for side, (_, step) in sides.items()}
    if options.compiled:
        steps[f"{peer}, compiled"] = steps[peer]  # of the same model, to save memory
    flops = count_flops(steps[name])
    seconds = interleaved(steps, options.rounds, warm=0, within=within)
    if options.profile:
        for side, step in steps.items():
            with within.get(side, nullcontext)():
                print(f"\n{name}, {side}: one step\n{_profile(step)}")
    fastest, whose = better(seconds, peer)
    for side in ours:
        yield rate(side, batch / seconds[side], batch / fastest, whose, "samples/s")
        yield rate(f"{side}: matmuls", flops / seconds[side] / 1e9, peak / 1e9, "matmul peak", "GFLOP/s")


def better(costs: Mapping[str, float], peer: str) -> tuple[float, str]:
    """The lower cost of a peer's sides, eager and compiled, and that side's name."""
    return min((costs[side], side) for side in costs if side.startswith(peer))


def _profile(step: Step) -> str:
    with torch.profiler.profile() as seen:
        step()
    table: str = seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=48)
    return table


def peak_memory(make: Callable[[], Side], within: Callable[[], AbstractContextManager[object]]) -> int:
    """Peak bytes of the second step of a side, with its model and optimizer."""
    release()
    before = resident("VmRSS")
    _, step = make()
    with within():
        step()  # creates the optimizer's state
        release()
        step()
        return resident("VmHWM") - before


def recipe_of(
    name: str,
    preset: str,
    size: int,
    batch: int,
    *,
    compiled: bool = False,
    optimizer: str = "adamw",
    checkpointing: str = "none",
    precision: str = "bf16",
) -> Recipe:
    """The recipe of a step on images of ``size`` pixels."""
    siglip = name == "siglip"
    return parse_recipe(
        {
            "name": name,
            "objective": "siglip" if siglip else "sequence",
            "batch": batch,
            **({} if siglip else {"max_prompt": PROMPT, "max_target": TARGET}),
            "model": {"preset": preset, "tokenizer": "none", "frozen": ["vit"] if name == "stage 1" else []},
            "optimizer": {"name": optimizer, "lr": 1e-4, "weight_decay": 1e-4},
            "precision": precision,
            "parallel": {"compile": compiled, "checkpointing": checkpointing},
            "phases": [
                {
                    "samples": batch,
                    "size": size,
                    "mixture": [{"source": "none", "task": "contrastive" if siglip else "caption"}],
                }
            ],
        }
    )


def make_ours(recipe: Recipe, vocabulary: int, dtype: torch.dtype, device: torch.device = CPU) -> Side:
    """The trainer's step, on random images and on ids below ``vocabulary``."""
    phase = recipe.phases[0]
    objective = build_without_data(recipe, phase, str(device))
    train_step = TrainStep(recipe, objective, Ranks(0, 1, device), dtype)
    drawn = {}
    for key, value in objective.example_batch(phase, recipe.batch, Lengths()).items():
        random = value  # the places of the target's tokens stay
        if key != "places":
            random = torch.randint_like(value, *((256,) if key == "images" else (2, vocabulary)))
        drawn[key] = random.pin_memory() if device.type == "cuda" else random  # as the trainer's workers do
    return train_step.model, lambda: train_step.run([drawn], weight=1.0)


def make_open_clip(
    preset: SigLIPConfig, batch: int, dtype: torch.dtype, *, frozen: bool = False, device: torch.device = CPU
) -> Side:
    """open_clip's SigLIP with its own loss, and its parameter groups with and without weight decay."""
    import timm
    from open_clip.loss import SigLipLoss
    from open_clip.model import CustomTextCLIP

    assert not frozen
    vision, text = preset.vision, preset.text
    model = CustomTextCLIP(
        embed_dim=vision.width,
        vision_cfg={"timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map", "timm_proj": "none"},
        text_cfg={
            "context_length": text.length,
            "vocab_size": text.vocab_size,
            "width": text.width,
            "heads": text.heads,
            "layers": text.depth,
            "mlp_ratio": text.mlp_dim / text.width,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
        },
        init_logit_scale=math.log(10),
        init_logit_bias=-10.0,
        output_dict=True,
    )
    # the configuration fixes the shapes of the trunk: replace it by one with ours
    model.visual.trunk = timm.create_model(
        "vit_base_patch16_siglip_224",
        num_classes=0,
        global_pool="map",
        img_size=vision.image_size,
        patch_size=vision.patch_size,
        embed_dim=vision.width,
        depth=vision.depth,
        num_heads=vision.heads,
        mlp_ratio=vision.mlp_dim / vision.width,
    )
    model.to(device)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": others, "weight_decay": 0.0}, {"params": matrices, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True)
    loss = SigLipLoss()
    images = torch.rand(batch, 3, *vision.image_size, device=device) * 2 - 1
    ids = torch.randint(2, text.vocab_size, (batch, text.length), device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = model(images, ids)
            total = loss(**out)
        total.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))

    return model, step


class VisionT5(nn.Module):
    """transformers' SigLIP and T5: projected image tokens before the embedded prompt."""

    def __init__(self, preset: PaliModelConfig) -> None:
        import transformers

        super().__init__()
        vision, language = preset.vision, preset.text
        self.vit = transformers.SiglipVisionModel(
            transformers.SiglipVisionConfig(
                hidden_size=vision.width,
                num_hidden_layers=vision.depth,
                intermediate_size=vision.mlp_dim,
                num_attention_heads=vision.heads,
                image_size=vision.image_size[0],
                patch_size=vision.patch_size,
                vision_use_head=False,
            )
        )
        self.project = nn.Linear(vision.width, language.d_model)
        self.t5 = transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                vocab_size=language.vocab_size,
                d_model=language.d_model,
                d_kv=language.d_head,
                d_ff=language.d_ff,
                num_layers=language.encoder_layers,
                num_decoder_layers=language.decoder_layers,
                num_heads=language.heads,
                feed_forward_proj=f"gated-{language.activation}",
                dropout_rate=0.0,
                tie_word_embeddings=False,
                decoder_start_token_id=0,
            )
        )
        # recent versions tie the head in spite of the configuration
        self.t5.lm_head = nn.Linear(language.d_model, language.vocab_size, bias=False)

    def tokens(self, images: Tensor) -> Tensor:
        """Projected patches of images ``[B, 3, H, W]``, ``[B, N, D]``."""
        projected: Tensor = self.project(self.vit(pixel_values=images).last_hidden_state)
        return projected

    def forward(self, images: Tensor, prompt: Tensor, target: Tensor) -> Tensor:
        embedded = torch.cat([self.tokens(images), self.t5.get_input_embeddings()(prompt)], dim=1)
        mask = torch.ones(embedded.shape[:2], dtype=torch.long)
        loss: Tensor = self.t5(inputs_embeds=embedded, attention_mask=mask, labels=target).loss
        return loss


def make_transformers(preset: PaliModelConfig, batch: int, dtype: torch.dtype, *, frozen: bool) -> Side:
    """The step of transformers' Trainer: clipping at 1, fused AdamW."""
    model = VisionT5(preset).train()
    model.vit.requires_grad_(not frozen)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-4, weight_decay=1e-4, fused=True)
    images = torch.rand(batch, 3, *preset.vision.image_size) * 2 - 1
    prompt, target = (torch.randint(2, preset.text.vocab_size, (batch, n)) for n in (PROMPT, TARGET))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = model(images, prompt, target)
        loss.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return model, step


if __name__ == "__main__":
    main()
