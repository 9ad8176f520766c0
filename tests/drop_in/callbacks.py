"""What LiteLLM gives to an application's callback, and the callbacks that the process has."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import litellm
from litellm.integrations.custom_logger import CustomLogger

from drop_in.actions import outcome_of, until
from drop_in.litellm_state import LISTS
from drop_in.observation import Facets, plain_data
from drop_in.row import Action, Stage

_MARK: Final = "observation"  # the metadata that tells this observation's payloads from late ones of an earlier one
_LATE: Final = 0.02  # seconds in which one event too many would come


class EventLog(CustomLogger):  # type: ignore[misc] # LiteLLM is not type-checked here
    """Keeps the payloads of calls that have one mark in their metadata, and that metadata as ``given``."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.payloads: list[dict[str, Any]] = []
        self._mark = mark

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._keep(kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._keep(kwargs)

    def _keep(self, kwargs: Any) -> None:
        metadata = kwargs["litellm_params"].get("metadata") or {}
        if metadata.get(_MARK) == self._mark:
            self.payloads.append({**kwargs["standard_logging_object"], "given": metadata})


@contextmanager
def registered(callback: CustomLogger) -> Iterator[None]:
    """The callback in LiteLLM's lists, and in none of them afterwards."""
    litellm.callbacks.append(callback)
    try:
        yield
    finally:
        for name in LISTS:
            callbacks = getattr(litellm, name, [])
            while callback in callbacks:
                callbacks.remove(callback)


def logged(
    action: Callable[..., Action], count: int, read: Callable[[dict[str, Any]], Any], **arguments: Any
) -> Action:
    """What a callback is given of each of ``count`` calls, and of no more."""

    async def act(stage: Stage) -> Any:
        mark = uuid.uuid4().hex
        log = EventLog(mark)
        metadata = {**arguments.get("metadata", {}), _MARK: mark}
        with registered(log):
            await outcome_of(action(**{**arguments, "metadata": metadata})(stage))
            await until(lambda: len(log.payloads) >= count, 20)
            await asyncio.sleep(_LATE)
        return Facets(logged=[plain_data(read(payload)) for payload in log.payloads])

    return act


def picked(*names: str) -> Callable[[dict[str, Any]], Any]:
    """Some fields of a payload; an address without its host."""

    def read(payload: dict[str, Any]) -> Any:
        found = {name: payload.get(name) for name in names}
        if found.get("api_base"):
            found["api_base"] = found["api_base"].partition("//")[2].partition("/")[2].rstrip("/")
        return found

    return read
