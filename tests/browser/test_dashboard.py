"""The page in a real browser, over real sockets, a real guard and a real ledger."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_support import TOKEN, served, served_beside
from ledger_support import ended, settled
from playwright.sync_api import Page, expect
from redis_support import RedisServer
from support import messages, wait_until
from turns import Turns

from wallie_litellm.bootstrap import ledger_sink
from wallie_litellm.config import WallieConfig, load_config
from wallie_litellm.events import BreakerChanged, Event, FellBack, HealthChanged, OperatorActed, QuotaCrossed, new_id
from wallie_litellm.guard import Guard
from wallie_litellm.simulator.providers import SimulatedProviders
from wallie_litellm.telemetry.bus import Bus

OpenPage = Callable[..., Page]


class Stage:
    """A guard with a ledger, and the address of its dashboard."""

    def __init__(self, guard: Guard, address: str) -> None:
        self.guard = guard
        self.address = address

    def record(self, *events: Event) -> None:
        for event in events:
            self.guard.bus.publish(event)
        assert self.guard.bus.flush_blocking(10)

    def breaker(self, provider: str = "openai") -> str:
        state: str = self.guard.status()["providers"][provider]["breaker"]["state"]
        return state


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    closing: list[Any] = []

    def make(tokens: tuple[str, ...] = (), **wallie: Any) -> Stage:
        place = {"ledger": {"url": f"sqlite:///{tmp_path}/wallie.db"}, "telemetry": {"spool": str(tmp_path / "spool")}}
        config = WallieConfig.model_validate({**place, **wallie})
        bus = Bus()
        guard = Guard(config, bus=bus)
        if (sink := ledger_sink(config)) is not None:
            bus.add(sink)
        serving = served(guard, tokens)
        address = serving.__enter__()
        closing.append((serving, guard))
        return Stage(guard, address)

    yield make
    for serving, guard in closing:
        serving.__exit__(None, None, None)
        guard.close()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def value(page: Page, selector: str) -> str:
    found = page.locator(selector).first.get_attribute("data-value")
    assert found is not None, selector
    return found


def some_traffic(now: float) -> list[Event]:
    served_ = [
        settled(at=now - 60 - number, cost_usd=0.25, total_tokens=100, latency_ms=400.0, waited_ms=20.0)
        for number in range(8)
    ]
    failed = settled(
        at=now - 30,
        success=False,
        outcome="server_error",
        status_code=500,
        error="server error",
        cost_usd=0.0,
        total_tokens=0,
    )
    rescue = settled(
        at=now - 29,
        provider="groq",
        model="llama-3.1-8b",
        cost_usd=None,
        unpriced=True,
        total_tokens=50,
        feature=None,
        latency_ms=90.0,
    )
    return [
        *served_,
        *(ended(one) for one in served_),
        failed,
        rescue,
        ended(failed, rescue),
        FellBack(new_id(now), now - 29, "r", "gpt-4o-mini", "llama-3.1-8b", "openai", "server error", None, None),
        QuotaCrossed(new_id(now), now - 20, "openai", "rpd", "critical", 0.961, 961, 1000, 30.0),
        BreakerChanged(new_id(now), now - 10, "anthropic", "closed", "open", "connection refused", 30.0),
        HealthChanged(new_id(now), now - 10, "anthropic", "degraded", "down", "connection refused"),
        OperatorActed(new_id(now), now - 5, "maria (page, 127.0.0.1)", "reset_quota", "gemini", "new month"),
    ]


def test_each_panel_shows_the_figures_of_the_ledger_and_the_guard(
    make_stage: Callable[..., Stage], open_page: OpenPage, check_accessibility: Callable[[Page], None]
) -> None:
    stage = make_stage(
        providers={"openai": {"rpm": 100, "tpm": 10_000, "rpd": 1000}},
        features={"chat": {"limits": {"rpd": 9}}},
        routing={"order": "latency", "tiers": {"flash": ["gpt-4o-mini"]}},
    )
    stage.record(*some_traffic(time.time()))
    stage.guard.update_usage("openai", 850, 100)
    stage.guard.open_circuit("deepseek")
    page = open_page(f"{stage.address}?range=1h")

    health = "#panel-health [data-provider=openai]"
    assert value(page, f"{health} [data-field=health]") == "healthy"
    assert value(page, f"{health} [data-field=attempts]") == "9"
    assert float(value(page, f"{health} [data-field=error-rate]")) == pytest.approx(1 / 9)
    assert value(page, "#panel-health [data-provider=deepseek] [data-field=health]") == "down"
    assert value(page, "#panel-health [data-provider=deepseek] [data-field=breaker]") == "forced_open"

    quota = "#panel-quota [data-provider=openai] [data-dimension=rpd]"
    assert page.locator(quota).get_attribute("data-level") == "warning"
    assert float(value(page, quota)) == pytest.approx(0.85)
    assert page.locator("#panel-quota [data-feature=chat] [data-dimension=rpd]").count() == 1

    assert float(value(page, "#panel-cost [data-field=today]")) == pytest.approx(2.0)
    assert float(value(page, "#panel-cost [data-field=month]")) == pytest.approx(2.0)
    assert float(value(page, "#panel-cost [data-field=projection]")) >= 2.0
    assert value(page, "#panel-cost [data-field=unpriced]") == "1"
    assert float(value(page, "#panel-cost tr[data-provider=openai] [data-field=cost]")) == pytest.approx(2.0)
    assert value(page, "#panel-cost tr[data-provider=groq] [data-field=cost]") == ""
    assert page.locator("#panel-cost svg rect").count() > 0

    alert = page.locator("#panel-alerts tbody tr[data-level=critical]", has_text="96.1")
    expect(alert).to_contain_text("openai")
    expect(alert).to_contain_text("requests/day")

    for chart in ("chart-attempts", "chart-latency"):
        mark = page.locator(f".chart:has(#{chart}-label) svg.plot svg.mark.opened title")
        assert "anthropic opened: connection refused" in (mark.text_content() or "")
    assert page.locator(".chart.latency svg.plot polyline.line-1").count() > 0

    performance = "#panel-performance [data-provider=openai]"
    assert float(value(page, f"{performance} [data-field=success-rate]")) == pytest.approx(8 / 9)
    assert float(value(page, f"{performance} [data-field=mean]")) == pytest.approx(400.0)
    assert float(value(page, f"{performance} [data-field=p95]")) == pytest.approx(400.0)
    assert value(page, f"{performance} [data-field=tokens]") == "800"
    assert value(page, "#panel-performance [data-provider=groq] [data-field=fallback-rate]") == "1.0"

    expect(page.locator("#panel-history")).to_contain_text("maria")
    expect(page.locator("#panel-history")).to_contain_text("connection refused")
    expect(page.locator("#panel-history [data-kind=fallback]")).to_contain_text("llama-3.1-8b")

    assert page.locator("#panel-kpis tbody tr").count() == 6
    assert value(page, "#panel-kpis [data-kpi=critical_alerts] [data-field=passed]") == "False"
    assert value(page, "#panel-fleet [data-field=store]") == "process"
    check_accessibility(page)
    page.locator("#panel-health").get_by_role("link", name="openai", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("openai")
    assert value(page, "#panel-kinds [data-field=count]") == "1"
    check_accessibility(page)
    expect(page.locator("#panel-failures tbody").get_by_role("link")).to_have_count(1)
    page.goto(f"{stage.address}?range=1h")
    alert.get_by_role("link", name="Quota").click()
    expect(page.locator("#quota")).to_contain_text("wallie-litellm limits")
    check_accessibility(page)


def test_use_is_shown_by_what_a_tab_says_and_leads_to_its_requests(
    make_stage: Callable[..., Stage], open_page: OpenPage, check_accessibility: Callable[[Page], None]
) -> None:
    stage = make_stage()
    stage.record(*some_traffic(time.time()))
    page = open_page(f"{stage.address}?range=1h")
    for tab, row, figures in (
        ("feature", "wallie-chat", ("8", "9", "1", "2.0")),
        ("model", "gpt-4o-mini", ("8", "9", "1", "2.0")),
        ("key", "chat-app", ("9", "10", "1", "2.0")),
        ("user", "u1", ("9", "10", "1", "2.0")),
    ):
        page.get_by_role("link", name=f"By {tab}").click()
        expect(page.get_by_role("link", name=f"By {tab}")).to_have_attribute("aria-current", "true")
        own = f"#panel-cost tr[data-{tab}={row}]"
        fields = ("requests", "attempts", "errors", "cost")
        assert tuple(value(page, f"{own} [data-field={field}]") for field in fields) == figures, tab
    page.locator("#live[data-state=on]").wait_for()
    assert page.locator("#panel-cost tr[data-user=u1]").count() == 1  # refreshed as it was chosen
    check_accessibility(page)
    page.locator("#panel-cost tr[data-user=u1] a").click()
    expect(page.get_by_role("heading", name="Requests")).to_be_visible()
    expect(page.locator("input[name=user]")).to_have_value("u1")


def test_the_chosen_range_is_the_range_of_the_sums(make_stage: Callable[..., Stage], open_page: OpenPage) -> None:
    stage = make_stage()
    now = time.time()
    stage.record(*(settled(at=now - age) for age in (60, 20_000, 3 * 86_400, 20 * 86_400)))
    page = open_page(f"{stage.address}?range=1h")
    for name, attempts in (("24 hours", "2"), ("7 days", "3"), ("30 days", "4"), ("1 hour", "1")):
        page.get_by_role("link", name=name).click()
        assert value(page, "#panel-performance [data-provider=openai] [data-field=attempts]") == attempts
        expect(page.get_by_role("link", name=name)).to_have_attribute("aria-current", "page")


def test_a_free_range_has_the_sums_between_its_ends(
    make_stage: Callable[..., Stage], open_page: OpenPage, check_accessibility: Callable[[Page], None]
) -> None:
    stage = make_stage()
    noon = time.time() // 86_400 * 86_400 - 2 * 86_400 + 43_200
    stage.record(*(settled(at=noon + hours * 3_600, cost_usd=0.5) for hours in (-30, 0, 1, 30)))
    day = time.strftime("%Y-%m-%d", time.gmtime(noon))
    page = open_page(f"{stage.address}?by=model")
    page.locator(".free summary").click()
    page.get_by_label("From (UTC)").fill(f"{day}T11:00")
    page.get_by_label("To (UTC)").fill(f"{day}T14:30")
    check_accessibility(page)
    page.get_by_role("button", name="Show").click()
    assert value(page, "#panel-cost [data-field=spent]") == "1.0"
    assert value(page, "#panel-cost tr[data-model=gpt-4o-mini] [data-field=attempts]") == "2"
    assert page.locator("#chart-cost-table tbody tr").count() == 2
    expect(page.locator(".free summary")).to_have_text(f"{day} 11:00 \u2013 {day} 14:30")
    page.get_by_role("link", name="By feature").click()  # keeps the range
    assert value(page, "#panel-cost tr[data-feature=wallie-chat] [data-field=attempts]") == "2"
    page.locator("#live[data-state=on]").wait_for()
    check_accessibility(page)


def test_a_change_of_health_appears_within_two_seconds_without_a_reload(
    make_stage: Callable[..., Stage], open_page: OpenPage, turns: Turns
) -> None:
    stage = make_stage()
    page = open_page(stage.address)
    page.evaluate("window.loaded = 'once'")
    cell = page.locator("#panel-health [data-provider=openai] [data-field=health]")
    expect(cell).to_have_attribute("data-value", "healthy")
    began = turns.now()
    stage.guard.open_circuit("openai")
    expect(cell).to_have_attribute("data-value", "down")
    assert turns.now() - began < 2.5
    expect(page.locator("#spoken")).to_contain_text("openai")
    assert page.evaluate("window.loaded") == "once"


def test_a_providers_page_refreshes_itself_and_has_any_range(
    make_stage: Callable[..., Stage], open_page: OpenPage, check_accessibility: Callable[[Page], None]
) -> None:
    stage = make_stage()
    stage.record(*some_traffic(time.time()))
    page = open_page(f"{stage.address}providers/openai")
    page.evaluate("window.loaded = 'once'")
    breaker = page.locator("[data-field=breaker]")
    expect(breaker).to_have_attribute("data-value", "closed")
    stage.guard.open_circuit("openai")
    expect(breaker).to_have_attribute("data-value", "forced_open")
    assert page.evaluate("window.loaded") == "once"
    page.get_by_role("link", name="1 hour").click()
    assert value(page, "[data-field=attempts]") == "9"
    expect(page.locator("#panel-latency .line-1")).to_have_count(1)
    page.locator("#live[data-state=on]").wait_for()
    check_accessibility(page)
    page.locator(".free summary").click()
    page.get_by_label("From (UTC)").fill("2026-01-02T11:00")
    page.get_by_label("To (UTC)").fill("2026-01-02T14:30")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("openai")
    expect(page.locator(".free summary")).to_have_text("2026-01-02 11:00 \u2013 2026-01-02 14:30")
    assert value(page, "[data-field=attempts]") == "0"


def test_without_a_configured_zone_the_page_has_that_of_its_viewer(
    make_stage: Callable[..., Stage], open_page: OpenPage
) -> None:
    stage, noon = make_stage(), time.time() // 86_400 * 86_400 - 43_200
    stage.record(settled(at=noon, cost_usd=0.5))
    page = open_page(stage.address, timezone_id="Asia/Tokyo")
    expect(page.locator("#panel-performance")).to_contain_text("(Asia/Tokyo)")
    page.locator(".free summary").click()
    day = time.strftime("%Y-%m-%d", time.gmtime(noon))
    page.get_by_label("From (Asia/Tokyo)").fill(f"{day}T20:30")
    page.get_by_label("To (Asia/Tokyo)").fill(f"{day}T21:30")
    page.get_by_role("button", name="Show").click()
    assert value(page, "#panel-cost [data-field=spent]") == "0.5"
    expect(page.locator(".free summary")).to_have_text(f"{day} 20:30 \u2013 {day} 21:30")
    page.locator("#live[data-state=on]").wait_for()
    expect(page.locator("#panel-performance")).to_contain_text("(Asia/Tokyo)")


def test_an_outage_of_a_provider_appears_within_two_seconds(
    make_router: Callable[..., Any], fleet: SimulatedProviders, open_page: OpenPage, turns: Turns
) -> None:
    router = make_router(retry={"max_retries": 0}, breaker={"failures": 3})
    with served(router.guard) as address:
        page = open_page(address)
        cell = page.locator("#panel-health [data-provider=openai] [data-field=health]")
        expect(cell).to_have_attribute("data-value", "healthy")
        fleet["openai"].fail(503)
        for health, calls in (("degraded", 1), ("down", 2)):
            for _ in range(calls):
                router.completion("gpt-4o-mini", messages())
            began = turns.now()
            expect(cell).to_have_attribute("data-value", health)
            assert turns.now() - began < 2.5
        page.close()


def take_action(page: Page, name: str, provider: str = "openai", reason: str = "") -> None:
    page.locator(f"#panel-health [data-provider={provider}]").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(provider)
    if reason:
        page.get_by_label("Why").fill(reason)
    page.get_by_role("button", name=name).click()
    expect(page.locator(".notice[role=status]")).to_contain_text(provider)


def test_each_action_works_from_the_button_to_the_guard_and_goes_on_record(
    make_stage: Callable[..., Stage], open_page: OpenPage
) -> None:
    stage = make_stage()
    stage.guard.update_usage("openai", 40, 1000)
    page = open_page(stage.address)
    take_action(page, "Reset quota")
    assert stage.guard.status()["providers"]["openai"]["quota"]["rpd"]["used"] == 0
    take_action(page, "Stop traffic", reason="bad answers")
    assert stage.breaker() == "forced_open"
    take_action(page, "Resume with one probe")
    assert stage.breaker() == "half_open"
    take_action(page, "Resume")
    assert stage.breaker() == "closed"
    assert stage.guard.bus.flush_blocking(10)
    log = page.locator("#panel-history [data-kind=action]")
    expect(log).to_have_count(4)
    expect(log.last).to_contain_text("Reset quota")
    expect(page.locator("#panel-history")).to_contain_text("bad answers")
    expect(log.first).to_contain_text("127.0.0.1")


def test_one_models_traffic_is_stopped_in_its_providers_row(
    make_stage: Callable[..., Stage], open_page: OpenPage
) -> None:
    stage = make_stage()
    stage.guard.meet("openai", "openai", True, "openai|gpt-4o", "gpt-4o")
    page = open_page(stage.address)
    row = page.locator("#panel-health [data-provider=openai]")
    row.locator("summary").click()
    row.locator("[data-model=gpt-4o]").get_by_role("link", name="Stop traffic").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("openai gpt-4o")
    page.get_by_role("button", name="Stop traffic").click()
    expect(page.locator("#panel-health tr[data-model=gpt-4o]")).to_contain_text("traffic stopped by an operator")


def take_all_actions(page: Page, other: Guard) -> None:
    """Each button's effect on a guard that only shares a Redis with the one that serves the page."""

    def there() -> dict[str, Any]:
        found: dict[str, Any] = other.status()["providers"]["openai"]
        return found

    other.update_usage("openai", 40, 1000)
    wait_until(lambda: there()["quota"]["rpd"]["used"] == 40)
    take_action(page, "Reset quota")
    wait_until(lambda: there()["quota"]["rpd"]["used"] == 0)
    for name, state in (
        ("Stop traffic", "forced_open"),
        ("Resume with one probe", "half_open"),
        ("Resume", "closed"),
    ):
        take_action(page, name)
        wait_until(lambda state=state: there()["breaker"]["state"] == state)  # type: ignore[misc]
    expect(page.locator("#panel-fleet [data-field=store]")).to_have_attribute("data-value", "redis")


