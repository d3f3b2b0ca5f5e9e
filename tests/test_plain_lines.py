"""Progress where no terminal shows it: plain lines, flushed, every few seconds."""

from __future__ import annotations

import io
import sys
import time
from types import SimpleNamespace

import pytest

import openpali.progress as progress
from openpali.messages import duration
from openpali.progress import Counted, plain_console, working
from openpali.reports.progress import progress_bar


def test_lines_come_at_once_then_every_period_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now, file = [100.0], io.StringIO()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with Counted(plain_console(file=file)) as counted:
        counted.start("run")
        counted.update(400, 4_000)  # resumed: only what this process does counts for the time left
        for done in (500, 600, 700):
            now[0] += progress.PERIOD / 2
            counted.update(done, 4_000, f"loss {done}")
        counted.update(4_000, 4_000, "loss 0", last=True)
    assert file.getvalue().splitlines() == [
        "run: 400 of 4,000 samples",
        "run: 600 of 4,000 samples, loss 600, 3 min left",
        "run: 4,000 of 4,000 samples, loss 0",
    ]


def test_a_terminal_shows_a_bar_with_the_time_that_is_left() -> None:
    """Known for work with five minutes between updates, too; the name is whole in 80 columns."""
    now, file = [0.0], io.StringIO()
    counted = Counted(plain_console(file=file, force_terminal=True, width=80), transient=False)
    counted.bar.get_time = lambda: now[0]  # type: ignore[method-assign]
    with counted:
        counted.start("nano/2_resolution")
        for samples in (40_000, 80_000, 120_000):
            now[0] += 300
            counted.update(samples, 240_000, "loss 1.2345, 133 samples/s")
    shown = file.getvalue().splitlines()[-2]  # the last line shows the cursor again
    for part in ("nano/2_resolution", "120000/240000", "0:15:00", "loss 1.2345, 133 samples/s"):
        assert part in shown


def test_work_without_a_count_is_named_and_has_a_heartbeat(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PERIOD", 0.02)
    with working("building"):
        deadline = time.monotonic() + 10
        shown = ""
        while "so far" not in shown and time.monotonic() < deadline:
            time.sleep(0.01)
            shown += capsys.readouterr().err
    assert shown.startswith("building\nbuilding: 0.")
    assert capsys.readouterr().out == ""


class _Flushed(io.StringIO):
    """Holds only what was flushed, as a file does."""

    seen = ""

    def flush(self) -> None:
        self.seen = self.getvalue()


def test_every_line_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    file = _Flushed()
    monkeypatch.setattr(sys, "stderr", file)
    with progress_bar() as start:
        start("nano/vqa")(3, 9)
    assert file.seen == "nano/vqa: 3 of 9 samples\n"


def test_lengths_of_time_have_a_fitting_unit() -> None:
    shown = [duration(seconds) for seconds in (0.0123, 5, 119, 121, 7_300, 200_000)]
    assert shown == ["0.012 s", "5 s", "119 s", "2 min", "2.0 h", "2.3 days"]
