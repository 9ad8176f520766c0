"""The stage of the scenarios: the simulated providers, and routers from one configuration pointed at them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from wallie_litellm.config import DEFAULT_PROVIDERS, RouterConfig, load_config, parse_config
from wallie_litellm.errors import ConfigError
from wallie_litellm.simulator.providers import SimulatedProviders

if TYPE_CHECKING:
    from wallie_litellm.guard import Guard
    from wallie_litellm.guard.api import AIRequestResult
    from wallie_litellm.guard.router import WallieRouter

SMALL_ACCOUNT: Final = "gemini-small"  # a second Gemini account, for limits that are used up within seconds
SMALL_LIMITS: Final = {"tpm": 600, "rpd": 2}
SMALL_MODELS: Final = {"gemini-2.0-flash": {"wallie_provider": SMALL_ACCOUNT}}  # whose calls are that account's
SMALL_ANSWER: Final = 6  # tokens of each of its answers

# Seconds of its rate that a provider allows beyond its limit: a burst's first request travels longer than its last, and
# the client's bucket refills in that time while the provider's is still full.
SLACK: Final = 2.0

# Seconds within which an answer or a refusal counts as immediate; every wait that would be wrong is longer.
AT_ONCE: Final = 0.5

# The model groups that the scenarios ask for.
CHAT_GROUPS: Final = ("gpt-4o-mini", "gpt-4o", "claude-sonnet-4", "claude-opus-4", "gemini-2.0-flash", "llama-3.1-8b")
VENDORS: Final = ("openai", "anthropic", "gemini", "groq", "deepseek")

# The demo writes to no ledger, dashboard or shared store of the configuration. Each router has a ledger of its own
# in the stage's folder, so that none restores what another has used; whatever else a scenario needs, it sets.
_OUTSIDE: Final = {"telemetry": {}, "ledger": None, "store": {"url": "memory"}}


def read_data(path: str | Path | None) -> tuple[Path, dict[str, Any]]:
    """The file's path and data, less what reaches outside this machine.

    Raises:
        ConfigError: the file cannot be used, or lacks what the scenarios ask for.
    """
    config = load_config(path)
    problems = [f"model_list: the demo asks for {name}" for name in CHAT_GROUPS if name not in config.groups]
    if not (openai := config.wallie.providers.get("openai")) or not openai.rpm:
        problems.append("wallie.providers.openai.rpm: the demo needs a limit to show")
    if problems:
        raise ConfigError([f"{config.path}: {problem}" for problem in problems], str(config.path))
    data: dict[str, Any] = yaml.safe_load(config.path.read_text(encoding="utf-8"))
    section = data.get("wallie") or {}
    data["wallie"] = {**section, "providers": _stated_limits(section.get("providers") or {}), **_OUTSIDE}
    return config.path, data


def _stated_limits(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The limits of the file, and those of the vendors' own addresses: the simulated providers are at others."""
    usual = {name: limits.model_dump(exclude_defaults=True) for name, limits in DEFAULT_PROVIDERS.items()}
    return {**usual, **stated}


def build_providers(config: RouterConfig) -> SimulatedProviders:
    """The five providers as processes of their own, each enforcing the limits that the configuration states for it."""
    limits: dict[str, dict[str, Any]] = {}
    for name in VENDORS:
        settings = config.wallie.providers.get(name)
        stated = settings.by_dimension() if settings is not None else {}
        limits[name] = {str(dimension): stated.get(dimension) for dimension in ("rpm", "tpm", "rpd")}
    limits[SMALL_ACCOUNT] = {"vendor": "gemini", "completion_tokens": SMALL_ANSWER, **SMALL_LIMITS}
    return SimulatedProviders(limits, in_process=False, slack=SLACK)


class Stage:
    """What a scenario works with. ``data`` is what a router_config.yaml holds, ``folder`` where files may be written.

    ``say`` shows a line on the display.
    """

    def __init__(
        self,
        providers: SimulatedProviders,
        data: Mapping[str, Any],
        path: str | Path,
        folder: Path,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.providers = providers
        self.folder = folder
        self.say = say
        self.config = parse_config(data, path, env={})
        self.guard: Guard | None = None
        self._data = data
        self._path = path
        self._opened = 0
        try:
            providers.point(self.config.model_list)
        except ValueError as error:
            raise ConfigError([f"{path}: {error}"], str(path)) from None

    @asynccontextmanager
    async def router(
        self, models: Mapping[str, Mapping[str, Any]] | None = None, **wallie: Any
    ) -> AsyncIterator[WallieRouter]:
        """A router from the file, pointed at the simulated providers; closed at the end.

        ``wallie`` replaces settings of that section, key by key; ``models`` adds ``model_info`` to groups.
        """
        from wallie_litellm.bootstrap import build_router

        self._opened += 1
        places = {
            "ledger": {"url": f"sqlite:///{self.folder / f'{self._opened:03}.db'}"},
            "telemetry": {"spool": str(self.folder / "spool")},
        }
        config = parse_config(self._changed(models or {}, {**places, **wallie}), self._path, env={})
        router = build_router(config, model_list=self.providers.point(config.model_list))
        self.guard = router.guard
        try:
            yield router
        finally:
            await router.guard.aclose()

    def _changed(self, models: Mapping[str, Mapping[str, Any]], wallie: Mapping[str, Any]) -> dict[str, Any]:
        section = dict(self._data["wallie"])
        for key, value in wallie.items():
            section[key] = {**(section.get(key) or {}), **value}
        entries = [
            {**entry, "model_info": {**(entry.get("model_info") or {}), **models.get(entry["model_name"], {})}}
            for entry in self._data["model_list"]
        ]
        return {**self._data, "model_list": entries, "wallie": section}

    def ledgers(self) -> list[Path]:
        """The ledgers that routers have written so far."""
        return sorted(self.folder.glob("*.db"))

    def clear(self) -> None:
        """Heal every provider and have it count from zero."""
        for name in self.providers:
            self.providers[name].heal()
            self.providers[name].reset()

    def status(self) -> Mapping[str, Any]:
        """The providers of the router at work, as in ``router.guard.status()``."""
        providers: Mapping[str, Any] = self.guard.status()["providers"] if self.guard is not None else {}
        return providers


async def ask(router: WallieRouter, group: str, prompt: str = "Say hello.", **arguments: Any) -> AIRequestResult:
    """One small request through the helper that applications use."""
    from wallie_litellm.guard.api import execute_ai_request

    messages = [{"role": "user", "content": prompt}]
    return await execute_ai_request(router, group, messages, **{"max_tokens": 16, **arguments})


async def ask_many(router: WallieRouter, group: str, count: int) -> list[AIRequestResult | BaseException]:
    """``count`` requests at once; those that fail leave their error."""
    return await asyncio.gather(*(ask(router, group) for _ in range(count)), return_exceptions=True)


async def refusal(router: WallieRouter, group: str, **arguments: Any) -> tuple[Exception | None, float]:
    """The error that a request ends with, ``None`` when it is served, and after how many seconds."""
    started = time.monotonic()
    try:
        await ask(router, group, **arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the scenario wants to see
        return error, time.monotonic() - started
    return None, time.monotonic() - started


async def until(true: Callable[[], bool], seconds: float) -> float:
    """Wait until ``true()``, at most so many seconds; returns how many it took."""
    started = time.monotonic()
    while not true() and time.monotonic() - started < seconds:  # noqa: ASYNC110 - no event signals what it looks at
        await asyncio.sleep(0.005)
    return time.monotonic() - started
