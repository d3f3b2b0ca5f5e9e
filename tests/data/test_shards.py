"""WebDataset shards: same records, any order, cut files."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from openpali.data.build import write_shards
from openpali.data.shards import ShardSource
from openpali.data.sources import open_source


@pytest.fixture(autouse=True, scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tables of contents are kept in a cache of our own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENPALI_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def picture(value: int, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (5, 4), (value, 0, 0)).save(out, kind)
    return out.getvalue()


def sample(number: int) -> tuple[str, dict[str, bytes]]:
    return f"s{number:04d}", {"json": json.dumps({"label": f"l{number}"}).encode(), "png": picture(number)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shards(tmp_path, "train", map(sample, range(250)))
    (tmp_path / "train-00000.tar").rename(tmp_path / "a.tar")
    write_shards(tmp_path, "b", map(sample, range(250, 255)))
    return tmp_path


def test_samples_in_any_order_with_their_pictures(folder: Path) -> None:
    source = ShardSource(folder)
    assert len(source) == 255
    for index in (254, 0, 250, 249, -1):
        example = source[index]
        assert example.label == f"l{index % 255}"
        assert example.key.endswith(f".tar: s{index % 255:04d}")
        assert example.images[0].shape == (4, 5, 3)
        assert example.images[0][0, 0, 0] == index % 255
    with pytest.raises(IndexError):
        source[255]
    assert len(ShardSource(folder / "b-00000.tar")) == 5
    assert len(open_source(str(folder / "b-*.tar"), {})) == 5
    assert len(open_source(str(folder), {})) == 255
    assert source.labels[:2] == ["l0", "l1"]


def test_frames_jpg_webp_and_named_members(tmp_path: Path) -> None:
    mask = io.BytesIO()
    Image.new("1", (5, 4), 1).save(mask, "PNG")
    record = {"objects": [{"name": "a", "mask": "mask0.png"}]}
    frames = {f"{i}.jpg": picture(i, "JPEG") for i in (10, 2, 0)}
    write_shards(
        tmp_path,
        "x",
        [
            ("dir.1/video", {"json": b"{}", **frames}),
            (
                "one",
                {"json": json.dumps(record).encode(), "webp": picture(9, "WEBP"), "mask0.png": mask.getvalue()},
            ),
            ("named", {"json": b'{"images": ["b.png"]}', "png": picture(1), "b.png": picture(77)}),
        ],
    )
    source = ShardSource(tmp_path)
    assert [round(int(f[0, 0, 0]) / 2) for f in source[0].images] == [0, 1, 5]  # in the order of their numbers
    assert len(source[1].images) == 1
    assert source[1].objects[0].mask is not None
    assert source[1].objects[0].mask.all()
    assert source[2].images[0][0, 0, 0] == 77


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, "x", [("a", {"png": picture(1)}), ("b", {"json": b'{"images": ["jpg"]}'})])
    source = ShardSource(tmp_path)
    with pytest.raises(ValueError, match=r"x-00000.tar: a: there is no .json; it has png"):
        source[0]
    with pytest.raises(FileNotFoundError, match=r"x-00000.tar: b: no member b.jpg; there are json"):
        source[1]
    with pytest.raises(FileNotFoundError, match=r"no .tar files at .*gone"):
        ShardSource(tmp_path / "gone-*.tar")
    (tmp_path / "y.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(ValueError, match=r"y.tar is no tar file"):
        ShardSource(tmp_path / "y.tar")
    with tarfile.open(tmp_path / "z.tar", "w:gz") as packed:
        packed.addfile(tarfile.TarInfo("a.json"))
    with pytest.raises(ValueError, match=r"z.tar is no tar file; compressed ones must be unpacked"):
        ShardSource(tmp_path / "z.tar")
    tarfile.open(tmp_path / "e.tar", "w").close()
    with pytest.raises(ValueError, match=r"e.tar holds no samples"):
        ShardSource(tmp_path / "e.tar")


@given(st.integers(2048 + 512, 10_240))
@settings(max_examples=25, deadline=None)
def test_a_cut_shard_keeps_its_complete_samples(cut: int) -> None:
    """Wherever it is cut: samples that are there whole are used, no half sample is, and one warning counts them."""
    with tempfile.TemporaryDirectory() as work:
        write_shards(Path(work), "x", map(sample, range(4)))  # 4 samples x 2 members x 2 blocks of 512 bytes
        path = Path(work) / "x-00000.tar"
        path.write_bytes(path.read_bytes()[:cut])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            source = ShardSource(path)
        # A sample may have more members until the next one begins, or the shard ends by its mark.
        assert len(source) == (cut - 512) // 2048
        assert [source[i].images[0][0, 0, 0] for i in range(len(source))] == list(range(len(source)))
        if cut >= 4 * 2048 + 512:
            assert not caught
        else:
            (warning,) = caught
            assert f"damaged: {len(source)} complete samples are used" in str(warning.message)
            assert f"1 are left out, from s{len(source):04d} on" in str(warning.message)


@pytest.mark.filterwarnings("ignore:.*was cut off")
def test_nothing_left_of_a_cut_shard(folder: Path) -> None:
    path = folder / "a.tar"
    content = path.read_bytes()
    for size, problem in ((0, "no tar file"), (100, "no tar file"), (700, "holds no samples")):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=problem):
            ShardSource(path)


class Keys:
    """Through worker processes, which fork after the index is built."""

    def __init__(self, source: ShardSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> int:
        return int(self.source[index].images[0][0, 0, 0])


def test_forked_workers_read_the_same(folder: Path) -> None:
    source = ShardSource(folder)
    order = np.random.default_rng(0).permutation(255).tolist()
    loader = DataLoader(Keys(source), batch_size=15, sampler=order, num_workers=2, multiprocessing_context="fork")  # type: ignore[arg-type]
    assert [int(v) for batch in loader for v in batch] == order
    assert pickle.loads(pickle.dumps(source))[3].label == "l3"
