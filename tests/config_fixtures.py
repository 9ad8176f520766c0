from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

ROOT = Path(__file__).parents[1]
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY", "DEEPSEEK_API_KEY")


@pytest.fixture
def clean_env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing about Wallie and holds no provider's key."""
    ours = ("WALLIE_CONFIG", "WALLIE_REDIS_URL", "WALLIE_DATABASE_URL", "WALLIE_ADMIN_TOKEN")
    sinks = ("POSTHOG_API_KEY", "POSTHOG_HOST", "SLACK_WEBHOOK_URL", "SENTRY_DSN")
    for name in (*ours, *sinks, *KEYS, "GOOGLE_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def fake_keys(clean_env: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in KEYS:
        clean_env.setenv(name, "fake")
    return clean_env


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository's own file, on a day on which none of its models has ended."""
    monkeypatch.setattr("wallie_litellm.check.report._today", lambda: date(2026, 11, 22))
    return ROOT / "router_config.yaml"
