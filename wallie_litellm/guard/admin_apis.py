"""Vendors' administration APIs, asked for an account's limits hourly, away from the calls' path.

A vendor is asked where the environment has its administration key: ``ANTHROPIC_ADMIN_KEY``, or ``OPENAI_ADMIN_KEY``,
with ``OPENAI_PROJECT_ID`` where the organization has several projects; and from when a router calls the vendor's own
address, since its limits are none of a server elsewhere.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Any, Final, NamedTuple

import httpx

from wallie_litellm.core.admin_limits import ModelLimitsSeen, anthropics_limits, openais_limits

HOUR: Final = 3600.0  # seconds between two questions
LOOK: Final = 5.0  # seconds between two looks whether a vendor is to be asked
ANSWER: Final = 10.0  # seconds for one answer
MOST_PAGES: Final = 50

logger = logging.getLogger(__name__)


class AdminApi(NamedTuple):
    """One vendor's API: its address, the headers that the key goes into, and what reads all limits."""

    vendor: str
    base: str
    headers: Mapping[str, str]
    read: Callable[[httpx.Client], ModelLimitsSeen]


def admin_apis(env: Mapping[str, str]) -> Iterator[AdminApi]:
    """The APIs for which the environment has a key."""
    if key := env.get("ANTHROPIC_ADMIN_KEY", "").strip():  # a secret's file ends with a line break
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        yield AdminApi("anthropic", "https://api.anthropic.com", headers, _read_anthropic)
    if key := env.get("OPENAI_ADMIN_KEY", "").strip():
        project = env.get("OPENAI_PROJECT_ID", "").strip()
        headers = {"authorization": f"Bearer {key}"}
        yield AdminApi("openai", "https://api.openai.com", headers, lambda client: _read_openai(client, project))


class AdminQuestions:
    """Asks in a thread of its own; ``learn`` receives a provider's limits by model. Failures are logged once.

    ``may_ask`` says of a vendor whether it is called at its own address.
    """

    def __init__(
        self,
        apis: Iterable[AdminApi],
        learn: Callable[[str, ModelLimitsSeen], object],
        may_ask: Callable[[str], bool] = lambda _vendor: True,
    ) -> None:
        self._apis = tuple(apis)
        self._learn = learn
        self._may_ask = may_ask
        self._ended = threading.Event()
        self._asked_at: dict[str, float] = {}  # by vendor, seconds of the monotonic clock
        self._failing: set[str] = set()
        if self._apis:
            threading.Thread(target=self._run, name="wallie-admin-apis", daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            for api in self._apis:
                if self._may_ask(api.vendor) and self._is_due(api.vendor):
                    self._ask(api)
            self._ended.wait(LOOK)

    def _is_due(self, vendor: str) -> bool:
        now = time.monotonic()
        if now - self._asked_at.get(vendor, -inf) < HOUR:
            return False
        self._asked_at[vendor] = now
        return True

    def _ask(self, api: AdminApi) -> None:
        try:
            with httpx.Client(base_url=api.base, headers=dict(api.headers), timeout=ANSWER) as client:
                self._learn(api.vendor, api.read(client))
            self._failing.discard(api.vendor)
        except Exception as error:  # noqa: BLE001 - the network's, the vendor's, or an answer of another shape
            if api.vendor not in self._failing:
                self._failing.add(api.vendor)
                logger.warning("The limits of %s cannot be asked for: %s", api.vendor, type(error).__name__)


def _read_anthropic(client: httpx.Client) -> ModelLimitsSeen:
    found: ModelLimitsSeen = {}
    parameters: dict[str, str] = {"group_type": "model_group"}
    for _ in range(MOST_PAGES):
        page = _page(client, "/v1/organizations/rate_limits", parameters)
        found |= anthropics_limits(page)
        if not page.get("next_page"):
            break
        parameters["page"] = str(page["next_page"])
    return found


def _read_openai(client: httpx.Client, project: str) -> ModelLimitsSeen:
    path = f"/v1/organization/projects/{project or _sole_project(client)}/rate_limits"
    found: ModelLimitsSeen = {}
    parameters = {"limit": "100"}
    for _ in range(MOST_PAGES):
        page = _page(client, path, parameters)
        found |= openais_limits(page)
        if not page.get("has_more") or not page.get("last_id"):
            break
        parameters["after"] = str(page["last_id"])
    return found


def _sole_project(client: httpx.Client) -> str:
    """The organization's only project.

    Raises:
        LookupError: it has none, or several.
    """
    page = _page(client, "/v1/organization/projects", {"limit": "2"})
    projects = [str(project["id"]) for project in page["data"]]
    if len(projects) != 1:
        raise LookupError("OPENAI_PROJECT_ID is not set, and there is not exactly one project")
    return projects[0]


def _page(client: httpx.Client, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    response = client.get(path, params=dict(parameters))
    response.raise_for_status()
    page = response.json()
    if not isinstance(page, dict):
        raise TypeError("the answer is no object")
    return page
