"""Two ranks that share a PaliGemma or a T5Gemma 2, whole or beneath an adapter, have the gradients of one, and
generate the same: ``python test_gemma_ranks.py``."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import torch
import torch.nn.functional as F
from torch import Tensor

from _ranks import fork_ranks
from openpali.architectures.paligemma import PaliGemmaConfig, PaliGemmaModel
from openpali.architectures.t5gemma2.network import T5Gemma2Config, T5Gemma2Model
from openpali.distributed import Ranks, join_ranks
from openpali.infer.generate import Decoding, generate
from openpali.model.gemma import GemmaConfig
from openpali.model.init import init_weights
from openpali.model.int8 import quantize, use_int8
from openpali.model.lora import LoraConfig, add_lora, find_targets, lora_names
from openpali.model.vision_language import VisionLanguageModel
from openpali.model.vit import ViTConfig
from openpali.train.adapt import freeze_base
from openpali.train.parallel import blocks_of, place, runnable, whole
from openpali.train.recipe import ParallelSpec

GEMMA = GemmaConfig(50, 16, 8, 4, 2, 24, 3, 8.0, rope_base=100.0, post_norms=True, window=3, period=3)
VISION = ViTConfig(patch_size=4, grid=(2, 2), width=8, depth=1, mlp_dim=8, heads=2)
ROWS = 4


def loss(model: VisionLanguageModel, rows: slice) -> Tensor:
    """The share of ``rows`` in the loss of all."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(ROWS, 2, 8, 8, 3, generator=generator) * 2 - 1
    prompts, texts = torch.randint(7, 50, (2, ROWS, 6), generator=generator)
    prompts[:, 1] = 5  # a place for an image in T5Gemma 2
    prompts[1, 3:] = 0
    hidden = model(images[rows], prompts[rows], texts[rows])
    return F.cross_entropy((hidden @ model.head.matrix.T).flatten(0, 1), texts[rows].flatten(), reduction="sum")


def write(model: VisionLanguageModel) -> list[list[int]]:
    images, prompts = torch.zeros(2, 1, 8, 8, 3), torch.tensor([[11, 5, 12], [13, 0, 0]])
    return [row[0].ids for row in generate(model, images, prompts, None, Decoding(5))]


def adapt(model: VisionLanguageModel, int8: bool) -> VisionLanguageModel:
    """The model with an adapter on its text part, beneath which it is frozen."""
    if int8:
        weights = model.state_dict()
        for name in use_int8(model):
            weights[f"{name}.weight"], weights[f"{name}.scale"] = quantize(weights[f"{name}.weight"])
        model.load_state_dict(weights, assign=True)
    add_lora(model, LoraConfig(2, 4.0, find_targets(model, ["text"])))
    freeze_base(model, torch.float32)
    for change in lora_names(model):
        torch.nn.init.normal_(model.get_parameter(change), std=0.1)
    return model


def compare(model: VisionLanguageModel, ranks: Ranks) -> None:
    alone = copy.deepcopy(model)
    loss(alone, slice(0, ROWS)).backward()
    expected, texts = {name: p.grad for name, p in alone.named_parameters() if p.requires_grad}, write(alone)
    place(model, ParallelSpec(shard="full", checkpointing="selective"), ranks, torch.float32)
    assert all(p.to_local().numel() < p.numel() for b in blocks_of(model) for p in b.parameters() if p.ndim > 1)
    half = ROWS // 2
    loss(model, slice(half * ranks.rank, half * (ranks.rank + 1))).backward()
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    ranks.sum_gradients([p for p in learning.values() if not hasattr(p, "to_local")])
    assert learning.keys() == expected.keys()
    for name, p in learning.items():
        torch.testing.assert_close(whole(p.grad), expected[name], atol=1e-5, rtol=1e-4, msg=name)
    with runnable(model):
        assert write(model) == texts


def main(rank: int) -> None:
    torch.manual_seed(0)
    gemma3 = T5Gemma2Config(VISION, GEMMA, GEMMA, pool=2, before=(4, 5), after=(6, 4))
    with join_ranks() as ranks:
        for build, bases in (
            (partial(PaliGemmaModel, PaliGemmaConfig(VISION, GEMMA, separator=3)), (False, True)),
            (partial(T5Gemma2Model, gemma3), (True,)),  # an adapter is the same in both
        ):
            compare(init_weights(build()), ranks)
            for int8 in bases:
                compare(adapt(init_weights(build()), int8), ranks)


def test_two_ranks_are_one() -> None:
    ended = subprocess.run([sys.executable, "-W", "ignore", __file__], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


if __name__ == "__main__":
    torch.set_num_threads(1)
    started = fork_ranks(2, 2, main)
    sys.exit(any([os.waitpid(child, 0)[1] for child in started]))
