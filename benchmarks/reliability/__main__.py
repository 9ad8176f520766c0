"""``python -m benchmarks reliability [--quick] [--only SYSTEM] [--fault NAME] [--repeats N] [--write-docs]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.reliability import figures, page, peers, scenarios, stage
from benchmarks.reliability.faults import BY_NAME, SCENES, Scene

_REPEATS: Final = 3
_LEAD: Final = 1.6  # seconds before the first request, for the steps that come before it
_APART: Final = 3.0  # seconds between the bursts of two systems, which would else slow each other down


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks reliability", description="See docs/reliability.md.")
    parser.add_argument("--quick", action="store_true", help="one repeat of each fault")
    parser.add_argument("--only", action="append", choices=stage.LABELS, metavar="SYSTEM", help="and no other system")
    parser.add_argument("--fault", action="append", choices=BY_NAME, metavar="NAME", help="and no other fault")
    parser.add_argument("--repeats", type=int, default=_REPEATS, help=f"of each fault (default: {_REPEATS})")
    parser.add_argument("--scenarios", choices=("also", "only", "no"), default="also", help="of the failover benchmark")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--read", type=Path, metavar="FILE", help="run nothing: the figures are there")
    parser.add_argument("--raw", type=Path, metavar="FILE", help="write every request and every visit there")
    parser.add_argument("--write-docs", action="store_true", help="write docs/reliability.md and its charts")
    options = parser.parse_args(arguments)
    data = json.loads(options.read.read_text()) if options.read else _run(options)
    print(page.report(data), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    if options.write_docs:
        page.write_docs(data)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    began, (load, *_) = time.monotonic(), os.getloadavg()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what was started, too
    names = options.only or list(stage.LABELS)
    scenes = [BY_NAME[name] for name in options.fault] if options.fault else list(SCENES)
    if options.scenarios == "only":
        scenes = []
    repeats = 1 if options.quick else options.repeats
    installed = peers.install(set(names))
    missing = dict(installed.missing)
    names = [name for name in names if name not in missing]
    groups: list[dict[str, Any]] = [stage.WARM_UP]
    groups += [
        {"name": f"{scene.name}-{repeat}", "limits": dict(scene.stated)}
        for scene in scenes
        for repeat in range(repeats)
    ]
    if options.scenarios != "no":
        groups += scenarios.groups()
    raw: list[dict[str, Any]] = []
    with stage.contestants(names, installed, groups) as (running, failed):
        missing |= failed
        ready = time.monotonic()
        print(f"{len(running)} systems are ready after {ready - began:.0f} s", flush=True)
        runs = _scenes(running, scenes, repeats, missing, raw)
        verdicts = {} if options.scenarios == "no" else scenarios.play(running, missing, raw)
        versions = {one.name: one.versions for one in running}
    if options.raw is not None:
        options.raw.write_text(json.dumps(raw) + "\n")
    return {
        "about": {
            "date": time.strftime("%Y-%m-%d"),
            "repeats": repeats,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load": round(load, 1),
            "litellm": version("litellm"),
        },
        "systems": {name: {"label": stage.LABELS[name], "versions": versions.get(name, {})} for name in names},
        "missing": missing,
        "faults": runs,
        "scenarios": verdicts,
    }


def _scenes(
    running: list[stage.Contestant], scenes: Sequence[Scene], repeats: int, missing: dict[str, str], raw: list[Any]
) -> dict[str, Any]:
    """The summary of every scene, by fault and system."""
    found: dict[str, dict[str, list[dict[str, float | None]]]] = {scene.name: {} for scene in scenes}
    for repeat in range(repeats):
        for scene in scenes:
            began = time.monotonic()
            for name, run in _together(running, scene, repeat, missing, raw).items():
                found[scene.name].setdefault(name, []).append(run)
            print(f"{scene.name} {repeat + 1}/{repeats}: {time.monotonic() - began:.0f} s", flush=True)
    return {
        fault: {name: figures.summarize(runs) for name, runs in systems.items()} for fault, systems in found.items()
    }


def _together(
    running: list[stage.Contestant], scene: Scene, repeat: int, missing: dict[str, str], raw: list[Any]
) -> dict[str, dict[str, float | None]]:
    """One scene with all systems side by side."""
    alive = [one for one in running if one.name not in missing]
    with ThreadPoolExecutor(len(alive)) as pool:
        list(pool.map(lambda one: stage.prepare(one, dict(scene.limits)), alive))
        begin = time.time() + _LEAD
        apart = _APART if scene.at_once else scene.seconds / scene.rate / 100 / len(alive)
        requests = scene.requests()

        def play(numbered: tuple[int, stage.Contestant]) -> tuple[str, stage.Observed | None]:
            number, one = numbered
            # A turn each repeat, so that none is always the first.
            turn = (number + repeat) % len(alive)
            try:
                group, start = f"{scene.name}-{repeat}", begin + turn * apart
                return one.name, stage.play(one, group, requests, scene.steps, start, scene.settle)
            except RuntimeError as error:
                missing[one.name] = str(error)
                return one.name, None

        seen = dict(pool.map(play, enumerate(alive)))
    runs = {}
    for name, observed in seen.items():
        if observed is None:
            continue
        raw.append(stage.raw(f"{scene.name}-{repeat}", name, observed))
        tokens = (stage.PROMPT_TOKENS, stage.COMPLETION_TOKENS)
        runs[name] = figures.measure(scene, observed.outcomes, observed.primary, observed.fallback, tokens)
    return runs


if __name__ == "__main__":
    main()
