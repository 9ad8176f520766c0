"""One running proxy for the failover tests, and OpenAI's own client before it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import openai
from failover_rows import LONG_TIMEOUT, SCALE, TIMEOUT, fast_defaults
from forked import ForkServer
from proxy_support import MASTER_KEY, Proxy, fork_proxy, lay_out

from wallie_litellm.simulator import SimulatedProviders

MODELS: Final = {"backup": "anthropic/claude-sonnet-4-5", "special": "deepseek/deepseek-chat"}
FEATURES: Final = {
    "hasty": {"first_token": 2.0},
    "held": {"stream_recovery": "hold"},
    "continued": {"stream_recovery": "continue"},
}


def configuration(groups: Mapping[str, Mapping[str, Any]], alone: frozenset[str]) -> dict[str, Any]:
    """A group with a provider of its own for each of ``groups``, which are providers' settings by name.

    All but those ``alone`` fall back to ``backup``. The name of a group is also its model's on the wire, so that one
    simulated provider has faults for each.
    """
    own = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "timeout": TIMEOUT / SCALE},
            "model_info": {"wallie_provider": name},
        }
        for name in groups
    ]
    backups = [{"model_name": name, "litellm_params": {"model": model}} for name, model in MODELS.items()]
    wallie = fast_defaults({"features": FEATURES, "retry": {"initial": 3.0, "jitter": 0.0}})
    return {
        "model_list": [*own, *backups],
        "router_settings": {
            "fallbacks": [{name: ["backup"]} for name in groups if name not in alone],
            "disable_cooldowns": True,
            "timeout": LONG_TIMEOUT / SCALE,
        },
        "litellm_settings": {"callbacks": "callbacks.wallie.handler"},
        "wallie": {**wallie, "providers": {name: dict(limits) for name, limits in groups.items()}},
    }


def start(forks: ForkServer, folder: Path, config: Mapping[str, Any], fleet: SimulatedProviders) -> Proxy:
    """``litellm --config`` on ``config``, in front of ``fleet``."""
    return fork_proxy(forks, lay_out(folder, {**config, "model_list": fleet.point(config["model_list"])}))


@dataclass
class Heard:
    """What a client got: the text, the error behind it, the headers, and the seconds that it took."""

    text: str = ""
    error: Exception | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Client:
    """OpenAI's client of a proxy."""

    def __init__(self, proxy: Proxy, *, retries: int = 0, timeout: float = 60.0) -> None:
        self._client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{proxy.port}/v1", api_key=MASTER_KEY, max_retries=retries, timeout=timeout
        )

    def ask(self, model: str, stream: bool = False, feature: str | None = None, prompt: str = "Count") -> Heard:
        heard, started = Heard(), time.monotonic()
        try:
            for piece in self._pieces(heard, model, stream, feature, prompt):
                heard.text += piece
        except openai.APIError as error:
            heard.error = error
            response = getattr(error, "response", None)
            heard.headers = dict(response.headers) if response is not None else heard.headers
        heard.seconds = time.monotonic() - started
        return heard

    def _pieces(self, heard: Heard, model: str, stream: bool, feature: str | None, prompt: str) -> Iterator[str]:
        raw = self._client.chat.completions.with_raw_response.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            stream=stream,
            extra_headers={"x-wallie-feature": feature} if feature else {},
        )
        heard.headers = dict(raw.headers)
        answer = raw.parse()
        if not stream:
            yield answer.choices[0].message.content or ""
            return
        for chunk in answer:
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    def ask_at_once(self, times: int, model: str, stream: bool = False, feature: str | None = None) -> list[Heard]:
        with ThreadPoolExecutor(times) as pool:
            return list(pool.map(lambda _: self.ask(model, stream, feature), range(times)))
