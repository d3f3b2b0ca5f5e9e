"""What the reader of screens adds to OpenPaLI."""

from __future__ import annotations

from openpali.extensions import Extension

_HERE = "openpali_screen"

EXTENSION = Extension(
    commands={"Ask: read": f"{_HERE}.command:read"},
    components={
        "finder": f"{_HERE}.components:FinderComponent",
        "reader": f"{_HERE}.components:ReaderComponent",
        "elements": f"{_HERE}.components:ElementsComponent",
        "icons": f"{_HERE}.components:Screens",
    },
    options={"tune --fonts": f"{_HERE}.tune:tune_fonts"},
    sources={"fonts": f"{_HERE}.read.font_lines:open_lines"},
    endpoints={"read": f"{_HERE}.endpoint:read_router"},
    architectures={
        "finder": f"{_HERE}.architectures:FinderArchitecture",
        "reader": f"{_HERE}.architectures:ReaderArchitecture",
        "elements": f"{_HERE}.architectures:ElementFinderArchitecture",
        "icons": f"{_HERE}.architectures:IconArchitecture",
    },
    graphs={
        "finder": f"{_HERE}.graphs:finder",
        "reader": f"{_HERE}.graphs:reader",
        "elements": f"{_HERE}.graphs:elements",
        "icons": f"{_HERE}.graphs:icons",
    },
    scorers=("elements/encode.py", "**/evaluate.py"),
    objectives={
        "find": f"{_HERE}.find.objective:FindObjective",
        "read": f"{_HERE}.read.objective:ReadObjective",
        "elements": f"{_HERE}.elements.objective:ElementObjective",
    },
)
