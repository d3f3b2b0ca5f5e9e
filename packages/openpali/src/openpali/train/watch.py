"""What watches a run, a hook of the trainer: the console, TensorBoard and images; a sentence about its end; and the
cause of a step that is not finite."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from openpali.distributed import Ranks
from openpali.progress import Counted, heartbeat, plain_console
from openpali.train.evals import LOSS, Evaluated, evaluation_of, lower_is_better, score_of
from openpali.train.log import Report
from openpali.train.objectives.base import Losses
from openpali.train.recipe import Recipe

NAMED = 8  # most samples listed in a message
TAIL = 0.25  # share of the run, at its end, in which a run that still improves does so
GAIN = 0.03  # least relative change of a loss that counts
SCALARS = "loss", "gradient_norm", "samples_per_second", "data_wait", "memory", "learning_rate", "bad"

Look = Callable[[nn.Module], None]


class Watch:
    """Shows a run: in a terminal a bar above the last report, elsewhere plain lines; and in TensorBoard, if that is
    installed.

    Args:
        look: draws images of the run, with each checkpoint; it may fail.
        quiet: show nothing, as on ranks other than 0.
        console: by default on stdout.
    """

    def __init__(self, look: Look | None = None, *, quiet: bool = False, console: Console | None = None) -> None:
        self.look, self.quiet = look, quiet
        self.console = console or plain_console(quiet=quiet)
        self.counted = Counted(self.console, transient=False)
        self.latest = ""

    @contextmanager
    def running(self, recipe: Recipe, run: Path, samples: int) -> Iterator[None]:
        """Show a run that has come to so many samples."""
        self.total = recipe.samples
        self.board = None if self.quiet else _tensorboard(run, samples)
        self.counted.start(recipe.name)
        with self.counted:
            self.advance(samples)
            try:
                yield
            finally:
                if self.board is not None:
                    self.board.close()

    def advance(self, samples: int, *, last: bool = False) -> None:
        """Show how far the run is."""
        self.samples = samples
        self.counted.update(samples, self.total, self.latest, last=last)

    @contextmanager
    def evaluating(self, name: str) -> Iterator[None]:
        """Show that an evaluation runs."""
        what = f"evaluating {name} at sample {self.samples:,}"
        if self.quiet or self.console.is_terminal:
            self.counted.update(self.samples, self.total, what)
            yield
            self.advance(self.samples)
        else:
            with heartbeat(what, self.console.print):
                yield

    def report(self, report: Report) -> None:
        """Show a report."""
        table = Table.grid(padding=(0, 2))
        table.add_column(overflow="fold")
        for name, value in {"loss": report.loss, **report.losses, **report.extra}.items():
            drawn = f"{report.drawn[name]:,} drawn" if name in report.drawn else ""
            table.add_row(name, Text(f"{value:.4f}", no_wrap=True), Text(drawn, no_wrap=True))
        values = (
            f"{report.data_wait:.0%} data wait, {report.memory / 1e9:.1f} GB, lr {report.learning_rate:.2e}, "
            f"gradient {report.gradient_norm:.2e}, {report.bad} bad"
        )
        self.counted.bar.below = Group(table, Text(values))
        self.latest = f"loss {report.loss:.4f}, {report.samples_per_second:.0f} samples/s"
        self.advance(report.samples, last=report.samples == self.total)
        losses = {f"loss/{name}": value for name, value in report.losses.items()}
        self._draw(report.samples, {name: getattr(report, name) for name in SCALARS} | losses | {**report.extra})

    def scores(self, found: Evaluated) -> None:
        """Show the scores of an evaluation."""
        shown = {name: value for name, value in found.scores.items() if found.is_plain(name)}
        values = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        about = f"{found.n:,} samples in {found.precision}, {found.seconds:.0f} s"
        self.console.print(f"{found.eval} at sample {found.samples:,}: {values} ({about})")
        self._draw(found.samples, {f"eval/{found.eval}/{name}": value for name, value in found.scores.items()})

    def saved(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Draw images of the run."""
        if self.look is None or self.quiet:
            return
        device = next(model.parameters()).device.type
        try:
            # as evaluations do: beneath an adapter, linear layers are in bf16
            with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
                self.look(model)
        except Exception as error:  # whatever it is, it must not end the run
            self.console.print(f"no images of the run at sample {self.samples} ({error!r}); training goes on")

    def _draw(self, samples: int, scalars: Mapping[str, float]) -> None:
        if self.board is not None:
            for name, value in scalars.items():
                self.board.add_scalar(name, value, samples)


