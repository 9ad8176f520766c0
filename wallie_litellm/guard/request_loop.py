"""chain( retry( attempt )): what comes after each attempt of a request. The only place that decides it.

The loop makes no call and waits for nothing: it returns the next :class:`Step`, or raises the error that the caller
receives. ``attempts`` carries the steps out, for coroutines and for threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.demand import Demand
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.core.http_status import ELSEWHERE, KEY_REFUSED
from wallie_litellm.errors import DeadlineExceeded, Refused, WallieError
from wallie_litellm.guard.chain import final_error, stated_chain
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.guard import Guard
from wallie_litellm.litellm_adapter.errors import Special, special_of, too_large_error
from wallie_litellm.routing.plan import Member

# A fault of this account's or model's, or of this request at this account: another may serve it.
_THIS_ONES: Final = (FaultDomain.ACCOUNT, FaultDomain.MODEL, FaultDomain.REQUEST)
NO_PARAMETERS: Final[Mapping[str, Any]] = {}
OWN_CHAINS: Final = ("context_window_fallbacks", "content_policy_fallbacks")  # of the faults in ``Special``
_CONTEXT_WINDOW, _CONTENT_POLICY = OWN_CHAINS


class Step(NamedTuple):
    """One attempt to make: a group, after ``delay`` seconds, not at the deployments whose ids are ``excluded``.

    ``parameters`` replace the caller's own; ``prefill`` is text of the answer that the caller has already;
    ``is_fallback``: it is the first with the next member of the chain.
    """

    group: str
    parameters: Mapping[str, Any] = NO_PARAMETERS
    delay: float = 0.0
    excluded: frozenset[str] = frozenset()
    prefill: str | None = None
    is_fallback: bool = False


class Deployments(Protocol):
    """What the loop asks of the Router."""

    def deployments_of(self, group: str) -> Sequence[Mapping[str, Any]]:
        """The deployments behind a group."""

    def scope_of(self, deployment: Mapping[str, Any]) -> str:
        """The scope of a deployment's model."""


class Chains(NamedTuple):
    """Where a request may go: ``ordinary`` are the members after the first.

    Faults with chains of their own, by LiteLLM's names in ``OWN_CHAINS``, have them from ``stated``, the request's
    arguments, else from ``configured``, which returns the members after the group whose answer was the fault.
    """

    ordinary: Sequence[Member]
    stated: Mapping[str, Any]
    configured: Callable[[str, str], Sequence[Member]]

    def own(self, name: str, group: str) -> Sequence[Member]:
        """The members after a ``group`` whose answer was the fault with the chains of this ``name``."""
        stated = self.stated.get(name)
        return self.configured(name, group) if stated is None else stated_chain(group, stated)


