"""Runs a rehearsal: as planned, without the faults, and, where limits were short, without limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from wallie_litellm.errors import ConfigError
from wallie_litellm.rehearse.plan import RehearsalPlan
from wallie_litellm.rehearse.report import Figures, Report, is_short, report_of

GIVEN_UP: Final = 12 * 3600.0  # seconds after which a run is ended
_LAST_LINES: Final = 5  # of what a run that has failed wrote


def rehearse(plan: RehearsalPlan) -> Report:
    """Play ``plan`` and report on it. Two runs are made at a time.

    Raises:
        ConfigError: the file cannot be used, or a run ended without a result.
    """
    plans = [plan, plan.without_faults()] if plan.faults else [plan]
    played = _play_all(plans)
    needs = None
    if any(map(is_short, played[0]["providers"].values())):
        (needs,) = _play_all([plan.without_limits()])
    return report_of(plan, played[0], played[-1], needs)


def _play_all(plans: Sequence[RehearsalPlan]) -> list[Figures]:
    with ThreadPoolExecutor(len(plans)) as pool:
        return list(pool.map(play, plans))


def play(plan: RehearsalPlan) -> Figures:
    """One run, in a process whose sets have the same order each time."""
    command = [sys.executable, "-m", "wallie_litellm.rehearse.play"]
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"}
    ended = subprocess.run(  # noqa: S603 - our own module with our own arguments
        command,
        input=json.dumps(plan.to_json()),
        capture_output=True,
        text=True,
        env=env,
        timeout=GIVEN_UP,
        check=False,
    )
    if ended.returncode:
        said = ended.stderr.strip().splitlines()[-_LAST_LINES:]
        raise ConfigError(["the rehearsal ended without a result:", *said])
    figures: dict[str, Any] = json.loads(ended.stdout)
    if "problems" in figures:
        raise ConfigError(figures["problems"])
    return figures
