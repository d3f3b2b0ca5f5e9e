"""Serving: requests that join at each step, against one by one and static batches.

    pip install -e 'packages/openpali-lab[bench]'
    python benchmarks/serving.py --json serving.json
    python benchmarks/serving.py --tiny --seconds 2     # a quick check that it works

A SigLIP B/16 at 224 px and a T5 v1.1 base of random weights answer questions of 4 to 32 tokens with 8 to 64
tokens, each about an image of its own, without HTTP. Closed loop: each client asks again once it is answered.
Poisson: requests arrive at random, at 70 % of the highest rate so far. "ours" is the scheduler of ``openpali
serve``, "predict" is ``Pali.predict`` one by one, "static" gathers requests for 20 ms and decodes up to 32
together with the same engine, "transformers, eager" answers one by one. Times are 95th percentiles. The roofline
is the rate if each step read the int8 weights of the decoder once for as many requests as there are clients.
"""

from __future__ import annotations

import argparse
import queue
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from _report import Result, cost, machine, rate, read_bandwidth, report
from generation import TINY, Shape, peer_dtype, random_models
from openpali.architectures.halves.t5 import read_t5
from openpali.architectures.pali import PaliModel, PaliModelConfig
from openpali.architectures.siglip.architecture import read_siglip
from openpali.data.media.images import Preprocess
from openpali.infer.engines.registry import EngineName
from openpali.infer.generate import Ask, Decoding, Rows, encode
from openpali.infer.pali import Pali
from openpali.model.init import init_weights
from openpali.serve.scheduler import Scheduler
from openpali.weights.bundle import open_tokenizer
from openpali.weights.find import SHIPPED
from openpali.weights.write import write_model
from openpali_lab.sizes import parameters_per_token

GATHER = 0.02  # seconds that a static batch waits for more requests
BATCH = 32
EOS = 1
TRANSFORMERS = "transformers, eager"
WHOLE = ", whole answer"  # the peer writes it at once: it has no first token of its own
TARGETS = {TRANSFORMERS: 5.0, "static": 1.5, "predict": 0.95}
"""The lowest ratios that we aim at: with 32 clients, and with one client for predict."""


@dataclass(frozen=True)
class Request:
    """An image, a prompt, and how many tokens to write."""

    image: np.ndarray[Any, np.dtype[np.uint8]]
    prompt: str
    new: int

    @property
    def decoding(self) -> Decoding:
        return Decoding(max_tokens=self.new, max_repeats=None)


@dataclass(frozen=True)
class Done:
    """When a request was asked, had its first token, and was answered."""

    asked: float
    first: float
    end: float
    tokens: int


class Server(Protocol):
    """Answers requests."""

    def submit(self, request: Request) -> Future[Done]: ...


class Ours:
    """The scheduler, without its image cache: each image is another."""

    def __init__(self, pali: Pali) -> None:
        self._scheduler = Scheduler(pali, slots=BATCH, features=0)
        self._running = self._scheduler.running()
        self._running.__enter__()

    def submit(self, request: Request) -> Future[Done]:
        ticket = self._scheduler.submit([request.image], request.prompt, decoding=request.decoding)
        done: Future[Done] = Future()

        def end(_: object) -> None:
            [generation] = ticket.future.result()
            times = ticket.submitted, ticket.first_token, time.monotonic()
            done.set_result(Done(*times, len(generation.log_probs)))

        ticket.future.add_done_callback(end)
        return done

    def close(self) -> None:
        self._running.__exit__(None, None, None)


