"""One request and its attempts while they are under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from wallie_litellm.config import FeatureRules
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.demand import ONE_REQUEST, Demand, Outcome
from wallie_litellm.core.learned_estimates import Estimate
from wallie_litellm.core.vendor_counting import PLAIN, ModelRule
from wallie_litellm.errors import MemberFailure, Refused
from wallie_litellm.events import Settled, new_id
from wallie_litellm.guard.router_view import RouterView
from wallie_litellm.limiter.store import Reservation
from wallie_litellm.routing.plan import Decided, Member, Plan

if TYPE_CHECKING:
    from wallie_litellm.budgets.holds import BudgetHold
    from wallie_litellm.limiter.limiter import Limiter


class Caller(NamedTuple):
    """The origin of a request: its product feature, its end user, and the caller's own metadata, fit to be recorded.

    ``proxy_key`` names the proxy's virtual key that it came with.
    """

    feature: str | None = None
    user_id: str | None = None
    metadata: Mapping[str, Any] = {}
    proxy_key: str | None = None


class Route(NamedTuple):
    """Where a request may go: the groups after its own, in order, the router that serves them, and its plan.

    With a plan, the groups are those of its members.
    """

    chain: Sequence[str]
    router: RouterView
    plan: Plan | None = None


class Race(Protocol):
    """An attempt and its hedge, of which the first to be answered wins."""

    def begun(self, attempt: Attempt, arguments: Mapping[str, Any]) -> None:
        """The call of ``attempt`` is about to be made, with these ``arguments``."""

    def admit(self, attempt: Attempt, *, guessed: bool) -> None:
        """Take the capacity for a hedge, at once.

        Raises:
            Exception: it is not to be had.
        """

    def win(self, attempt: Attempt) -> None:
        """``attempt`` has been answered: the other has lost, and is settled.

        Raises:
            CancelledError: the other had won already.
        """


@dataclass(slots=True)
class Attempt:
    """One call to one deployment, from its admission to its settlement.

    ``group`` is the name callers ask for, ``deployment`` LiteLLM's own name of the model behind it, ``entry`` the
    deployment's entry in the router's ``model_list``. ``started_at``, ``first_token_at`` and ``waited`` are seconds. A
    ``hedge`` is made beside another attempt; where one may be, they are in a ``race``.
    """

    group: str
    provider: str = ""
    account: str = ""  # the provider's name, or that of one of its accounts
    scope: str = ""  # of the model at that account
    deployment: str = ""
    deployment_id: str | None = None
    entry: Mapping[str, Any] = field(default_factory=dict)
    demand: Demand = ONE_REQUEST
    estimate: Estimate | None = None  # unless the caller has given the tokens
    rule: ModelRule = PLAIN  # how the deployment's vendor counts
    reservation: Reservation | None = None
    feature_reservation: tuple[Limiter, Reservation] | None = None  # of the feature's own limits
    account_reservation: tuple[Limiter, Reservation] | None = None  # of one of the provider's accounts
    model_reservation: tuple[Limiter, Reservation] | None = None  # of a model that is paused or fails
    budget_hold: BudgetHold | None = None  # of the budgets that hold for the request
    started_at: float = 0.0
    first_token_at: float | None = None  # of a stream from the provider
    waited: float = 0.0
    result: AttemptResult | None = None
    streaming: bool = False
    hedge: bool = False
    race: Race | None = None

    @property
    def prompt_tokens(self) -> int:
        """The prompt as estimated, with what the vendor's cache may have of it."""
        if self.estimate is not None:
            return self.estimate.prompt
        return (self.demand if self.reservation is None else self.reservation.demand).input


@dataclass(slots=True)
class Tried:
    """What was tried for a request: ``retries`` repeated an earlier attempt with the same group.

    ``fallbacks`` are the members of the chain that were tried after the first.
    """

    max_retries: int = 0
    retries: int = 0
    fallbacks: int = 0


