"""Files of deploy/: options that the server has, one key and one address throughout, a unit that systemd accepts.

Neither a container engine nor a running systemd is asked for.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from openpali.cli.main import app

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
CONTAINER = (DEPLOY / "Containerfile").read_text("utf-8")


def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(DEPLOY / "openpali.service", "utf-8")
    return parser


def instruction(name: str) -> list[str]:
    [found] = re.findall(rf"^{name} (\[.*\])$", CONTAINER, re.M)
    words: list[str] = json.loads(found)
    return words


def read(words: Sequence[str]) -> dict[str, object]:
    """The options of ``openpali serve``; fails where there is no such option or a value is wrong."""
    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return dict(serve.make_context("serve", list(words)).params)


def test_every_way_to_start_the_server_has_options_that_it_takes() -> None:
    command = instruction("ENTRYPOINT")
    assert command[:2] == ["openpali", "serve"]
    assert read([*command[2:], *instruction("CMD")])["host"] == "0.0.0.0"
    composed = read([*command[2:], *COMPOSE["services"]["openpali"]["command"]])
    assert composed["api_key_file"] == Path("/run/secrets/api-key")
    started = shlex.split(unit()["Service"]["ExecStart"])
    assert started[1] == "serve"
    assert read(started[2:])["port"] == 8000


def test_prometheus_asks_the_server_with_its_key() -> None:
    [job] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    services = COMPOSE["services"]
    server = services["openpali"]
    assert job["static_configs"] == [{"targets": [f"openpali:{read(['--host', '0.0.0.0'])['port']}"]}]
    assert job["authorization"]["credentials_file"] in server["command"]
    assert server["secrets"] == services["prometheus"]["secrets"] == list(COMPOSE["secrets"])
    assert services["prometheus"]["volumes"][0].startswith("./prometheus.yml:")
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).is_file()


def test_whatever_stops_the_server_waits_until_it_has_drained() -> None:
    drain = read([])["drain"]
    assert isinstance(drain, float)
    assert float(unit()["Service"]["TimeoutStopSec"]) > drain
    assert float(COMPOSE["services"]["openpali"]["stop_grace_period"].removesuffix("s")) > drain


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "openpali"
    program.write_text("#!/bin/sh\n", "utf-8")
    program.chmod(0o755)
    text = (DEPLOY / "openpali.service").read_text("utf-8")
    copy = tmp_path / "openpali.service"
    copy.write_text(text.replace("/opt/openpali/bin/openpali", str(program)), "utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
