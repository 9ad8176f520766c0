"""Versions of the panels: a browser sends the one that it shows, the server compares it with the present one."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from wallie_litellm.config.models import QuotaSettings


class PanelVersion(NamedTuple):
    """``digest`` stands for the status (see :func:`status_digest`), ``etag`` for the HTML."""

    digest: str
    etag: str

    @classmethod
    def parse(cls, text: str) -> PanelVersion | None:
        """The inverse of ``str``: ``None`` for an empty text, a version that is never the present one for garbage."""
        digest, separator, etag = text.partition("-")
        return cls(digest if separator else "", etag) if text else None

    def __str__(self) -> str:
        return f"{self.digest}-{self.etag}"


def status_digest(status: Mapping[str, Any], quota: QuotaSettings) -> str:
    """A hash of those parts of a guard's status whose changes are shown at once: health, breakers, levels, the file."""
    parts = [
        (
            name,
            own["health"],
            own["breaker"]["state"],
            own["breaker"]["reason"],
            own["paused_for"] > 0,
            _levels(own, quota),
            [
                (model, one.get("breaker", {}).get("state"), one["paused_for"] > 0, _levels(one, quota))
                for model, one in own.get("models", {}).items()
            ],
        )
        for kind in ("providers", "features")
        for name, own in status[kind].items()
    ]
    config = status.get("config") or {}
    rest = status["store"]["state"], config.get("changed"), config.get("refused"), config.get("restart_needed")
    return sha256(repr((parts, rest)).encode()).hexdigest()[:12]


def _levels(own: Mapping[str, Any], quota: QuotaSettings) -> list[tuple[bool, bool]]:
    return [
        (one["utilization"] >= quota.warning, one["utilization"] >= quota.critical)
        for one in own.get("quota", {}).values()
    ]