def _tensorboard(run: Path, samples: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra [train] is not installed
        return None
    return SummaryWriter(run / "tensorboard", purge_step=samples + 1)


def describe_outcome(recipe: Recipe, metrics: Path) -> str:
    """One sentence about a finished run: still improving, overfitting, or settled; empty if its ``metrics.jsonl``
    has too few values.

    It goes by the held-out loss of the evaluation that counts; without evaluations by the training loss, which does
    not show overfitting.
    """
    rows = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()] if metrics.is_file() else []
    names = [*dict.fromkeys(row["eval"] for row in rows if "eval" in row)]
    name = evaluation_of(recipe.keep_best, names) or next(iter(names), None)
    own = [row for row in rows if row.get("eval") == name]
    what = "the held-out loss" if name else "the loss"
    losses = [(row["samples"], row["scores"].get(LOSS, math.nan) if name else row["loss"]) for row in own]
    losses = [(samples, loss) for samples, loss in losses if math.isfinite(loss)]
    if len(losses) < 3:
        return ""
    last_samples, last = losses[-1]
    least_samples, least = min(losses, key=lambda point: point[1])
    if name and last > (1 + GAIN) * least:
        score = score_of(recipe.keep_best, name) or own[-1]["metric"]
        scores = [row["scores"].get(score, math.nan) for row in own]
        scores = [-value if lower_is_better(score) else value for value in scores]
        if scores[-1] < max(scores):
            return (
                f"overfitting since sample {least_samples:,}: the held-out loss has risen since, and {score} is no "
                "better"
            )
    before = [loss for samples, loss in losses if samples <= (1 - TAIL) * last_samples] or [losses[0][1]]
    if before[-1] - last > GAIN * abs(before[-1]):
        half = max(1, round(recipe.samples / 2 / recipe.batch)) * recipe.batch
        key = f"phases.{len(recipe.phases) - 1}.samples={recipe.phases[-1].samples + half}"
        return f"still improving: {what} improves to the end; {key} lets the run go on"
    return f"settled: {what} no longer improves" + ("" if name else "; only [[evals]] show whether it overfits")


def explain_not_finite(
    model: nn.Module,
    again: Callable[[], Sequence[Losses]],
    keys: Sequence[Sequence[str]],
    samples: int,
    ranks: Ranks,
) -> str:
    """Repeat a step whose gradients are not finite, and name the module and the samples at fault. Collective.

    The module is the first with such an output; otherwise that of the first weight in the backward pass with such a
    gradient. It leaves gradients.

    Args:
        model: has no gradients.
        again: forward and backward of this rank's micro-batches; returns their losses.
        keys: the sample keys of each micro-batch.
        samples: trained on before this step.
    """
    outputs: list[str] = []

    def check(name: str, _: nn.Module, __: object, output: object) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        if not all(_finite(each) for each in tensors if isinstance(each, Tensor)):
            outputs.append(name or "the model")

    handles = [module.register_forward_hook(partial(check, name)) for name, module in model.named_modules()]
    try:
        with torch.compiler.set_stance("force_eager"):
            losses = again()
    finally:
        for handle in handles:
            handle.remove()
    # parameters are, nearly, in the order of the forward pass
    weights = [name for name, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    if outputs:
        finding = 0, f"the output of {outputs[0]}"
    elif weights:
        finding = 1, f"the gradient of {weights[-1]}"
    else:
        finding = 2, "a gradient, but not when repeated,"
    rows = [
        row
        for each, names in zip(losses, keys, strict=True)
        for row in zip(each.per_row.tolist(), names, strict=True)
    ]
    suspects = [key for loss, key in rows if not math.isfinite(loss)] or [key for _, key in rows]
    (_, where), named = min(ranks.gather((finding, suspects)))  # the nearest to the cause of all ranks
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f"{where} is not finite at sample {samples}, with {', '.join(named[:NAMED])}{more}"


def _finite(tensor: Tensor) -> bool:
    """Whether all values are finite; of a sharded tensor, this rank's values."""
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return bool(torch.isfinite(local.detach()).all())
