from __future__ import annotations

import logging

import pytest
from vendor_fixtures import running_upstream, upstream

__all__ = ["running_upstream", "upstream"]


@pytest.fixture(scope="session", autouse=True)
def quiet_litellm() -> None:
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
