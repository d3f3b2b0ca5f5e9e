"""WebDataset shards: records, random access, truncated and damaged files."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from openpali.data.sources import shards
from openpali.data.sources.files import RETRIES, fingerprint, open_file, read_span
from openpali.data.sources.records import RecordError
from openpali.data.sources.registry import open_source
from openpali.data.sources.shards import ShardSource
from openpali_lab.worlds.builders.output import write_shards


@pytest.fixture(autouse=True, scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use a separate cache for tables of contents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENPALI_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def image_bytes(value: int, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (5, 4), (value, 0, 0)).save(out, kind)
    return out.getvalue()


def sample(number: int) -> tuple[str, dict[str, bytes]]:
    return f"s{number:04d}", {"json": json.dumps({"label": f"l{number}"}).encode(), "png": image_bytes(number)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shards(tmp_path, "train", map(sample, range(250)))
    (tmp_path / "train-00000.tar").rename(tmp_path / "a.tar")
    write_shards(tmp_path, "b", map(sample, range(250, 255)))
    return tmp_path


def test_a_missing_file_is_named_with_what_refers_to_it(folder: Path) -> None:
    source = ShardSource(folder)
    (folder / "a.tar").unlink()
    with pytest.raises(FileNotFoundError) as error:
        source[1]
    assert str(error.value) == f"a.tar: s0001: no file {folder / 'a.tar'}"
    (folder / "b-00000.tar").rename(folder / "b-00001.tar")
    pattern = f"{folder}/b-{{00001..00002}}.tar"
    with pytest.raises(FileNotFoundError) as error:
        ShardSource(pattern)
    assert str(error.value) == f"no file {folder}/b-00002.tar, which {pattern} names"
    for read in (partial(read_span, start=0, size=1), open_file, fingerprint):
        with pytest.raises(FileNotFoundError) as error:
            read(str(folder / "a.tar"))
        assert str(error.value) == f"no file {folder / 'a.tar'}"
    with pytest.raises(OSError, match=rf"^{folder} cannot be read: Is a directory$"):
        open_file(str(folder))


def test_samples_are_read_in_any_order_with_their_images(folder: Path) -> None:
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


def test_frames_and_named_members_are_found(tmp_path: Path) -> None:
    mask = io.BytesIO()
    Image.new("1", (5, 4), 1).save(mask, "PNG")
    record = {"objects": [{"name": "a", "mask": "mask0.png"}]}
    frames = {f"{i}.jpg": image_bytes(i, "JPEG") for i in (10, 2, 0)}
    write_shards(
        tmp_path,
        "x",
        [
            ("dir.1/video", {"json": b"{}", **frames}),
            (
                "one",
                {"json": json.dumps(record).encode(), "webp": image_bytes(9, "WEBP"), "mask0.png": mask.getvalue()},
            ),
            ("named", {"json": b'{"images": ["b.png"]}', "png": image_bytes(1), "b.png": image_bytes(77)}),
            ("scan", {"json": b"{}", "tif": image_bytes(8, "TIFF")}),
        ],
    )
    source = ShardSource(tmp_path)
    assert [round(int(f[0, 0, 0]) / 2) for f in source[0].images] == [0, 1, 5]  # in the order of their numbers
    assert len(source[1].images) == 1
    assert source[1].objects[0].mask is not None
    assert source[1].objects[0].mask.all()
    assert source[2].images[0][0, 0, 0] == 77
    assert len(source[3].images) == 1


def test_errors_name_the_missing_member(tmp_path: Path) -> None:
    write_shards(tmp_path, "x", [("a", {"png": image_bytes(1)}), ("b", {"json": b'{"images": ["jpg"]}'})])
    source = ShardSource(tmp_path)
    for index, kind, named in (
        (0, RecordError, "a: there is no .json"),
        (1, FileNotFoundError, "b: no member b.jpg"),
    ):
        with pytest.raises(kind, match=f"x-00000.tar: {named}"):
            source[index]
    with pytest.raises(FileNotFoundError):
        ShardSource(tmp_path / "gone-*.tar")


@given(st.integers(2048 + 512, 10_240))
@settings(max_examples=25, deadline=None)
def test_a_cut_shard_keeps_its_complete_samples(cut: int) -> None:
    """For every cut: complete samples are used, incomplete ones are not, and one warning counts them."""
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
def test_a_shard_without_complete_samples_is_refused(folder: Path) -> None:
    path = folder / "a.tar"
    content = path.read_bytes()
    with tarfile.open(folder / "empty.tar", "w"):
        pass
    for found, problem in (
        (b"", "is not an uncompressed tar file"),
        (content[:100], "is not an uncompressed tar file"),
        (b"no tar" * 1000, "is not an uncompressed tar file"),
        (gzip.compress(content), "is not an uncompressed tar file"),
        (content[:700], "has no samples"),
        ((folder / "empty.tar").read_bytes(), "has no samples"),
    ):
        path.write_bytes(found)
        with pytest.raises(ValueError, match=f"a.tar {problem}"):
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


# ---- damage in the middle


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


@given(st.integers(0, 10 * 2048 - 1))
@settings(max_examples=40, deadline=None)
def test_a_flipped_bit_affects_only_its_neighbours(at: int) -> None:
    """A sample is unchanged, or raises, or is left out and counted; all others are unchanged."""
    with tempfile.TemporaryDirectory() as work:
        write_shards(Path(work), "x", map(sample, range(10)))
        path = Path(work) / "x-00000.tar"
        flipped(path, at)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            source = ShardSource(path)
        keys = [source.where(i).rpartition(": ")[2] for i in range(len(source))]
        struck = at // 2048
        lost = {f"s{i:04d}" for i in range(10)} - set(keys)
        assert lost <= {f"s{i:04d}" for i in (struck - 1, struck, struck + 1)}
        assert bool(lost) == bool(caught)
        if at % 1024 < 512 and at % 512 < 148:  # a header's name, mode, size or time
            assert lost
            assert "was cut off or damaged" in str(caught[0].message)
        for i, key in enumerate(keys):
            number = int(key[1:])
            try:
                example = source[i]
            except ValueError:
                assert number == struck  # the PNG or JSON decoder noticed
            else:
                assert number == struck or (example.label, example.images[0][0, 0, 0]) == (f"l{number}", number)


def test_samples_after_a_damaged_range_are_found(folder: Path) -> None:
    path = folder / "a.tar"
    content = path.read_bytes()
    path.write_bytes(content[:10_000] + b"\xff" * 20_000 + content[30_000:])  # of samples 4 to 14
    with pytest.warns(UserWarning, match=r"2 are left out, from s0004 on, with everything that cannot be read"):
        source = ShardSource(path)
    keys = [source.where(i).rpartition(": ")[2] for i in range(len(source))]
    assert keys == [f"s{i:04d}" for i in range(250) if not 4 <= i <= 15]  # 15 might lack its first
    assert [source[i].label for i in (3, 4)] == ["l3", "l16"]


def hostile(kind: bytes = tarfile.REGTYPE, size: int = 0, name: str = "x.json") -> bytes:
    """A header that claims any size."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")


