"""The PostHog sink while PostHog is slow, down or refusing: no event is lost, and no caller waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from posthog_support import assert_all_arrived, completions, posthog_sink, run_script
from support import wait_until

from wallie_litellm.simulator.posthog_endpoint import PostHogEndpoint
from wallie_litellm.telemetry.bus import Bus
from wallie_litellm.telemetry.sinks.posthog import PostHogSink
from wallie_litellm.telemetry.spool import Spool

OUTAGES: dict[str, Callable[[PostHogEndpoint], None]] = {
    "500": lambda endpoint: endpoint.fail(500),
    "429": lambda endpoint: endpoint.fail(429, retry_after=0.1),
    "hangs": lambda endpoint: endpoint.hang(),
    "refuses": lambda endpoint: endpoint.refuse(),
    "loses answers": lambda endpoint: endpoint.lose_answers(),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_no_event_is_lost_when_posthog_is_down_and_recovers(
    sink: PostHogSink, endpoint: PostHogEndpoint, outage: str
) -> None:
    events = completions(1_500)
    OUTAGES[outage](endpoint)
    sink.handle(events[:1_000])
    wait_until(lambda: sink.stats()["failed"] >= 2)
    sink.handle(events[1_000:])
    wait_until(lambda: sink.stats()["spooled"] >= 1_500)
    endpoint.heal()
    wait_until(lambda: len(endpoint.events()) == 1_500)
    wait_until(lambda: sink.stats()["spooled"] == 0)
    assert_all_arrived(endpoint, events)
    assert sink.stats() | {"failed": 0} == {
        "delivered": 1_500,
        "failed": 0,
        "dropped": 0,
        "pending": 0,
        "spooled": 0,
    }


@pytest.mark.parametrize("outage", OUTAGES)
def test_no_event_is_lost_when_the_outage_outlasts_the_process(
    endpoint: PostHogEndpoint, spool: Path, outage: str
) -> None:
    OUTAGES[outage](endpoint)
    ended_script = run_script(SCRIPT, endpoint.url, spool, 1_200)
    assert (ended_script.returncode, ended_script.stderr.count("Traceback")) == (0, 0), ended_script.stderr
    endpoint.heal()
    endpoint.reset()
    sink = posthog_sink(endpoint, spool)  # receives no event, but finds the files
    wait_until(lambda: len(endpoint.events()) == 1_200)
    sink.close(10.0)
    assert {event.properties["requestId"] for event in endpoint.events()} == {f"r{n}" for n in range(1_200)}
    assert list(spool.glob("*.spool")) == []


SCRIPT = """
import sys
from pathlib import Path
from posthog_support import completions, IMPATIENT
from wallie_litellm.simulator.posthog_endpoint import PROJECT_KEY
from wallie_litellm.telemetry.bus import Bus
from wallie_litellm.telemetry.sinks.posthog import PostHogSink

bus = Bus()
bus.add(lambda: PostHogSink(PROJECT_KEY, sys.argv[1], Path(sys.argv[2]), **IMPATIENT))
for event in completions(int(sys.argv[3])):
    bus.publish(event)
"""

SCRIPT_WITHOUT_BUS = """
import atexit, sys, threading
from pathlib import Path
from posthog_support import completions, IMPATIENT
from wallie_litellm.simulator.posthog_endpoint import PROJECT_KEY
from wallie_litellm.telemetry.sinks.posthog import PostHogSink

sink = PostHogSink(PROJECT_KEY, sys.argv[1], Path(sys.argv[2]), **IMPATIENT)

def refuse(self):
    raise RuntimeError("can't create new thread at interpreter shutdown")

def end():
    threading.Thread.start = refuse
    sink.handle(completions(int(sys.argv[3])))
    sink.close(5.0)

atexit.register(end)
"""


SCRIPT_THAT_IS_KILLED = """
import os, signal, sys
from pathlib import Path
from posthog_support import completions, IMPATIENT
from support import wait_until
from wallie_litellm.simulator.posthog_endpoint import PROJECT_KEY
from wallie_litellm.telemetry.sinks.posthog import PostHogSink

