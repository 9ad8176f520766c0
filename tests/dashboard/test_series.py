"""What the charts show: the same points and marks on the page and for programs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from ledger_support import ended, settled

from wallie_litellm.events import BreakerChanged, OperatorActed, new_id

MakeApp = Callable[..., Any]


def record_an_hour(app: Any, now: float) -> None:
    """Two providers, of which one fails and is opened, and a reload."""
    good, late = settled(at=now - 200, latency_ms=400.0), settled(at=now - 190, latency_ms=900.0)
    bad = settled(at=now - 1_000, success=False, outcome="server_error", status_code=500, cost_usd=0.0)
    other = settled(at=now - 200, provider="groq", latency_ms=90.0)
    app.record(
        [
            *(good, late, bad, other, ended(good)),
            BreakerChanged(new_id(now), now - 900, "openai", "closed", "open", "HTTP 500", 30.0),
            BreakerChanged(new_id(now), now - 800, "openai", "open", "half_open", "probe", None),
            BreakerChanged(new_id(now), now - 700, "groq", "closed", "open", "HTTP 500", 30.0, "llama-3"),
            OperatorActed(new_id(now), now - 600, "maria", "reload", "", "limits"),
            BreakerChanged(new_id(now), now - 7_000, "openai", "closed", "open", "earlier", 30.0),
        ]
    )


def test_programs_get_the_points_and_marks_of_the_pages_charts(make_app: MakeApp) -> None:
    app, now = make_app(()), time.time()
    record_an_hour(app, now)
    found = app.client.get("/wallie/api/series?range=1h").json()
    assert (found["step_seconds"], len(found["points"]), found["until"]) == (60, 61, None)
    busy = [one for one in found["points"] if one["attempts"]]
    assert sum(sum(one["attempts"].values()) for one in busy) == 4
    assert sum(one["failures"] for one in busy) == 1
    assert max(one["p95_ms"] or 0 for one in busy) >= 400
    assert [(one["kind"], one["provider"], one["model"], one["reason"]) for one in found["marks"]] == [
        ("opened", "openai", "", "HTTP 500"),
        ("opened", "groq", "llama-3", "HTTP 500"),
        ("reload", "", "", "limits"),
    ]
    listed = app.client.get("/wallie/panels?range=1h").text.partition('id="chart-attempts-marks"')[2]
    assert re.findall("<li>[0-9:]+ ([^<]*)</li>", listed.partition("</ul>")[0]) == [
        "openai opened: HTTP 500",
        "groq llama-3 opened: HTTP 500",
        "configuration reloaded: limits",
    ]


def test_of_one_provider_there_are_its_own_points_and_marks(make_app: MakeApp) -> None:
    app, now = make_app(()), time.time()
    record_an_hour(app, now)
    found = app.client.get(f"/wallie/api/series?provider=groq&since={now - 1_800}&until={now - 120}").json()
    assert found["provider"] == "groq"
    assert found["until"] is not None
    assert [one["attempts"] for one in found["points"] if one["attempts"]] == [{"groq": 1}]
    assert [one["kind"] for one in found["marks"]] == ["opened", "reload"]


def test_a_range_that_makes_no_sense_is_explained(make_app: MakeApp) -> None:
    app = make_app(())
    for query, said in (
        ("range=2h", "range: found '2h', expected one of"),
        ("range=1h&since=2h", "range: give it, or since and until"),
        ("since=2020-01-01", "expected at most 400 days before until"),
    ):
        answer = app.client.get(f"/wallie/api/series?{query}")
        assert answer.status_code == 422
        assert said in answer.json()["error"]["message"]
