"""``python -m examples.wallie_assistant``: the example, against simulated providers or, with ``--live``, real keys."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # LiteLLM's own price map, without a download

from examples.wallie_assistant.app import create_app  # after the variable is set
from examples.wallie_assistant.simulation import add_outages, simulated
from wallie_litellm import load_config

CONFIG: Final = Path(__file__).with_name("router_config.yaml")
PORT: Final = 8800


@contextmanager
def simulated_app() -> Iterator[Any]:
    """The application on simulated providers; what it writes is gone at the end."""
    with simulated() as (providers, telemetry), tempfile.TemporaryDirectory() as folder:
        places = {"WALLIE_DATABASE_URL": f"sqlite:///{folder}/ledger.db"}
        config = load_config(CONFIG, env={**telemetry, **places})
        app = create_app(config, Path(folder, "conversations.db"), model_list=providers.point(config.model_list))
        add_outages(app, providers)
        yield app


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.wallie_assistant", description=__doc__)
    parser.add_argument("--live", action="store_true", help="call the real providers, with the keys of the environment")
    parser.add_argument("--port", type=int, default=PORT)
    options = parser.parse_args()
    address = f"http://127.0.0.1:{options.port}"
    print(f"In some seconds {address}/ is the assistant, {address}/wallie/ the dashboard; Ctrl-C ends.", flush=True)
    if options.live:
        _serve(create_app(load_config(CONFIG), Path("wallie_assistant_conversations.db")), options.port)
        return
    with simulated_app() as app:
        _serve(app, options.port)


def _serve(app: Any, port: int) -> None:
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()
