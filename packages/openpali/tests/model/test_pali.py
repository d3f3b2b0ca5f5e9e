"""What must not change a row's result: padding, neighbours, missing frames, how decoding is cut into steps."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from openpali.architectures.pali import PaliModel, PaliModelConfig
from openpali.model import attention
from openpali.model.cache import Cache
from openpali.model.init import init_weights
from openpali.model.losses import cross_entropy
from openpali.model.t5 import T5Config
from openpali.model.vision_language import Memory
from openpali.model.vit import ViTConfig

from .memory import Largest

VOCAB = 23
CONFIG = PaliModelConfig(
    ViTConfig(patch_size=4, grid=(2, 2), width=8, depth=1, mlp_dim=12, heads=2),
    T5Config(VOCAB, d_model=12, d_head=4, heads=2, d_ff=16, encoder_layers=2, decoder_layers=2, max_distance=17),
)

UMT5_LIKE = replace(CONFIG, text=replace(CONFIG.text, tied_head=True, bias_per_layer=True))


def make(config: PaliModelConfig = CONFIG) -> PaliModel:
    torch.manual_seed(0)
    return init_weights(PaliModel(config))


@pytest.fixture
def model() -> PaliModel:
    return make()


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 3, 8, 8, 3), generator=generator).to(torch.uint8)  # 3 rows of 3 frames


def ids(*lengths: int, seed: int = 2) -> Tensor:
    """Random ids of these lengths, padded on the right with 0."""
    values = torch.randint(1, VOCAB, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    return values * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


Result = tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]


def run(
    model: PaliModel, images: Tensor | None, prompt: Tensor, targets: Tensor, frames: Tensor | None = None
) -> Result:
    """Hidden states and logits at the targets, the summed loss, and the gradient of each parameter."""
    model.zero_grad()
    hidden = model(images, prompt, targets, frames)
    assert hidden.shape == (*targets.shape, CONFIG.text.d_model)
    real = targets != model.pad
    hidden = hidden[real]
    loss, _ = cross_entropy(hidden, model.text.head_weight, targets[real], torch.ones(len(hidden)), chunk=4)
    loss.backward()
    grads = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
    }
    return hidden.detach(), model.text.logits(hidden.detach()), loss.detach(), grads


def same(one: Result, other: Result) -> None:
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(one[1], other[1], rtol=0, atol=2e-5)
    torch.testing.assert_close(one[2], other[2], rtol=1e-5, atol=0)
    for name, grad in one[3].items():
        torch.testing.assert_close(grad, other[3][name], rtol=1e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_an_empty_batch_gives_empty_results(model: PaliModel, images: Tensor) -> None:
    prompt, targets, counts = ids(4, 4, 4), ids(5, 5, 5), torch.full((3,), 3)
    for some, frames in ((images, None), (images, counts), (None, None)):
        none = [None if x is None else x[:0] for x in (some, prompt, targets, frames)]
        hidden = model(*none)
        assert hidden.shape == (0, 5, CONFIG.text.d_model)
        assert model.text.logits(hidden).shape == (0, 5, VOCAB)
        hidden.sum().backward()


@pytest.mark.parametrize("query_block", [3, 1024])
@pytest.mark.parametrize("config", [CONFIG, UMT5_LIKE])
def test_padding_changes_nothing(
    config: PaliModelConfig, query_block: int, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompt, targets = make(config), ids(6, 4, 1), ids(5, 2, 7, seed=3)
    plain = run(model, images, prompt, targets)
    monkeypatch.setattr(attention, "QUERY_BLOCK", query_block)
    same(plain, run(model, images, F.pad(prompt, (0, 30)), F.pad(targets, (0, 15))))


@pytest.mark.parametrize("with_images", [True, False])
def test_neighbours_change_nothing(model: PaliModel, images: Tensor, with_images: bool) -> None:
    shown = images if with_images else None
    lengths = ((6, 5), (4, 2), (1, 7))
    prompt, targets = ids(*(p for p, _ in lengths)), ids(*(t for _, t in lengths), seed=3)
    together = run(model, shown, prompt, targets)
    alone = [
        run(model, None if shown is None else images[i : i + 1], prompt[i : i + 1, :p], targets[i : i + 1, :t])
        for i, (p, t) in enumerate(lengths)
    ]
    hidden, logits = torch.cat([row[0] for row in alone]), torch.cat([row[1] for row in alone])
    summed = {name: sum(row[3][name] for row in alone) for name in together[3]}
    same(together, (hidden, logits, sum(row[2] for row in alone), summed))


def test_a_missing_frame_is_as_if_it_were_not_there(model: PaliModel, images: Tensor) -> None:
    prompt, targets = ids(6), ids(5, seed=3)
    for count in (1, 2, 3):
        frames = torch.tensor([count])
        same(
            run(model, images[:1], prompt, targets, frames),
            run(model, images[:1, :count], prompt, targets),
        )
    same(run(model, images[:1], prompt, targets, torch.tensor([0])), run(model, None, prompt, targets))


def test_targets_are_shifted_and_causal(model: PaliModel, images: Tensor) -> None:
    prompt, targets = ids(6), ids(5, seed=3)
    changed = targets.clone()
    changed[0, 3] = (changed[0, 3] + 1) % VOCAB
    one, other = model(images[:1], prompt, targets), model(images[:1], prompt, changed)
    assert torch.equal(one[:, :4], other[:, :4])
    assert (one[:, 4] - other[:, 4]).abs().max() > 1e-3


# ---- cached decoding ----

LENGTH = 20


@pytest.fixture(scope="module")
def decoding() -> tuple[PaliModel, Memory, Tensor, Tensor]:
    """A model, memory with padding, decoder inputs, and the logits of decoding all at once."""
    model = make().eval()
    with torch.no_grad():
        memory = model.encode(None, ids(9, 5, 2))
        inputs = ids(LENGTH, LENGTH, LENGTH, seed=5)
        return model, memory, inputs, model.text.logits(model.text.decode(inputs, *memory))


def steps(model: PaliModel, cache: Cache, inputs: Tensor, sizes: list[int]) -> Tensor:
    return torch.cat([model.step(part, cache) for part in inputs.split(sizes, dim=1)], dim=1)


@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(1, LENGTH - 1)), spare=st.integers(0, 3), block=st.sampled_from([3, 1024]))
@torch.no_grad()
def test_steps_equal_decoding_at_once(
    decoding: tuple[PaliModel, Memory, Tensor, Tensor], cuts: set[int], spare: int, block: int
) -> None:
    model, memory, inputs, expected = decoding
    edges = [0, *sorted(cuts), LENGTH]
    sizes = [end - start for start, end in itertools.pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "QUERY_BLOCK", block)
        logits = steps(model, model.start(memory, LENGTH + spare), inputs, sizes)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


# ---- memory ----


def test_training_keeps_no_scores_of_all_pairs(model: PaliModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What autograd keeps grows with the length, not with its square."""
    monkeypatch.setattr(attention, "QUERY_BLOCK", 8)

    def kept(length: int) -> int:
        storages: dict[int, int] = {}  # views of one tensor count once

        def keep(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            memory = model.encode(None, ids(length, length))  # alive, so that no address is used twice
        assert memory.outputs.requires_grad
        return sum(storages.values())

    assert kept(256) < 2.1 * kept(128)


@pytest.mark.parametrize("rows", [1, 3])
def test_inference_memory_grows_no_faster_than_tokens(
    model: PaliModel, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(attention, "SCORES", 2**14)
    exact = model.eval().text.encode
    largest = []
    for length in (200, 400, 800):
        x, mask = torch.randn(rows, length, 12), torch.arange(length).expand(rows, -1) < length - 3
        with torch.no_grad(), Largest() as seen:
            blocks = exact(x, mask)
        largest.append(seen.elements)
        torch.testing.assert_close(blocks, exact(x, mask).detach(), atol=1e-5, rtol=1e-5)  # with gradients: whole
    assert largest[2] <= 4.1 * largest[0]
    assert largest[2] < rows * 2 * 800 * 800 / 10
