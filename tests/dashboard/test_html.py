"""A snapshot as HTML: complete, escaped, and within the content security policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from string import Formatter

import pytest
from dashboard_samples import (
    HOSTILE,
    NOW,
    SAMPLES,
    figures,
    fleet,
    healthy,
    ill,
    provider_figures,
    quota,
    snapshot,
    without_ledger,
)
from dashboard_samples import model as model_of
from dashboard_samples import provider as provider_of

from wallie_litellm.dashboard.formats import UNKNOWN
from wallie_litellm.dashboard.html import (
    render_confirm,
    render_export,
    render_login,
    render_page,
    render_panels,
    render_problem,
)
from wallie_litellm.dashboard.page_ranges import free_range
from wallie_litellm.dashboard.panel_key import PanelKey
from wallie_litellm.dashboard.provider_html import render_provider, render_provider_panels
from wallie_litellm.dashboard.source import ACTIONS
from wallie_litellm.dashboard.translations import CATALOGUES, LANGUAGES, choose_language, translator
from wallie_litellm.dashboard.view_model import RANGES, AccountState, Snapshot
from wallie_litellm.ledger.figures import Alert
from wallie_litellm.telemetry.sink import backlog_of

PANELS = ("health", "quota", "cost", "alerts", "history", "performance", "kpis", "fleet")
_VOID = {"meta", "link", "img", "input", "br", "hr"}


class Tags(HTMLParser):
    """All elements, and whether each is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag


def whole(snapshot: Snapshot, language: str) -> str:
    return render_page(
        render_panels(snapshot, language),
        language=language,
        base="/wallie",
        range_name="24h",
        visitor_name=HOSTILE["actor"],
        csrf="c5rf",
        logged_in=True,
        notice=HOSTILE["reason"],
    )


def pages(snapshot: Snapshot, language: str) -> list[str]:
    bad = HOSTILE["provider"]
    confirm = [
        render_confirm(
            language=language,
            base="/wallie",
            action=action,
            provider=bad,
            range_name="24h",
            csrf="c5rf",
            visitor_name=HOSTILE["actor"],
            scope_note=HOSTILE["detail"],
            model=HOSTILE["model"] if action == "reset_quota" else "",
        )
        for action in ACTIONS
    ]
    login = render_login(language=language, base="/wallie", next=HOSTILE["reason"], error=HOSTILE["detail"])
    export = render_export(language=language, base="/wallie", range_name="24h", visitor_name=HOSTILE["actor"])
    problem = render_problem(language=language, base="/wallie", status=404, message=HOSTILE["problem"])
    of = {"language": language, "base": "/wallie"}
    names = [*(one.name for one in snapshot.providers), HOSTILE["provider"]]
    shown = [
        render_provider(
            render_provider_panels(snapshot, key, RANGES["24h"], found, HOSTILE["problem"]),
            name=key.provider,
            range_name="24h",
            **of,
        )
        for key in (PanelKey("24h", language, provider=name, base="/wallie") for name in names)
        for found in (None, provider_figures(key.provider, HOSTILE["model"], HOSTILE["reason"]))
    ]
    return [whole(snapshot, language), *confirm, login, export, problem, *shown]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_every_page_is_well_formed_and_within_its_policy(sample: Callable[[], Snapshot], language: str) -> None:
    for html in pages(sample(), language):
        tags = Tags(html)
        assert tags.open == []
        assert re.findall(r"\{[a-z_]+\}", html) == [], "texts without their values"
        ids = [own["id"] for _, own in tags.found if own.get("id")]
        assert len(ids) == len(set(ids))
        for tag, own in tags.found:
            assert tag not in ("style", "iframe", "object", "embed", "base")
            assert not [name for name in own if name == "style" or name.startswith("on")], (tag, own)
            if tag == "script":
                assert own["src"] == "/wallie/static/live.js"
            for name in ("href", "src", "action"):
                address = own.get(name) or ""
                assert ":" not in address.partition("?")[0], (tag, address)
                assert not address.startswith("//")


