"""Fair comparisons on a noisy machine: interleaved rounds, a ratio per round, a control of a side against itself."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Work = Callable[[int], Awaitable[None]]

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Side:
    """One of the sides of a comparison. ``work(n)`` does ``n`` operations; ``prepare`` and ``finish`` surround it.

    What ``finish`` does is counted as CPU time but not as wall time: it waits for what the work left in the background.
    ``cpu`` returns the CPU seconds that the side has taken so far; unless given, those of this process.
    """

    name: str
    work: Work
    prepare: Callable[[], None] = lambda: None
    finish: Callable[[], Awaitable[None]] | None = None
    cpu: Callable[[], float] = time.process_time


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds per operation, in one round."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median and its 95 % interval."""

    median: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} … {self.high:{spec}})"

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit."""
        return Estimate(self.median * factor, self.low * factor, self.high * factor)

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"median": self.median, "low": self.low, "high": self.high}


@dataclass(slots=True)
class Report:
    """One benchmark's table, its notes, and its figures for JSON."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """The table as Markdown."""
        table = [tuple(self.columns), *map(tuple, self.rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.columns))]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in table
        ]
        lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
        return "\n".join([f"## {self.title}", "", *lines, *([""] if self.notes else []), *self.notes])


async def interleave(sides: Sequence[Side], rounds: int, operations: int) -> dict[str, list[Sample]]:
    """Run all ``sides`` once a round, in a new order each time."""
    samples: dict[str, list[Sample]] = {side.name: [] for side in sides}
    order = list(sides)
    for _ in range(rounds):
        random.shuffle(order)
        for side in order:
            samples[side.name].append(await _measure(side, operations))
    return samples


async def _measure(side: Side, operations: int) -> Sample:
    side.prepare()
    cpu, wall = side.cpu(), time.perf_counter()
    await side.work(operations)
    wall = time.perf_counter() - wall
    if side.finish is not None:
        await side.finish()
    cpu = side.cpu() - cpu
    return Sample(wall / operations, cpu / operations)


def ratio(samples: Mapping[str, Sequence[Sample]], side: str, base: str, what: str) -> Estimate:
    """``side`` over ``base``, round by round; ``what`` is ``wall`` or ``cpu``."""
    pairs = zip(samples[side], samples[base], strict=True)
    return estimate([getattr(mine, what) / getattr(theirs, what) for mine, theirs in pairs])


def difference(samples: Mapping[str, Sequence[Sample]], side: str, base: str, what: str) -> Estimate:
    """``side`` less ``base`` in seconds, round by round."""
    pairs = zip(samples[side], samples[base], strict=True)
    return estimate([getattr(mine, what) - getattr(theirs, what) for mine, theirs in pairs])


def median(samples: Mapping[str, Sequence[Sample]], side: str, what: str) -> float:
    """The median of ``side`` in seconds."""
    return statistics.median(getattr(sample, what) for sample in samples[side])


def estimate(values: Sequence[float]) -> Estimate:
    """The median of ``values`` and its 95 % interval by bootstrap."""
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    low, high = medians[int(_RESAMPLES * 0.025)], medians[int(_RESAMPLES * 0.975)]
    return Estimate(statistics.median(values), low, high)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of ``values`` do not exceed; NaN for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


@contextmanager
def module_process(name: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A module of this package as a process, ended with the block."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line that ``process`` prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args} ended early, with status {process.wait()}")
    return line


def write_line(process: subprocess.Popen[str], line: object = "") -> None:
    """Write ``line`` to the standard input of ``process``."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
