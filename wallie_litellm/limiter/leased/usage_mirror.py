"""The fleet's usage of one provider's limits, as the lease server last answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

from wallie_litellm.core.daily_quota import DailyQuota, next_midnight
from wallie_litellm.core.lease_exchange import LeaseAnswer
from wallie_litellm.core.limit_keys import ACCOUNT, scope_in
from wallie_litellm.core.outage import DayAtDisconnect, Outage, RateAtDisconnect
from wallie_litellm.core.sliding_window import SlidingWindow
from wallie_litellm.core.token_bucket import TOLERANCE, TokenBucket
from wallie_litellm.limiter.leased.fleet_serves import FleetServes
from wallie_litellm.limiter.leased.minute_usage import MinuteUsage
from wallie_litellm.limiter.quota_meter import QuotaMeter


class UsageMirror:
    """Copies the answers' usage into the buckets and counters of this process, and reports thresholds.

    ``report`` is called with a meter, the time, and what was used before; ``wall`` is Unix time in seconds.
    """

    def __init__(
        self,
        buckets: Mapping[str, TokenBucket],
        windows: Mapping[str, SlidingWindow],
        days: Mapping[str, DailyQuota],
        meters: Callable[[], Sequence[QuotaMeter]],
        report: Callable[[QuotaMeter, float, float], None],
        timezone: str,
        wall: Callable[[], float],
    ) -> None:
        self.leased: Mapping[str, float] = dict.fromkeys((*buckets, *days), 0.0)  # units, to all workers
        self.minute = MinuteUsage(windows)
        self.serves = FleetServes()
        self.workers = 1
        self.quota_resets = 0  # by operators, so far
        self.clock_skew = 0.0  # seconds that the server's clock is ahead of this process' Unix time
        self._server_offset: float | None = None  # seconds from monotonic time to the server's clock, or a little less
        self._buckets = buckets
        self._days = days
        self._meters = meters
        self._report = report
        self._timezone = timezone
        self._wall = wall
        self._is_empty = True  # no answer yet

    def move_to(self, timezone: str) -> None:
        """Have days end by another zone: the first to do so after the end of the one that has begun."""
        self._timezone = timezone

    def server_time(self) -> float:
        """Unix time by the server's clock."""
        return self._wall() + self.clock_skew

    def server_time_at(self, now: float) -> float:
        """Unix time by the server's clock at ``now``, or a little earlier; by this process' clock before an answer."""
        if self._server_offset is None:
            self._server_offset = self._wall() - now
        return now + self._server_offset

    def roll_day(self, now: float) -> None:
        """Begin a new day where the server's midnight has passed, before an answer reports it."""
        for name, counter in self._days.items():
            if now >= counter.resets_at:
                self._begin_day(name, counter.resets_at)
                wall = self.server_time()
                counter.resets_at = now + next_midnight(wall, self._timezone) - wall

    def _begin_day(self, name: str, began_at: float) -> None:
        self._days[name].reset(began_at)
        for meter in self._meters():
            if meter.key == name:
                meter.restart()

    def rate_limits(self) -> dict[str, list[float]]:
        """Units a minute and the bucket's capacity, by limit."""
        return {name: [60.0 / bucket.cost, bucket.capacity] for name, bucket in self._buckets.items()}

    def daily_limits(self) -> dict[str, list[float]]:
        """Units a day and the Unix time of the day's end, by limit."""
        if not self._days:
            return {}
        midnight = next_midnight(self.server_time(), self._timezone)
        return {name: [counter.limit, midnight] for name, counter in self._days.items()}

    def used(self, now: float) -> dict[str, float]:
        """Units used, by limit."""
        return {
            **{name: bucket.used(now) for name, bucket in self._buckets.items()},
            **{name: float(counter.used) for name, counter in self._days.items()},
        }

    def days_end_at(self) -> dict[str, float]:
        """When each day ends, on this process' clock."""
        return {name: counter.resets_at for name, counter in self._days.items()}

    def refill_rate(self, name: str) -> float:
        """Units a second; ``inf`` of a daily limit, whose lease is free at once."""
        bucket = self._buckets.get(name)
        return 1 / bucket.cost if bucket else inf

    def wait_for_lease(self, now: float, name: str, amount: float) -> float:
        """Seconds until the server could lease ``amount``, by its last answer."""
        bucket = self._buckets.get(name)
        if bucket is not None:
            short = max(0.0, bucket.full_at - now) + (self.leased.get(name, 0.0) + amount) * bucket.cost - bucket.depth
            return short + TOLERANCE / 2 if short > 0 else 0.0
        counter = self._days[name]
        return 0.0 if counter.used + amount <= counter.limit else max(0.0, counter.resets_at - now)

    def update(self, now: float, answer: LeaseAnswer) -> None:
        """Copy an answer."""
        self.clock_skew, self._server_offset = float(answer["now"]) - self._wall(), float(answer["now"]) - now
        self.workers, self.quota_resets, self.leased = answer["workers"], answer["quota_resets"], answer["leased"]
        before = {meter.key: meter.used(now) for meter in self._meters()}
        for name, bucket in self._buckets.items():
            if name in answer["used"]:  # else the server does not have that limit yet
                bucket.full_at = now + answer["used"][name] * bucket.cost
        self.minute.update(now, answer["last_minute"])
        for name, counter in self._days.items():
            if name not in answer["used"]:
                continue
            ends_at = now + answer["day_ends_in"][name]
            if inf > ends_at > counter.resets_at + 1:
                self._begin_day(name, now)
            counter.used = int(answer["used"][name])
            counter.resets_at = ends_at
        for meter in self._meters():
            if self._is_empty:
                meter.announce(now, inf)  # the worker that reached these thresholds has reported them
            else:
                self._report(meter, now, min(before[meter.key], meter.used(now)))
        self._is_empty = False

    def reset(self, now: float, scope: str) -> None:
        """An operator has reset the quota, with a ``scope`` that of its own limits."""
        for name, bucket in self._buckets.items():
            if scope in (ACCOUNT, scope_in(name)):
                bucket.reset()
        self.minute.reset(now, scope)
        for name, counter in self._days.items():
            if scope in (ACCOUNT, scope_in(name)):
                counter.reset(now)
        for meter in self._meters():
            if scope in (ACCOUNT, scope_in(meter.key)):
                meter.restart()

    def forget(self) -> None:
        """Take the next answer for the first one."""
        self._is_empty = True

    def begin_outage(self, now: float, in_hand: Mapping[str, float], *, confirmed: bool) -> Outage:
        """The state of all limits now, with the units that this worker has ``in_hand``."""
        rates = {
            name: RateAtDisconnect(
                bucket.full_at, bucket.cost, bucket.capacity, self.leased.get(name, 0.0), in_hand[name]
            )
            for name, bucket in self._buckets.items()
        }
        days = {
            name: DayAtDisconnect(float(counter.used), counter.resets_at, self.leased.get(name, 0.0), in_hand[name])
            for name, counter in self._days.items()
        }
        return Outage.begin(now, self.workers, rates, days, confirmed=confirmed)

    def end_outage(self, outage: Outage) -> None:
        """Go back to the fleet's usage before the outage: it is the seed of a server that has lost its state."""
        for name, bucket in self._buckets.items():
            if name in outage.rates:  # else the limit has been set meanwhile
                bucket.full_at = outage.rates[name].full_at
        for name, counter in self._days.items():
            if name not in outage.days:
                continue
            counter.used = 0 if outage.is_new_day(name, counter.resets_at) else int(outage.days[name].used)
