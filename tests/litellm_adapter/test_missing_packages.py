"""An installation without the proxy's packages: which calls need them, and the error that says so."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support import SHIPPED, shipped_config

from wallie_litellm.errors import PackageMissing
from wallie_litellm.litellm_adapter.missing_packages import missing_package
from wallie_litellm.simulator.providers import SimulatedProviders

# A process in which the proxy's packages cannot be imported, as if they were not installed.
PLAIN = """
import asyncio, json, sys
for name in ("mcp", "fastapi", "starlette", "uvicorn", "orjson", "backoff", "apscheduler", "websockets"):
    sys.modules[name] = None
import yaml
from wallie_litellm import build_router
from wallie_litellm.config import parse_config

data = yaml.safe_load(open(sys.argv[1]))
data["wallie"] |= {"ledger": None, "retry": {"max_retries": 3, "initial": "1ms"}}
config = parse_config(data)
router = build_router(config, model_list=json.loads(sys.argv[2]))
hello = [{"role": "user", "content": "Hello"}]

async def main():
    ended = {}
    for name, call in {
        "chat": router.acompletion("gpt-4o-mini", hello),
        "stream": router.acompletion("claude-sonnet-4", hello, stream=True),
        "embedding": router.aembedding(model="text-embedding-3-small", input="Hello"),
        "messages": router.aanthropic_messages(model="claude-sonnet-4", messages=hello, max_tokens=9, stream=True),
        "gemini": router.agenerate_content(model="gemini-2.0-flash", contents=[{"parts": [{"text": "Hello"}]}]),
    }.items():
        try:
            await call
            ended[name] = "served"
        except Exception as error:
            ended[name] = f"{type(error).__name__}: {error}"
    providers = router.guard.status()["providers"]
    await router.guard.aclose()
    print(json.dumps([ended, {name: providers[name]["health"] for name in ("anthropic", "gemini")}]))

asyncio.run(main())
"""
INSTALL = "which is not installed: pip install 'wallie-litellm[proxy]'"


def test_a_plain_installation_serves_what_it_can_and_names_the_extra_for_the_rest(fleet: SimulatedProviders) -> None:
    models = fleet.point(shipped_config()["model_list"])
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(SHIPPED), json.dumps(models)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    ended, health = json.loads(done.stdout.splitlines()[-1])
    assert ended == {
        "chat": "served",
        "stream": "served",
        "embedding": "served",
        "messages": f"PackageMissing: LiteLLM needs fastapi for aanthropic_messages, {INSTALL}",
        "gemini": f"PackageMissing: LiteLLM needs fastapi for agenerate_content, {INSTALL}",
    }
    # LiteLLM has an answer of Anthropic's when it misses the package: it is not asked for again.
    assert (fleet["anthropic"].counts().received, fleet["gemini"].counts().received) == (2, 0)
    assert health == {"anthropic": "healthy", "gemini": "healthy"}


def raised_in(module: str, error: Exception) -> Exception:
    """``error`` as code of ``module`` raises it, inside another error."""
    try:
        try:
            exec("raise error", {"__name__": module, "error": error})  # noqa: S102 - a module's frame
        except Exception as inner:
            raise RuntimeError("of no use") from inner
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize(
    ("name", "install"),
    [("mcp.types", "pip install 'wallie-litellm[proxy]'"), ("google.cloud", "install the package of google")],
)
def test_a_package_that_litellm_lacks_is_named(name: str, install: str) -> None:
    found = missing_package(raised_in("litellm.some.place", ModuleNotFoundError("x", name=name)), "aresponses")
    top = name.partition(".")[0]
    assert isinstance(found, PackageMissing)
    assert str(found) == f"LiteLLM needs {top} for aresponses, which is not installed: {install}"


@pytest.mark.parametrize(
    "error",
    [
        raised_in("the_application.handlers", ModuleNotFoundError("x", name="fastapi")),
        raised_in("litellm.some.place", ImportError("cannot import name 'x'", name="fastapi")),
        raised_in("litellm.some.place", TypeError("a bug")),
        ModuleNotFoundError("never raised", name="fastapi"),
    ],
)
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    assert missing_package(error, "aresponses") is None
