"""What the ledger has on record of a provider counts for its name, whatever addresses are added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ledger_support import settled

from wallie_litellm import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.ledger.writer import LedgerSink

LOCAL = "http://127.0.0.1:8000/v1"


def used(url: str, *deployments: dict[str, Any]) -> dict[str, int]:
    """The requests of the day that a process with these deployments begins with, by provider."""
    models = [{"model_name": f"m{number}", "litellm_params": params} for number, params in enumerate(deployments)]
    limits = {"openai": {"rpd": 100}, "openai/127.0.0.1:8000": {"rpd": 100}}
    router = build_router(
        parse_config({"model_list": models, "wallie": {"providers": limits, "ledger": {"url": url}}}, env={})
    )
    try:
        status = router.guard.status()["providers"]
        return {name: status[name]["quota"]["rpd"]["used"] for name in limits}
    finally:
        router.guard.close()


def test_records_from_before_a_second_address_keep_counting_for_the_plain_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'wallie.db'}"
    sink = LedgerSink(url, tmp_path / "spool", worker="test", retention=86_400.0)
    sink.handle([settled(provider="openai") for _ in range(3)])
    sink.close(5.0)
    own, local = {"model": "openai/gpt-4o", "api_key": "sk"}, {"model": "openai/t", "api_key": "sk", "api_base": LOCAL}
    assert used(url, own) == {"openai": 3, "openai/127.0.0.1:8000": 0}
    assert used(url, own, local) == {"openai": 3, "openai/127.0.0.1:8000": 0}
    assert used(url, local) == {"openai": 3, "openai/127.0.0.1:8000": 0}
