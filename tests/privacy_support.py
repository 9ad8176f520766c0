"""Marks to search for, a configuration with every sink, and the content of every file of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentry_support import Ingestion
from slack_support import Webhook
from support import shipped_config

from wallie_litellm.simulator.posthog_endpoint import PostHogEndpoint

MARK = "Zyx-Marked"
PROMPT = f"{MARK}-prompt: where is my order?"
ANSWER = f"{MARK}-answer: it is on its way to you."
KEY = f"sk-{MARK}-key-0123456789abcdef"
ERROR = f"{MARK}-error-body"
METADATA = {"conversationId": "123", "apiKey": KEY, "note": f"Bearer {KEY}", "nested": {"password": MARK}}
MESSAGES = [{"role": "system", "content": PROMPT}, {"role": "user", "content": PROMPT}]
PROVIDERS = ("openai", "anthropic", "gemini", "groq", "deepseek")

Receivers = tuple[PostHogEndpoint, Webhook, Ingestion]


def marked_data(folder: Path, receivers: Receivers, ledger: str) -> dict[str, Any]:
    """The shipped configuration, with every sink on, quick to retry and to alert, and marked keys."""
    endpoint, webhook, ingestion = receivers
    data = shipped_config()
    data["wallie"] |= {
        "ledger": {"url": ledger},
        "retry": {"max_retries": 1, "initial": "1ms", "max": "1ms"},
        "breaker": {"failures": 3, "open_for": "50ms"},
        "quota": {"warning": 0.001, "critical": 0.002},
        "telemetry": {
            "posthog": {"api_key": endpoint.project_key, "host": endpoint.url},
            "slack": {"webhook_url": webhook.url},
            "webhooks": {"ops": {"url": webhook.url}},
            "sentry": {"dsn": ingestion.dsn},
            "prometheus": {},
            "spool": str(folder / "spool"),
        },
    }
    return data


def written(folder: Path) -> dict[str, str]:
    """Every file under ``folder``, byte for byte."""
    return {str(file): file.read_bytes().decode("latin-1") for file in folder.rglob("*") if file.is_file()}


def marked(contents: dict[str, str], *more: str) -> set[str]:
    """The keys of the ``contents`` that hold a mark, or one of ``more``."""
    return {name for name, text in contents.items() if any(mark.lower() in text.lower() for mark in (MARK, *more))}
