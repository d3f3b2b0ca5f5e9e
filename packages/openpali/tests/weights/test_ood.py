"""OOD detector: distances against brute force, the limit, and that copies keep it and new weights do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from openpali.model.lora import LoraConfig
from openpali.text.tokenizer import Tokenizer
from openpali.weights.adapters import Adapter, write_adapter
from openpali.weights.bundle import pack_bundle
from openpali.weights.format import open_model, write_merged
from openpali.weights.ood import (
    CENTRES,
    OodDetector,
    fit_ood,
    read_ood,
    write_ood,
)
from openpali.weights.quantize import write_int8
from weights.folders import write


def drawn(count: int, seed: int, stretch: float = 1.0) -> torch.Tensor:
    """Features in four clusters, of which one direction varies far less than the others."""
    g = torch.Generator().manual_seed(seed)
    clusters = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [4, 4, 0]])
    noise = torch.randn(count, 3, generator=g) * torch.tensor([0.5, 0.5, 0.01 * stretch])
    return clusters[torch.randint(0, 4, (count,), generator=g)] + noise


def test_distances_are_those_of_the_nearest_centre() -> None:
    known = fit_ood(drawn(500, 0), drawn(200, 1))
    features = drawn(20, 2)
    expected = [
        min(
            np.linalg.norm((x - known.mean).numpy() @ known.whiten.float().numpy() - centre.float().numpy())
            for centre in known.centres
        )
        / known.limit.item()
        for x in features
    ]
    np.testing.assert_allclose(known.score(features).numpy(), expected, rtol=1e-4)


def test_one_known_image_in_a_hundred_is_beyond_the_limit_and_others_are_where_nothing_varied() -> None:
    known = fit_ood(drawn(2000, 0), drawn(2000, 1))
    assert 0.003 < (known.score(drawn(2000, 2)) > 1).float().mean() < 0.025
    assert (known.score(drawn(200, 3, stretch=100)) > 1).float().mean() > 0.5  # outside of one thin direction
    assert (known.score(drawn(200, 3) + 20) > 1).all()


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError):
        fit_ood(drawn(CENTRES - 1, 0), drawn(5, 1))
    with pytest.raises(ValueError):
        fit_ood(drawn(CENTRES, 0), drawn(0, 1))


def test_copies_keep_what_a_model_knows_and_new_weights_lose_it(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = write(tmp_path / "source", "pali", tokenizer)
    assert read_ood(source) is None
    known = fit_ood(drawn(100, 0), drawn(50, 1))
    write_ood(source, known)
    write_int8(open_model(source), tmp_path / "int8")
    (tmp_path / "bundle.toml").write_text(f'[parts]\npali = "{source}"\n')
    pack_bundle(tmp_path / "bundle.toml", tmp_path / "bundle")
    adapter = Adapter(str(source), LoraConfig(2, 4.0, []), {})
    write_adapter(tmp_path / "adapter", adapter)
    assert read_ood(tmp_path / "adapter") is None  # its base's is not its own
    write_ood(tmp_path / "adapter", known)
    write_merged(open_model(tmp_path / "adapter"), tmp_path / "merged")
    for folder in (source, tmp_path / "int8", tmp_path / "bundle" / "pali", tmp_path / "merged"):
        found = read_ood(folder)
        assert isinstance(found, OodDetector)
        torch.testing.assert_close(found.score(drawn(9, 2)), known.score(drawn(9, 2)))
    write(source, "pali", tokenizer, seed=1)
    assert read_ood(source) is None


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "ood").mkdir()
    (tmp_path / "ood" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="ood"):
        read_ood(tmp_path)


def test_kinds_that_were_not_seen_are_in_the_distribution() -> None:
    torch.manual_seed(0)
    near, far = torch.randn(150, 4), torch.randn(150, 4) + 8
    both, others = torch.cat([near, far]), torch.randn(100, 4)
    kinds = torch.tensor([0] * 150 + [1] * 150)
    plain, wide = fit_ood(both, others), fit_ood(both, others, kinds)
    assert wide.limit > 1.5 * plain.limit
    third = torch.randn(50, 4) - 8
    assert (plain.score(third) > 1).all()
    assert (wide.score(third) < 1).float().mean() > 0.5
    few = fit_ood(near[:70], others, torch.tensor([0] * 35 + [1] * 35))  # the rest is too few to fit on
    assert few.limit == fit_ood(near[:70], others).limit
