"""The pages of the log of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from wallie_litellm.dashboard.formats import IN_UTC, Formats, ShownZone
from wallie_litellm.dashboard.rendering import clock_of, render
from wallie_litellm.dashboard.translations import Translator, translator
from wallie_litellm.ledger.request_log import RequestFilter


def render_requests(
    rows: Sequence[Mapping[str, Any]],
    wanted: RequestFilter,
    problem: str,
    *,
    language: str,
    base: str,
    range_name: str,
    more: bool,
    zone: ShownZone = IN_UTC,
) -> str:
    """The requests that are ``wanted``, the latest first, and the form that asks for others."""
    names, formats = ("feature", "user", "key", "provider", "model", "error"), Formats(language, zone.name)
    asked = {"range": range_name, **{name: getattr(wanted, name) for name in names}}
    asked |= {"failed": "1"} if wanted.failed else {}
    return render(
        "requests.html",
        language,
        rows=rows,
        wanted=wanted,
        problem=problem,
        base=base,
        range_name=range_name,
        more=more,
        query=urlencode(asked, errors="replace"),
        formats=formats,
        shown_in=zone,
        clock=clock_of(formats),
    )


def render_request(
    request_id: str,
    one: Mapping[str, Any] | None,
    attempts: Sequence[Mapping[str, Any]],
    *,
    language: str,
    base: str,
    zone: ShownZone = IN_UTC,
) -> str:
    """One request, with its attempts in order; ``one`` is ``None`` where it has not ended."""
    formats = Formats(language, zone.name)
    facts = [] if one is None else _request_facts(one, formats, translator(language))
    values = {"request_id": request_id, "ended": one is not None, "attempts": attempts, "facts": facts, "base": base}
    return render("request.html", language, formats=formats, shown_in=zone, clock=clock_of(formats), **values)


def _request_facts(one: Mapping[str, Any], formats: Formats, t: Translator) -> list[tuple[str, str]]:
    facts = {
        t("column.time", zone=formats.zone): clock_of(formats)(one["at"]),
        t("column.outcome"): t("requests.answered") if one["success"] else t("requests.not_answered"),
        t("column.feature"): one["feature"],
        t("column.user"): one["user_id"],
        t("column.key"): one["proxy_key"],
        t("column.model"): " → ".join(filter(None, (one["requested"], one["model"]))),
        t("column.provider"): one["provider"],
        t("column.latency"): formats.milliseconds(one["latency_ms"]),
        t("column.waited"): formats.milliseconds(one["waited_ms"]),
        t("column.cost"): formats.money(one["cost_usd"]),
        t("routing.tier"): one["tier"],
        t("experiments"): " ".join(filter(None, (one["experiment"], one["arm"]))),
        t("routing.reason"): "; ".join(filter(None, (one["error"], one["why"]))),
    }
    shown = [(name, str(value)) for name, value in facts.items() if value]
    return shown + [(name, str(value)) for name, value in (one["metadata"] or {}).items()]
