"""docs/grafana/wallie.json queries existing metrics by labels that they have."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from ledger_support import ended, settled
from prometheus_client.parser import text_string_to_metric_families

from wallie_litellm.config import WallieConfig
from wallie_litellm.events import ArmStopped, BreakerChanged, BudgetCrossed, FellBack, QuotaCrossed, new_id
from wallie_litellm.guard import Guard
from wallie_litellm.telemetry.sinks.prometheus import PrometheusSink

FILE = Path(__file__).resolve().parents[2] / "docs" / "grafana" / "wallie.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]] + [
    (one["name"], one["definition"]) for one in DASHBOARD["templating"]["list"] if "definition" in one
]


@pytest.fixture(scope="module")
def scraped() -> dict[str, set[str]]:
    """The labels of each series that a process exposes, by its name."""
    guard = Guard(WallieConfig(ledger=None))
    status = guard.status()
    openai = status["providers"]["openai"]
    openai["models"] = {"o3": {"quota": openai["quota"], "paused_for": 1.0, "waiting": 0, "breaker": {"state": "open"}}}
    openai["estimates"] = {"models": {"o3": {"ratio": 1.2, "mean_error": 0.1, "p95_error": 0.3}}}
    status["alerts"] = [{"type": "queue", "provider": "openai", "model": None}]
    status["routing"]["order"] = [{"chain": ["a", "b"], "stream": True, "order": ["b", "a"], "reason": "", "pace": {}}]
    status["routing"]["hedge"] = {"chat": {"suppressed": {"budget": 1}}}
    sink = PrometheusSink(status=lambda: status, sink_stats=lambda: {"ledger": {"delivered": 1, "queued": 0}})
    one = settled(unpriced=True, first_token_ms=300.0)
    sink.handle(
        [
            one,
            ended(one, experiment="m", arm="a", hedged=True, wasted_usd=0.01),
            ended(cache_hit=True, saved_usd=0.02),
            ArmStopped(new_id(), 1.0, "m", "a", 0.3, 0.1, 100),
            FellBack(new_id(), 1.0, "r", "a", "b", "openai", "why", None, None),
            BreakerChanged(new_id(), 1.0, "openai", "closed", "open", "why", 30.0),
            QuotaCrossed(new_id(), 1.0, "openai", "rpm", "warning", 0.8, 8, 10, 5.0),
            BudgetCrossed(new_id(), 1.0, "warning", 0.8, 400.0, 500.0, "2026-11"),
        ]
    )
    text = sink.render()[0].decode()
    guard.close()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_queried_metric_and_label_exists(scraped: dict[str, set[str]], title: str, expression: str) -> None:
    names = re.findall(r"\bwallie_\w+", expression)
    assert names, title
    for name in names:
        assert name in scraped, (title, name)
    labels = set().union(*(scraped[name] for name in names))
    asked = {label for part in re.findall(r"\bby \(([^)]*)\)", expression) for label in re.split(r",\s*", part)}
    asked |= {
        label for part in re.findall(r"\b(?:on|ignoring) \(([^)]*)\)", expression) for label in re.split(r",\s*", part)
    }
    asked |= set(re.findall(r"^label_values\(.*, (\w+)\)$", expression))
    asked |= {label for part in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"(\w+)\s*[!=]", part)}
    assert asked <= labels, (title, asked - labels)


def test_legends_name_labels_that_their_expression_keeps() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            kept = set(re.split(r",\s*", ", ".join(re.findall(r"\bby \(([^)]*)\)", target["expr"]))))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept - {"le"}, panel["title"]


def test_no_panel_lies_over_another_and_each_has_its_own_number() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_the_dashboard_can_be_imported_anywhere() -> None:
    assert DASHBOARD["id"] is None
    assert "uid" not in DASHBOARD
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"${datasource}"}
    text = FILE.read_text()
    assert "://" not in text
    assert not re.search(r"\d+\.\d+\.\d+\.\d+|localhost", text)
