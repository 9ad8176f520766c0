"""Runs a rehearsal: as planned, without the faults, and, where limits were short, without limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from wallie_litellm.errors import ConfigError
from wallie_litellm.rehearse.plan import RehearsalPlan
from wallie_litellm.rehearse.report import Figures, Report, is_short, report_of

_LAST_LINES: Final = 5  # of what a run that has failed wrote


def rehearse(plan: RehearsalPlan) -> Report:
    """Play ``plan`` and report on it. Two runs are made at a time.

    Raises:
        ConfigError: the file cannot be used, or a run ended without a result.
    """
    with Player(real_time=plan.real_time, start=plan.start) as player:
        played, *normal = player.play([plan, *([plan.without_faults()] if plan.faults else [])])
        short = any(map(is_short, played["providers"].values()))
        needs = player.play([plan.without_limits()])[0] if short else None
    return report_of(plan, played, normal[0] if normal else played, needs)


class Player:
    """The process that plays plans: a context manager. ``start`` is the Unix time at which virtual time begins."""

    def __init__(self, *, real_time: bool, start: float) -> None:
        self._setting = {"real_time": real_time, "start": start}
        self._written = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed at the exit
        self._process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "wallie_litellm.rehearse.play"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._written,
            text=True,
            # Sets of names have the same order each time.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"},
        )
        self._send(self._setting)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.terminate()  # and with it its forks
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        self._written.close()

    def play(self, plans: Sequence[RehearsalPlan]) -> list[Figures]:
        """The figures of runs that are made side by side.

        Raises:
            ConfigError: the file cannot be used, or a run ended without a result.
        """
        self._send([plan.to_json() for plan in plans])
        assert self._process.stdout is not None, "it is a pipe"  # noqa: S101 - narrows the type
        found: list[Figures | None] = json.loads(self._process.stdout.readline() or "[null]")
        return [self._checked(figures) for figures in found]

    def _send(self, data: Any) -> None:
        assert self._process.stdin is not None, "it is a pipe"  # noqa: S101 - narrows the type
        with suppress(BrokenPipeError):  # it has ended, and said why
            self._process.stdin.write(json.dumps(data) + "\n")
            self._process.stdin.flush()

    def _checked(self, figures: Figures | None) -> Figures:
        if figures is None:
            self._written.seek(0)
            said = self._written.read().strip().splitlines()[-_LAST_LINES:]
            raise ConfigError(["the rehearsal ended without a result:", *said])
        if "problems" in figures:
            raise ConfigError(figures["problems"])
        return figures
