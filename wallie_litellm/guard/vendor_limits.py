"""What vendors say of their limits, learned from each attempt's answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

from wallie_litellm.clock import Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.core.admin_limits import ModelLimitsSeen
from wallie_litellm.core.scopes import model_in
from wallie_litellm.guard.context import Attempt
from wallie_litellm.limiter.learn_rules import learn_rules
from wallie_litellm.limiter.learned_model import LearnedModel
from wallie_litellm.limiter.limit_learning import Announce, LimitLearning
from wallie_litellm.limiter.limit_report import describe_limits
from wallie_litellm.limiter.registry import LimiterRegistry
from wallie_litellm.litellm_adapter.limit_signs import REFUSALS, refusal_in, vocabulary_of

ADMIN: Final = "admin"  # the source of what a vendor's administration API has named
MOST_KNOWN: Final = 1_000  # models at accounts that are looked up at once; with a wildcard, callers invent them

logger = logging.getLogger(__name__)


class VendorLimits:
    """Passes the answers of attempts on to what is learned of their models' limits. Never raises."""

    def __init__(
        self, config: WallieConfig, clock: Clock, limiters: LimiterRegistry, announce: Announce, processes: int
    ) -> None:
        self._config = config
        self._clock = clock
        self._limiters = limiters
        self._announce = announce
        self._processes = processes
        self._lock = threading.Lock()
        self._learning: dict[str, LimitLearning] = {}  # by provider
        self._by_admin_api: dict[str, ModelLimitsSeen] = {}  # by provider
        self._known: dict[str, LearnedModel | None] = {}  # by the scope of an attempt

    def configure(self, config: WallieConfig) -> None:
        """Go by another configuration: what has been learned is kept to as that says."""
        self._config = config
        for provider, learning in list(self._learning.items()):
            rules = learn_rules(config.providers.get(provider), learning.limiter.configured())
            learning.use(rules, self._limiters.pattern_of)
        self._forget()

    def answered(self, attempt: Attempt, headers: Mapping[str, str]) -> None:
        """An attempt has been answered, with these headers as LiteLLM keeps them."""
        learned = self._learned_of(attempt)
        if learned is not None:
            try:
                learned.answered(headers, attempt.started_at)
            except Exception:
                logger.debug("Headers of %s cannot be read", attempt.provider, exc_info=True)

    def refused(self, attempt: Attempt, error: BaseException, status: int | None) -> None:
        """An attempt has ended with an error; one of a limit may name that."""
        if status not in REFUSALS or attempt.reservation is None:
            return
        learned = self._known.get(attempt.scope)
        if learned is None and self._limiters.names(attempt.scope):  # else callers may have invented it
            learned = self._learned_of(attempt)
        if learned is not None:
            try:
                said = refusal_in(error)
                learned.rejected(said.in_text, said.headers, attempt.started_at)
            except Exception:
                logger.debug("A refusal of %s cannot be read", attempt.provider, exc_info=True)

    def learn_of(self, provider: str, limits: ModelLimitsSeen) -> None:
        """The vendor's administration API has named these limits, by model; those of models that are called count."""
        self._by_admin_api[provider] = limits
        for learned in list(self._known.values()):
            if learned is not None and learned.learning.limiter.name == provider and learned.model in limits:
                learned.note(limits[learned.model], ADMIN)

    def accounts_changed(self) -> None:
        """Routers call other accounts than before: what one said that has left holds no longer."""
        for learning in list(self._learning.values()):
            learning.accounts_changed()

    def are_askable(self, provider: str) -> bool:
        """Whether what the vendor's administration API says holds for ``provider``: not for a server elsewhere."""
        return self._limiters.is_at_own_address(provider)

    def describe(self, providers: Iterable[str]) -> dict[str, Any]:
        """All limits of ``providers``, by name, scope and dimension."""
        return {
            name: {"scopes": describe_limits(self.of(name), self._config.providers.get(name))} for name in providers
        }

    def of(self, provider: str) -> LimitLearning:
        """What is learned of one provider's limits."""
        learning = self._learning.get(provider)
        if learning is None:
            with self._lock:
                learning = self._learning.get(provider)
                if learning is None:
                    limiter = self._limiters.provider(provider)
                    rules = learn_rules(self._config.providers.get(provider), limiter.configured())
                    learning = LimitLearning(
                        limiter,
                        rules,
                        self._clock,
                        self._announce,
                        self._processes,
                        self._limiters.forget_patterns,
                        self._forget,
                        self._limiters.callers_of(provider),
                    )
                    self._learning[provider] = learning
        return learning

    def _forget(self) -> None:
        self._known = {}  # other threads read the old one

    def _learned_of(self, attempt: Attempt) -> LearnedModel | None:
        try:
            return self._known[attempt.scope]  # which another thread may empty
        except KeyError:
            return self._meet(attempt)

    def _meet(self, attempt: Attempt) -> LearnedModel | None:
        """Find out, once, what is learned of the model of an attempt."""
        learned = None
        if (model := model_in(attempt.scope)) and attempt.reservation is not None:
            vocabulary = vocabulary_of(attempt.deployment, attempt.entry.get("litellm_params") or {})
            account = attempt.account or attempt.provider
            learned = self.of(attempt.provider).model(model, attempt.reservation.scope, account, vocabulary)
            if learned is not None and (limits := self._by_admin_api.get(attempt.provider, {}).get(model)):
                learned.note(limits, ADMIN)
        with self._lock:
            if len(self._known) >= MOST_KNOWN:
                self._known = {}  # other threads read the old one
            self._known[attempt.scope] = learned
        return learned
