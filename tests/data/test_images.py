"""Good pictures give the right pixels, whatever their format; bad ones one clear sentence, at no cost."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from openpali.data.images import MAX_PIXELS, Preprocess, load_image

GRADIENT = np.stack(np.broadcast_arrays(np.arange(0, 240, 10)[:, None], np.arange(0, 160, 5)[None], 40), axis=-1)
PIXELS: NDArray[np.uint8] = GRADIENT.astype(np.uint8)  # [24, 32, 3]


def encoded(picture: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(out, kind, **options)
    return out.getvalue()


def near(a: NDArray[np.uint8], b: NDArray[np.uint8], most: float) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(int) - b.astype(int)).mean()) < most


# ---- the right pixels


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_formats(kind: str, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
    path = tmp_path / "picture"
    path.write_bytes(encoded(PIXELS, kind, **options))
    image = load_image(path)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    lossy = {"JPEG": 3.0, "GIF": 12.0}.get(kind, 0.01)
    assert near(image, PIXELS, lossy)


def test_cmyk_jpeg() -> None:
    picture = Image.fromarray(PIXELS).convert("CMYK")
    assert near(load_image(encoded(picture, "JPEG", quality=98, subsampling=0)), PIXELS, 4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_by_their_full_range(kind: str) -> None:
    values = np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)
    image = load_image(encoded(values, kind))
    expected = (values / 65535 * 255)[..., None].repeat(3, axis=-1)
    assert np.abs(image - expected).max() <= 1


def test_16_bit_png_that_is_dark_stays_dark() -> None:
    """Its range is that of the file, not of its brightest pixel."""
    image = load_image(encoded(np.full((4, 4), 200, np.uint16)))
    assert image.max() <= 1


def test_grey_and_one_bit() -> None:
    grey = PIXELS[..., 0]
    np.testing.assert_array_equal(load_image(encoded(grey)), grey[..., None].repeat(3, axis=-1))
    bits = load_image(encoded(Image.fromarray(grey > 100)))
    np.testing.assert_array_equal(bits[..., 0], np.where(grey > 100, 255, 0))


def test_transparency_is_laid_on_white() -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = 255, 0, 0, 255
    rgba[0, 1] = 255, 0, 0, 0
    rgba[1, 0] = 0, 0, 0, 128
    image = load_image(encoded(rgba))
    assert image[0].tolist() == [[255, 0, 0], [255, 255, 255]]
    assert abs(int(image[1, 0, 0]) - 127) <= 1
    grey_alpha = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert load_image(encoded(Image.fromarray(grey_alpha, "LA")))[0, :, 0].tolist() == [10, 255]


def test_palette_with_transparency() -> None:
    picture = Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.putdata([0, 1, 2])
    expected = [[255, 0, 0], [255, 255, 255], [0, 0, 255]]
    assert load_image(encoded(picture, transparency=1))[0].tolist() == expected
    by_entry = encoded(picture, transparency=bytes([255, 0, 255]))
    assert load_image(by_entry)[0].tolist() == expected
    assert load_image(encoded(picture))[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(orientation: int) -> None:
    """The stored picture is made so that it shows ``PIXELS`` when turned as its EXIF says (EXIF 2.3, table 6)."""
    stored = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.swapaxes(0, 1),
        6: np.rot90(PIXELS),
        7: PIXELS[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(PIXELS, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(load_image(encoded(np.ascontiguousarray(stored), exif=exif)), PIXELS)


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
        image = load_image(data)
        assert image.shape == (8, 8, 3)
        assert image[4, 4].tolist() == [255, 0, 0]


# ---- one clear sentence


@pytest.mark.parametrize(
    "data", [b"<html>not found</html>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"\0" * 99]
)
def test_no_picture(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cat.jpg is (not a picture|truncated or damaged)"):
        load_image(data, "cat.jpg")


def test_empty_missing_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match=r"empty.jpg is empty \(0 bytes\)"):
        load_image(tmp_path / "empty.jpg")
    with pytest.raises(FileNotFoundError, match=r"no picture file .*gone.jpg"):
        load_image(tmp_path / "gone.jpg")
    with pytest.raises(FileNotFoundError, match="no picture file"):
        load_image(tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    data = encoded(noise, kind)
    for share in (0.5, 0.9):
        with pytest.raises(ValueError, match=r"cat is (truncated or damaged|not a picture)"):
            load_image(data[: int(len(data) * share)], "cat")


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [(50_000, 50_000), (11_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_is_decoded(side: tuple[int, int]) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"bomb.png (has|is).*(pixels|not a picture)"):
        load_image(png_header(*side), "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert side[0] * side[1] > MAX_PIXELS
    assert peak < 2_000_000


SEEDS = [
    encoded(PIXELS),
    encoded(PIXELS, "JPEG"),
    encoded(PIXELS, "GIF"),
    encoded(PIXELS, "WEBP"),
    encoded(PIXELS, "TIFF", compression="tiff_lzw"),
    encoded(PIXELS, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
]


@given(
    st.sampled_from(SEEDS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6), st.floats(0, 1)
)
@settings(max_examples=150, deadline=None)
def test_damage_gives_pixels_or_a_value_error(data: bytes, changes: list[tuple[float, int]], cut: float) -> None:
    damaged = bytearray(data)
    for at, value in changes:
        damaged[int(at * (len(data) - 1))] = value
    content = bytes(damaged[: int(len(data) * cut)]) if cut < 0.3 else bytes(damaged)
    problem = ""
    try:
        image = load_image(content, "picture")
    except ValueError as error:
        problem = str(error)
    if problem:
        assert problem.startswith("picture ")
        assert "\n" not in problem
    else:
        assert image.ndim == 3
        assert image.shape[2] == 3


# ---- to the model's size


def test_preprocess_is_antialiased_and_the_identity_at_the_same_size() -> None:
    assert Preprocess(24, 32)(PIXELS) is PIXELS
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = Preprocess(8, 16)(stripes)
    assert small.shape == (8, 16, 3)
    assert abs(float(small.mean()) - 127.5) < 2
    assert small.std() < 20  # averaged, not every fourth column picked
    with pytest.raises(ValueError, match="unknown preprocessing 'crop'"):
        Preprocess(8, 8, policy="crop")
