"""Good images of any format give the right pixels; bad ones give one clear sentence, before they are decoded."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import EpsImagePlugin, ExifTags, Image

from openpali.data.media import images
from openpali.data.media.images import (
    MAX_PIXELS,
    Preprocess,
    decode_image,
    decode_mask,
    is_image,
    load_image,
    read_size,
    to_rgb,
)
from openpali.tasks.example import Size

GRADIENT = np.stack(np.broadcast_arrays(np.arange(0, 240, 10)[:, None], np.arange(0, 160, 5)[None], 40), axis=-1)
PIXELS: NDArray[np.uint8] = GRADIENT.astype(np.uint8)  # [24, 32, 3]
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))


def encoded(image: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def near(a: NDArray[np.uint8], b: NDArray[np.uint8], most: float) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(int) - b.astype(int)).mean()) < most


PNG = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# ---- the right pixels


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_every_format_gives_the_right_pixels(kind: str, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
    path = tmp_path / "image"
    path.write_bytes(encoded(PIXELS, kind, **options))
    image = load_image(path)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    lossy = {"JPEG": 3.0, "GIF": 12.0}.get(kind, 0.01)
    assert near(image, PIXELS, lossy)


@pytest.mark.parametrize(
    "ending", ["jpg", "JFIF", "jpe", "Png", "webp", "TIF", "tiff", "bmp", "gif", "jp2", "avif"]
)
def test_files_that_pillow_decodes_are_known_by_their_endings(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    if not is_image(path):
        assert ending == "avif", "the only one that not every Pillow has"
        pytest.skip("no AVIF in this Pillow")
    Image.new("RGB", (4, 3), "red").save(path)
    assert load_image(path).shape == (3, 4, 3)


@pytest.mark.parametrize("name", ["a.pdf", "a.eps", "a.txt", "png", "a.png.zip", ""])
def test_other_files_are_no_images_by_their_endings(name: str) -> None:
    assert not is_image(name)


def test_cmyk_jpegs_become_rgb() -> None:
    image = Image.fromarray(PIXELS).convert("CMYK")
    assert near(load_image(encoded(image, "JPEG", quality=98, subsampling=0)), PIXELS, 4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_by_their_full_range(kind: str) -> None:
    values = np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)
    image = load_image(encoded(values, kind))
    expected = (values / 65535 * 255)[..., None].repeat(3, axis=-1)
    assert np.abs(image - expected).max() <= 1


def test_16_bit_png_that_is_dark_stays_dark() -> None:
    """Pixels are scaled by the range of the format, not of the image."""
    image = load_image(encoded(np.full((4, 4), 200, np.uint16)))
    assert image.max() <= 1


def tiff(values: NDArray[Any], **tags: Any) -> bytes:
    return encoded(values, "TIFF", tiffinfo={getattr(ExifTags.Base, name): tag for name, tag in tags.items()})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P5 3 1 65535\n" + struct.pack(">3H", 0, 200, 65535), [0, 0, 255]),
        (b"P5 3 1 65535\n" + struct.pack(">3H", 0, 100, 200), [0, 0, 0]),
        (b"P5 3 1 1000\n" + struct.pack(">3H", 0, 500, 1000), [0, 127, 255]),
        (b"Pf\n3 1\n-1\n" + struct.pack("<3f", -2, 0, 2), [0, 127, 255]),
        (tiff(np.array([[0, 0x8000, 0xFFFF]], np.uint16), PhotometricInterpretation=0), [255, 127, 0]),
        (tiff(np.array([[-50_000, 0, 50_000]], np.int32)), [0, 127, 255]),
        (tiff(np.array([[0.0, 0.5, 1.0]], np.float32)), [0, 127, 255]),
        (tiff(np.array([[7.0, np.nan, np.inf]], np.float32)), [0, 0, 255]),
        (tiff(np.array([[np.nan, np.nan, np.nan]], np.float32)), [0, 0, 0]),
    ],
)
def test_grey_of_other_kinds_is_scaled_by_its_format_or_its_own_range(data: bytes, expected: list[int]) -> None:
    assert load_image(data)[0].tolist() == [[grey] * 3 for grey in expected]


def test_12_bits_are_scaled_by_their_full_range() -> None:
    """Pillow writes none: the header of a TIFF of 8 bits, told to hold 12."""
    data = bytearray(tiff(np.array([[0x7F, 0xF0, 0xFF, 0xFF, 0xFF, 0xFF]], np.uint8)))
    image = Image.open(io.BytesIO(data))
    entries = struct.unpack_from("<I", data, 4)[0] + 2
    for tag, value in ((ExifTags.Base.ImageWidth, 4), (ExifTags.Base.BitsPerSample, 12)):
        [place] = [
            p
            for p in range(entries, entries + 12 * len(image.tag_v2), 12)
            if data[p : p + 2] == struct.pack("<H", tag)
        ]
        struct.pack_into("<H", data, place + 8, value)
    assert load_image(bytes(data))[0, :2, 0].tolist() == [127, 15]


@pytest.mark.parametrize("colour", [0, 2])
def test_a_transparent_value_of_16_bits_is_blended_with_white(colour: int) -> None:
    channels = 1 if colour == 0 else 3
    clear, rest = ([value] * channels for value in (0x1234, 0x4321))
    row = b"\0" + struct.pack(f">{2 * channels}H", *clear, *rest)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, colour, 0, 0, 0))
    trns = png_chunk(b"tRNS", struct.pack(f">{channels}H", *clear))
    data = PNG + header + trns + png_chunk(b"IDAT", zlib.compress(row)) + png_chunk(b"IEND", b"")
    assert load_image(data)[0, 0].tolist() == [255] * 3
    assert load_image(data)[0, 1].tolist() == pytest.approx([0x43] * 3, abs=1)
    assert decode_mask(data)[0].tolist() == [False, True]


def test_grey_and_one_bit_images_become_rgb() -> None:
    grey = PIXELS[..., 0]
    np.testing.assert_array_equal(load_image(encoded(grey)), grey[..., None].repeat(3, axis=-1))
    bits = load_image(encoded(Image.fromarray(grey > 100)))
    np.testing.assert_array_equal(bits[..., 0], np.where(grey > 100, 255, 0))


def test_transparent_pixels_are_blended_with_white() -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = 255, 0, 0, 255
    rgba[0, 1] = 255, 0, 0, 0
    rgba[1, 0] = 0, 0, 0, 128
    image = load_image(encoded(rgba))
    assert image[0].tolist() == [[255, 0, 0], [255, 255, 255]]
    assert abs(int(image[1, 0, 0]) - 127) <= 1
    grey_alpha = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert load_image(encoded(Image.fromarray(grey_alpha, "LA")))[0, :, 0].tolist() == [10, 255]


def test_transparent_palette_entries_are_blended_with_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    expected = [[255, 0, 0], [255, 255, 255], [0, 0, 255]]
    assert load_image(encoded(image, transparency=1))[0].tolist() == expected
    by_entry = encoded(image, transparency=bytes([255, 0, 255]))
    assert load_image(by_entry)[0].tolist() == expected
    assert load_image(encoded(image))[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image_upright(orientation: int) -> None:
    """The stored image shows ``PIXELS`` after the rotation in its EXIF (EXIF 2.3, table 6)."""
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
    data = encoded(np.ascontiguousarray(stored), exif=exif)
    np.testing.assert_array_equal(load_image(data), PIXELS)
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(to_rgb(opened), PIXELS)
    np.testing.assert_array_equal(opened, stored)  # as it was


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_the_size_is_that_of_the_upright_image(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image"
    path.write_bytes(encoded(PIXELS, kind, exif=exif))
    image, size = decode_image(path)
    assert size == image.shape[:2] == read_size(path) == ((32, 24) if orientation > 4 else (24, 32))


OBJECT = np.zeros((6, 9), bool)
OBJECT[2:5, 1:4] = True
VISIBLE = np.where(OBJECT, 255, 0).astype(np.uint8)


def one_entry(inside: int, colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    """A palette image in which the object is one of the entries 0 and 1."""
    image = Image.fromarray(np.where(OBJECT, inside, 1 - inside).astype(np.uint8), "P")
    image.putpalette([channel for entry in range(2) for channel in colours[entry]])
    return image


MASKS = {
    "1": encoded(Image.fromarray(OBJECT)),
    "L": encoded(VISIBLE // 255),
    "L, transparent": encoded(Image.fromarray(VISIBLE // 255), transparency=0),
    "LA": encoded(Image.merge("LA", [Image.new("L", (9, 6), 255), Image.fromarray(VISIBLE)])),
    "RGB": encoded(np.dstack([VISIBLE * 0, VISIBLE * 0, VISIBLE // 255])),
    "RGB, transparent": encoded(Image.fromarray(np.dstack([VISIBLE] * 3)), transparency=(0, 0, 0)),
    "RGBA": encoded(np.dstack([VISIBLE, VISIBLE, VISIBLE, VISIBLE * 0 + 255])),
    "RGBA, clear around it": encoded(np.dstack([VISIBLE * 0 + 9] * 3 + [VISIBLE])),
    "RGBA, clear black": encoded(np.dstack([VISIBLE] * 4)),
    "P": encoded(one_entry(1, {0: (0, 0, 0), 1: (0, 0, 128)})),
    "P, entries in another order": encoded(one_entry(0, {0: (0, 0, 128), 1: (0, 0, 0)})),
    "P, transparent": encoded(one_entry(1, {0: (200, 0, 0), 1: (0, 0, 128)}), transparency=0),
    "P, transparent by entry": encoded(one_entry(0, {0: (200, 0, 0), 1: (9, 9, 9)}), transparency=b"\xff\0"),
    "16-bit ids": encoded(OBJECT.astype(np.uint16) * 3),
    "16-bit ids, TIFF": encoded(OBJECT.astype(np.uint16) * 256, "TIFF"),
    "32-bit ids": encoded(OBJECT.astype(np.int32) * 70_000, "TIFF"),
    "float": encoded(OBJECT.astype(np.float32) / 3, "TIFF"),
    "CMYK": encoded(Image.fromarray(np.dstack([VISIBLE] * 3)).convert("CMYK"), "TIFF"),
    "turned": encoded(
        np.rot90(VISIBLE).copy(), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    ),
}


@pytest.mark.parametrize("mode", MASKS)
def test_a_mask_of_any_mode_is_what_is_neither_black_nor_transparent(mode: str) -> None:
    mask = decode_mask(MASKS[mode])
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, OBJECT)


def test_a_damaged_exif_block_turns_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 6), "red").save(path, dpi=(72, 72), exif=b"Exif\0\0" + bytes(40))
    assert load_image(path).shape == (6, 8, 3)
    assert read_size(path) == (6, 8)


def test_an_animation_gives_its_first_frame() -> None:
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
def test_other_data_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cat.jpg is (not an image|truncated or damaged)"):
        load_image(data, "cat.jpg")


def test_empty_and_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError):
        load_image(tmp_path / "empty.jpg")
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match="is a folder: give its images"):
        load_image(tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_images_are_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    data = encoded(noise, kind)
    for share in (0.5, 0.9):
        with pytest.raises(ValueError, match=r"cat is (truncated or damaged|not an image)"):
            load_image(data[: int(len(data) * share)], "cat")


def png_header(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG + header + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(encoded(PIXELS))
    data[-13] ^= 1  # of the pixels
    with pytest.raises(ValueError):
        load_image(bytes(data), "cat")


def test_only_formats_that_pillow_decodes_itself_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ghostscript would run a PostScript file."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(ValueError):
        load_image(encoded(PIXELS, "EPS"), "cat.eps")
    assert {*images.FORMATS} - {"AVIF"} <= {*Image.OPEN}


def test_decoding_leaves_the_filters_of_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They belong to all threads: two that change and restore them at once may leave the process silent."""
    before, seen = [*warnings.filters], []
    monkeypatch.setattr(images, "to_rgb", lambda image: seen.append([*warnings.filters]))
    load_image(encoded(PIXELS))
    assert seen == [before]


