"""Versions of the panels as texts, and what a status digest depends on."""

from __future__ import annotations

import pytest

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.demand import Demand
from wallie_litellm.dashboard.panel_version import PanelVersion, status_digest
from wallie_litellm.guard import Guard

PRESENT = PanelVersion("0123456789ab", "c" * 24)


def digest(guard: Guard) -> str:
    return status_digest(guard.status(), guard.config.quota)


def test_a_version_is_read_back_from_its_text() -> None:
    assert PanelVersion.parse(str(PRESENT)) == PRESENT


@pytest.mark.parametrize("text", ["-", "x", "0123456789ab", "0123456789ab-", "-" + "c" * 24, str(PRESENT) + "-"])
def test_any_other_text_is_another_version(text: str) -> None:
    assert PanelVersion.parse(text) not in (PRESENT, None)


def test_an_empty_text_is_no_version() -> None:
    assert PanelVersion.parse("") is None


def test_the_digest_changes_with_the_levels_of_a_models_limits() -> None:
    guard = Guard(
        WallieConfig.model_validate({"ledger": None, "providers": {"openai": {"models": {"o3*": {"rpm": 10}}}}})
    )
    try:
        first, demand, limiter = digest(guard), Demand(9, 0, 0, 0), guard.limiter("openai")
        limiter.settle(limiter.reserve(demand, scope="o3*"), demand)
        assert digest(guard) != first
    finally:
        guard.close()


def test_the_digest_changes_with_health_and_quota_levels_but_not_with_each_request() -> None:
    guard = Guard(WallieConfig(ledger=None))
    try:
        first = digest(guard)
        guard.update_usage("openai", 5)
        assert digest(guard) == first
        guard.update_usage("openai", 495)
        warned = digest(guard)
        assert warned != first
        guard.open_circuit("groq")
        assert digest(guard) not in (first, warned)
    finally:
        guard.close()
