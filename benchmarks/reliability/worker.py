"""The callers of one system: ``python -m benchmarks.reliability.worker SPEC.json``.

A job is a line of JSON on standard input, its outcomes are one on standard output. The process ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.reliability.systems import System, make_system
from benchmarks.reliability.systems.answers import Answer, read

_MESSAGES: Final = [{"role": "user", "content": "What are your opening hours on public holidays? " * 16}]
_OUTPUT: Final = sys.stdout
_ERROR: Final = 160  # characters of an error that are kept


class _Callers:
    """Sends the requests of a job, each at its time, and says how each ended."""

    def __init__(self, system: System, spec: dict[str, Any]) -> None:
        self._system = system
        self._spec = spec

    async def play(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """The outcomes of all requests, in their order."""
        group = self._spec["groups"][job["group"]]
        start = time.monotonic() + job["start"] - time.time()
        return await asyncio.gather(*(self._request(group, start, job, one) for one in job["requests"]))

    async def _request(
        self, group: dict[str, Any], start: float, job: dict[str, Any], one: dict[str, Any]
    ) -> dict[str, Any]:
        await asyncio.sleep(max(0.0, start + one["at"] - time.monotonic()))
        answer, error = Answer(), ""
        patience = one["give_up"] if one["give_up"] is not None else job["deadline"]
        sent = time.monotonic()
        try:
            async with asyncio.timeout(patience) as limit:
                response = await self._system.ask(group, _MESSAGES, stream=one["stream"])
                await read(response, answer, stream=one["stream"])
            outcome = "answered" if answer.text == self._spec["text"] else "lie"
        except Exception as failure:
            outcome, error = "error", f"{type(failure).__name__}: {failure}"[:_ERROR]
            if limit.expired():
                outcome = "hang" if one["give_up"] is None else "gave_up"
        ended = time.monotonic()
        first = None if answer.first is None else round(answer.first - sent, 4)
        return {
            **one,
            "outcome": outcome,
            "seconds": round(ended - sent, 4),
            "first": first,
            "model": answer.model,
            "usage": answer.usage,
            "words": len(answer.text.split()),
            "error": error,
        }


async def _serve(spec: dict[str, Any]) -> None:
    system = make_system(spec)
    await system.start()
    callers = _Callers(system, spec)
    _say({"versions": {"python": sys.version.split()[0], **system.versions()}})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        job = json.loads(line)
        if isinstance(job, list):
            _say(await asyncio.gather(*(callers.play(one) for one in job)))
        else:
            _say(await callers.play(job))
    await system.close()


def _say(what: Any) -> None:
    _OUTPUT.write(json.dumps(what) + "\n")
    _OUTPUT.flush()


def main() -> None:
    sys.stdout = sys.stderr  # what a library prints is no outcome
    logging.disable(logging.ERROR)  # what fails is in the outcomes
    asyncio.run(_serve(json.loads(Path(sys.argv[1]).read_text())))


if __name__ == "__main__":
    main()
