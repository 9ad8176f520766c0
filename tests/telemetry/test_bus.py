"""The bus: publishing never waits, sinks do not affect each other, and every event is delivered at the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from recording import RecordingSink
from support import until, wait_until

from wallie_litellm.events import Event, OperatorActed, new_id
from wallie_litellm.telemetry import bus as bus_module
from wallie_litellm.telemetry.bus import Bus

TESTS = Path(__file__).parents[1]


def event(action: str = "x") -> OperatorActed:
    return OperatorActed(new_id(), 0.0, "test", action, "openai", None)


def actions(sink: RecordingSink) -> list[str]:
    return [each.action for each in sink.of(OperatorActed)]


class HangingSink(RecordingSink):
    """Stands still in ``handle`` until it is let go."""

    def __init__(self, name: str = "hanging") -> None:
        super().__init__(name)
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def handle(self, events: Sequence[Event]) -> None:
        self.entered.set()
        self.let_go.wait(60)
        super().handle(events)


class RaisingSink(RecordingSink):
    def __init__(self, error: BaseException) -> None:
        super().__init__("raising")
        self.error = error

    def handle(self, events: Sequence[Event]) -> None:
        raise self.error


@pytest.fixture
def bus() -> Iterator[Bus]:
    made = Bus()
    yield made
    for sink in made.sinks():
        if isinstance(sink, HangingSink):
            sink.let_go.set()
    made.close()


def add(bus: Bus, sink: RecordingSink) -> RecordingSink:
    bus.add(lambda: sink)
    return sink


# Delivery


def test_every_sink_gets_everything_in_order(bus: Bus) -> None:
    sinks = [add(bus, RecordingSink(name)) for name in ("one", "two")]
    for number in range(2500):
        bus.publish(event(str(number)))
    assert bus.flush_blocking()
    for sink in sinks:
        assert actions(sink) == [str(number) for number in range(2500)]
        assert max(sink.batches) <= bus_module.LARGEST_BATCH
        assert len(sink.threads) == 1
        assert threading.get_ident() not in sink.threads
    assert sinks[0].threads != sinks[1].threads


def test_what_is_published_reaches_the_sink_without_a_flush(bus: Bus) -> None:
    sink = add(bus, RecordingSink())
    bus.publish(event())
    wait_until(lambda: len(sink.events) == 1)


def test_events_of_many_threads_all_arrive_each_threads_in_order(bus: Bus) -> None:
    sink = add(bus, RecordingSink())

    def work(name: int) -> None:
        for number in range(500):
            bus.publish(event(f"{name}:{number}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert bus.flush_blocking()
    assert len(sink.events) == 10_000
    for name in range(20):
        own = [action for action in actions(sink) if action.startswith(f"{name}:")]
        assert own == [f"{name}:{number}" for number in range(500)]


def test_a_bus_without_sinks_accepts_events() -> None:
    bus = Bus()
    bus.publish(event())
    assert bus.flush_blocking(0)
    assert bus.stats() == {}
    assert bus.close(0)


def test_a_sink_that_was_added_later_receives_later_events(bus: Bus) -> None:
    bus.publish(event("before"))
    sink = add(bus, RecordingSink())
    bus.publish(event("after"))
    assert bus.flush_blocking()
    assert actions(sink) == ["after"]


# Sinks that fail


def test_a_hanging_sink_delays_neither_the_publisher_nor_the_others(bus: Bus) -> None:
    hanging = HangingSink()
    add(bus, hanging)
    sink = add(bus, RecordingSink())
    for number in range(100):
        bus.publish(event(str(number)))
    assert hanging.entered.wait(10)
    wait_until(lambda: len(sink.events) == 100)
    assert hanging.events == []
    assert bus.stats()["hanging"]["queued"] <= 100


def test_flush_returns_false_when_a_sink_hangs_and_drains_the_others(bus: Bus) -> None:
    add(bus, HangingSink())
    sink = add(bus, RecordingSink())
    bus.publish(event())
    assert not bus.flush_blocking(0.2)
    assert (len(sink.events), sink.flushed) == (1, 1)


def test_a_sink_that_cannot_be_flushed_does_not_prevent_the_others(bus: Bus) -> None:
    class Stubborn(RecordingSink):
        def flush(self, timeout: float) -> bool:
            return False

    class Slow(RecordingSink):
        def handle(self, events: Sequence[Event]) -> None:
            time.sleep(0.3)
            super().handle(events)

    add(bus, Stubborn("stubborn"))
    slow = add(bus, Slow("slow"))
    bus.publish(event())
    assert not bus.flush_blocking()
    assert (len(slow.events), slow.flushed) == (1, 1)


@pytest.mark.parametrize("error", [ValueError("sk-secret-text"), asyncio.CancelledError(), SystemExit(3)])
def test_errors_of_a_sink_are_counted_and_logged_by_class(
    bus: Bus, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    raising = add(bus, RaisingSink(error))
    sink = add(bus, RecordingSink())
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            bus.publish(event(str(number)))
            bus.flush_blocking()
    assert bus.stats()["raising"]["errors"] == 3
    assert raising.flushed == 3
    assert len(sink.events) == 3
    assert len(caplog.records) == 1, "one line a minute"
    assert caplog.records[0].getMessage() == f"the raising sink lost 1 events: {type(error).__name__}"


def test_a_sink_whose_flush_or_close_raises_is_reported_as_not_flushed() -> None:
    class Broken(RecordingSink):
        def flush(self, timeout: float) -> bool:
            raise OSError

        def close(self, timeout: float) -> None:
            raise OSError

    bus = Bus()
    add(bus, Broken())
    bus.publish(event())
    assert not bus.flush_blocking()
    assert not bus.close()


def test_stats_that_raise_do_not_break_the_status(bus: Bus) -> None:
    class Shy(RecordingSink):
        def stats(self) -> dict[str, int]:
            raise RuntimeError

    add(bus, Shy())
    assert bus.stats() == {"recording": {"queued": 0, "overflowed": 0, "errors": 0}}


def test_sinks_of_the_same_name_have_counters_of_their_own(bus: Bus) -> None:
    for _ in range(3):
        add(bus, RecordingSink("mine"))
    bus.publish(event())
    assert bus.flush_blocking()
    assert [(name, stats["delivered"]) for name, stats in bus.stats().items()] == [
        ("mine", 1),
        ("mine-2", 1),
        ("mine-3", 1),
    ]


def test_events_beyond_the_capacity_are_dropped_and_counted(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "CAPACITY", 10)
    hanging = HangingSink()
    add(bus, hanging)
    bus.publish(event("first"))
    assert hanging.entered.wait(10)
    for number in range(25):
        bus.publish(event(str(number)))
    assert bus.stats()["hanging"]["overflowed"] == 15
    hanging.let_go.set()
    assert bus.flush_blocking()
    assert actions(hanging) == ["first", *map(str, range(10))]


# The end


def test_closing_delivers_and_closes_each_sink_once() -> None:
    bus, sink = Bus(), RecordingSink()
    add(bus, sink)
    for _ in range(1500):
        bus.publish(event())
    assert bus.close()
    assert bus.close()
    assert (len(sink.events), sink.closed) == (1500, 1)


def test_a_sink_without_an_event_is_closed_too() -> None:
    bus, sink = Bus(), RecordingSink()
    add(bus, sink)
    assert bus.close()
    assert sink.closed == 1


def test_after_close_events_are_counted_as_dropped_without_waiting() -> None:
    bus, sink = Bus(), RecordingSink()
    add(bus, sink)
    bus.close()
    bus.publish(event())
    assert bus.flush_blocking(60)
    assert sink.events == []


def test_the_threads_end_with_the_bus() -> None:
    before = threading.active_count()
    bus = Bus()
    for name in ("one", "two"):
        add(bus, RecordingSink(name))
    assert threading.active_count() == before + 2
    bus.close()
    wait_until(lambda: threading.active_count() == before)


def test_a_bus_that_was_not_closed_delivers_when_it_is_collected() -> None:
    before = threading.active_count()
    bus, sink = Bus(), RecordingSink()
    add(bus, sink)
    for _ in range(100):
        bus.publish(event())
    del bus
    gc.collect()
    wait_until(lambda: sink.closed == 1)
    assert len(sink.events) == 100
    wait_until(lambda: threading.active_count() == before)


def test_a_second_close_waits_for_the_first() -> None:
    bus, hanging = Bus(), HangingSink()
    add(bus, hanging)
    bus.publish(event())
    assert hanging.entered.wait(10)
    assert not bus.close(0.1)
    hanging.let_go.set()
    wait_until(lambda: hanging.closed == 1)
    assert bus.close()


async def test_flushing_on_an_event_loop_lets_the_loop_run(bus: Bus) -> None:
    hanging = HangingSink()
    add(bus, hanging)
    bus.publish(event())
    flush = asyncio.ensure_future(bus.flush(30))
    await until(hanging.entered.is_set)
    assert not flush.done()
    hanging.let_go.set()
    assert await flush


# Finalisers and reentrancy


def test_a_finaliser_can_publish_on_any_thread(bus: Bus) -> None:
    sink = add(bus, RecordingSink())

    class Dropped:
        def __init__(self, number: int) -> None:
            self.itself = self  # a cycle, which only the garbage collector frees
            self.number = number

        def __del__(self) -> None:
            bus.publish(event(f"dropped {self.number}"))

    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for number in range(300):
            Dropped(number)
            bus.publish(event("published"))
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert bus.flush_blocking()
    assert actions(sink).count("published") == 300
    assert sorted(action for action in actions(sink) if action != "published") == sorted(
        f"dropped {number}" for number in range(300)
    )


def test_a_sink_can_publish(bus: Bus) -> None:
    class Echo(RecordingSink):
        def handle(self, events: Sequence[Event]) -> None:
            super().handle(events)
            if "echo" not in actions(self):
                bus.publish(event("echo"))

    echo = add(bus, Echo())
    bus.publish(event("x"))
    wait_until(lambda: actions(echo) == ["x", "echo"])


# Whole processes


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run ``script`` with a sink ``Printer`` at hand, which prints what it gets."""
    head = """
        import asyncio, os, signal, sys, threading, time
        from recording import RecordingSink
        from wallie_litellm.events import OperatorActed, new_id
        from wallie_litellm.telemetry.bus import Bus

        def event(action="x"):
            return OperatorActed(new_id(), 0.0, "test", action, "openai", None)

        class Printer(RecordingSink):
            def handle(self, events):
                time.sleep(0.1)
                super().handle(events)
            def close(self, timeout):
                lines = "".join(f"{each.action} in {os.getpid()}\\n" for each in self.events)
                os.write(1, f"{lines}closed in {os.getpid()}\\n".encode())
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )


def words(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.split()[0] for line in done.stdout.splitlines()]


ENDINGS = {
    "at once": "bus = Bus(); bus.add(Printer); bus.publish(event())",
    "inside a function": """
