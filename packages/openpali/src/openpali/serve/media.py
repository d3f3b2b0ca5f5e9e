"""Images that a request names: data URLs, and URLs of hosts that the server was told to trust.

A URL is fetched only from an allowed host, and only from public addresses: the host's name is resolved once, and
the connection goes to the address that was checked. Every redirect is checked like the first URL.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from openpali.data.media.images import TooManyPixels, begins_pdf, load_image
from openpali.serve.errors import ApiError
from openpali.serve.limits import Limits
from openpali.tasks.example import Image

SECONDS = 10.0  # for one image behind a URL, redirects included
REDIRECTS = 3
LONGEST = 65_535  # pixels of a side, as in JPEG: a strip of a pixel's height has far more pieces than a page
_PORTS = {"http": 80, "https": 443}
_PATH = "/%:@!$&'()*+,;=~?"  # what stands in a path or a query as it is
_EMBEDDING = [ipaddress.IPv6Network(each) for each in ("::/96", "::ffff:0:0/96", "64:ff9b::/96")]  # end in IPv4

Named = Sequence[tuple[str, str]]
"""Data URLs or URLs, each with the name that errors give it."""


class Media:
    """Reads images.

    Args:
        limits: of images.
        hosts: from which images may be fetched.
    """

    def __init__(self, limits: Limits, hosts: Collection[str] = ()) -> None:
        self.limits = limits
        self.hosts = frozenset(host.lower() for host in hosts)

    def images(self, named: Named) -> Iterator[Image]:
        """The pixels ``[H, W, 3]`` of several images, read one after another."""
        return self.within((self.decode(self.read(url, param), param), param) for url, param in named)

    def read(self, url: str, param: str) -> bytes:
        """The content behind a URL, or in a data URL."""
        return self.fetch(url, param) if is_remote(url) else _read_data_url(url, param)

    def within(self, images: Iterator[tuple[Image, str]]) -> Iterator[Image]:
        """Images, each with what error messages call it, as long as they may be held together."""
        pixels = 0
        for image, param in images:
            pixels += image.shape[0] * image.shape[1]
            if pixels > self.limits.all_pixels:
                most = f"{self.limits.all_pixels:,} pixels"
                message = f"the images up to {param} have more than {most}: send smaller ones"
                raise ApiError(413, message, param=param, code="image_too_large")
            yield image

    def decode(self, data: bytes, param: str) -> Image:
        """The pixels of an image file."""
        try:
            image = load_image(data, param, max_pixels=self.limits.pixels)
        except TooManyPixels as error:
            raise ApiError(413, str(error), param=param, code="image_too_large") from error
        except ValueError as error:
            pdf = f"{param} is a PDF file: /v1/read takes it, others take images of its pages"
            message = pdf if begins_pdf(data) else str(error)
            raise ApiError(400, message, param=param, code="invalid_image") from error
        if max(image.shape) > LONGEST:
            message = f"{param} has a side of more than {LONGEST:,} pixels: cut it"
            raise ApiError(413, message, param=param, code="image_too_large")
        return image

    def fetch(self, url: str, param: str) -> bytes:
        until = time.monotonic() + SECONDS
        for _ in range(REDIRECTS + 1):
            parts = self._check(url, param)
            try:
                moved, data = self._get(parts, param, until)
            except (OSError, http.client.HTTPException) as error:
                raise ApiError(400, f"{param}: the image could not be fetched", param=param) from error
            if moved is None:
                return data
            try:
                url = urljoin(url, moved)
            except ValueError as error:
                raise ApiError(400, f"{param}: its host redirects to no URL", param=param) from error
        raise ApiError(400, f"{param}: more than {REDIRECTS} redirects: give the address of the image", param=param)

    def _check(self, url: str, param: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise ApiError(400, f"{param} is no URL: write https://... or a data URL", param=param) from error
        if parts.scheme not in _PORTS or host not in self.hosts:
            raise ApiError(
                400,
                f"{param}: this server does not fetch images from there: send the image as a data URL "
                "(data:image/png;base64,...)",
                param=param,
                code="url_not_allowed",
            )
        return parts

    def _get(self, parts: SplitResult, param: str, until: float) -> tuple[str | None, bytes]:
        """Where the URL redirects to, or its bytes."""
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        addresses = resolve(host, port)
        if not addresses or not all(is_public(address) for address in addresses):
            raise ApiError(400, f"{param}: its host has no public address", param=param, code="url_not_allowed")
        connection = _Connection(host, port, addresses[0], parts.scheme == "https", until)
        # A host that sends a byte now and then meets no timeout of the socket.
        watch = threading.Timer(max(0.0, until - time.monotonic()), connection.cut)
        watch.daemon = True
        watch.start()
        try:
            target = quote(parts.path or "/", safe=_PATH)
            connection.request("GET", f"{target}?{quote(parts.query, safe=_PATH)}" if parts.query else target)
            answer = connection.getresponse()
            _check_time(until)
            if answer.status in (301, 302, 303, 307, 308):
                return answer.getheader("Location") or "", b""
            if answer.status != 200:
                raise ApiError(400, f"{param}: its host answered with status {answer.status}", param=param)
            data = b""
            while chunk := answer.read1(2**16):
                data += chunk
                if len(data) > self.limits.media:
                    raise ApiError(413, f"{param} has more than {self.limits.media:,} bytes", param=param)
                _check_time(until)
            _check_time(until)  # what was cut looks like an end
            return None, data
        finally:
            watch.cancel()
            connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, for the host that it belongs to."""

    def __init__(self, host: str, port: int, address: str, secure: bool, until: float) -> None:
        super().__init__(host, port, timeout=max(0.1, until - time.monotonic()))
        self._address, self._secure, self._until = address, secure, until
        self._open: socket.socket | None = None  # also while http.client holds it no more

    def cut(self) -> None:
        """End it while another thread waits for its host."""
        if self._open is not None:
            with suppress(OSError):  # it is closed already
                socket.socket.shutdown(self._open, socket.SHUT_RDWR)

    def connect(self) -> None:
        self.sock = self._open = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            self.sock.settimeout(max(0.1, self._until - time.monotonic()))
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
            self._open = self.sock
        _check_time(self._until)


def _check_time(until: float) -> None:
    if time.monotonic() > until:
        raise TimeoutError


def resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_public(address: str) -> bool:
    """Whether an address is on the public internet: neither private nor local, nor one that embeds such a one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ipaddress.IPv4Address(int(ip) % 2**32) if any(ip in each for each in _EMBEDDING) else None
        ip = ip.sixtofour or embedded or ip
    return ip.is_global and not ip.is_multicast


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