count = int(sys.argv[3])
sink = PostHogSink(PROJECT_KEY, sys.argv[1], Path(sys.argv[2]), **IMPATIENT)
sink.handle(completions(count))
wait_until(lambda: sink.stats()["spooled"] == count)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("script", [SCRIPT, SCRIPT_WITHOUT_BUS], ids=["bus", "no threads any more"])
def test_no_event_is_lost_when_a_script_ends_at_once(endpoint: PostHogEndpoint, spool: Path, script: str) -> None:
    result = run_script(script, endpoint.url, spool, 2_000)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(endpoint.events()) == endpoint.deliveries == 2_000
    assert not spool.exists()


def test_events_of_an_outage_survive_a_kill(endpoint: PostHogEndpoint, spool: Path) -> None:
    endpoint.refuse()
    result = run_script(SCRIPT_THAT_IS_KILLED, endpoint.url, spool, 1_500)
    assert result.returncode == -9, result.stderr
    endpoint.accept()
    sink = posthog_sink(endpoint, spool)
    wait_until(lambda: len(endpoint.events()) == 1_500)
    sink.close(10.0)


def test_without_threads_a_hanging_posthog_delays_the_end_by_the_timeout_at_most(
    endpoint: PostHogEndpoint, spool: Path
) -> None:
    endpoint.hang()
    result = run_script(SCRIPT_WITHOUT_BUS, endpoint.url, spool, 2_000)
    assert (result.returncode, result.stderr.count("Traceback")) == (0, 0), result.stderr
    assert Spool(spool, "posthog").pending == 2_000


def test_every_event_of_a_storm_arrives(sink: PostHogSink, endpoint: PostHogEndpoint) -> None:
    events = completions(20_000)
    for start in range(0, len(events), 1_000):
        sink.handle(events[start : start + 1_000])
    assert sink.stats()["pending"] <= 6_000
    assert sink.flush(60.0)
    assert sink.stats()["spooled"] == 0
    assert_all_arrived(endpoint, events)


def test_a_storm_during_an_outage_goes_to_the_spool_and_arrives(sink: PostHogSink, endpoint: PostHogEndpoint) -> None:
    endpoint.refuse()
    events = completions(20_000)
    for start in range(0, len(events), 1_000):
        sink.handle(events[start : start + 1_000])
        assert sink.stats()["pending"] <= 6_000
    endpoint.accept()
    wait_until(lambda: len(endpoint.events()) == 20_000, 60.0)
    assert_all_arrived(endpoint, events)