@pytest.mark.parametrize("language", LANGUAGES)
def test_hostile_text_is_shown_as_text(language: str) -> None:
    html = whole(SAMPLES["hostile"](), language)
    tags = {tag for tag, _ in Tags(html).found}
    assert not tags & {"b", "iframe", "style"}
    assert [own["src"] for tag, own in Tags(html).found if tag == "img"] == ["/wallie/static/favicon.svg"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "{{ 7 * 7 }}" in html
    assert "\u202e" not in html  # it would turn what follows around
    assert "\x1b" not in html
    html.encode()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_every_panel_is_rendered_and_labelled(sample: Callable[[], Snapshot], language: str) -> None:
    html = render_panels(sample(), language)
    found = {own["id"]: own for tag, own in Tags(html).found if (own.get("id") or "").startswith("panel-")}
    figures_of = sample().figures
    has_experiments = figures_of is not None and bool(figures_of.experiments)
    expected = (*PANELS, "experiments") if has_experiments else PANELS
    expected = (*expected, "budgets") if sample().budgets else expected
    expected = (*expected, "chains") if figures_of is not None and figures_of.asked else expected
    assert set(found) == {f"panel-{name}" for name in expected}
    for own in found.values():
        assert f'id="{own["aria-labelledby"]}"' in html


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"pending": 3, "spooled": 0, "failed": 2}, None),  # an outage that is over
        ({"pending": 30, "spooled": 1200, "failed": 2}, "1,230 records wait to be written or sent, 1,200 of them on"),
        ({"pending": 0, "spooled": 0, "dropped": 7}, "0 records wait to be written or sent, 0 of them on disk; 7"),
        (
            {"pending": 5_000, "spooled": 0, "failed": 2},
            "5,000 records wait to be written or sent, 0",
        ),  # no disk either
        ({"pending": 2, "queued": 0, "failed": 0}, None),  # of a sink without a spool
        ({"pending": 2, "queued": 1, "failed": 4}, "3 records wait"),
    ],
)
def test_a_sink_that_does_not_get_rid_of_its_records_is_named(counts: dict[str, int], said: str | None) -> None:
    backlog = backlog_of(counts)
    shown = replace(healthy(), backlogs=[] if backlog is None else [("ledger", backlog)])
    text = render_panels(shown, "en")
    assert (said is None) == ('data-field="backlog"' not in text)
    assert said is None or f"ledger: {said}" in text


def test_the_shared_panels_have_no_data_of_a_visitor() -> None:
    html = render_panels(ill(), "en")
    assert "csrf" not in html
    assert "<form" not in html


def row(html: str, provider: str) -> str:
    panel = html.partition('id="panel-health"')[2].partition("</section>")[0]
    return panel.partition(f'data-provider="{provider}"')[2].partition("</tr>")[0]


def test_a_providers_actions_are_those_that_apply_to_its_state() -> None:
    html = render_panels(ill(), "en")
    for provider, actions in {
        "anthropic": {"reset_quota", "open_circuit"},
        "groq": {"reset_quota", "open_circuit", "close_circuit"},
        "mistral": {"reset_quota", "close_circuit", "release_circuit"},
        "openai": {"reset_quota", "open_circuit", "close_circuit", "release_circuit"},
    }.items():
        assert set(re.findall(r"action=(\w+)", row(html, provider))) == actions


def test_unhealthy_providers_come_first_and_are_announced() -> None:
    html = render_panels(ill(), "en")
    panel = html.partition('id="panel-health"')[2].partition("</section>")[0]
    names = re.findall(r'<tr[^>]* data-provider="(\w+)"', panel)
    assert names == ["groq", "mistral", "deepseek", "gemini", "anthropic", "openai"]
    spoken = html.partition('data-spoken="')[2].partition('"')[0]
    assert "groq" in spoken
    assert "openai" not in spoken


def test_without_a_ledger_the_page_gives_the_reason_and_shows_the_rest() -> None:
    html = render_panels(without_ledger(), "en")
    assert html.count("ledger: null") >= 4
    assert 'data-dimension="rpd"' in html
    assert "healthy" in row(html, "openai")