OPENAI = {"openai": {"rpm": 500, "tpm": 150_000, "rpd": 10_000}}


def test_each_action_reaches_the_other_workers_of_a_fleet(
    make_stage: Callable[..., Stage], open_page: OpenPage, redis: RedisServer
) -> None:
    stage = make_stage(store={"url": redis.url}, providers=OPENAI)
    other = Guard(stage.guard.config, bus=Bus())
    try:
        wait_until(lambda: other.status()["store"]["state"] == "ok")
        take_all_actions(open_page(stage.address), other)
    finally:
        other.close()


def test_a_dashboard_beside_a_fleet_passes_actions_to_it(
    open_page: OpenPage, redis: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "router_config.yaml"
    path.write_text(
        "model_list: [{model_name: gpt, litellm_params: {model: openai/gpt-4o}}]\n"
        f"wallie: {{store: {{url: '{redis.url}'}}, providers: {OPENAI}, ledger: {{url: 'sqlite:///{tmp_path}/wallie.db'}},"
        f" telemetry: {{spool: '{tmp_path}/spool'}}}}\n"
    )
    loaded = load_config(path)
    app = Guard(loaded.wallie, bus=Bus())
    try:
        wait_until(lambda: app.status()["store"]["state"] == "ok")
        with served_beside(loaded) as address:
            page = open_page(address)
            take_all_actions(page, app)
            expect(page.locator("#panel-fleet tbody tr")).to_have_count(2)
            page.close()  # before its server ends
    finally:
        app.close()


def test_a_dashboard_beside_one_process_shows_its_ledger_and_is_read_only(
    open_page: OpenPage, make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = make_stage(providers={"openai": {"rpm": 100, "rpd": 10}})
    now = time.time()
    stage.record(*(settled(at=now - 1, id=new_id(now)) for _ in range(9)))
    stage.guard.open_circuit("groq")
    assert stage.guard.bus.flush_blocking(10)
    path = tmp_path / "router_config.yaml"
    path.write_text(
        "model_list: [{model_name: gpt, litellm_params: {model: openai/gpt-4o}},"
        " {model_name: fast, litellm_params: {model: groq/llama}}]\n"
        f"wallie: {{providers: {{openai: {{rpm: 100, rpd: 10}}}}, ledger: {{url: 'sqlite:///{tmp_path}/wallie.db'}}}}\n"
    )
    with served_beside(load_config(path)) as address:
        page = open_page(f"{address}?range=1h")
        assert value(page, "#panel-health [data-provider=openai] [data-field=attempts]") == "9"
        assert value(page, "#panel-health [data-provider=groq] [data-field=health]") == "down"
        assert float(value(page, "#panel-quota [data-provider=openai] [data-dimension=rpd]")) == pytest.approx(0.9)
        assert page.get_by_role("link", name="Stop traffic").count() == 0
        expect(page.locator("#panel-health")).to_contain_text("WALLIE_REDIS_URL")
        assert page.context.request.post(f"{address}api/providers/openai/circuit/open").status == 409
        page.close()  # before its server ends


def test_an_action_can_be_cancelled(
    make_stage: Callable[..., Stage], open_page: OpenPage, check_accessibility: Callable[[Page], None]
) -> None:
    stage = make_stage()
    page = open_page(stage.address)
    page.locator("#panel-health [data-provider=openai]").get_by_role("link", name="Stop traffic").click()
    check_accessibility(page)
    page.get_by_role("link", name="Cancel").click()
    expect(page.locator("#panel-health")).to_be_visible()
    assert stage.breaker() == "closed"


def test_the_export_button_gives_the_records(
    make_stage: Callable[..., Stage], open_page: OpenPage, check_accessibility: Callable[[Page], None]
) -> None:
    stage = make_stage()
    stage.record(*(settled(at=time.time() - number, total_tokens=7) for number in range(5)))
    page = open_page(f"{stage.address}?range=1h")
    page.get_by_role("link", name="Export CSV").click()
    check_accessibility(page)
    page.get_by_label("Actions").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    assert download.value.suggested_filename.startswith("wallie-attempt-action-")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert [row["total_tokens"] for row in rows if row["kind"] == "attempt"] == ["7"] * 5
    page.get_by_role("link", name="Back").click()
    expect(page.locator("#panel-history [data-kind=action]")).to_contain_text("attempt, action; 1h")


def test_people_log_in_see_their_name_and_log_out(
    make_stage: Callable[..., Stage], open_page: OpenPage, check_accessibility: Callable[[Page], None]
) -> None:
    stage = make_stage((TOKEN,))
    page = open_page(f"{stage.address}?range=7d", expected="401")
    check_accessibility(page)
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Your name").fill("María")
    page.get_by_role("button").click()
    expect(page.locator("header")).to_contain_text("María")
    expect(page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "page")
    (cookie,) = [one for one in page.context.cookies() if one["name"] == "wallie_session"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert "wallie_session" not in page.evaluate("document.cookie")
    take_action(page, "Stop traffic")
    stage.guard.bus.flush_blocking(10)
    expect(page.locator("#panel-history")).to_contain_text("María (page, 127.0.0.1)")
    page.get_by_role("button", name="Log out").click()
    page.goto(stage.address)
    expect(page.get_by_label("Token")).to_be_visible()


def test_the_page_works_without_scripts(make_stage: Callable[..., Stage], open_page: OpenPage) -> None:
    stage = make_stage((TOKEN,))
    page = open_page(stage.address, java_script_enabled=False, expected="401")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button").click()
    expect(page.locator("#panel-health [data-provider=openai]")).to_be_visible()
    take_action(page, "Stop traffic")
    assert stage.breaker() == "forced_open"


HOSTILE = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">\'"&{{7*7}}'


def test_scripts_in_names_and_messages_are_text(make_stage: Callable[..., Stage], open_page: OpenPage) -> None:
    stage = make_stage(features={HOSTILE: {"limits": {"rpm": 5}}}, providers={HOSTILE: {"rpm": 5}})
    now = time.time()
    bad = settled(
        at=now - 5,
        provider=HOSTILE,
        model=HOSTILE,
        feature=HOSTILE,
        user_id=HOSTILE,
        success=False,
        error=HOSTILE,
        outcome="server_error",
    )
    stage.record(
        bad,
        ended(bad),
        FellBack(new_id(now), now, "r", HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),
        BreakerChanged(new_id(now), now, HOSTILE, "closed", "open", HOSTILE, 30.0),
        QuotaCrossed(new_id(now), now, HOSTILE, HOSTILE, HOSTILE, 0.9, 9, 10, 3.0),
        OperatorActed(new_id(now), now, HOSTILE, HOSTILE, HOSTILE, HOSTILE),
    )
    page = open_page(f"{stage.address}?range=1h")
    page.wait_for_timeout(1500)  # through a refresh too
    for panel in ("health", "quota", "cost", "alerts", "history", "performance"):
        expect(page.locator(f"#panel-{panel}")).to_contain_text("<script>window.pwned=1</script>")
    assert page.evaluate("window.pwned") is None
    assert page.locator("#panels script, #panels img").count() == 0
    page.locator("#panel-health tbody tr", has_text="<script>").get_by_role("link", name="Stop traffic").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("<script>")
    page.get_by_role("button", name="Stop traffic").click()
    expect(page.locator(".notice[role=status]")).to_contain_text("<script>")
    assert stage.breaker(HOSTILE) == "forced_open"
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(
    make_stage: Callable[..., Stage], open_page: OpenPage, scheme: str
) -> None:
    stage = make_stage(providers={"a-provider-with-quite-a-long-name-in-europe": {"rpm": 5}})
    stage.record(*some_traffic(time.time()))
    page = open_page(stage.address, viewport={"width": 375, "height": 700}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background.removeprefix("rgb(").rstrip(")").split(",")[:3])
    assert (brightness > 384) == (scheme == "light")
    assert page.evaluate("document.getElementById('panel-quota').offsetHeight") < 600  # limits with room are folded
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.set_viewport_size({"width": 1400, "height": 900})  # the narrowest in which a quota is one line
    over = "one => one.getBoundingClientRect().right - one.closest('.panel').getBoundingClientRect().right"
    assert max(page.evaluate(f"[...document.querySelectorAll('.quota *')].map({over})")) <= 0


def test_a_spanish_browser_gets_the_page_in_spanish(make_stage: Callable[..., Stage], open_page: OpenPage) -> None:
    page = open_page(make_stage().address, locale="es-MX")
    assert page.locator("html").get_attribute("lang") == "es"
    expect(page.get_by_role("heading", name="Proveedores")).to_be_visible()
    expect(page.get_by_role("link", name="24 horas")).to_be_visible()


def test_keyboard_focus_survives_a_refresh(make_stage: Callable[..., Stage], open_page: OpenPage) -> None:
    stage = make_stage()
    page = open_page(stage.address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    link = page.locator("#panel-health [data-provider=gemini]").get_by_role("link", name="Stop traffic")
    link.focus()
    focused = page.evaluate("document.activeElement.id")
    stage.guard.open_circuit("groq")
    expect(page.locator("#panel-health [data-provider=groq] [data-field=health]")).to_have_attribute(
        "data-value", "down"
    )
    assert page.evaluate("document.activeElement.id") == focused
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("gemini")


def test_a_lost_connection_is_shown_until_it_is_back(make_stage: Callable[..., Stage], open_page: OpenPage) -> None:
    stage = make_stage()
    page = open_page(stage.address, expected="ERR_")
    expect(page.locator("#live")).to_have_text("live")
    page.context.set_offline(True)
    expect(page.locator("#live")).to_contain_text("lost", timeout=10_000)
    page.context.set_offline(False)
    expect(page.locator("#live")).to_have_text("live")
