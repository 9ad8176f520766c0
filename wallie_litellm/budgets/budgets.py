"""The facade of budgets: reserve and settle, alerts, and what the status shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from wallie_litellm.budgets.accounts import Crossed, LocalAccount
from wallie_litellm.budgets.holds import BudgetHold
from wallie_litellm.budgets.rules import NO_ENTRIES, BudgetRules, Entry
from wallie_litellm.budgets.spending import Spending, SpentReader
from wallie_litellm.clock import DAY, Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.core.cost_ratio import CostRatio
from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.core.spending import NANO, Periods
from wallie_litellm.errors import BudgetExhausted, RateLimited, Refused
from wallie_litellm.events import BudgetCrossed, Event, new_id

EXHAUSTED: Final = "exhausted"
MOST_USER_ROWS: Final = 100  # rows of users in the status: those that have spent the largest shares
STORE_RETRY: Final = 1.0  # seconds; Redis may be back by then
_WINDOWS: Final = ("day", "month")

# Has an action done once in the fleet: a key, the seconds for which this holds, the action.
Once = Callable[[str, float, Callable[[], object]], object]


class Budgets:
    """The budgets of one guard. Without any in the file it is false, and asked for nothing.

    ``publish`` receives the alerts, ``once`` has each published once in a fleet. ``is_on`` says whether exhausted
    budgets refuse requests, and lead them elsewhere, at the moment. ``processes`` share each budget where they share no
    store.
    """

    def __init__(
        self,
        config: WallieConfig,
        clock: Clock,
        publish: Callable[[Event], object],
        once: Once,
        is_on: Callable[[], bool],
        processes: int = 1,
    ) -> None:
        self._rules = BudgetRules(config, processes)
        self._processes = processes
        self._reader: SpentReader | None = None
        self._flush: Callable[[], object] = lambda: None
        self._clock = clock
        self._wall = clock.wall
        self._zone = ZoneInfo(config.budget.reset_timezone)
        self._publish = publish
        self._once = once
        self.is_on = is_on
        #: Names and shares of a limit at which there is an alert, the lowest first.
        self._levels = _levels_of(config)
        self.leads_to_cheapest = self._rules.lead_to_cheapest
        self._ratios: defaultdict[tuple[str, str], CostRatio] = defaultdict(CostRatio)  # by feature and model group
        self.spending: Spending | None = self._open(config, clock) if self._rules else None

    def __bool__(self) -> bool:
        return self.spending is not None

    def _open(self, config: WallieConfig, clock: Clock) -> Spending:
        settings = (
            clock,
            config.budget.reset_timezone,
            config.admission.reservation_ttl,
            self._levels,
            self.is_on,
            self._on_crossed,
        )
        if config.store.url == "memory":
            return Spending(*settings)
        from wallie_litellm.budgets.shared_spending import SharedSpending  # Redis' client may not be installed

        return SharedSpending(config.store, *settings)

    def configure(self, config: WallieConfig) -> None:
        """Go by another configuration from now on; a time zone holds until the process ends."""
        self._rules = rules = BudgetRules(config, self._processes)
        self._levels = _levels_of(config)
        self.leads_to_cheapest = rules.lead_to_cheapest
        if self.spending is None:
            self._zone = ZoneInfo(config.budget.reset_timezone)
            self.spending = self._open(config, self._clock) if rules else None
        else:
            self.spending.configure(rules, self._levels)
        self._read()

    def entries(self, feature: str | None, user: str | None, key: str | None = None) -> tuple[Entry, ...]:
        """The budgets that hold for a request; ``key`` is the proxy's that it came with."""
        return self._rules.of(feature, user, key)

    def ratio(self, entries: tuple[Entry, ...], group: str) -> CostRatio:
        """What calls of a model group under these budgets cost of their estimates."""
        return self._ratios[entries[0].rule.feature, group]

    def begin(self, reader: SpentReader | None, flush: Callable[[], object] = lambda: None) -> None:
        """Begin with what ``reader`` finds on record, which is also asked for users that come later.

        ``flush`` has all that was spent on record before budgets that are new are read.
        """
        self._reader, self._flush = reader, flush
        self._read()

    def _read(self) -> None:
        if (spending := self.spending) is None:
            return
        spending.reader = self._reader
        names = spending.open(self._rules.common)
        if not names:
            return
        if self._reader is not None:
            self._flush()
        spending.restore(names)

    def unreserved(self, feature: str | None, user: str | None, key: str | None = None) -> BudgetHold | None:
        """What a cost that was not reserved is settled by; ``None`` where no budget holds."""
        entries = self._rules.of(feature, user, key)
        return self.spending.hold_of(entries, 0) if self.spending is not None and entries else None

    def exhausted(self, feature: str | None, user: str | None, key: str | None, on_exhausted: str) -> Entry | None:
        """The first exhausted budget of a request with this ``on_exhausted``; ``None`` while they are off."""
        if self.spending is None or not self.is_on():
            return None
        return self.spending.exhausted(self._rules.of(feature, user, key) or NO_ENTRIES, on_exhausted)

    def refusal(self, entry: Entry, provider: str, group: str) -> Refused:
        """The error of a request that the budget of ``entry`` refuses."""
        rule, spending = entry.rule, self.spending
        whose = _whose(entry)
        if spending is not None and spending.state == "down":
            text = (
                f"{whose} cannot be kept to: the shared store does not answer, and wallie.store.on_store_error allows "
                "no more without it."
            )
            return RateLimited(text, provider=provider, model=group, retry_after=STORE_RETRY)
        window, limit, resets_at = self._what_is_exhausted(entry)
        return BudgetExhausted(
            f"{whose} is used up: {limit / NANO:,.2f} USD a {window} are spent, or may be by what is under way "
            f"({rule.setting}). It begins anew at {iso_time(resets_at)}.",
            provider=provider,
            model=group,
            retry_after=max(1.0, resets_at - self._wall()),
        )

    def _what_is_exhausted(self, entry: Entry) -> tuple[str, int, float]:
        """The limit that is exhausted until the latest, with its window and the Unix time at which that ends.

        Another process may have seen that, and this one not yet: then the one that is nearest to it counts.
        """
        assert self.spending is not None, "a budget has refused"  # noqa: S101 - narrows the type
        accounts, now = self.spending.accounts()
        account = next((one for one in accounts if one.entry.name == entry.name), None)
        found: list[tuple[bool, float, str, int]] = []
        figures = None if account is None else account.figures(now)
        for window, limit, ends in zip(_WINDOWS, entry.rule.limits, now[2:], strict=True):
            if limit is not None:
                used = 0 if figures is None else (figures.day_spent if window == "day" else figures.month_spent)
                reserved = 0 if figures is None else figures.reserved
                share = (used + reserved) / limit
                found.append((share >= 1, float(ends) if share >= 1 else share, window, limit))
        _, _, window, limit = max(found)
        return window, limit, float(now.day_ends if window == "day" else now.month_ends)

    # Alerts and status

    def _on_crossed(self, crossed: Crossed) -> None:
        entry, wall = crossed.entry, self._wall()
        if entry.name.user and crossed.level != EXHAUSTED:
            return  # thousands of users would be thousands of warnings
        begins = datetime.fromtimestamp(crossed.begins, self._zone)
        event = BudgetCrossed(
            new_id(wall),
            wall,
            crossed.level,
            crossed.spent / crossed.limit,
            crossed.spent / NANO,
            crossed.limit / NANO,
            begins.strftime("%Y-%m-%d" if crossed.window == "day" else "%Y-%m"),
            crossed.window,
            entry.rule.feature or None,
            entry.name.user or None,
            entry.rule.on_exhausted,
            entry.name.key or None,
        )
        name = f"{entry.name.feature}:{entry.name.user}" + (f":{entry.name.key}" if entry.name.key else "")
        key = f"budget:{name}:{crossed.window}:{crossed.begins}:{crossed.level}"
        self._once(key, (1 if crossed.window == "day" else 32) * DAY, lambda: self._publish(event))

    def rows(self) -> list[dict[str, Any]]:
        """Every budget's figures, JSON-ready: of features and of all together; of users those that are near the end.

        ``feature`` is ``None`` where it holds for all features, ``user`` where for all users together, ``key`` where it
        is not of a key of the proxy's. ``reset_at`` is ISO 8601 in UTC. ``reserved_usd`` is what calls under way may
        cost, ``over_usd`` what is spent beyond the limit.
        """
        if self.spending is None:
            return []
        accounts, now = self.spending.accounts()
        present = [account for account in accounts if self._rules.entry_of(account.entry.name) is not None]
        rows = [row for account in present for row in self._rows(account, now)]
        users = [row for row in rows if row["user"] is not None and row["state"] != "ok"]
        users.sort(key=lambda row: row["spent_usd"] / row["limit_usd"], reverse=True)
        return [row for row in rows if row["user"] is None] + users[:MOST_USER_ROWS]

    def _rows(self, account: LocalAccount, now: Periods) -> Iterator[dict[str, Any]]:
        figures, rule = account.figures(now), account.entry.rule
        for window, limit, spent, ends in zip(_WINDOWS, rule.limits, figures[2:4], now[2:], strict=True):
            if limit is None:
                continue
            yield {
                "feature": rule.feature or None,
                "user": account.entry.name.user or None,
                "key": account.entry.name.key or None,
                "window": window,
                "spent_usd": spent / NANO,
                "reserved_usd": figures.reserved / NANO,
                "limit_usd": limit / NANO,
                "over_usd": max(0, spent - limit) / NANO,
                "reset_at": iso_time(float(ends)),
                "exhausts_at": None,
                "on_exhausted": rule.on_exhausted,
                "state": _state(spent / limit, self._levels),
            }

    def store(self) -> dict[str, Any] | None:
        """The exchange with the fleet's store; ``None`` without one."""
        status = getattr(self.spending, "status", None)
        return None if status is None else dict(status())

    def close(self) -> None:
        """Tell the store what is left. Idempotent."""
        if self.spending is not None:
            self.spending.close()


def _levels_of(config: WallieConfig) -> tuple[tuple[str, float], ...]:
    return ("warning", config.quota.warning), ("critical", config.quota.critical), (EXHAUSTED, 1.0)


def _whose(entry: Entry) -> str:
    if entry.rule.key:
        return f"The budget of the key {entry.rule.key}"
    whose = f"The feature {entry.rule.feature}'s budget" if entry.rule.feature else "The budget of all features"
    return f"{whose} for each user" if entry.rule.per_user else whose


def _state(share: float, levels: Iterable[tuple[str, float]]) -> str:
    state = "ok"
    for level, least in levels:
        if share >= least:
            state = level
    return state
