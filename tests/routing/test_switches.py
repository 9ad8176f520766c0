"""Decisions are switched off and on again at run time."""

from __future__ import annotations

import pytest
from recording import RecordingBus

from wallie_litellm.events import OperatorActed
from wallie_litellm.guard import Guard
from wallie_litellm.routing.switches import SWITCHES, Switches


def test_all_are_on_until_one_is_set() -> None:
    switches = Switches()
    assert switches.describe() == dict.fromkeys(SWITCHES, True)
    switches.set("hedge", on=False)
    assert not switches.on("hedge")
    assert switches.on("order")
    switches.set("hedge", on=True)
    assert switches.on("hedge")


def test_an_unknown_one_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"found 'hedging', expected one of .*hedge"):
        Switches().set("hedging", on=False)


def test_the_guard_records_who_switched_what_and_why() -> None:
    bus = RecordingBus()
    guard = Guard(bus=bus)
    guard.switch("order", on=False, actor="ops", detail="too jumpy")
    [acted] = bus.events
    assert isinstance(acted, OperatorActed)
    assert (acted.actor, acted.action, acted.provider, acted.detail) == ("ops", "switch_off", "order", "too jumpy")
    assert guard.status()["routing"]["switches"]["order"] is False
