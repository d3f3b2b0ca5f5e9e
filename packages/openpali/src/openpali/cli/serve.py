"""``openpali serve``: a page and an API for many users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Annotated, Any, Literal

import typer

from openpali.cli.models import check_model, open_pali
from openpali.cli.options import Device, Dtype, Engine, Model
from openpali.messages import cannot_import
from openpali.serve.limits import DRAIN, FEATURES_MIB, QUEUE, SLOTS, Limits

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    model: Model = "nano",
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER: also serve this LoRA adapter of the model, as NAME; repeat it for more"),
    ] = None,
    engine: Engine = "torch",
    dtype: Dtype = "fp32",
    device: Device = "cpu",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: reachable from other machines")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on", min=0, max=65535)] = 8000,
    api_key: Annotated[
        str | None, typer.Option(help="Key that clients must send; safer in OPENPALI_API_KEY or a file")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File that holds the key")] = None,
    history: Annotated[
        Literal["last-turn", "refuse"],
        typer.Option(help="Chats of several messages: answer the last message, or refuse them"),
    ] = "last-turn",
    allow_media: Annotated[
        list[str] | None, typer.Option(help="Host from which images may be fetched; repeat it for more")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Origin of web pages that may call the API (CORS); repeat it for more")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Name by which clients may call a server without a key, beside localhost, --host and addresses; "
            "repeat it for more"
        ),
    ] = None,
    slots: Annotated[int, typer.Option(help="Answers that are generated together", min=1)] = SLOTS,
    queue: Annotated[int, typer.Option(help="Requests that may wait; more are answered with 429", min=1)] = QUEUE,
    image_cache: Annotated[int, typer.Option(help="MiB of image features to keep", min=0)] = FEATURES_MIB,
    max_tokens: Annotated[
        int, typer.Option(help="Maximum number of tokens of an answer", min=1)
    ] = Limits.new_tokens,
    timeout: Annotated[
        float, typer.Option(help="Seconds after which a request is given up", min=1, max=86_400)
    ] = Limits.seconds,
    drain: Annotated[
        float, typer.Option(help="Seconds to finish requests when told to stop", min=1, max=86_400)
    ] = DRAIN,
    opens: Annotated[bool, typer.Option("--open", help="Open the page in a browser")] = False,
) -> None:
    """Serve a model: a web page, OpenAI's API, and detection, segmentation, OCR, captions and embeddings."""
    given: dict[str, Any] = {name: value for name, value in locals().items() if value is not None}
    from pydantic import ValidationError

    from openpali.mistakes import reason

    check_model(model)
    try:
        from openpali.serve.server import Server, listen
    except ImportError as error:
        raise ValueError(cannot_import("serving needs FastAPI", "openpali[serve]", error)) from error
    from openpali.serve.options import Options, open_service

    given["adapters"] = _named(adapter or ())
    given["allow_host"] = [*(allow_host or ()), *([] if ":" in host else [host])]
    try:
        options = Options(**{name: given[name] for name in Options.model_fields if name in given})
    except ValidationError as error:
        raise ValueError(reason(error)) from error
    options.key()  # a bad one is refused at once
    pali = open_pali(model, options.shared_engine, dtype, device)
    typer.echo(f"loading {', '.join([pali.name, *options.adapters])}", err=True)
    service = open_service(pali, options)
    if host not in LOOPBACK and not service.key.required:
        typer.echo(f"warning: {host} is reachable from other machines, and no --api-key is asked for", err=True)
    sockets, url = listen(host, port)
    typer.echo(f"{', '.join(service.models)} with {pali.engine}: {url}", err=True)
    if opens:
        import webbrowser

        shown = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        Thread(target=webbrowser.open, args=(shown,), daemon=True).start()  # some browsers take the terminal
    Server(service, drain).run(sockets)
    if service.scheduler.failure:
        raise typer.Exit(1)  # the log says why; a supervisor starts it again


def _named(adapters: Sequence[str]) -> dict[str, str]:
    """Adapters by the name under which they are served."""
    found: dict[str, str] = {}
    for each in adapters:
        name, equals, folder = each.partition("=")
        if not (name and equals and folder):
            raise ValueError(f"--adapter {each}: write NAME=FOLDER, such as plates=mine-lora/best")
        if name in found:
            raise ValueError(f"--adapter {each}: there is a model {name!r} already: give it another name")
        found[name] = folder
    return found