def main():
    bus = Bus()
    bus.add(Printer)
    bus.publish(event())
main()
""",
    "in an event loop": """
async def main():
    bus = Bus()
    bus.add(Printer)
    bus.publish(event())
asyncio.run(main())
""",
    "by sys.exit": "bus = Bus(); bus.add(Printer); bus.publish(event()); sys.exit(0)",
    "by an error": "bus = Bus(); bus.add(Printer); bus.publish(event()); raise ValueError('of the script')",
    "by Ctrl-C": "bus = Bus(); bus.add(Printer); bus.publish(event()); signal.raise_signal(signal.SIGINT)",
    "by Ctrl-C in the loop": """
async def main():
    bus = Bus()
    bus.add(Printer)
    bus.publish(event())
    signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(30)
asyncio.run(main())
""",
    "from a thread": """
bus = Bus()
bus.add(Printer)
threading.Thread(target=lambda: (time.sleep(0.2), bus.publish(event()))).start()
""",
    "after a close that was interrupted": """
bus = Bus()
bus.add(Printer)
bus.publish(event())
threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
try:
    bus.close()
except KeyboardInterrupt:
    pass
""",
}


@pytest.mark.parametrize("how", ENDINGS)
def test_no_event_is_lost_when_a_script_ends_after_its_last_event(how: str) -> None:
    done = run(ENDINGS[how])
    assert words(done) == ["x", "closed"], done.stderr
    assert "Error in" not in done.stderr
    assert "ignored" not in done.stderr


def test_a_sink_that_hangs_delays_the_end_of_the_process_by_the_timeout_at_most() -> None:
    done = run(
        """
        import wallie_litellm.telemetry.bus as module
        module.SHUTDOWN = 0.5
        class Hanging(RecordingSink):
            def close(self, timeout):
                time.sleep(600)
        bus = Bus()
        bus.add(lambda: Hanging("hanging"))
        bus.add(Printer)
        bus.publish(event())
        """
    )
    assert done.returncode == 0
    assert words(done) == ["x", "closed"]


def test_sinks_are_closed_before_the_exit_functions_of_their_libraries() -> None:
    done = run(
        """
        import atexit
        def make():
            atexit.register(lambda: os.write(1, b"library\\n"))
            return Printer()
        bus = Bus()
        bus.add(make)
        bus.publish(event())
        """
    )
    assert words(done) == ["x", "closed", "library"]


def test_a_forked_child_publishes_to_sinks_of_its_own() -> None:
    done = run(
        """
        bus = Bus()
        bus.add(Printer)
        bus.publish(event("parent"))
        if not (child := os.fork()):
            bus.publish(event("child"))
            sys.exit(0)
        os.waitpid(child, 0)
        """
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(" in ") for line in done.stdout.splitlines()]
    processes = {what: pid for what, pid in lines if what != "closed"}
    assert set(processes) == {"parent", "child"}
    assert sorted(pid for what, pid in lines if what == "closed") == sorted(processes.values())
    assert len(set(processes.values())) == 2


def test_a_forked_child_that_publishes_nothing_closes_nothing() -> None:
    done = run(
        """
        bus = Bus()
        bus.add(Printer)
        bus.publish(event())
        if not (child := os.fork()):
            assert bus.flush_blocking(60)
            assert bus.close()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert words(done) == ["x", "closed"], done.stderr


def test_a_forked_child_whose_sink_cannot_be_made_goes_on_without_it() -> None:
    done = run(
        """
        parent = os.getpid()
        def make():
            if os.getpid() != parent:
                raise OSError("sk-secret")
            return Printer()
        bus = Bus()
        bus.add(make)
        if not (child := os.fork()):
            bus.publish(event())
            bus.publish(event())
            os._exit(0 if bus.stats()["recording"]["queued"] == 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert done.returncode == 0, done.stderr
    assert "sk-secret" not in done.stderr


def test_forking_while_events_are_published_leaves_no_child_stuck() -> None:
    done = run(
        """
        bus = Bus()
        bus.add(lambda: RecordingSink())
        stop = threading.Event()
        def work():
            while not stop.is_set():
                bus.publish(event())
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        for _ in range(20):
            if not (child := os.fork()):
                signal.alarm(20)
                bus.publish(event())
                os._exit(0 if bus.flush_blocking(10) and len(bus.sinks()[0].events) == 1 else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        """
    )
    assert done.returncode == 0, done.stderr
