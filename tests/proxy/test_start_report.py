"""The lines that say what a proxy guards and where everything is."""

from __future__ import annotations

from typing import Any

import pytest

from wallie_litellm.config import RouterConfig, parse_config
from wallie_litellm.proxy.start_report import start_report

MODELS = [{"model_name": name, "litellm_params": {"model": f"{name}/some"}} for name in ("openai", "groq")]


def config(models: list[dict[str, Any]] = MODELS, general: dict[str, Any] | None = None, **wallie: Any) -> RouterConfig:
    data = {"model_list": models, "general_settings": general or {}, "wallie": {"ledger": None, **wallie}}
    return parse_config(data, "/srv/router_config.yaml", env={})


@pytest.mark.parametrize(
    ("loaded", "what", "where"),
    [
        (config(), "2 model groups, 2 providers (groq, openai)", "limits in memory; no ledger"),
        (config(MODELS[:1]), "1 model group, 1 provider (openai)", "limits in memory; no ledger"),
        (
            config([{"model_name": "m", "litellm_params": {"model": f"v{number}/m"}} for number in range(6)]),
            "1 model group, 6 providers",
            "limits in memory; no ledger",
        ),
        (
            config([], {"store_model_in_db": True}),
            "models of the proxy's database, 0 providers",
            "limits in memory; no ledger",
        ),
        (
            config(
                store={"url": "rediss://user:secret@cache:6379/0"},
                ledger={"url": "postgresql://user:secret@db/calls"},
            ),
            "2 model groups, 2 providers (groq, openai)",
            "limits shared through rediss://***; ledger postgresql://***",
        ),
    ],
)
def test_what_is_guarded_and_where_its_state_is(loaded: RouterConfig, what: str, where: str) -> None:
    assert start_report(loaded, address="http://127.0.0.1:4000").splitlines() == [
        f"wallie-litellm: guarded by /srv/router_config.yaml: {what}",
        f"wallie-litellm: {where}; page http://127.0.0.1:4000/wallie/",
        "wallie-litellm: after an edit of the file: wallie-litellm reload, or SIGHUP",
    ]


def test_workers_say_their_part_of_the_limits_and_a_page_that_is_not_served_is_not_named() -> None:
    [_, where, edited] = start_report(config(), processes=4, page=False).splitlines()
    assert where == "wallie-litellm: 1/4 of every limit, in memory; no ledger; no page"
    each = "wallie-litellm: each of 4 workers has its own breakers and alerts, and takes up an edited file"
    assert edited == f"{each} only with reload: watch"
    [*_, edited] = start_report(config(reload="watch"), processes=4).splitlines()
    assert edited == f"{each} by itself"