class RequestLoop:
    """The state of one request's way along its chain."""

    # As they are before the first failure.
    _repeating = False  # the last step was a retry
    _sleeps = 0
    _last: tuple[Attempt, AttemptResult] | None = None  # the last attempt that was made with the present group
    _failed: frozenset[str] = frozenset()  # ids of deployments of the present group, as those
    _timed_out: frozenset[str] = frozenset()

    def __init__(
        self,
        context: RequestContext,
        chains: Chains,
        guard: Guard,
        router: Deployments,
        max_retries: int,
        mock_fault: Callable[[str], Exception] | None = None,
    ) -> None:
        self.context = context
        self._mock_fault = mock_fault
        self._chains = chains
        self._guard = guard
        self._router = router
        self._retries = max_retries  # that are left
        context.tried.max_retries = max_retries
        self._member = Member(context.group)
        self._before: tuple[Member, ...] = ()  # that were asked, before the present one
        self._left = context.ahead = list(chains.ordinary)

    def first(self) -> Step:
        """The first attempt."""
        return Step(self._member.group, self._member.parameters)

    def after(self, attempt: Attempt, error: Exception, *, elsewhere: bool = False) -> Step:
        """What follows an ``attempt`` that ended with ``error``; ``elsewhere``, if that is possible.

        Raises:
            Exception: the error that the caller receives, as nothing follows.
        """
        if self._guard.closed:
            raise error
        if isinstance(error, WallieError):
            if not isinstance(error, Refused):
                raise error
            self._give_back()
            return self._after_refusal(attempt) or self._next_member(error)
        self._check_deadline(error)
        if (special := special_of(error)) is not None:
            return self._along_own_chain(special, error)
        result = attempt.result
        if result is None:  # no call was made: LiteLLM found no deployment
            return self._after_no_pick() or self._next_member(error)
        self._last = attempt, result
        if result.timed_out and attempt.deployment_id is not None:
            self._timed_out |= {attempt.deployment_id}
        if result.by_caller:
            raise error
        if result.too_large:
            error = too_large_error(error, attempt.deployment, attempt.provider)
        if elsewhere and (step := self._elsewhere(attempt, result, error)) is not None:
            return step
        return self._retry(attempt, result) or self._next_order(attempt) or self._next_member(error)

    def skip(self, error: Exception) -> Step:
        """What follows the last step instead, as the caller may not use its group; ``error`` led to it.

        Raises:
            Exception: the error that the caller receives, as nothing follows.
        """
        return self._next_member(error)

    @property
    def has_mock_fault(self) -> bool:
        """Whether the first attempt is to fail, as the caller asked for it."""
        return self._mock_fault is not None

    def take_mock_fault(self) -> Exception | None:
        """The fault with which the first attempt is to fail, if the caller asked for one."""
        fault, self._mock_fault = self._mock_fault, None
        return None if fault is None else fault(self._member.group)

    def hedge(self) -> Step | None:
        """The attempt that may be made beside the present one: the first with the next member, if there is one."""
        if not self._left or self.context.feature_refusal is not None:
            return None
        member = self._left[0]
        return Step(member.group, member.parameters)

    def go_on_to_hedge(self) -> None:
        """The hedge serves, or has failed as the last of the two: what follows, follows its member."""
        self._take_next()
        self.context.tried.fallbacks += 1

    def has_content_policy_chain(self) -> bool:
        """Whether another group is to be asked after an answer that the present one's filter has emptied."""
        return bool(self._chains.own(_CONTENT_POLICY, self._member.group))

    # The retry

    def _retry(self, attempt: Attempt, result: AttemptResult) -> Step | None:
        """Another attempt with the same group, unless the next member is the better one."""
        if self._retries <= 0:
            return None
        return self._at_another_deployment(attempt, result) or self._again(attempt, result)

    def _again(self, attempt: Attempt, result: AttemptResult) -> Step | None:
        """The same group again, after a wait."""
        if not (result.transient or result.rate_limited) or not self._some_circuit_closed():
            return None
        delay = self._delay(result)
        another = self._guard.another_could_serve(self.context, attempt.group, attempt.demand)
        if self._takes_too_long(delay, another=another):
            return None
        # A timeout is not repeated while another member could serve.
        excluded = self._timed_out if another else frozenset()
        if another and (result.timed_out or (excluded and not self._any_besides(excluded))):
            return None
        self._failed = excluded
        self._sleeps += not (result.rate_limited or result.pause_for)
        return self._repeat(Step(self._member.group, self._member.parameters, delay, excluded))

    def _any_besides(self, excluded: frozenset[str]) -> bool:
        deployments = self._router.deployments_of(self._member.group)
        return any(str((deployment.get("model_info") or {}).get("id")) not in excluded for deployment in deployments)

    def _after_no_pick(self) -> Step | None:
        """LiteLLM's own filters left none of the other deployments: the same ones again, if they may be repeated."""
        last, self._last = self._last, None
        if last is None or not self._failed:
            return None
        self._give_back()
        return self._again(*last) if self._retries > 0 else None

    def _give_back(self) -> None:
        """The last step made no call: it was no retry."""
        if self._repeating:
            self._repeating = False
            self._retries += 1
            self.context.tried.retries -= 1

    def _elsewhere(self, attempt: Attempt, result: AttemptResult, error: Exception) -> Step | None:
        """Another deployment or the next member, whichever comes first."""
        if self._retries > 0 and (step := self._at_another_deployment(attempt, result)) is not None:
            return step
        return self._next_order(attempt) or (self._next_member(error) if self._left else None)

    def _at_another_deployment(self, attempt: Attempt, result: AttemptResult) -> Step | None:
        failed = self._failed if attempt.deployment_id is None else self._failed | {attempt.deployment_id}
        if not _may_help_elsewhere(result):
            return None
        # A refused key is no reason to give up while another may be waited for: the pick decides on the wait.
        if (step := self._step_elsewhere(attempt, failed, now=not result.by_account)) is None:
            return None
        self._failed = failed
        return self._repeat(step)

    def _repeat(self, step: Step) -> Step:
        self._repeating = True
        self._retries -= 1
        self.context.tried.retries += 1
        return step

    def _after_refusal(self, attempt: Attempt) -> Step | None:
        """After a refusal, which was no call: another deployment of the group, unless it is known to be down too."""
        refused = attempt.deployment_id
        if refused is None or refused in self._failed or self.context.feature_refusal is not None:
            return None
        self._repeating = False
        self._failed |= {refused}
        return self._step_elsewhere(attempt, self._failed, now=False)

    def _step_elsewhere(self, attempt: Attempt, failed: frozenset[str], *, now: bool) -> Step | None:
        """A step to another deployment of the group that can serve ``now``, or perhaps after a wait."""
        for deployment in self._router.deployments_of(attempt.group):
            key = (deployment.get("model_info") or {}).get("id")
            if key is None or str(key) in failed:
                continue
            scope = self._router.scope_of(deployment)
            if self._serves_now(scope, attempt.demand) if now else not self._guard.is_open(scope):
                return Step(self._member.group, self._member.parameters, excluded=failed)
        return None

    def _serves_now(self, scope: str, demand: Demand) -> bool:
        return self._guard.could_serve(scope, demand, self.context.priority)

    def _next_order(self, attempt: Attempt) -> Step | None:
        """The deployments of the group with LiteLLM's next ``order``: a step of the chain, and no retry."""
        orders = {
            str((deployment.get("model_info") or {}).get("id")): order
            for deployment in self._router.deployments_of(attempt.group)
            if isinstance(order := deployment["litellm_params"].get("order"), int)
        }
        tried = orders.get(attempt.deployment_id or "")
        if tried is None or not any(order > tried for order in orders.values()):
            return None
        self._failed |= {key for key, order in orders.items() if order <= tried}
        return Step(self._member.group, self._member.parameters, excluded=self._failed)

    def _some_circuit_closed(self) -> bool:
        scopes = frozenset(self.context.route.router.scopes(self._member.group))
        return not scopes or any(not self._guard.is_open(scope) for scope in scopes)

    def _delay(self, result: AttemptResult) -> float:
        """Seconds before the next attempt. A pause is waited for in the limiter, not here."""
        if result.rate_limited or result.pause_for:
            return 0.0
        return self._guard.backoff.seconds(self._sleeps + 1)

    def _takes_too_long(self, delay: float, *, another: bool) -> bool:
        """Whether a repetition after ``delay`` seconds would be worse than the next member, or come too late."""
        context = self.context
        if context.deadline_at is not None and self._guard.clock.now() + delay >= context.deadline_at:
            return True
        longest = context.rules.patience if another else context.rules.max_wait
        return delay > 0 and context.waited + delay > longest

    # The chain

    def _next_member(self, error: Exception) -> Step:
        """The first attempt with the next member of the chain.

        Raises:
            Exception: the error that the caller receives, as there is none.
        """
        context = self.context
        if not self._left or context.feature_refusal is not None:
            final = final_error(context, error)
            if final is error:
                raise error
            raise final from error
        self._take_next()
        return Step(self._member.group, self._member.parameters, is_fallback=True)

    def _take_next(self) -> None:
        self._before += (self._member,)
        self._member = self._left.pop(0)
        self._failed = self._timed_out = frozenset()
        self._last, self._repeating = None, False

    def _along_own_chain(self, special: Special, error: Exception) -> Step:
        """The way after a fault that has a chain of its own; without one, the request ends."""
        name = _CONTEXT_WINDOW if special is Special.CONTEXT_WINDOW else _CONTENT_POLICY
        asked = {_key(member) for member in (*self._before, self._member)}
        members = [member for member in self._chains.own(name, self._member.group) if _key(member) not in asked]
        if not members:
            raise error
        self._left = self.context.ahead = members
        return self._next_member(error)

    def _check_deadline(self, error: Exception) -> None:
        context = self.context
        if context.deadline_at is not None and self._guard.clock.now() >= context.deadline_at:
            raise DeadlineExceeded(f"The deadline passed before {context.group} could answer.") from error


def _key(member: Member) -> tuple[str, bool]:
    """What is asked once: chains of their own may lead back."""
    return member.group, bool(member.parameters)


def _may_help_elsewhere(result: AttemptResult) -> bool:
    """Whether another deployment of the same group may serve what this one did not."""
    if result.transient or result.rate_limited or result.timed_out or result.fault in _THIS_ONES:
        return True
    return result.status_code in KEY_REFUSED or result.status_code in ELSEWHERE