@dataclass(slots=True)
class RequestContext:
    """One request: what the caller asked for, and what has happened so far. Times are seconds."""

    group: str
    rules: FeatureRules
    started_at: float
    route: Route
    priority: int = 0
    deadline_at: float | None = None
    caller: Caller = field(default_factory=Caller)
    estimated_tokens: int | None = None
    operation: str = "chat"
    stream: bool = False
    request_id: str = field(default_factory=new_id)
    attempts: list[Settled] = field(default_factory=list)
    failures: list[MemberFailure] = field(default_factory=list)
    ahead: Sequence[Member] | None = None  # that may still be asked, where a loop decides it
    tried: Tried = field(default_factory=Tried)
    waited: float = 0.0  # for capacity, between retries, and for first tokens that did not come
    served_by: Attempt | None = None
    feature_refusal: Refused | None = None  # no member of the chain can help against it
    ended: bool = False
    response: tuple[str, float] | None = None  # the vendor's id, and the Unix time, of a background response it has

    @property
    def decided(self) -> Decided | None:
        """What was decided of where the request goes; ``None`` where the file turns on no decisions."""
        return None if self.route.plan is None else self.route.plan.decided

    def patience(self, *, paused: bool) -> float:
        """Seconds that it still waits while another member of its chain could serve; ``paused``: for a pause to end.

        None in a chain that is asked in the order of latency: a wait is latency, too.
        """
        if (decided := self.decided) is not None and decided.by_latency:
            return 0.0
        return max(0.0, (self.rules.pause_patience if paused else self.rules.patience) - self.waited)

    @property
    def cost_usd(self) -> float | None:
        """The cost of what served, with that of an attempt that was made beside it; ``None`` without a known price."""
        if not self.attempts:
            return None
        cost, decided = self.attempts[-1].cost_usd, self.decided
        return cost if cost is None or decided is None else cost + decided.wasted_usd

    def decide(self) -> Decided:
        """:attr:`decided`, begun where there is none: something has been decided under way."""
        plan = self.route.plan or Plan(self.group, ())
        if plan.decided is None:
            self.route = self.route._replace(plan=plan._replace(decided=Decided()))
        return self.decided or Decided()

    def grants(self, group: str) -> bool:
        """Whether the name that the caller used stands for ``group`` among others."""
        return self.route.plan is not None and group in self.route.plan.granted

    def withhold(self) -> None:
        """The caller may use the group asked first, not all that the name stands for."""
        if self.route.plan is not None:
            self.route = self.route._replace(plan=self.route.plan._replace(granted=frozenset()))

    def fail(self, group: str, provider: str, reason: str, retry_after: float | None, status_code: int | None) -> None:
        """Record why ``group`` did not serve; ``retry_after`` is in seconds."""
        self.failures.append(MemberFailure(group, provider, reason, retry_after, status_code))

    def fail_attempt(self, attempt: Attempt, result: AttemptResult) -> None:
        """Record why an attempt that was made did not serve."""
        reason = result.reason or "failed"
        retry_after = inf if result.too_large else result.pause_for
        self.fail(attempt.group, attempt.provider, reason, retry_after, result.status_code)

    def last_provider(self) -> str:
        """The provider that was tried or found unavailable last; empty before the first."""
        if self.failures:
            return self.failures[-1].provider
        return self.attempts[-1].provider if self.attempts else ""

    def remaining(self, group: str) -> Sequence[str]:
        """The members of the chain after ``group``."""
        if self.ahead is not None:
            return [member.group for member in self.ahead]
        plan = self.route.plan
        chain = self.route.chain if plan is None else [member.group for member in plan.members]
        members = (self.group, *chain)
        return members[members.index(group) + 1 :] if group in members else ()


def estimated_cost(context: RequestContext, attempt: Attempt, demand: Demand) -> float | None:
    """US dollars that the attempt will cost if it uses ``demand``; ``None`` without a known price."""
    usage = Demand(1, demand.input + demand.output, demand.input, demand.output)
    result = AttemptResult(Outcome.SUCCESS, usage=usage)
    return context.route.router.price(context.operation, attempt.entry, result).cost_usd