def test_a_read_only_page_has_no_action_buttons() -> None:
    snapshot = SAMPLES["healthy"]()
    read_only = replace(snapshot, fleet=replace(snapshot.fleet, read_only="look elsewhere"))
    html = render_panels(read_only, "en")
    assert "look elsewhere" in html
    assert "confirm?" not in html


def test_data_attributes_have_the_unformatted_numbers() -> None:
    html = render_panels(healthy(), "es")
    assert 'data-field="tokens" data-value="1562400"' in html
    assert "1.562.400" in html


def test_budgets_are_shown_with_what_is_spent_and_reserved_and_what_happens_then() -> None:
    html = render_panels(ill(), "en")
    assert 'data-feature="chat" data-user="" data-key="" data-window="day" data-level="exhausted"' in html
    assert 'data-feature="" data-user="" data-key="batch" data-window="month"' in html
    assert "Key batch" in re.sub(r"<[^>]*>|\s+", " ", html).replace("  ", " ")
    assert 'data-field="spent" data-value="20.3"' in html
    assert 'data-field="reserved" data-value="0.25"' in html
    assert "cheapest model" in html
    assert 'id="panel-budgets"' not in render_panels(healthy(), "en")


# Languages


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_languages_have_the_same_texts_and_placeholders() -> None:
    english, spanish = CATALOGUES["en"], CATALOGUES["es"]
    assert english.keys() == spanish.keys()
    for key, text in english.items():
        assert fields(text) == fields(spanish[key]), key
        assert spanish[key].strip()


def test_every_text_is_used() -> None:
    place = files("wallie_litellm.dashboard")
    folders = (place, place.joinpath("templates"), place.joinpath("static"))
    sources = [part for folder in folders for part in folder.iterdir() if part.is_file()]
    used = "".join(part.read_text() for part in sources if part.name not in ("translations.py", "routing_texts.py"))
    for key in CATALOGUES["en"]:
        stem = key.rpartition(".")[0]
        assert f'"{key}"' in used or f'"{stem}."' in used or f'"{stem}"' in used or f"{stem}." in used, key


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("es", "es"),
        ("es-MX,es;q=0.9,en;q=0.8", "es"),
        ("en;q=0.5, es;q=0.4", "en"),
        ("fr, de;q=0.9, ES-419;q=0.1", "es"),
        ("fr", "en"),
        ("es;q=0", "en"),
        ("es;q=nan, en", "en"),
        (";;;,,q=1;=" + "x" * 5000, "en"),
    ],
)
def test_the_language_follows_the_accept_language_header(accepted: str | None, language: str) -> None:
    assert choose_language(accepted) == language


def test_a_value_may_look_like_a_placeholder() -> None:
    assert "{provider}" in translator("en")("notice.reset_quota", provider="{provider}")


def test_a_quota_shows_what_the_minute_used_and_what_admission_has_left() -> None:
    near = replace(quota("rpm", 292, 300, "critical", 0.2), left=299)
    html = render_panels(snapshot([provider_of("openai", quotas=[near])], None), "en")
    assert "critical 97.3 % 292 of 300 299 left now all of it in 1 s" in visible(html)