class Batches:
    """A thread that answers the requests that have come, together.

    Args:
        answer: gives the time of the first token.
        most: requests that are answered together.
        gather: seconds to wait for more.
    """

    def __init__(self, answer: Callable[[Sequence[Request]], float], most: int = 1, gather: float = 0.0) -> None:
        self._answer, self._most, self._gather = answer, most, gather
        self._queue: queue.Queue[tuple[float, Request, Future[Done]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def submit(self, request: Request) -> Future[Done]:
        done: Future[Done] = Future()
        self._queue.put((time.monotonic(), request, done))
        return done

    def _run(self) -> None:
        while (head := self._queue.get()) is not None:
            some, until = [head], time.monotonic() + self._gather
            while len(some) < self._most:
                try:
                    each = self._queue.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if each is None:
                    self._queue.put(None)
                    break
                some.append(each)
            first = self._answer([request for _, request, _ in some])
            for asked, request, done in some:
                done.set_result(Done(asked, first, time.monotonic(), request.new))

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--engine", default="openvino-int8", help="torch, openvino or openvino-int8")
    parser.add_argument("--tiny", action="store_true", help="small shapes, for a quick check")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    facts = machine("transformers", "openvino") | {"seconds": options.seconds, "engine": options.engine}
    facts |= {"transformers computes in": str(peer_dtype()).removeprefix("torch.")}
    shape = replace(TINY, image=32, vocab=6656) if options.tiny else Shape()
    with tempfile.TemporaryDirectory() as folder:
        results = _measure(Path(folder), shape, sorted(options.clients), options.seconds, options.engine)
        report(results, facts, options.file)


def _measure(
    folder: Path, shape: Shape, clients: Sequence[int], seconds: float, engine: EngineName
) -> Iterator[Result]:
    torch.manual_seed(0)
    t5, siglip = random_models(folder, shape)
    pali = _ours(folder, shape, engine)
    pipeline = pali.pipeline()
    limit = read_bandwidth() / parameters_per_token(pipeline.model)

    def predict(requests: Sequence[Request]) -> float:
        for each in requests:
            pali.predict([[each.image]], [each.prompt], raw=True, decoding=each.decoding)
        return time.monotonic()

    peers: dict[str, Callable[[], Any]] = {
        "predict": lambda: Batches(predict),
        "static": lambda: Batches(lambda some: _static(pipeline, some), BATCH, GATHER),
        TRANSFORMERS: lambda: Batches(_one_by_one(t5.to(peer_dtype()), siglip.to(peer_dtype()))),
    }

    fastest = 0.0
    for count in clients:
        name = f"closed loop, {count} client{'s' * (count > 1)}"
        if count == 1:
            ours, predicted = _in_turn([lambda: Ours(pali), peers["predict"]], shape, 2 * seconds)
            yield rate(name, _rate(ours), _rate(predicted), _aimed("predict", count), "tokens/s")
            yield cost(f"{name}, first token", 1e3 * _first(ours), 1e3 * _first(predicted), f"predict{WHOLE}", "ms")
        else:
            ours = _closed(lambda: Ours(pali), count, shape, seconds)
        fastest = max(fastest, _rate(ours) / _length(ours))
        peer = TRANSFORMERS if count == 1 else "static"
        theirs = _closed(peers[peer], count, shape, seconds)
        if count == 1:
            slow = theirs
        yield rate(name, _rate(ours), _rate(theirs), _aimed(peer, count), "tokens/s")
        whole = WHOLE if count == 1 else ""
        yield cost(f"{name}, first token", 1e3 * _first(ours), 1e3 * _first(theirs), f"{peer}{whole}", "ms")
        if count > 1 and 1 in clients:  # one by one, its rate does not depend on the number of clients
            yield rate(name, _rate(ours), _rate(slow), _aimed(TRANSFORMERS, count), "tokens/s")
        yield rate(name, _rate(ours), limit * count, "roofline", "tokens/s")
    ours, theirs = (
        _poisson(server, 0.7 * fastest, shape, seconds) for server in (lambda: Ours(pali), peers["static"])
    )
    name = f"Poisson, {0.7 * fastest:.2g} requests/s"
    yield rate(name, _rate(ours), _rate(theirs), "static", "tokens/s")
    yield cost(f"{name}, first token", 1e3 * _first(ours), 1e3 * _first(theirs), "static", "ms")


def _aimed(peer: str, clients: int) -> str:
    aimed = clients == 1 if peer == "predict" else clients == 32
    return f"{peer} (target {TARGETS[peer]:.3g})" if aimed else peer


def _closed(open_server: Callable[[], Any], clients: int, shape: Shape, seconds: float) -> list[Done]:
    """Clients that each ask again once they are answered."""
    server, done = open_server(), list[Done]()
    _ask(server, shape, 10_000)  # warm
    until = time.monotonic() + seconds

    def run(seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < until:
            done.append(server.submit(_request(draw, shape)).result())

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.close()
    return done


def _in_turn(open_servers: Sequence[Callable[[], Any]], shape: Shape, seconds: float) -> list[list[Done]]:
    """One client that asks each server the same, in turn; times as if it had asked each alone."""
    servers, draw = [each() for each in open_servers], random.Random(0)
    done: list[list[Done]] = [[] for _ in servers]
    for server in servers:
        _ask(server, shape, 10_000)  # warm
    turns = list(zip(servers, done, strict=True))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        request = _request(draw, shape)
        for server, each in turns:
            one = server.submit(request).result()
            later = (each[-1].end if each else 0.0) - one.asked
            each.append(Done(one.asked + later, one.first + later, one.end + later, one.tokens))
        turns.reverse()
    for server in servers:
        server.close()
    return done


def _poisson(open_server: Callable[[], Any], per_second: float, shape: Shape, seconds: float) -> list[Done]:
    """Requests that arrive at random, whether or not others are answered."""
    server, draw, futures = open_server(), random.Random(1), list[Future[Done]]()
    _ask(server, shape, 10_000)
    at = time.monotonic()
    until = at + seconds
    while (at := at + draw.expovariate(per_second)) < until:
        request = _request(draw, shape)
        time.sleep(max(0.0, at - time.monotonic()))
        futures.append(server.submit(request))
    done = [future.result() for future in futures]
    server.close()
    return done


def _ask(server: Server, shape: Shape, seed: int) -> Done:
    return server.submit(_request(random.Random(seed), shape)).result()


def _request(draw: random.Random, shape: Shape) -> Request:
    rng = np.random.default_rng(draw.getrandbits(32))
    image = rng.integers(0, 256, (shape.image, shape.image, 3), np.uint8)
    words = " ".join(draw.choice(("red", "blue", "cat", "dog")) for _ in range(draw.randint(1, 12)))
    return Request(image, f"{words}?", draw.randint(8, 64))


def _rate(done: Sequence[Done]) -> float:
    """Tokens per second, from the first request to the last answer."""
    return sum(each.tokens for each in done) / (max(d.end for d in done) - min(d.asked for d in done))


def _length(done: Sequence[Done]) -> float:
    return sum(each.tokens for each in done) / len(done)


def _first(done: Sequence[Done]) -> float:
    """95th percentile of the seconds to the first token."""
    return float(np.quantile([each.first - each.asked for each in done], 0.95))


def _static(pipeline: Any, requests: Sequence[Request]) -> float:
    """Encode and decode requests together."""
    inputs = pipeline.read([([each.image], pipeline.prompt_ids(each.prompt)) for each in requests])
    with torch.inference_mode():
        memory = encode(pipeline.engine, *inputs)
        rows = Rows(pipeline.engine, EOS)
        rows.join(memory, [Ask(each.decoding) for each in requests])
        rows.step()
        first = time.monotonic()
        while len(rows):
            rows.step()
    return first


def _one_by_one(t5: Any, siglip: Any) -> Callable[[Sequence[Request]], float]:
    @torch.inference_mode()
    def answer(requests: Sequence[Request]) -> float:
        for each in requests:
            pixels = torch.from_numpy(each.image).permute(2, 0, 1)[None].to(torch.bfloat16) / 127.5 - 1
            ids = torch.randint(3, 99, (1, len(each.prompt.split()) + 2))
            visual = siglip(pixel_values=pixels).last_hidden_state
            x = torch.cat([visual, t5.get_input_embeddings()(ids)], dim=1)
            t5.generate(inputs_embeds=x, max_new_tokens=each.new, min_new_tokens=each.new, do_sample=False)
        return time.monotonic()

    return answer


def _ours(folder: Path, shape: Shape, engine: EngineName) -> Pali:
    """A model folder of the same shapes, which never writes EOS."""
    language, vision = read_t5(folder / "t5"), read_siglip(folder / "siglip")
    model = init_weights(PaliModel(PaliModelConfig(vision.vision, language.config)))
    model.text.load_state_dict(dict(language.weights))
    model.vit.load_state_dict(vision.vit)
    with torch.no_grad():
        model.text.head_weight[EOS] = 0  # other tokens are more probable
    (folder / "pali").mkdir()
    write_model(
        folder / "pali",
        {name: tensor.float() for name, tensor in model.state_dict().items()},
        model.config,
        preprocess=Preprocess(shape.image, shape.image),
        tokenizer=open_tokenizer(str(SHIPPED / "nano" / "pali")),
    )
    return Pali.from_pretrained(folder / "pali", engine)


if __name__ == "__main__":
    main()
