"""Images that a request names: data URLs, and URLs of hosts that the server was told to trust."""

from __future__ import annotations

import base64
import binascii
import http.client
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from openpali.data.media import DPI
from openpali.data.media.documents import pdf_pages
from openpali.data.media.images import TooManyPixels, begins_pdf, load_image
from openpali.serve.errors import ApiError
from openpali.serve.limits import Limits
from openpali.tasks.example import Image

SECONDS = 10.0  # for one image behind a URL
LONGEST = 65_535  # pixels of a side, as in JPEG: a strip of a pixel's height has far more pieces than a page
_URL = "/%:@!$&'()*+,;=~?#[]"  # what stands in a URL as it is

Named = Sequence[tuple[str, str]]
"""Data URLs or URLs, each with the name that errors give it."""


class Page(NamedTuple):
    """A page of a PDF file, or an image, which has no number."""

    image: Image
    number: int = 0


class Media:
    """Reads images.

    Args:
        limits: of images.
        hosts: from which images may be fetched, in lower case.
    """

    def __init__(self, limits: Limits, hosts: Collection[str] = ()) -> None:
        self.limits, self.hosts = limits, hosts

    def images(self, named: Named) -> Iterator[Image]:
        """The pixels ``[H, W, 3]`` of several images, read one after another."""
        return self._within((self.decode(self._data(url, param), param), param) for url, param in named)

    def pages(self, named: Named) -> Iterator[Page]:
        """As :meth:`images`, with the pages of PDF files."""
        for url, param in named:
            data = self._data(url, param)
            if begins_pdf(data):
                pages = self._within((page, param) for page in self._pdf(data, param))
                yield from (Page(image, number) for number, image in enumerate(pages, 1))
            else:
                yield Page(self.decode(data, param))

    def _data(self, url: str, param: str) -> bytes:
        return self.fetch(url, param) if is_remote(url) else _read_data_url(url, param)

    def _within(self, images: Iterator[tuple[Image, str]]) -> Iterator[Image]:
        """Images, each with what error messages call it, as long as they may be held together."""
        pixels = 0
        for image, param in images:
            pixels += image.shape[0] * image.shape[1]
            if pixels > self.limits.all_pixels:
                most = f"{self.limits.all_pixels:,} pixels"
                told = f"the images up to {param} have more than {most}: send smaller ones"
                raise ApiError(413, told, param=param, code="image_too_large")
            yield image

    def _pdf(self, data: bytes, param: str) -> Iterator[Image]:
        try:
            for number, page in enumerate(pdf_pages(data, param, DPI, max_pixels=self.limits.pixels), 1):
                if number > self.limits.pages:
                    told = f"{param} has more than {self.limits.pages} pages: send it in parts"
                    raise ApiError(413, told, param=param, code="too_many_pages")
                yield page()
        except ValueError as error:
            raise ApiError(400, str(error), param=param, code="invalid_image") from error

    def decode(self, data: bytes, param: str) -> Image:
        """The pixels of an image file."""
        try:
            image = load_image(data, param, max_pixels=self.limits.pixels)
        except TooManyPixels as error:
            raise ApiError(413, str(error), param=param, code="image_too_large") from error
        except ValueError as error:
            pdf = f"{param} is a PDF file: /v1/read takes it, others take images of its pages"
            told = pdf if begins_pdf(data) else str(error)
            raise ApiError(400, told, param=param, code="invalid_image") from error
        if max(image.shape) > LONGEST:
            told = f"{param} has a side of more than {LONGEST:,} pixels: cut it"
            raise ApiError(413, told, param=param, code="image_too_large")
        return image

    def fetch(self, url: str, param: str) -> bytes:
        """The bytes behind a URL; its host, and each to which that redirects, must be allowed."""
        opener, until, data = build_opener(_Redirects(self, param)), time.monotonic() + SECONDS, b""
        self.check(url, param)
        try:
            with opener.open(Request(quote(url, safe=_URL)), timeout=SECONDS) as answer:
                while chunk := answer.read1(2**16):
                    data += chunk
                    if len(data) > self.limits.media:
                        raise ApiError(413, f"{param} has more than {self.limits.media:,} bytes", param=param)
                    if time.monotonic() > until:
                        raise TimeoutError
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ApiError(400, f"{param}: the image could not be fetched", param=param) from error
        return data

    def check(self, url: str, param: str) -> None:
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError as error:
            raise ApiError(400, f"{param} is no URL: write https://... or a data URL", param=param) from error
        if parts.scheme not in ("http", "https") or host not in self.hosts:
            told = f"{param}: this server does not fetch images from there: send the image as a data URL "
            told += "(data:image/png;base64,...)"
            raise ApiError(400, told, param=param, code="url_not_allowed")


class _Redirects(HTTPRedirectHandler):
    max_redirections = 3

    def __init__(self, media: Media, param: str) -> None:
        self._media, self._param = media, param

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self._media.check(newurl, self._param)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def named(urls: Sequence[str]) -> Named:
    """The images of a body."""
    return [(url, f"images[{i}]") for i, url in enumerate(urls)]


def is_remote(url: str) -> bool:
    """Whether an image must be fetched."""
    return url[:5].lower() != "data:"


def _read_data_url(url: str, param: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ApiError(400, f"{param} is no data URL: write data:image/png;base64,...", param=param)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"{param} is not in base64", param=param, code="invalid_image") from error