@pytest.mark.filterwarnings("ignore:.*was cut off or damaged")
@pytest.mark.parametrize("place", [0, 2048 * 2])
@pytest.mark.parametrize(
    "headers",
    [
        hostile(size=-1024),
        hostile(size=-5),
        hostile(tarfile.GNUTYPE_LONGNAME, 2**70),
        hostile(tarfile.GNUTYPE_LONGNAME, 2**50),
        hostile(tarfile.XHDTYPE, 2**70),
        hostile(tarfile.GNUTYPE_LONGNAME) * 2000 + hostile(),
    ],
    ids=["back", "within", "long name", "large name", "pax", "nested"],
)
def test_a_header_with_any_size_costs_only_its_neighbours(tmp_path: Path, place: int, headers: bytes) -> None:
    write_shards(tmp_path, "x", map(sample, range(5)))
    path = tmp_path / "x-00000.tar"
    content = path.read_bytes()
    path.write_bytes(content[:place] + headers + content[place:])
    source = ShardSource(path)
    keys = {source.where(i).rpartition(": ")[2] for i in range(len(source))}
    assert {source[i].label for i in range(len(source))} == {key.replace("s000", "l") for key in keys}
    assert keys >= ({"s0000", "s0003", "s0004"} if place else {"s0001", "s0002", "s0003", "s0004"})


@pytest.mark.filterwarnings("ignore:.*was cut off or damaged")
def test_a_member_larger_than_its_shard_is_the_last(tmp_path: Path) -> None:
    write_shards(tmp_path, "x", map(sample, range(3)))
    path = tmp_path / "x-00000.tar"
    path.write_bytes(path.read_bytes()[: 2 * 2048] + hostile(size=2**70) + bytes(2048))
    assert [ShardSource(path)[i].label for i in (0, -1)] == ["l0", "l1"]


def test_a_name_may_have_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(hostile(name="b\udcff.txt", size=3) + b"dog".ljust(512, b"\0") + bytes(1024))
    source = ShardSource(tmp_path / "x.tar")
    assert (source.where(0), source[0].captions["en"]) == (r"x.tar: b\xff", ("dog",))


def test_joined_shards_are_read_to_the_end(folder: Path) -> None:
    joined = folder / "joined.tar"
    joined.write_bytes((folder / "a.tar").read_bytes() + (folder / "b-00000.tar").read_bytes())
    assert [ShardSource(joined)[i].label for i in (0, 249, 250, -1)] == ["l0", "l249", "l250", "l254"]


