"""What is posted to a webhook: a document for programs, or a message for a chat; and how it is signed.

The document and the headers are those of Standard Webhooks 1.0.0
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final, NamedTuple

from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.telemetry.alert_facts import Fact, plain
from wallie_litellm.telemetry.playbook import COMMAND

VERSION: Final = 1  # of the document; a field may be added to it, none is taken away or changed
_LONGEST_PART: Final = 200  # characters of a value of ``data``


class Sender(NamedTuple):
    """The installation's name, and its dashboard's address, where one is known."""

    installation: str
    page: str | None = None

    def link(self, section: str | None) -> str | None:
        """The address of a section of the playbook; ``None`` where there is none."""
        return None if self.page is None or section is None else f"{self.page.rstrip('/')}/playbook#{section}"


def document(fact: Fact, sender: Sender) -> dict[str, Any]:
    """The document of ``docs/webhook-1.schema.json``."""
    section = fact.section
    playbook = None
    if section is not None:
        playbook = {"section": section, "command": f"{COMMAND} {section}", "url": sender.link(section)}
    return {
        "type": fact.type,
        "timestamp": iso_time(fact.at, "milliseconds"),
        "version": VERSION,
        "severity": fact.severity,
        "installation": sender.installation,
        "title": fact.title,
        "text": plain(fact.text),
        "playbook": playbook,
        "data": {name: _json_value(value) for name, value in fact.event._asdict().items() if name not in ("id", "at")},
    }


def slack_message(fact: Fact, sender: Sender) -> dict[str, Any]:
    """A text in mrkdwn, which Slack takes, and whatever takes Slack's messages."""
    advice = f"\nWhat to do: `{COMMAND} {fact.section}`" if fact.section else ""
    return {"text": f"*{fact.title}* ({sender.installation}): {fact.text}{advice}"}


def teams_message(fact: Fact, sender: Sender) -> dict[str, Any]:
    """An Adaptive Card, as the trigger "When a Teams webhook request is received" of Teams' workflows takes it."""
    about = {"Severity": fact.severity, "Installation": sender.installation, "Time": iso_time(fact.at, "seconds")}
    if fact.section:
        about["What to do"] = f"{COMMAND} {fact.section}"
    link = sender.link(fact.section)
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": fact.title, "weight": "Bolder", "size": "Medium", "wrap": True},
            {"type": "TextBlock", "text": plain(fact.text), "wrap": True},
            {"type": "FactSet", "facts": [{"title": title, "value": value} for title, value in about.items()]},
        ],
        "actions": [] if link is None else [{"type": "Action.OpenUrl", "title": "Playbook", "url": link}],
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "contentUrl": None, "content": card}]}


MESSAGES: Final[Mapping[str, Callable[[Fact, Sender], dict[str, Any]]]] = {
    "json": document,
    "slack": slack_message,
    "teams": teams_message,
}


def body_of(message: Mapping[str, Any]) -> bytes:
    """The message as it is sent, byte for byte: the signature is of these bytes."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def key_of(secret: str) -> bytes:
    """The key in a secret such as ``whsec_MfKQ9r8G...``."""
    return base64.b64decode(secret.removeprefix("whsec_"))


def headers_of(message_id: str, at: float, body: bytes, key: bytes | None) -> dict[str, str]:
    """The headers of an attempt at ``at`` (Unix seconds): of each attempt the same id, and its own time."""
    timestamp = str(int(at))
    headers = {
        "content-type": "application/json",
        "user-agent": "wallie-litellm",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
    }
    if key is not None:
        signed = hmac.digest(key, b".".join((message_id.encode(), timestamp.encode(), body)), hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
    return headers


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value[:_LONGEST_PART] if isinstance(value, str) else value
