"""What the laboratory adds to OpenPaLI."""

from __future__ import annotations

from openpali.extensions import Extension

EXTENSION = Extension(
    commands={
        "plan": "openpali.lab.cli.plan:plan",
        "sizes": "openpali.lab.cli.sizes:sizes",
        "study": "openpali.lab.cli.study:study",
        "speedrun": "openpali.lab.cli.speedrun:speedrun",
        "fairness": "openpali.lab.cli.fairness:fairness",
    },
    options={
        "convert --report": "openpali.lab.parity:report",
        "eval diff": "openpali.lab.card_diff:report",
    },
)
