"""The names that applications may rely on."""

from __future__ import annotations

import subprocess
import sys

import pytest

import wallie_litellm

PUBLIC = [
    "AIRequestResult",
    "AIRequestStream",
    "BudgetExhausted",
    "CapacityLease",
    "ChainExhausted",
    "CircuitOpen",
    "ConfigError",
    "DeadlineExceeded",
    "Guard",
    "MemberFailure",
    "RateLimited",
    "Refused",
    "RequestTooLarge",
    "RouterConfig",
    "Settled",
    "Target",
    "WallieConfig",
    "WallieError",
    "WallieRouter",
    "build_router",
    "calculate_cost",
    "execute_ai_request",
    "execute_ai_request_sync",
    "extract_text",
    "load_config",
    "stream_ai_request",
]


def test_the_public_names_are_these_and_sorted() -> None:
    assert wallie_litellm.__all__ == PUBLIC == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_described(name: str) -> None:
    assert getattr(wallie_litellm, name).__doc__


def test_dir_lists_them_without_importing_anything() -> None:
    assert dir(wallie_litellm) == PUBLIC


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'build_rooter'"):
        wallie_litellm.build_rooter  # noqa: B018


@pytest.mark.parametrize("statement", ["import wallie_litellm", "from wallie_litellm import Guard, load_config"])
def test_importing_the_package_does_not_import_litellm(statement: str) -> None:
    # LiteLLM takes seconds to import: a command that only reads the config must not pay for it.
    program = f"{statement}; import sys; sys.exit('litellm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == 0
