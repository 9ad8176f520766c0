"""On virtual time, with any standstill, death, delay and loss, a fleet admits no more than one bucket allows."""

from __future__ import annotations

import random

import pytest
from fleet_simulation import HEALTHY, FleetSimulation, Network, crowd, search

from wallie_litellm.limiter.limits import AccountLimits


def test_no_fleet_is_over_its_limit_and_every_lease_is_returned_or_charged() -> None:
    # As a script, tests/fleet_simulation.py searches for a given time.
    tried, faults = search(range(60))
    assert not faults
    assert tried == 60


@pytest.mark.parametrize("seed", [276, 632])
def test_a_worker_that_holds_its_own_standstill_against_the_server_puts_the_fleet_over_its_limit(seed: int) -> None:
    # `within` in limiter/redis/fleet.py is why no worker does this; the simulation finds a worker that does.
    network = Network(0.01)
    assert crowd(seed, network=network, policy="local", hasty=True).over() > 1
    assert crowd(seed, network=network, policy="local").over() <= 1e-3


def test_a_lease_of_future_capacity_is_kept_while_its_worker_stands_still() -> None:
    fleet = FleetSimulation(AccountLimits({"rpm": 6, "rpd": 1000}), random.Random(1), HEALTHY)
    sleeper, other = fleet.start(), fleet.start()
    fleet.events.run(fleet.events.now + 1)
    for _ in range(12):  # six there are; one comes every ten seconds
        sleeper.ask(100.0, 0.01)
    fleet.events.run(fleet.events.now + 0.5)
    sleeper.stall(70.0)
    fleet.events.after(65.0, lambda: [other.ask(60.0, 0.01) for _ in range(12)])
    fleet.events.run(fleet.events.now + 150)
    assert not fleet.faults()
