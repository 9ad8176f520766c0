"""How test processes that run side by side divide the tests among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xdist.scheduler.loadscope import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

# The rest goes from process to process a file at a time: its tests share servers. Each test of these starts its own.
TESTS_APART = ("tests/fleet/", "tests/proxy/test_workers.py", "tests/proxy/test_starting.py")
# What takes longest begins first, so that all processes end at about the same time.
FIRST = (
    "tests/guard/test_nothing_leaks.py",
    "tests/lifecycle/test_proxy_ends.py",
    "tests/proxy/",
    "tests/browser/",
    "tests/guard/test_every_ending.py",
    "tests/lifecycle/",
    "tests/fleet/test_one_limit.py",
    "tests/fleet/test_chaos.py",
    "tests/telemetry/test_posthog_outages.py",
    "tests/ledger/test_outages.py",
    "tests/fleet/",
    "tests/dashboard/",
    "tests/simulator/",
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
        return nodeid if nodeid.startswith(TESTS_APART) else nodeid.partition("::")[0]
