"""How a model is served, by one process or by many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from openpali.infer.engines.registry import AUTO, Dtype, EngineName
from openpali.infer.pali import Pali
from openpali.serve.chat import History
from openpali.serve.limits import DRAIN, FEATURES_MIB, QUEUE, SLOTS, ApiKey, Limits
from openpali.serve.media import Media
from openpali.serve.metrics import Metrics
from openpali.serve.scheduler import Scheduler
from openpali.serve.service import Service
from openpali.weights.hub import SCHEME, parse

Host = Annotated[str, StringConstraints(pattern=r"^[^/:@ ]+$", to_lower=True)]
Origin = Annotated[str, StringConstraints(pattern=r"^(\*|null|[a-z][a-z0-9+.-]*://[a-z0-9.\[\]:-]+)$")]


class Options(BaseModel):
    """The options of ``openpali serve`` that do not depend on where it listens; its help explains them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "nano"
    engine: EngineName = "torch"
    dtype: Dtype = "fp32"
    device: str = "cpu"
    adapters: dict[str, str] = {}  # name under which it is served -> LoRA adapter of the model
    slots: int = SLOTS
    queue: int = QUEUE
    image_cache: int = FEATURES_MIB
    max_tokens: int = Limits.new_tokens
    timeout: float = Limits.seconds
    drain: float = DRAIN
    history: History = "last-turn"
    allow_media: list[Host] = []
    allow_origin: list[Origin] = []
    allow_host: list[Host] = []
    api_key: str | None = None
    api_key_file: Path | None = None

    @property
    def shared_engine(self) -> EngineName:
        """The engine; with adapters, "auto" is torch, which shares the weights of their base."""
        return "torch" if self.adapters and self.engine == AUTO else self.engine

    @property
    def limits(self) -> Limits:
        """What a client may ask for."""
        return Limits(new_tokens=self.max_tokens, seconds=self.timeout)

    def secret(self) -> str | None:
        """The key that clients must send, if there is one; by default ``OPENPALI_API_KEY``."""
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("--api-key and --api-key-file exclude each other: give one of them")
        if self.api_key_file is not None:
            try:
                return self.api_key_file.read_text("utf-8-sig")
            except UnicodeDecodeError as error:
                message = f"--api-key-file {self.api_key_file} holds no text in UTF-8: name the file of the key"
                raise ValueError(message) from error
        return self.api_key if self.api_key is not None else os.environ.get("OPENPALI_API_KEY")

    def key(self) -> ApiKey:
        """What checks that clients send it."""
        return ApiKey(self.secret())


def open_service(pali: Pali, options: Options) -> Service:
    """A model ready to be served, with every part loaded; its scheduler does not run yet."""
    name = _name(options.model, pali)
    if name in options.adapters:
        raise ValueError(f"--adapter {name}=...: there is a model {name!r} already: give it another name")
    adapters = {own: pali.adapted(folder) for own, folder in options.adapters.items()}
    metrics, limits = Metrics(), options.limits
    scheduler = Scheduler(
        pali,
        slots=options.slots,
        queue=options.queue,
        features=options.image_cache * 2**20,
        finished=metrics.finished,
    )
    metrics.watch(scheduler)
    service = Service(
        scheduler,
        name=name,
        limits=limits,
        media=Media(limits, options.allow_media),
        metrics=metrics,
        key=options.key(),
        history=options.history,
        origins=options.allow_origin,
        hosts=options.allow_host,
        adapters=adapters,
    )
    for each in (pali, *adapters.values()):
        each.load_all()
    return service


def _name(model: str, pali: Pali) -> str:
    """What clients call the model: its repository, its name in the package, or its folder without the way there."""
    if model.startswith(SCHEME):
        return parse(model)[0]
    return pali.folder.absolute().name if pali.name == str(pali.folder) else pali.name
