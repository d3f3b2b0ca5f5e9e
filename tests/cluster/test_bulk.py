"""Bulk predictions on a Ray cluster: the lines of one process, once each, also when a worker is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from ray_processes import documented, processes, wait_for

COUNT, BATCH = 240, 3
WINDOW = 4 * BATCH
WORKING = "MapWorker(Map(_Answerer)).submit"  # title of a process that answers a window


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of different lengths about images of different sizes, some of them bad."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(3):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for i in range(shard * COUNT // 3, (shard + 1) * COUNT // 3):
                noise = np.random.default_rng(i).integers(0, 256, (40 + i, 50, 3), np.uint8)
                image, record = folder / f"k{i:03}.png", folder / f"k{i:03}.json"
                PILImage.fromarray(noise).save(image)
                if i % 17 == 5:
                    image.write_bytes(b"no image")
                question = " ".join(["what"] * (1 + i * 5 % 7)) + "?"
                record.write_text(json.dumps({"question": question}))
                for file in (image, record):
                    tar.add(file, file.name)
                    file.unlink()
    return folder


@pytest.fixture(scope="module")
def expected(shards: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What one process writes."""
    out = tmp_path_factory.mktemp("one") / "answers.jsonl"
    done = subprocess.run(command(shards, out, bundle), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


def command(shards: Path, out: Path, bundle: Path, *more: str) -> list[str]:
    asked = ["predict", "--input", str(shards), "--output", str(out), "--model", str(bundle), *more]
    return [sys.executable, "-m", "openpali", *asked, "--batch-size", str(BATCH)]


def written(folder: Path) -> bytes:
    """What ``cat answers/*.jsonl`` prints."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.jsonl")))


def test_a_worker_is_killed(shards: Path, bundle: Path, expected: bytes, tmp_path: Path) -> None:
    out = tmp_path / "answers"
    given = documented("openpali predict")
    assert given == ["openpali", "predict", "--input", "shards", "--output", "answers", "--ray", "--workers", "2"]
    job = subprocess.Popen(command(shards, out, bundle, *given[6:]), stdout=subprocess.PIPE, text=True)
    wait_for(lambda: processes(WORKING) or job.poll() is not None, "worker that answers")
    before = len(list(out.glob("*.jsonl")))
    os.kill(processes(WORKING)[0], signal.SIGKILL)
    printed, _ = job.communicate(timeout=300)
    assert job.returncode == 0
    print(f"killed when {before} of {COUNT // WINDOW} windows were written")
    assert before < COUNT // WINDOW, "there was nothing left to do"
    assert f"{out}: {COUNT} samples, 14 with an error" in printed
    assert written(out) == expected
    keys = [json.loads(line)["key"] for line in written(out).splitlines()]
    assert len(keys) == len(set(keys)) == COUNT
    assert {path.name for path in out.iterdir()} == {f"{i:012}.jsonl" for i in range(0, COUNT, WINDOW)}


def test_a_job_that_was_killed_goes_on(shards: Path, bundle: Path, expected: bytes, tmp_path: Path) -> None:
    out = tmp_path / "answers"
    out.mkdir()
    for start in (0, 2 * WINDOW):
        lines = expected.splitlines(keepends=True)[start : start + WINDOW]
        (out / f"{start:012}.jsonl").write_bytes(b"".join(lines))
    kept = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    time.sleep(0.01)
    done = subprocess.run(command(shards, out, bundle, "--ray"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert written(out) == expected
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    crowd = command(shards, tmp_path / "more", bundle, "--ray", "--workers", "999")
    refused = subprocess.run(crowd, capture_output=True, text=True)
    assert "999 workers need 999 CPUs, and Ray has " in refused.stderr
    assert "take fewer --workers" in refused.stderr
