"""`wallie-litellm status` run over a Redis, and exchanges of a worker as a test wants them."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result
from redis_support import RedisServer

from wallie_litellm.cli import main
from wallie_litellm.core.lease_exchange import VERSION
from wallie_litellm.limiter.redis.layout import CHANNEL, SCRIPT, key_of

PASSWORD = "hunter2"
SECTIONS: dict[str, Any] = {
    "providers": {"openai": {"rpm": 60, "tpm": 6000, "rpd": 100, "concurrency": 5}, "spare": {"rpm": 10}},
    "features": {"chat": {"limits": {"rpm": 30}}, "unlimited": {"priority": 1}},
    "breaker": {"failures": 1, "open_for": 20},
    "ledger": None,
}
MODELS = [{"model_name": "gpt", "litellm_params": {"model": "openai/gpt-4o", "api_key": "fake"}}]


def run_status(folder: Path, url: str, *options: str, **sections: Any) -> Result:
    """Run it in a thread of its own: it brings its own event loop, and a test may have one too."""
    file = folder / "router_config.yaml"
    wallie = {**SECTIONS, "store": {"url": url}, **sections}
    models = wallie.pop("models", MODELS)
    file.write_text(yaml.safe_dump({"model_list": models, "wallie": wallie}))
    results: list[Result] = []
    arguments = ["status", "--config", str(file), *options]
    thread = threading.Thread(target=lambda: results.append(CliRunner().invoke(main, arguments)))
    thread.start()
    thread.join()
    return results[0]


def read_status(folder: Path, url: str, **sections: Any) -> dict[str, Any]:
    """Its JSON."""
    result = run_status(folder, url, "--json", **sections)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def exchange(server: RedisServer, name: str, at: float, **more: Any) -> dict[str, Any]:
    """An exchange of worker ``w`` with Redis at the Unix time ``at``."""
    request = {
        "version": VERSION,
        "worker": "w",
        "ack": 0,
        "lease_ttl": 3.0,
        "rate_limits": {"rpm": [60.0, 60.0], "tpm": [6000.0, 6000.0]},
        "daily_limits": {"rpd": [100, at + 1000]},
        "breaker_rules": SECTIONS["breaker"]
        | {"error_rate": None, "window": 60.0, "min_calls": 20, "max_open_for": 60.0, "probes": 1},
        "reports": [],
        "max_wait": 30.0,
        "queued": {},
        "slots": {},
        "needs": [],
        "probe": False,
        "seed": {
            "workers": 1,
            "held": {},
            "others": {},
            "used": {},
            "last_minute": {},
            "pause": 0.0,
            "breaker": {"state": "closed", "reopens_in": 0.0, "open_for": 20.0},
        },
        **more,
    }
    with server.client() as client:
        reply = client.eval(SCRIPT, 1, key_of(name), json.dumps(request), CHANNEL, name, 1000, repr(at))
    answer: dict[str, Any] = json.loads(reply)
    return answer


def report_of(**more: Any) -> dict[str, Any]:
    nothing = {
        "seq": 1,
        "lease_id": 0,
        "spent": {},
        "returned": {},
        "charge": {},
        "refunds": [],
        "recent": [],
        "outcomes": [],
        "actions": [],
    }
    return {**nothing, "pause": 0.0, "reset": [], **more}
