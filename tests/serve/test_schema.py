"""Requests that are drawn from the OpenAPI document: none ends in an error of the server, and none hangs.

A short form in CI; ``make soak-serve`` sends 10,000.
"""

from __future__ import annotations

import os
from collections import Counter

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from requests_to import LIMITS, service_of, serving

from openpali.infer.pali import Pali

CASES = int(os.environ.get("OPENPALI_SERVE_CASES", "60"))


def test_no_request_is_an_error_of_the_server(pali: Pali) -> None:
    seen: Counter[int] = Counter()
    with serving(service_of(pali, LIMITS)) as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")

        @given(case=schema.as_strategy())
        @settings(
            max_examples=CASES,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        def ask(case: schemathesis.Case) -> None:
            answer = case.call(timeout=60)
            seen[answer.status_code] += 1
            assert answer.status_code < 500, (case.as_curl_command(), answer.text)
            if answer.status_code >= 400:
                assert answer.json()["error"].keys() == {"message", "type", "param", "code"}

        ask()
        assert httpx.get(f"{url}/health/ready").status_code == 200
    assert seen[200] > 5, seen
    assert seen[400] > 5, seen
