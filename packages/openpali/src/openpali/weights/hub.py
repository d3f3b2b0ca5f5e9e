"""Models on a Hugging Face hub, ``hf://ORG/NAME[@REVISION]``: downloaded when they are named, and uploaded.

Downloads are huggingface_hub's, with its cache, token, endpoint and ``HF_HUB_OFFLINE``. Only weights in
safetensors, JSON and tokenizer files are taken, and what the hub gives a SHA-256 for is compared with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from openpali.home import home, make_once
from openpali.messages import cannot_import
from openpali.weights.files import ADAPTER, BUNDLE, CONFIG

SCHEME = "hf://"
FILES = (
    *("*.safetensors", "*.json", "tokenizer.model", "*/tokenizer.model", "spiece.model", "sentencepiece.model"),
)
_NAME = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def parse(name: str) -> tuple[str, str | None]:
    """A repository, and its revision: a branch, tag or commit; None: the main branch."""
    found = _NAME.fullmatch(name)
    if not found:
        raise ValueError(f"{name} names no repository: write hf://ORG/NAME or hf://ORG/NAME@REVISION")
    return found[1], found[2]


def fetch(name: str) -> Path:
    """The model folder of a repository; downloaded, checked and converted unless it is in the cache."""
    snapshot = download(name)
    if _is_ours(snapshot):
        return snapshot
    from openpali.weights.convert import convert  # imports torch, which finding a model's folder does not need

    return make_once(_place(name, snapshot), lambda written: convert([snapshot], written))


def download(name: str) -> Path:
    """The files of a repository as they are there; downloaded and checked unless they are in the cache."""
    snapshot = _download(name)
    verified = _place(name, snapshot).with_suffix(".verified")
    if not verified.is_file():
        _verify(snapshot)
        verified.parent.mkdir(parents=True, exist_ok=True)
        verified.touch()
    return snapshot


def find_checkpoint(name: str) -> Path:
    """A checkpoint of another library: a path, or a repository of a hub, which is downloaded."""
    return download(name) if name.startswith(SCHEME) else Path(name)


def pinned(name: str) -> str:
    """The name with the commit that it stands for now."""
    repository, _ = parse(name)
    return f"{SCHEME}{repository}@{fetch(name).name}"


def _download(name: str) -> Path:
    hub = _library()
    repository, revision = parse(name)
    errors = hub.errors
    address = f"{_endpoint() or 'https://huggingface.co'}/{repository}"
    try:
        found = hub.snapshot_download(
            repository, revision=revision, allow_patterns=list(FILES), endpoint=_endpoint()
        )
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"{name} is gated: accept its conditions at {address}, then run `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{name}: {address} has no revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: there is no {address}, or it is private: check the name, or run `hf auth login`"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise FileNotFoundError(
            f"{name} is not complete in the cache, and the hub is not reached: connect, or unset HF_HUB_OFFLINE"
        ) from error
    except (errors.HTTPError, OSError) as error:  # the former is that of the HTTP library
        raise OSError(f"{name} cannot be downloaded: {_first_line(error)}; the same command goes on") from error
    if not any(Path(found).rglob("*.safetensors")):
        raise ValueError(
            f"{name} has no weights as safetensors, and pickles (.bin) are never opened: take a copy of the model "
            f"in transformers' format, or a later revision, if {address} names one"
        )
    return Path(found)


def _place(name: str, snapshot: Path) -> Path:
    """Where the model folder of a snapshot is."""
    return home() / "hub" / parse(name)[0].replace("/", "--") / snapshot.name


def _verify(snapshot: Path) -> None:
    """Compare each file with the SHA-256 that the hub gave for it, which is the name of its blob."""
    for file in sorted(path for path in snapshot.rglob("*") if path.is_file()):
        blob = file.resolve()
        if re.fullmatch(r"[0-9a-f]{64}", blob.name):
            with blob.open("rb") as opened:
                if hashlib.file_digest(opened, "sha256").hexdigest() != blob.name:
                    blob.unlink()
                    file.unlink(missing_ok=True)
                    raise OSError(f"{file.name} is not what the hub says: it was deleted, so try again")


def _is_ours(folder: Path) -> bool:
    if any((folder / name).is_file() for name in (BUNDLE, ADAPTER)):
        return True
    try:
        return "format" in json.loads((folder / CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return True  # opening it says what is wrong


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors  # no other import loads it
    except ImportError as error:
        raise ValueError(cannot_import("hf:// needs huggingface_hub", "openpali[hub]", error)) from error
    return huggingface_hub


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