@pytest.mark.parametrize("side", [(50_000, 50_000), (11_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_is_decoded(side: tuple[int, int]) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"bomb.png (has|is).*(pixels|not an image)"):
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
        image = load_image(content, "photo")
    except ValueError as error:
        problem = str(error)
    if problem:
        assert problem.startswith("photo ")
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
    assert small.std() < 20  # averaged, not subsampled
    with pytest.raises(ValueError):
        Preprocess(8, 8, policy="crop")


@pytest.mark.parametrize(
    ("size", "inside"), [((12, 30), (24, 60)), ((48, 400), (12, 96)), ((96, 48), (24, 12)), ((1, 900), (1, 96))]
)
def test_padding_keeps_the_proportions(size: tuple[int, int], inside: tuple[int, int]) -> None:
    height, width = inside
    image = np.full((*size, 3), 200, np.uint8)
    preprocess = Preprocess(24, 96, policy="pad")
    padded = preprocess(image)
    assert padded.shape == (24, 96, 3)
    assert preprocess.covered(Size(*size)) == (height / 24, width / 96)
    assert Preprocess(24, 96).covered(Size(*size)) == (1, 1)
    assert (padded[:height, :width] == 200).all()
    rest = padded.copy()
    rest[:height, :width] = 128
    assert (rest == 128).all()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialiased_filters_agree_with_pillow(mode: str) -> None:
    """To within 1, for larger and smaller sizes; read-only arrays work, too."""
    rng = np.random.default_rng(0)
    for height, width in ((23, 31), (200, 300), (24, 500), (7, 9)):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        image.flags.writeable = False
        ours = Preprocess(24, 20, filter=f"{mode}-antialias")(image)
        theirs = np.asarray(Image.fromarray(image).resize((20, 24), Image.Resampling[mode.upper()]))
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        assert ours.flags.c_contiguous


def test_bilinear_agrees_with_big_vision() -> None:
    """``tf.image.resize`` without antialiasing: half-pixel centres, truncated to integers. Computed by hand."""
    row = np.array([[0, 10, 20, 99]], np.uint8)[..., None].repeat(3, axis=-1)
    #  centres of 3 pixels over 4: 1/6, 3/2, 17/6  ->  10/6, 15, 20 + 79 * 5/6
    assert Preprocess(1, 3, filter="bilinear")(row)[0, :, 0].tolist() == [1, 15, 85]
    assert Preprocess(2, 2, filter="bilinear").min_size is None  # it needs the full size


# ---- decoded no larger than needed

SMOOTH = np.stack(
    [
        127 + 100 * np.sin(np.arange(400)[:, None] / 40 + phase) * np.cos(np.arange(600)[None] / 55)
        for phase in (0, 1, 2)
    ],
    axis=-1,
).astype(np.uint8)


@pytest.mark.parametrize(
    ("min_size", "expected"),
    [
        ((401, 1), (400, 600)),
        ((201, 1), (400, 600)),
        ((200, 300), (200, 300)),
        ((200, 301), (400, 600)),
        ((90, 90), (100, 150)),
        ((1, 1), (50, 75)),
    ],
)
def test_jpegs_are_never_decoded_smaller_than_asked(min_size: tuple[int, int], expected: tuple[int, int]) -> None:
    data = encoded(SMOOTH, "JPEG", quality=95)
    image, size = decode_image(data, min_size=Size(*min_size))
    assert image.shape[:2] == expected
    assert size == (400, 600)
    assert load_image(data).shape == (400, 600, 3)
    assert load_image(encoded(SMOOTH), min_size=Size(*min_size)).shape == (400, 600, 3)  # PNG has no smaller form


def test_reduced_decoding_changes_little() -> None:
    """Compared after the resize to the model's size; subsampling, in contrast, changes the image much."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft2(rng.standard_normal((480, 640, 3)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(480)[:, None], np.fft.rfftfreq(640)[None])[..., None]
    noise = np.fft.irfft2(spectrum / np.maximum(frequency, 1e-3), axes=(0, 1))  # 1/f, as in photographs
    image = np.clip(127 + 45 * noise / noise.std(), 0, 255).astype(np.uint8)
    data = encoded(image, "JPEG", quality=90)
    preprocess = Preprocess(224, 224)
    full = preprocess(load_image(data)).astype(int)
    assert load_image(data, min_size=preprocess.min_size).shape == (240, 320, 3)
    reduced = np.abs(preprocess(load_image(data, min_size=preprocess.min_size)) - full).mean()
    picked = np.abs(Preprocess(224, 224, filter="bilinear")(load_image(data)).astype(int) - full).mean()
    assert reduced < 3
    assert reduced < 0.5 * picked


@pytest.mark.parametrize("size", [(64, 48), (101, 67), (8, 9), (1, 1)])
@pytest.mark.parametrize("min_size", [None, Size(5, 7), Size(30, 30)])
@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2", "quality": 30},
        {"progressive": True},
        {"keep_rgb": True},
        {"restart_marker_blocks": 2},
    ],
)
def test_the_faster_decoder_gives_the_pixels_of_pillow(
    size: tuple[int, int], min_size: Size | None, saved: dict[str, Any], monkeypatch
) -> None:
    pytest.importorskip("simplejpeg")
    data = encoded(NOISE.resize(size), "JPEG", **saved)
    found = decode_image(data, min_size=min_size)
    image = Image.open(io.BytesIO(data))
    if min_size:
        image.draft(None, min_size[::-1])
    assert images._decode_jpeg(data, image) is not None  # else both would be Pillow's
    monkeypatch.setattr(images, "simplejpeg", None)
    expected = decode_image(data, min_size=min_size)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1] == expected[1]


@pytest.mark.parametrize("mode", ["L", "CMYK", "turned", "cut"])
def test_pillow_decodes_what_the_faster_decoder_does_not(mode: str) -> None:
    pytest.importorskip("simplejpeg")
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encoded(
        NOISE.convert(mode if mode in ("L", "CMYK") else "RGB"), "JPEG", exif=turned if mode == "turned" else b""
    )
    data = data[:-200] if mode == "cut" else data
    assert images._decode_jpeg(data, Image.open(io.BytesIO(data))) is None
    if mode == "cut":
        with pytest.raises(ValueError):
            load_image(data)
    else:
        assert load_image(data).shape == ((64, 48, 3) if mode == "turned" else (48, 64, 3))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_turned_jpeg_is_reduced_by_its_upright_size(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(SMOOTH, "JPEG", exif=exif)
    upright = (600, 400) if orientation == 6 else (400, 600)
    image, size = decode_image(data, min_size=Size(*upright) if orientation == 1 else Size(300, 200))
    assert size == upright
    assert image.shape[:2] == ((300, 200) if orientation == 6 else (400, 600))
    assert load_image(data, min_size=Size(200, 300)).shape[:2] == ((600, 400) if orientation == 6 else (200, 300))


def test_other_kinds_of_jpeg_are_reduced_too() -> None:
    for mode in ("CMYK", "L"):
        data = encoded(Image.fromarray(SMOOTH).convert(mode), "JPEG", quality=95)
        small, full = load_image(data, min_size=Size(200, 300)), load_image(data)
        assert small.shape == (200, 300, 3)
        assert near(small, Preprocess(200, 300)(full), 2)


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"%PDF-1.7 and so on", "openpali read"), (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "to PNG first")],
)
def test_files_that_pillow_does_not_open_say_what_to_do(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "scan").write_bytes(data)
    for source in (data, tmp_path / "scan"):
        with pytest.raises(ValueError, match=told):
            load_image(source, "scan")
