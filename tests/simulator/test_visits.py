"""The log of requests: when each came, how it ended, and the tokens that a vendor would bill for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from wallie_litellm.simulator import Fault, FaultKind, SimulatedProvider, VisitRecord

TEXT = "one two three four five six seven eight"
PROMPT_TOKENS, ANSWER_TOKENS = 2, 10  # a quarter of the characters, rounded up


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    with SimulatedProvider("openai", text=TEXT) as running:
        yield running


def ask(provider: SimulatedProvider, *, stream: bool, model: str = "gpt-4o-mini") -> VisitRecord:
    """Send one request and read the answer to its end, however it ends; the log's last line."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi there"}], "stream": stream}
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(f"{provider.api_base}/chat/completions", json=body, timeout=10, trust_env=False)
    return provider.visits()[-1]


def test_the_log_has_each_request_with_its_model_and_its_end(provider: SimulatedProvider) -> None:
    provider.restore()
    began = time.time()
    provider.fail(503, times=1)
    ask(provider, stream=False)
    ask(provider, stream=True, model="gpt-4o")
    failed, served = provider.visits()
    assert (failed.model, failed.status, failed.outcome) == ("gpt-4o-mini", 503, "failed")
    assert (served.model, served.status, served.outcome) == ("gpt-4o", 200, "succeeded")
    assert began - 1 < failed.at <= served.at < time.time() + 1
    provider.reset()
    assert provider.visits() == []


@pytest.mark.parametrize(
    ("stream", "fault", "answer"),
    [
        (False, lambda provider: None, ANSWER_TOKENS),
        (True, lambda provider: None, ANSWER_TOKENS),
        (False, lambda provider: provider.malformed(times=1), ANSWER_TOKENS),
        (True, lambda provider: provider.cut_stream(times=1, after_chunks=4), 5),  # 5 of 11 events: one has the role
        (True, lambda provider: provider.truncate_stream(times=1, after_chunks=4), 5),
        (True, lambda provider: provider.slow(0.01, times=1), ANSWER_TOKENS),
    ],
)
def test_tokens_that_were_sent_are_billed(
    provider: SimulatedProvider, stream: bool, fault: Callable[[SimulatedProvider], None], answer: int
) -> None:
    provider.restore()
    fault(provider)
    visit = ask(provider, stream=stream)
    assert (visit.prompt_tokens, visit.completion_tokens) == (PROMPT_TOKENS, answer)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", [FaultKind.STATUS, FaultKind.ERROR_IN_200, FaultKind.RATE_LIMIT, FaultKind.RESET])
def test_an_error_is_not_billed(provider: SimulatedProvider, kind: FaultKind, stream: bool) -> None:
    provider.restore()
    provider.set_fault(Fault(kind, times=1))
    visit = ask(provider, stream=stream)
    assert (visit.prompt_tokens, visit.completion_tokens) == (0, 0)
