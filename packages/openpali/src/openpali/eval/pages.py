"""Evaluation of what is found on whole images: each is asked once, and ranks share them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from openpali.data.media.images import image_hash
from openpali.data.sources.base import Source
from openpali.distributed import ALONE, Ranks
from openpali.eval.benchmark import Advance, AnswerPage, unwatched
from openpali.eval.evaluators import count, gather
from openpali.metrics.boxes import Detection
from openpali.tasks.example import Example

T = TypeVar("T")


@dataclass(frozen=True)
class PageEvaluator(ABC):
    """What the evaluators of pages have in common."""

    name: str  # of the scores in logs
    source: Source  # pages with lines and ignored
    limit: int | None = None  # evaluate only the first limit pages

    @property
    def n(self) -> int:
        """How many pages are evaluated."""
        return count(self.source, self.limit)

    @abstractmethod
    def run(self, model: Any, ranks: Ranks = ALONE) -> Any:
        """Evaluate. Collective: call it on every rank."""

    def each(self, ranks: Ranks, page: Callable[[Example], T]) -> list[T]:
        """``page`` of every page, of which each rank takes a share. Collective."""
        mine = range(ranks.rank, self.n, ranks.world)
        shares = gather(ranks, lambda: [page(self.source[i]) for i in mine])
        return [shares[i % ranks.world][i // ranks.world] for i in range(self.n)]


@dataclass(frozen=True)
class PageAnswers:
    """What was found on a page, and what is there."""

    key: str  # of the page
    pixels: str  # hash of its image
    found: list[Detection]
    true: list[Detection]


@dataclass(frozen=True)
class WholePageEvaluator(PageEvaluator):
    """What is found on whole pages, beside what is there."""

    watch: Advance = unwatched  # called on rank 0 whenever a page is done

    def run(self, answer: AnswerPage, ranks: Ranks = ALONE) -> list[PageAnswers]:
        """Ask about every page. Collective: call it on every rank."""
        done = 0

        def page(example: Example) -> PageAnswers:
            nonlocal done
            found, true = answer(example)
            done += 1
            if ranks.rank == 0:
                self.watch(min(done * ranks.world, self.n), self.n)
            return PageAnswers(example.key, image_hash(example.images[0]), found, true)

        return self.each(ranks, page)
