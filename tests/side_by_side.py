"""How test processes that run side by side divide the tests among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xdist.scheduler.loadscope import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

# The rest goes from process to process a file at a time: its tests share servers. Each test of these starts its own.
TESTS_APART = (
    "tests/fleet/",
    "tests/guard/test_nothing_leaks.py",
    "tests/proxy/test_workers.py::test_two_workers_together_admit_no_more_than_the_limit_by_each",
)
# These go to one process: their proxies are forked from one that has imported LiteLLM's, which takes seven seconds.
FORKED = ("tests/proxy/", "tests/failover/test_failover_on_proxy.py", "tests/lifecycle/test_proxy_ends.py")
# What takes longest begins first, so that all processes end at about the same time.
FIRST = (
    *FORKED,
    "tests/guard/test_nothing_leaks.py",
    "tests/rehearse/test_rehearsal.py",
    "tests/browser/",
    "tests/drop_in/test_side_by_side.py",
    "tests/telemetry/test_posthog_outages.py",
    "tests/lifecycle/",
    "tests/dashboard/test_api_properties.py",
    "tests/ledger/test_outages.py",
    "tests/ledger/test_export.py",
    "tests/fleet/test_chaos.py",
    "tests/fleet/test_one_limit.py",
    "tests/fleet/",
    "tests/failover/",
    "tests/demo/",
    "tests/docs/",
    "tests/package/",
    "tests/limiter/leased/test_fleet_simulation.py",
    "tests/limiter/redis/",
    "tests/guard/test_concurrency.py",
    "tests/guard/test_hedging_",
    "tests/guard/test_latency_decisions.py",
    "tests/guard/test_answer_cache.py",
    "tests/guard/test_every_ending.py",
    "tests/telemetry/",
    "tests/dashboard/",
    "tests/simulator/",
    "tests/drop_in/",
)


def rank(nodeid: str) -> int:
    """The place in the order of :data:`FIRST`; what it does not name comes last."""
    return next((number for number, first in enumerate(FIRST) if nodeid.startswith(first)), len(FIRST))


class Division(LoadScopeScheduling):
    """By file, or by test where tests share nothing, in the order of collection."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False  # it would go by the number of tests
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(TESTS_APART):
            return nodeid
        return "forked" if nodeid.startswith(FORKED) else nodeid.partition("::")[0]
