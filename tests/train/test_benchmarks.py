"""The benchmarks run, on shapes that take seconds, and write their results in one format."""

from __future__ import annotations

import json
import os
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from openpali.architectures.pali import PRESETS
from openpali_lab.plan.planner import find_device, rehearse

FOLDER = Path(__file__).parents[2] / "benchmarks"
TINY = "--preset pico --precision fp32 --batch 2 --rounds 1"
Run = Callable[..., None]
SLOW = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


def run(script: str, *arguments: str) -> None:
    """Run a benchmark in a process of its own, whose memory it measures."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["TORCHDYNAMO_DISABLE"] = "1"  # which takes a C++ compiler minutes
    command = [sys.executable, str(FOLDER / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr


def run_here(script: str, *arguments: str) -> None:
    """Run a benchmark that measures no memory in this process."""
    eager = torch.compiler.set_stance("force_eager")  # a C++ compiler takes minutes
    with eager, pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        patch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(FOLDER / script), run_name="__main__")


def results_of(script: str, file: Path, *arguments: str, run: Run = run) -> dict[tuple[str, str], dict[str, Any]]:
    """The results of a benchmark, by name and peer, in the common format."""
    run(script, *arguments, "--json", str(file))
    written = json.loads(file.read_text())
    assert written.keys() == {"machine", "results"}
    assert {"torch"} <= written["machine"]["versions"].keys()
    for result in written["results"]:
        assert result.keys() == {"name", "ours", "peer", "peer_name", "unit", "ratio"}
        ours, peer = result["ours"], result["peer"]
        if "points" in result["unit"] and min(ours, peer) == 0:  # a score may be zero
            ours, peer = max(ours, 0.01), max(peer, 0.01)
        assert min(ours, peer) > 0
        better = ours / peer
        more = "/s" in result["unit"] or result["unit"] == "points"
        assert result["ratio"] == pytest.approx(better if more else 1 / better)
    return {(result["name"], result["peer_name"]): result for result in written["results"]}


def test_each_row_is_printed_and_written_when_it_is_known(tmp_path, capsys) -> None:
    from _report import Result, machine, rate, report

    file = tmp_path / "x.json"

    def measure() -> Iterator[Result]:
        for count in (1, 2):
            yield rate(f"row {count}", 4.0, 2.0, "the peer", "samples/s")
            assert capsys.readouterr().out == f"row {count}: 4 samples/s, the peer 2, ratio 2.00\n"
            assert [row["name"] for row in json.loads(file.read_text())["results"]][count - 1 :] == [f"row {count}"]

    assert len(report(measure(), machine(), file)) == 2
    assert "row 2" in capsys.readouterr().out  # the table


def test_a_step_stands_beside_the_better_of_its_peers() -> None:
    from train import better

    seconds = {"siglip": 1.0, "open_clip": 3.0, "siglip, compiled": 1.0, "open_clip, compiled": 2.0}
    assert better(seconds, "open_clip") == (2.0, "open_clip, compiled")
    assert better({"siglip": 1.0, "open_clip": 3.0}, "open_clip") == (3.0, "open_clip")


@pytest.mark.slow
def test_the_loss_beside_open_clip(tmp_path) -> None:
    shape = ["--pairs", "96", "--width", "8", "--rounds", "1"]
    found = results_of("sigmoid_loss.py", tmp_path / "x.json", "--ranks", "1", "2", *shape)
    assert len(found) == 2 * (1 + 4)
    grown = [found[f"{ranks}: peak memory", peer] for ranks, peer in _BOTH]
    assert grown[1]["ours"] - grown[0]["ours"] < grown[1]["peer"] - grown[0]["peer"]


_BOTH = (("1 rank", "open_clip"), ("2 ranks", "open_clip bidir"))


@pytest.mark.parametrize(
    ("script", "arguments", "rows", "run"),
    [
        pytest.param(
            "generation.py", "--tiny --batches 1 8 --rounds 1", 9, run_here, marks=pytest.mark.openvino
        ),  # without CTranslate2's
        pytest.param(
            "full_size.py",
            "--preset pico --sides 72 144 --kinds bf16 openvino-int8 openvino-int4",
            51,
            run,
            marks=[*SLOW, pytest.mark.openvino],
        ),
        pytest.param(
            "quality.py", "--sets nano/ocr --limit 2 --engine torch-int8", 1, run_here, marks=pytest.mark.openvino
        ),
        *(
            pytest.param("train.py", f"--compiled {TINY} --steps {step}", 6, run, marks=SLOW)
            for step in ("siglip", "'stage 1'")  # stage 2 is stage 1 with nothing frozen
        ),
        ("encoders.py", "--preset pico --batch 4 --rounds 1", 4, run_here),
        ("data.py", "--sides 256 768 --count 8 --batch 4 --rounds 1", 8, run_here),
        ("resolution.py", "--preset pico --sides 72", 6, run_here),
        ("parity.py", "--size tiny --families SigLIP UL2", 2, run_here),
    ],
)
def test_every_row_is_measured(script: str, arguments: str, rows: int, run: Run, tmp_path: Path) -> None:
    """Precisions and peers that this machine lacks have no row."""
    assert len(results_of(script, tmp_path / "x.json", *shlex.split(arguments), run=run)) >= rows


def test_memory_of_a_run_since_it_was_last_resumed(tmp_path) -> None:
    reports = [(10, 9.0), (20, 5.0), (30, 6.0), (40, 6.0), (60, 6.06)]
    lines = [{"samples": samples, "memory": memory * 1e9} for samples, memory in reports]
    lines.insert(3, {"samples": 30, "eval": "held out", "scores": {}})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    image = tmp_path / "memory.png"
    found = results_of("memory.py", tmp_path / "x.json", str(tmp_path / "run"), "--image", str(image), run=run_here)
    [((name, peer), row)] = found.items()
    assert (name, peer) == (f"{tmp_path.name}/run: peak memory after 60 samples", "after 40 samples (target 0.98)")
    assert (row["ours"], row["peer"]) == (pytest.approx(6.06), pytest.approx(6.0))
    assert image.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_gpu_is_measured_row_by_row(tmp_path, capsys) -> None:
    """At tiny shapes on this machine, which may have no GPU."""
    steps = ["stage 2, pali3-5b"]  # at tiny shapes, all sizes are the same
    rows = ["ViT, 24", "attention, 10", "generation, batch 2", "siglip", *steps]
    found = results_of("gpu.py", tmp_path / "x.json", "--tiny", "--only", *rows, run=run_here)
    assert len(found) >= 9
    capsys.readouterr()
    run_here("gpu.py", "--tiny", "--seconds", "0", "--only", "ViT")
    printed = capsys.readouterr().out
    assert "ViT, 24 px: left out, 0 seconds are over" in printed
    assert "generation" not in printed


def test_layers_are_halved_until_the_plan_fits(capsys, monkeypatch) -> None:
    from gpu import Bench, recipe_of

    small = PRESETS["pico"]
    monkeypatch.setitem(PRESETS, "nano", replace(small, vision=replace(small.vision, depth=2)))
    recipe, card = recipe_of("stage 1", "nano", 72, 2), find_device("h100", 1)
    whole = rehearse(recipe, recipe.phases[0], card, 1).peak
    bench = Bench(torch.device("cpu"), replace(card, memory=whole - 1), tiny=False)
    names = [result.name for result in bench.training("stage 1", "nano", 2)]
    assert names == [f"stage 1, nano with 1 + 1 + 1 layers: {what}" for what in ("matmuls", "step")]
    assert PRESETS.keys().isdisjoint(["nano with 1 + 1 + 1 layers"])
    bench = replace(bench, card=replace(card, memory=1.0), tiny=True)
    assert list(bench.training("stage 1", "nano", 2)) == []
    assert "stage 1, nano: left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "module", "package"),
    [
        ("train.py", "open_clip", "open_clip_torch"),
        ("sigmoid_loss.py", "open_clip", "open_clip_torch"),
        ("data.py", "webdataset", "webdataset"),
    ],
)
def test_without_their_peer_they_say_what_to_install(script, module, package, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = rf"this compares with {module} and cannot import it \(.*\): pip install {package}"
    with pytest.raises(SystemExit, match=message):
        run_here(script)


def test_live_bytes_are_counted(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from sigmoid_loss import Held

    before = torch.ones(1000)
    with Held() as held:
        view = before[10:]
        doubled = before * 2  # 4,000 bytes
        view = doubled + doubled  # and as many
        del view
        summed = doubled.add_(1).sum()  # 4 more
        again = doubled.clone()
        del doubled, again
    assert held.peak == 8004
    assert held.now == 4 == summed.nbytes