def visible(html: str) -> str:
    """The text of the page, its spaces as they are seen."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("\u202f", " ").split())


def test_calls_that_cannot_be_known_are_a_dash_with_the_reason() -> None:
    unknown = replace(provider_of("openai"), in_flight=None, waiting=None)
    html = row(render_panels(snapshot([unknown], None), "en"), "openai")
    assert visible(html).count(f"{UNKNOWN} not on record") == 2


def test_a_key_that_is_kept_away_is_shown_below_its_provider_and_one_that_serves_is_not() -> None:
    away = [
        AccountState("openai#1a2b3c4d", "down", "open", "HTTP 401", 7.2, 0.0),
        AccountState("openai#5e6f7a8b", "degraded", "closed", None, None, 42.0, {"gpt-4o": 7.0}),
        AccountState("openai#9c0d1e2f", "healthy", "closed", None, None, 0.0),
    ]
    html = render_panels(snapshot([replace(provider_of("openai"), accounts=away)], None), "en")
    shown = re.findall(r'<tr class="account" data-account="([^"]*)".*?</tr>', html, re.DOTALL)
    assert shown == ["openai#1a2b3c4d", "openai#5e6f7a8b"]
    text = visible(html)
    assert "openai#1a2b3c4d down open next probe in 8 s HTTP 401" in text
    assert "openai#5e6f7a8b degraded closed paused for 42 s more gpt-4o paused for 7 s more" in text


def test_a_models_limits_are_shown_below_its_providers_with_what_the_vendor_says() -> None:
    html = render_panels(ill(), "en")
    shown = html.partition('data-model="claude-opus-4*"')[2]
    text = visible(shown.partition("</div>")[0])
    assert "Model claude-opus-4* 4 waiting paused for 12 s more Reset quota anthropic claude-opus-4*" in text
    assert "29,400 of 30,000 600 left now all of it in 31 s the vendor says 20,000" in text
    assert 'href="confirm?action=reset_quota&amp;provider=anthropic&amp;model=claude-opus-4%2A&amp;range=24h"' in shown


def test_a_model_that_is_not_called_is_shown_below_its_provider() -> None:
    html = render_panels(ill(), "en")
    shown = re.findall(r'<tr class="account" data-model="([^"]*)"(.*?)</tr>', html, re.DOTALL)
    assert [name for name, _ in shown] == ["claude-sonnet-4-5"]
    assert "Model claude-sonnet-4-5 down open next probe in 8 s server error" in visible(html)


def test_models_with_a_closed_breaker_are_folded_with_a_button_each() -> None:
    openai = replace(provider_of("openai"), quiet_models=["gpt-4o", "o3"])
    html = render_panels(snapshot([openai], None), "en")
    folded = html.partition('id="models-openai">')[2].partition("</details>")[0]
    assert visible(folded) == "2 models openai gpt-4o Stop traffic openai gpt-4o o3 Stop traffic openai o3"
    assert 'href="confirm?action=open_circuit&amp;provider=openai&amp;model=gpt-4o&amp;range=24h"' in folded
    read_only = snapshot([openai], None, fleet=fleet(read_only="no"))
    assert "models-openai" not in render_panels(read_only, "en")


def test_limits_are_folded_unless_they_are_near_their_end_or_waited_for() -> None:
    roomy = [model_of(f"m{number}", quotas=[quota("rpm", number, 100)]) for number in range(4)]
    near = model_of("near", quotas=[quota("rpm", 99, 100, "critical")])
    waited_for = replace(roomy[0], name="waited-for", waiting=2)
    ends = replace(quota("tpm", 1, 100), ends=(None, NOW + 60, None))
    openai = provider_of("openai", quotas=[quota("rpm", 90, 100, "warning"), ends, quota("rpd", 41, 100)])
    groq = provider_of("groq", quotas=[quota("rpm", 41, 100)])
    html = render_panels(snapshot([replace(openai, models=[*roomy, near, waited_for]), groq], None), "en")
    panel = html.partition('id="panel-quota"')[2].partition("</section>")[0]
    of_openai = panel.partition('data-provider="openai"')[2].partition('data-provider="groq"')[0]
    shown, _, folded = of_openai.partition('id="limits-openai"')
    assert re.findall('data-dimension="([^"]*)"', shown) == ["rpm", "tpm", "rpm", "rpm"]
    assert re.findall('data-model="([^"]*)"', shown) == ["near", "waited-for"]
    assert re.findall('data-model="([^"]*)"', folded) == ["m0", "m1", "m2", "m3"]
    assert "5 more limits, at most 41.0 % used openai" in visible(folded)
    assert "1 more limit, 41.0 % used groq" in visible(panel)


def test_providers_without_traffic_are_folded_where_others_have_any() -> None:
    idle = [replace(provider_of(name, quotas=[quota("rpm", 0, 9)]), attempts=None, in_flight=0) for name in "ab"]
    stopped = replace(idle[0], name="c", health="down", breaker="forced_open")
    shown, _, folded = render_panels(snapshot([*idle, stopped, provider_of("openai")], None), "en").partition(
        'id="unused-providers"'
    )
    assert re.findall(r'<tr data-provider="(\w+)"', shown) == ["c", "openai"]
    assert re.findall(r'<tr data-provider="(\w+)"', folded) == ["a", "b"]
    limits = folded.partition('id="panel-quota"')[2].partition("</section>")[0]
    shown, _, rest = limits.partition('id="limits-of-unused"')
    assert [re.findall(r'class="owner" data-provider="(\w+)"', part) for part in (shown, rest)] == [
        ["c", "openai"],
        ["a", "b"],
    ]
    assert "2 more, without traffic" in visible(folded)
    assert "unused-providers" not in render_panels(snapshot([*idle, stopped], None), "en")


def test_the_top_says_whether_callers_are_hurt_and_which_figures_miss_their_targets() -> None:
    html = render_panels(ill(), "en")
    top = html.partition('class="summary"')[2].partition("</section>")[0]
    assert (
        "mistral stopped by an operator, groq down since 11:14 UTC; in the last five minutes 30 requests went to" in top
    )
    levels = dict(re.findall(r'vital \w*" data-field="(\w+)" data-level="(\w*)"', top))
    assert levels == {"success": "critical", "rate": "", "p95": "", "waiting": "", "fallback": "warning"}
    assert "74.0 % answered 20 requests/min 1.6 s p95" in visible(top)
    assert 'data-field="sentence" data-level="healthy"' in render_panels(healthy(), "en")


def test_a_row_has_the_figures_of_the_last_minutes_the_last_error_and_a_day_of_health() -> None:
    html = row(render_panels(ill(), "en"), "groq")
    assert 'data-field="attempts" data-value="30"' in html
    assert "last error timeout HTTP 504, 20 s ago" in visible(html)
    assert 'aria-label="groq, 24 hours: down in 1 and degraded in 1 of 48 half hours"' in html
    assert "11:30 UTC: 30 attempts, 30 failed, down for 30 min" in visible(html)
    assert 'href="providers/groq"' in html


def test_the_closest_limit_may_be_a_models() -> None:
    opus = model_of("opus*", quotas=[quota("rpm", 99, 100, "critical")])
    html = render_panels(snapshot([replace(provider_of("anthropic"), models=[opus])], None), "en")
    assert "99.0 % closest quota anthropic opus* requests/min" in visible(html)


def test_the_time_to_the_first_token_and_the_reserved_ratio_are_beside_the_latency() -> None:
    html = render_panels(ill(), "en")
    panel = html.partition('id="panel-performance"')[2]
    assert 'data-field="first-token-p50" data-value="280.0">280 ms' in panel.replace("\u202f", " ").replace("\xa0", " ")
    assert 'data-field="reserved-ratio" data-value="1.083">1.08\u202f\u00d7<' in panel


def test_what_the_cache_has_saved_is_beside_the_cost_where_it_has_answered() -> None:
    plain = figures(["openai"])
    assert "cache-saved" not in render_panels(snapshot([provider_of("openai")], plain), "en")
    answered = replace(plain.requests, cache_hits=plain.requests.successes // 4, saved_usd=1.25)
    html = render_panels(snapshot([provider_of("openai")], replace(plain, requests=answered)), "en")
    assert 'data-field="cache-saved" data-value="1.25"' in html
    assert re.search(r"25\.0\s?% of answers", html)


def test_what_hedges_have_wasted_is_beside_the_cost_where_there_were_any() -> None:
    plain = figures(["openai"])
    assert "hedges-wasted" not in render_panels(snapshot([provider_of("openai")], plain), "en")
    hedged = replace(plain.requests, hedged=12, wasted_usd=0.5)
    html = render_panels(snapshot([provider_of("openai")], replace(plain, requests=hedged)), "en")
    assert 'data-field="hedges-wasted" data-value="0.5"' in html
    assert "12 requests hedged" in html


def test_an_open_breaker_whose_time_is_over_says_that_the_next_request_is_a_probe() -> None:
    due = replace(provider_of("openai"), health="down", breaker="open", next_probe_in=0.0)
    shown = visible(row(render_panels(snapshot([due], None), "en"), "openai"))
    assert "open the next request is a probe" in shown


@pytest.mark.parametrize(("language", "one", "more"), [("es", "1 caído", "2 caídos"), ("en", "1 down", "2 down")])
def test_numbers_of_providers_agree_with_their_nouns(language: str, one: str, more: str) -> None:
    down = [provider_of(name, "down", "open") for name in ("a", "b")]
    assert one in visible(render_panels(snapshot(down[:1], None), language))
    assert more in visible(render_panels(snapshot(down, None), language))


@pytest.mark.parametrize("language", LANGUAGES)
def test_charts_and_history_name_their_time_zone(language: str) -> None:
    html = render_panels(ill(), language)
    captions = re.findall(r"<figcaption.*?</figcaption>", html, re.DOTALL)
    assert len(captions) == 3
    assert all("(UTC)" in caption for caption in captions)
    assert "(UTC)" in re.findall(r'<h2 id="title-history">.*?</h2>', html, re.DOTALL)[0]


def test_links_keep_a_free_range() -> None:
    html = render_panels(replace(ill(), range=free_range(NOW - 86_400, NOW - 3_600)), "en")
    assert "range=2026-11-25T12%3A00Z..2026-11-26T11%3A00Z&amp;by=model" in html


def test_times_are_in_the_configured_zone_and_days_are_those_of_utc() -> None:
    html = render_panels(replace(ill(), zone="America/New_York"), "en")
    captions = re.findall(r"<figcaption.*?</figcaption>", html, re.DOTALL)
    assert all("(America/New_York)" in caption for caption in captions)
    utc = re.findall(r'class="tick"[^>]*>(\d\d):00<', render_panels(ill(), "en"))
    local = re.findall(r'class="tick"[^>]*>(\d\d):00<', html)
    assert utc
    assert {(int(one) - int(other)) % 24 for one, other in zip(utc, local, strict=True)} <= {4, 5}
    days = render_panels(replace(ill(), zone="America/New_York", range=RANGES["30d"]), "en")
    assert all("(UTC days)" in caption for caption in re.findall(r"<figcaption.*?</figcaption>", days, re.DOTALL))


def test_actions_say_what_becomes_of_the_traffic() -> None:
    html = row(render_panels(ill(), "en"), "mistral")
    assert "Resume mistral Resume with one probe mistral" in visible(html)
    assert 'title="Resume (close circuit)"' in html
    assert "Stop traffic" in visible(row(render_panels(ill(), "en"), "anthropic"))


def test_what_is_over_is_said_to_be_and_leads_to_the_playbook() -> None:
    failing = Alert(
        "1", NOW, "error_rate", "critical", "", "error_rate", "gpt-4o", 0.25, 0.25, 0.2, "30 of 120 in 300 s"
    )
    over = Alert("2", NOW, "queue", "resolved", "openai", "queue", "", 0.1, 2, 20, "after 90 s: 2 waiting")
    html = render_panels(snapshot([provider_of("openai")], figures(["openai"], alerts=[failing, over])), "es")
    for part in ("playbook#error-rate", "tasa de errores", "playbook#queue", "cola que no se vacía", "terminado"):
        assert part in html


def test_a_provider_that_is_down_is_an_alert() -> None:
    alert = Alert("1", NOW, "provider_down", "critical", "openai", "", "", None, None, None, "server error")
    html = render_panels(snapshot([provider_of("openai")], figures(["openai"], alerts=[alert])), "en")
    assert 'data-alert="1" data-type="provider_down" data-level="critical"' in html
    assert "openai provider down server error" in visible(html)