def test_a_shard_cut_or_removed_after_opening_is_named(folder: Path) -> None:
    source = ShardSource(folder / "a.tar")
    content = (folder / "a.tar").read_bytes()
    (folder / "a.tar").write_bytes(content[:100_000])
    assert source[0].label == "l0"
    with pytest.raises(OSError):
        source[200]
    (folder / "a.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"a.tar"):
        source[0]


# ---- the table of contents


def test_contents_are_kept_until_the_shard_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(folder / "home"))
    scans: list[str] = []
    original = shards._scan
    monkeypatch.setattr(shards, "_scan", lambda file, shard: scans.append(shard) or original(file, shard))
    assert [len(ShardSource(folder)) for _ in range(3)] == [255] * 3
    assert len(scans) == 2  # one for each shard
    write_shards(folder, "b", map(sample, range(250, 258)))
    assert len(ShardSource(folder)) == 258
    assert len(scans) == 3
    for stored in (folder / "home/index").iterdir():
        stored.write_bytes(b"PK\x03\x04 broken")
    assert len(ShardSource(folder)) == 258
    assert len(scans) == 5
    assert ShardSource(folder)[257].label == "l257"
    blocked = folder / "a file"
    blocked.touch()
    monkeypatch.setenv("OPENPALI_HOME", str(blocked))  # no cache can be written there
    assert len(ShardSource(folder)) == 258


def test_names_follow_webdataset(folder: Path) -> None:
    for i in range(8, 12):
        write_shards(folder, f"t{i}", [sample(i)])
        (folder / f"t{i}-00000.tar").rename(folder / f"t-{i:03d}.tar")
    source = open_source(str(folder / "t-{008..011}.tar"), {})
    assert [source[i].label for i in range(len(source))] == ["l8", "l9", "l10", "l11"]
    with pytest.raises(FileNotFoundError):
        open_source(str(folder / "t-012.tar"), {})
    with pytest.raises(ValueError, match="ends before it begins"):
        open_source(str(folder / "t-{011..008}.tar"), {})


def test_a_text_file_is_the_caption(tmp_path: Path) -> None:
    write_shards(tmp_path, "x", [("a", {"jpg": image_bytes(9, "JPEG"), "txt": b"ein Hund\n"})])
    example = ShardSource(tmp_path)[0]
    assert example.captions == {"en": ("ein Hund",)}
    assert len(example.images) == 1


# ---- URLs


def test_urls_are_read_like_files(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.tar", "b-00000.tar"):
        memory.pipe(f"/bucket/{name}", (folder / name).read_bytes())
    for name, size in (("bucket", 255), ("bucket/*.tar", 255), ("bucket/b-0000{0..0}.tar", 5)):
        source = open_source(f"memory://{name}", {})
        assert len(source) == size
        assert source[size - 1].label == "l254"
        assert source[size - 1].images[0][0, 0, 0] == 254
    source = open_source("memory://bucket", {})
    loader = DataLoader(Keys(source), batch_size=5, num_workers=2, multiprocessing_context="fork")  # type: ignore[arg-type]
    assert [int(v) for batch in loader for v in batch] == list(range(255))
    memory.rm("/bucket/a.tar")
    with pytest.raises(FileNotFoundError, match=r"memory://.*a.tar"):
        source[0]
    for name, kind, named in (
        ("memory://bucket/gone.tar", FileNotFoundError, "memory://bucket/gone.tar"),
        ("memory://bucket/gone-*.tar", FileNotFoundError, "memory://bucket/gone"),
        ("nothing://x/y.tar", ValueError, "nothing://x/y.tar: Protocol not known: nothing"),
    ):
        with pytest.raises(kind, match=named):
            open_source(name, {})


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """Fails the first ``failures`` reads."""

    protocol = "flaky"
    failures = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("flaky:/")))

    def cat_file(self, *args: Any, **options: Any) -> bytes:
        if Flaky.failures:
            Flaky.failures -= 1
            raise TimeoutError("the store is busy")
        return bytes(super().cat_file(*args, **options))


def test_a_failed_read_from_a_url_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    fsspec.filesystem("flaky").pipe("/once.bin", b"0123456789")
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr(Flaky, "failures", len(RETRIES))
    assert read_span("flaky://once.bin", 2, 3) == b"234"
    assert slept == list(RETRIES)
    Flaky.failures = len(RETRIES) + 1
    with pytest.raises(OSError, match=r"once.bin cannot be read: TimeoutError: the store is busy"):
        read_span("flaky://once.bin", 2, 3)
    slept.clear()
    Flaky.failures = 0
    with pytest.raises(FileNotFoundError):
        read_span("flaky://gone.bin", 0, 1)
    assert not slept  # a missing file is not retried


def test_nothing_is_opened_over_the_network_without_a_url(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    assert open_source(str(folder), {})[0].label == "l0"
