"""The adapter for Failover Bench, with its configuration, against a provider that fails by model as that one's does."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wallie_litellm.simulator import Fault, FaultKind, SimulatedProvider

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "failover_bench"
TEXT = "A gateway earns trust only when the provider behind it misbehaves."
PROMPT = [{"role": "user", "content": "Why?"}]
FAULTS = {
    "fb-s08-stream-cut": Fault(FaultKind.CUT_STREAM, after_chunks=4),
    "fb-s10-malformed-chunk": Fault(FaultKind.MALFORMED, after_chunks=4),
    "fb-s11-no-done": Fault(FaultKind.OMIT_END),
    "fb-s12-context-length": Fault(FaultKind.CONTEXT_WINDOW),
    "fb-s13-content-filter": Fault(FaultKind.CONTENT_POLICY),
    "fb-s14-stream-cut": Fault(FaultKind.CUT_STREAM, after_chunks=4),
}
ANSWERS_ITSELF = {"fb-s11-no-done"}


@dataclass
class CallResult:
    """The fields of its ``adapters/base.py`` that an adapter fills in."""

    ok: bool
    content: str = ""
    reported_model: str | None = None
    usage: dict[str, Any] | None = None
    error: str | None = None
    status: int | None = None
    elapsed_s: float = 0.0
    ttft_s: float | None = None
    chunks: int = 0


class Adapter:
    def __init__(self, params: dict[str, Any], wall_base: str) -> None:
        self.params = params


@pytest.fixture(scope="module")
def provider() -> Any:
    with SimulatedProvider("openai", text=TEXT) as running:
        for model, fault in FAULTS.items():
            running.set_fault(Fault(**{**fault.to_json(), "model": model}))
        running.set_fault(Fault(FaultKind.REFUSE_PREFILL, model="fb-ok-noprefill"))
        yield running


@pytest.fixture
async def adapter(provider: SimulatedProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    base = ModuleType("failoverbench.adapters.base")
    base.Adapter, base.CallResult = Adapter, CallResult  # type: ignore[attr-defined]
    for name in ("failoverbench", "failoverbench.adapters"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, base.__name__, base)
    spec = importlib.util.spec_from_file_location("failoverbench.adapters.wallie", FOLDER / "wallie.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = tmp_path / "router_config.yaml"
    config.write_text(
        (FOLDER / "router_config.yaml").read_text().replace("http://127.0.0.1:8401/v1", provider.api_base)
    )
    made = module.WallieAdapter({"config": str(config), "feature": "failoverbench"}, "")
    await made.start()
    yield made
    await made.close()


async def test_the_caller_gets_the_whole_answer_or_the_provider_s_reason(adapter: Any) -> None:
    for model in FAULTS:
        result = await adapter.complete(model, "fb-ok", True, PROMPT, 30.0)
        if model == "fb-s13-content-filter":
            assert (result.ok, result.status) == (False, 400), result
            continue
        fallback = "fb-ok-noprefill" if model == "fb-s14-stream-cut" else "fb-ok"
        assert (result.ok, result.content) == (True, TEXT), result
        assert result.reported_model == (model if model in ANSWERS_ITSELF else fallback)
        assert result.usage


async def test_a_healthy_answer_in_one_piece(adapter: Any) -> None:
    result = await adapter.complete("fb-ok", None, False, PROMPT, 10.0)
    assert (result.ok, result.content, result.reported_model) == (True, TEXT, "fb-ok")
