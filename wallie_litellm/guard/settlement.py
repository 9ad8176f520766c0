"""The end of an attempt: usage to the limits, a sample to the breaker, a pause to what a 429 was about, an event."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.backoff import Backoff
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome, charge
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.reporter import Reporter
from wallie_litellm.limiter.registry import LimiterRegistry
from wallie_litellm.routing.switches import Switches

# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_SUCCESS, _SLOW, _FAILURE, _IGNORED = Verdict.SUCCESS, Verdict.SLOW, Verdict.FAILURE, Verdict.IGNORED
SLOW_CALLS: Final = "slow calls"  # reason of a breaker that they have opened
_REJECTED = Outcome.REJECTED
MOST_REJECTED: Final = 1_000  # scopes whose rejections are counted: with a wildcard, callers invent models


class Settlement:
    """Settles attempts, and counts the rate limits that each scope has been answered with in a row."""

    def __init__(
        self,
        config: WallieConfig,
        limiters: LimiterRegistry,
        reporter: Reporter,
        now: Callable[[], float],
        switches: Switches,
    ) -> None:
        self._limiters = limiters
        self._reporter = reporter
        self._now = now
        self._switches = switches
        self._lock = threading.Lock()
        self._models, self._calls = limiters.models, limiters.calls
        self._rejections: dict[str, _Rejections] = {}  # by scope, since its last success
        #: Providers and accounts whose last answer was a rate limit.
        self.rejected: set[str] = set()
        self.configure(config)

    def configure(self, config: WallieConfig) -> None:
        """Go by another configuration from now on."""
        retry = config.retry
        #: The waits between attempts.
        self.backoff = Backoff(retry.initial, retry.max, retry.multiplier, retry.jitter)
        self._slow_call = config.breaker.slow_call  # seconds; None where slow calls are not counted
        self._per_model = config.breaker.per == "model"

    def settle(self, context: RequestContext, attempt: Attempt, result: AttemptResult) -> bool:
        """End ``attempt``; ``False`` for one that was never admitted, has ended before, or has expired."""
        reservation = attempt.reservation
        if reservation is None or attempt.result is not None:
            return False
        attempt.result = result
        pause_for = result.pause_for
        if result.rate_limited:
            self.rejected.add(attempt.account or attempt.provider)
        elif self.rejected and result.verdict is _SUCCESS:
            self.rejected.discard(attempt.account or attempt.provider)
        if result.rate_limited or pause_for:
            pause_for = self._pause(attempt, result)
        elif self._rejections and result.verdict is _SUCCESS:
            self._rejections.pop(attempt.scope, None)
            self._rejections.pop(attempt.account or attempt.provider, None)
        usage = result.usage if result.counted is None else result.counted
        charged = charge(result.outcome, reservation.demand, usage)
        if result.verdict is _SUCCESS:
            self._calls.serve(attempt.scope or attempt.provider, attempt.deployment_id, self._now())
            of_model = of_account = verdict = _SUCCESS
            if self._slow_call is not None and self._is_slow(attempt):
                of_model, verdict = (_SLOW, _SUCCESS) if self._per_model and attempt.scope else (_SUCCESS, _SLOW)
                result = result._replace(reason=SLOW_CALLS)
        else:
            of_model, of_account = self._verdicts(attempt, result)
            verdict = of_account if of_account is not _FAILURE else self._verdict_on_provider(attempt)
        if attempt.account_reservation is not None:
            limiter, part = attempt.account_reservation
            # A key's answers say something of the provider only once those of all its keys do.
            if result.rate_limited or result.by_account or result.outcome is _REJECTED:
                limiter.settle(part, charged, of_account, reason=result.reason, pause_for=pause_for)
                verdict, pause_for = _IGNORED, None
            else:
                limiter.settle(part, charged, of_account if of_account is _SUCCESS else _IGNORED)
        settled = self._limiters.provider(attempt.provider).settle(
            reservation, charged, verdict, reason=result.reason, pause_for=pause_for
        )
        if attempt.model_reservation is not None or self._models.by_scope or of_model is _FAILURE:
            self._settle_model(attempt, charged, of_model, result.reason)
        if attempt.feature_reservation is not None:
            limiter, part = attempt.feature_reservation
            limiter.settle(part, charge(result.outcome, part.demand, usage))
        self._reporter.settled(context, attempt, result, charged)
        return settled

    def _is_slow(self, attempt: Attempt) -> bool:
        """Whether an answer, or a stream's first content, took longer than the file allows."""
        took = (self._now() if attempt.first_token_at is None else attempt.first_token_at) - attempt.started_at
        return self._slow_call is not None and took > self._slow_call and self._switches.on("slow_call")

    def _verdicts(self, attempt: Attempt, result: AttemptResult) -> tuple[Verdict, Verdict]:
        """What the result of an attempt that has not served shows of the model, and what of the account or provider."""
        scope = attempt.scope
        if result.verdict is _IGNORED:
            return _IGNORED, _IGNORED
        if not (self._per_model and scope and result.is_models):
            return _IGNORED, _IGNORED if result.fault is FaultDomain.MODEL else _FAILURE
        self._calls.fail(scope, self._now())
        another = self._calls.another_has_served([scope], attempt.deployment_id, attempt.started_at)
        return (_IGNORED if another else _FAILURE), _IGNORED

    def _verdict_on_provider(self, attempt: Attempt) -> Verdict:
        """A failure says nothing of the provider where another deployment of its has served since the call began."""
        scopes = self._scopes_of(attempt.provider)
        another = self._calls.another_has_served(scopes, attempt.deployment_id, attempt.started_at)
        return _IGNORED if another else _FAILURE

    def _scopes_of(self, provider: str) -> list[str]:
        name_of = self._limiters.provider_name
        return [scope for scope in self._calls.served_scopes() if name_of(scope) == provider]

    def _settle_model(self, attempt: Attempt, charged: Demand, verdict: Verdict, reason: str | None) -> None:
        """End the attempt's part at its model's limiter; without one, its result counts by the time of its beginning.

        A limiter that has been given up meanwhile, and another taken its place, learns nothing that is of use.
        """
        if attempt.model_reservation is not None:
            limiter, part = attempt.model_reservation
            is_present = limiter is self._models.get(attempt.scope)
            limiter.settle(part, charged, verdict if is_present else _IGNORED, reason=reason)
            if is_present:
                return
        if verdict is not _IGNORED and attempt.scope:
            self._models.count(attempt.scope, verdict, attempt.started_at, reason)

    def forget_rejections(self, scope: str) -> None:
        """Begin the count of the rate limits of ``scope`` anew."""
        self._rejections.pop(scope, None)
        self.rejected.discard(scope)

    def _pause(self, attempt: Attempt, result: AttemptResult) -> float | None:
        """Pause what the answer is about: the model unless it names the account.

        Returns the seconds for which the account, or the provider, is to pause; a model is paused here.
        """
        is_models = bool(attempt.scope) and result.fault is not FaultDomain.ACCOUNT
        seconds = result.pause_for
        if result.rate_limited:
            scope = attempt.scope if is_models else attempt.account or attempt.provider
            seconds = self._after_rejection(scope, attempt, seconds)
        if not is_models:
            return seconds
        if seconds:
            self._models.pause(attempt.scope, seconds)
        return None

    def _after_rejection(self, scope: str, attempt: Attempt, asked: float | None) -> float | None:
        """Seconds of a pause of ``scope``: as the provider ``asked``, else longer with each rejection in a row.

        Calls that were under way when the provider first rejected one say nothing new: a crowd lengthens a pause once.
        """
        with self._lock:
            seen = self._rejections.get(scope)
            if seen is not None and attempt.started_at <= seen.at:
                return asked
            count = 1 if seen is None else seen.number + 1
            self._rejections.pop(scope, None)  # the order is that of the last rejections
            self._rejections[scope] = _Rejections(count, self._now())
            if len(self._rejections) > MOST_REJECTED:
                self._rejections.pop(next(iter(self._rejections)), None)
        return asked if asked else self.backoff.seconds(count)


class _Rejections(NamedTuple):
    """How many rejections in a row a scope has been answered with, and when the last of them came, in seconds."""

    number: int
    at: float
