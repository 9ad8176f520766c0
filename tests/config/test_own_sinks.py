"""Sinks of one's own, from the config to the first event."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import wait_until

from wallie_litellm.bootstrap import open_guard
from wallie_litellm.config import load_config
from wallie_litellm.errors import ConfigError
from wallie_litellm.guard import Guard

SINK = """
    from __future__ import annotations
    from dataclasses import dataclass, field

    MADE = []

    @dataclass
    class Mine:
        name: str = "mine"
        events: list[object] = field(default_factory=list)

        def __post_init__(self):
            MADE.append(self)

        def handle(self, events):
            self.events += events

        def flush(self, timeout):
            return True

        def close(self, timeout):
            pass

        def stats(self):
            return {"delivered": len(self.events)}

    def make():
        return Mine("by hand")

    NUMBER = 7

    class Empty:
        name = "empty"

    class Failing:
        def __init__(self):
            raise RuntimeError("no disk")
"""

Open = Callable[..., Guard]


@pytest.fixture
def open_with(tmp_path: Path, clean_env: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens a guard whose config, in a folder of its own, names sinks; ``files`` are put beside it."""
    made: list[Guard] = []
    before = set(sys.modules)

    def run(*sinks: str, folder: str = "here", files: dict[str, str] | None = None, **telemetry: Any) -> Guard:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        for name, text in (files or {}).items():
            (place / name).write_text(textwrap.dedent(text))
        data = {
            "model_list": [{"model_name": "a", "litellm_params": {"model": "openai/gpt-4o", "api_key": "fake"}}],
            "wallie": {"ledger": None, "telemetry": {"sinks": list(sinks), **telemetry}},
        }
        (place / "router_config.yaml").write_text(yaml.safe_dump(data))
        made.append(open_guard(load_config(place / "router_config.yaml")))
        return made[-1]

    yield run
    for guard in made:
        guard.close()
    for name in set(sys.modules) - before:
        if "sink" in name:
            del sys.modules[name]


def refusal(run: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        run()
    [problem] = caught.value.problems
    return problem


@pytest.mark.parametrize(("attribute", "name"), [("Mine", "mine"), ("make", "by hand")])
def test_a_class_or_a_function_in_a_file_beside_the_config_receives_the_events(
    open_with: Open, attribute: str, name: str
) -> None:
    guard = open_with(f"their_sink:{attribute}", files={"their_sink.py": SINK})
    guard.update_usage("openai", 1)
    wait_until(lambda: guard.status()["sinks"][name]["delivered"] == 1)


def test_two_sinks_of_one_file_share_its_module(open_with: Open) -> None:
    guard = open_with("their_sink:Mine", "their_sink:make", files={"their_sink.py": SINK})
    one, two = guard.bus.sinks()
    assert type(one) is type(two)


def test_two_configs_whose_files_have_the_same_name_each_get_their_own(open_with: Open) -> None:
    files = {"their_sink.py": SINK}
    first = open_with("their_sink:Mine", folder="one", files=files)
    second = open_with("their_sink:Mine", folder="two", files={"their_sink.py": SINK.replace('"mine"', '"other"')})
    again = open_with("their_sink:Mine", folder="two")
    assert [guard.bus.sinks()[0].name for guard in (first, second, again)] == ["mine", "other", "other"]
    assert type(first.bus.sinks()[0]) is not type(second.bus.sinks()[0])
    assert type(second.bus.sinks()[0]) is type(again.bus.sinks()[0])


def test_a_file_that_is_called_like_a_module_in_use_goes_before_it(open_with: Open) -> None:
    guard = open_with("support:Mine", files={"support.py": SINK})
    assert guard.bus.sinks()[0].name == "mine"
    assert sys.modules["support"].__file__ != sys.modules[type(guard.bus.sinks()[0]).__module__].__file__


def test_an_importable_module_will_do(open_with: Open) -> None:
    assert open_with("recording:RecordingSink").bus.sinks()[0].name == "recording"


WRONG = {
    "no such module": ("nowhere:Sink", "cannot be loaded (ModuleNotFoundError: No module named 'nowhere')"),
    "no such attribute": ("their_sink:Nobody", "cannot be loaded (AttributeError: "),
    "not callable": ("their_sink:NUMBER", "found int, expected a class or a function that makes a sink"),
    "no sink": ("their_sink:Empty", "lacks handle, flush, close, stats of wallie_litellm.telemetry.sink.Sink"),
    "cannot be made": ("their_sink:Failing", "cannot be made (RuntimeError: no disk)"),
    "broken file": ("broken_sink:Sink", "cannot be loaded (SyntaxError: "),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_object_that_is_no_sink_is_one_error_with_the_reason(open_with: Open, what: str) -> None:
    path, said = WRONG[what]
    files = {"their_sink.py": SINK, "broken_sink.py": "def ("}
    problem = refusal(lambda: open_with(path, files=files))
    assert problem.startswith(f"wallie.telemetry.sinks: {path}: {said}")


def test_a_file_that_failed_to_load_is_read_again_once_it_is_mended(open_with: Open) -> None:
    refusal(lambda: open_with("their_sink:Mine", files={"their_sink.py": "import nowhere_at_all"}))
    assert open_with("their_sink:Mine", files={"their_sink.py": SINK}).bus.sinks()[0].name == "mine"


def test_after_a_refusal_no_sink_is_left_running(open_with: Open) -> None:
    files = {
        "their_sink.py": SINK.replace("            pass", "            CLOSED.append(1)").replace(
            "MADE = []", "MADE = []\n    CLOSED = []"
        )
    }
    refusal(lambda: open_with("their_sink:Mine", "their_sink:Empty", files=files))
    assert sys.modules["their_sink"].CLOSED == [1]
