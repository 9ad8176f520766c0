"""The server of a dashboard beside an application: how it ends."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from support import SHIPPED

from wallie_litellm.config import load_config
from wallie_litellm.dashboard.server import serve_config


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_while_the_server_starts_ends_it_without_an_error(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(str(SHIPPED))
    announced: list[str] = []

    async def run() -> None:
        usual = signal.getsignal(number)
        serving = asyncio.ensure_future(serve_config(config, "127.0.0.1", 0, ready=announced.append))
        while signal.getsignal(number) is usual:  # noqa: ASYNC110 - there is no other sign of it
            await asyncio.sleep(0)
        signal.raise_signal(number)  # before the server has looked for its first request
        await asyncio.wait_for(serving, 10)

    with asyncio.Runner() as runner:
        runner.get_loop().run_until_complete(run())  # Runner.run would install a handler of its own for SIGINT

    assert announced == []