def test_a_wrong_key_is_logged_once_and_its_events_are_kept(
    endpoint: PostHogEndpoint, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = posthog_sink(endpoint, spool, key="phc_wrong")
    events = completions(30)
    for event in events:
        wrong.handle([event])
    wait_until(lambda: wrong.stats()["failed"] >= 3)
    wrong.close(5.0)
    complaints = [record.getMessage() for record in caplog.records if "HTTP 401" in record.getMessage()]
    assert complaints == [
        "PostHog does not take events (HTTP 401: is POSTHOG_API_KEY this project's key?); they are kept and sent again"
    ]
    assert "phc_wrong" not in caplog.text
    assert endpoint.events() == []
    right = posthog_sink(endpoint, spool)
    wait_until(lambda: len(endpoint.events()) == 30)
    right.close(5.0)
    assert_all_arrived(endpoint, events)


def test_no_event_is_lost_when_posthog_refuses_every_batch(sink: PostHogSink, endpoint: PostHogEndpoint) -> None:
    endpoint.fail(400)
    events = completions(700)
    sink.handle(events)
    wait_until(lambda: sink.stats()["spooled"] == 700)
    assert sink.stats()["dropped"] == 0
    endpoint.heal()
    wait_until(lambda: len(endpoint.events()) == 700)
    assert_all_arrived(endpoint, events)


def test_a_message_that_posthog_refuses_does_not_affect_others(endpoint: PostHogEndpoint, spool: Path) -> None:
    earlier = Spool(spool, "posthog")
    earlier.append([{"event": "written by another version", "uuid": str(number)} for number in range(3)])
    earlier.close()
    sink = posthog_sink(endpoint, spool)
    events = completions(5)
    wait_until(lambda: sink.stats()["failed"] >= 2)
    assert sink.stats()["dropped"] == 0  # the fault may be PostHog's
    sink.handle(events)
    wait_until(lambda: sink.stats()["dropped"] == 3)
    sink.close(5.0)
    assert_all_arrived(endpoint, events)


def test_a_hanging_posthog_does_not_delay_handle(endpoint: PostHogEndpoint, spool: Path) -> None:
    endpoint.hang()
    sink = posthog_sink(endpoint, spool, timeout=3600.0)
    sink.handle(completions(10))
    wait_until(lambda: len(endpoint.requests) == 1)
    handed_in = threading.Event()

    def hand_in() -> None:
        for _ in range(100):
            sink.handle(completions(100))
        handed_in.set()

    threading.Thread(target=hand_in, daemon=True).start()
    assert handed_in.wait(30.0)
    sink.close(1.0)  # the request still hangs
    assert len(endpoint.requests) == 1
    assert Spool(spool, "posthog").pending == 10_010


def test_a_flush_during_a_hang_puts_everything_on_disk(endpoint: PostHogEndpoint, spool: Path) -> None:
    endpoint.hang()
    sink = posthog_sink(endpoint, spool, timeout=3600.0)
    sink.handle(completions(10))
    assert sink.flush(0.5)
    assert sink.stats()["spooled"] == 10
    assert sink.stats()["pending"] == 0
    sink.close(0.0)


def test_no_event_is_lost_on_a_full_disk_while_memory_has_room(endpoint: PostHogEndpoint, tmp_path: Path) -> None:
    blocked = tmp_path / "spool"
    blocked.write_text("a file where the directory should be")
    endpoint.refuse()
    sink = posthog_sink(endpoint, blocked)
    events = completions(9_000)
    for start in range(0, 9_000, 1_000):
        sink.handle(events[start : start + 1_000])
    wait_until(lambda: sink.stats()["failed"] >= 2)
    assert not sink.flush(0.2)
    stats = sink.stats()
    assert stats["dropped"] + stats["pending"] == 9_000
    assert 0 < stats["pending"] <= 5_000
    endpoint.accept()
    wait_until(lambda: sink.flush(2.0))  # the first may still meet the end of a request that was refused
    assert len(endpoint.events()) == stats["pending"]
    sink.close(1.0)


def test_the_spooled_events_of_an_ended_process_are_sent_too(endpoint: PostHogEndpoint, spool: Path) -> None:
    endpoint.refuse()
    old, new = completions(600), [event._replace(request_id=f"new-{event.request_id}") for event in completions(600)]
    first = posthog_sink(endpoint, spool)
    first.handle(old)
    first.close(1.0)
    endpoint.accept()
    second = posthog_sink(endpoint, spool)
    second.handle(new)
    assert second.flush(10.0)
    second.close(1.0)
    assert_all_arrived(endpoint, [*old, *new])


def test_after_close_events_are_dropped_and_counted(sink: PostHogSink, endpoint: PostHogEndpoint) -> None:
    sink.close(1.0)
    sink.handle(completions(3))
    assert sink.stats()["dropped"] == 3
    assert endpoint.requests == []


def test_through_the_bus_everything_published_arrives(endpoint: PostHogEndpoint, spool: Path) -> None:
    bus = Bus()
    bus.add(lambda: posthog_sink(endpoint, spool))
    events = completions(3_000)
    for event in events:
        bus.publish(event)
    assert bus.flush_blocking(20.0)
    wait_until(lambda: bus.stats()["posthog"]["delivered"] == 3_000)  # on a busy machine, after another attempt
    assert_all_arrived(endpoint, events)
    bus.close()
