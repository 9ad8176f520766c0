"""The proxy's log of errors: one line of what is expected, and the whole traceback of a bug."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import httpx
import litellm
import openai
import pytest

from wallie_litellm.errors import BudgetExhausted, CircuitOpen
from wallie_litellm.proxy.errors import WallieProxyError, log_expected_errors_in_one_line, passed_on

LOGGERS = ("LiteLLM Proxy", "LiteLLM Router", "LiteLLM")
REFUSED = CircuitOpen("openai is not called.", provider="openai", retry_after=3.0)


def answer(status: int) -> httpx.Response:
    return httpx.Response(status, headers={"x": "y"}, request=httpx.Request("POST", "https://vendor.invalid"))


@pytest.fixture
def logged() -> Iterator[Callable[[str, Exception], list[str]]]:
    """The lines that LiteLLM's loggers write of an error that it has caught."""
    before = {name: list(logging.getLogger(name).filters) for name in LOGGERS}
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)  # other tests keep them from writing
    log_expected_errors_in_one_line()
    log_expected_errors_in_one_line()

    def run(name: str, error: Exception) -> list[str]:
        written, log = io.StringIO(), logging.getLogger(name)
        handler = logging.StreamHandler(written)
        log.addHandler(handler)
        try:
            raise error
        except Exception as caught:
            log.exception("Exception occured - %s", str(caught))  # as LiteLLM writes it
        finally:
            log.removeHandler(handler)
        return written.getvalue().splitlines()

    yield run
    for name, filters in before.items():
        assert len(logging.getLogger(name).filters) <= len(filters) + 1
        logging.getLogger(name).filters[:] = filters
        logging.getLogger(name).setLevel(levels[name])


@pytest.mark.parametrize("name", LOGGERS)
@pytest.mark.parametrize(
    "error",
    [
        REFUSED,
        WallieProxyError(REFUSED),
        litellm.RateLimitError("too many", "openai", "m", response=answer(429)),
        litellm.RateLimitError("a limit of LiteLLM's own", "", "m"),
        litellm.ServiceUnavailableError("busy", "openai", "m", response=answer(503)),
        litellm.Timeout("no answer", "m", "openai"),
        openai.BadRequestError("no such role", response=answer(400), body=None),
        ConnectionRefusedError("Connection refused"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_expected_is_one_line(logged: Callable[..., list[str]], name: str, error: Exception) -> None:
    [line] = logged(name, error)
    assert line == f"Exception occured - {error}"


def test_a_traceback_in_the_text_of_an_expected_error_is_left_out(logged: Callable[..., list[str]]) -> None:
    text = "no answer\nat all\nTraceback (most recent call last):\n  File x, line 1, in y\n"
    assert logged(LOGGERS[0], litellm.Timeout(text, "m", "openai")) == [
        "Exception occured - litellm.Timeout: no answer at all"
    ]


@pytest.mark.parametrize("error", [TypeError("a bug"), RuntimeError("in a hook")])
def test_a_bug_keeps_its_traceback(logged: Callable[..., list[str]], error: Exception) -> None:
    assert "Traceback (most recent call last):" in logged(LOGGERS[0], error)


def test_a_budget_that_is_used_up_says_when_it_begins_anew_and_keeps_clients_from_asking_again() -> None:
    error = passed_on(BudgetExhausted("used up", provider="openai", model="gpt-4o", retry_after=3_600.0))
    assert isinstance(error, WallieProxyError)
    assert (error.code, error.headers) == ("429", {"Retry-After": "3600", "x-should-retry": "false"})
    assert error.to_dict()["code"] == "wallie_budget_exhausted"
