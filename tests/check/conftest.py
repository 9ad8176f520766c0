"""The check of a file made of deployments and sections; the shipped file, with keys or without, on a fixed day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from check_support import OPENAI, TODAY
from config_fixtures import clean_env, fake_keys, shipped

from wallie_litellm.check.report import CheckReport, check_file

__all__ = ["clean_env", "fake_keys", "shipped"]


@pytest.fixture
def check(tmp_path: Path) -> Any:
    def run(*entries: dict[str, Any], env: dict[str, str] | None = None, **sections: Any) -> CheckReport:
        options = {"ignore_keys": False, "library": True}
        options |= {name: sections.pop(name) for name in options.keys() & sections.keys()}
        file = tmp_path / "router_config.yaml"
        file.write_text(yaml.safe_dump({"model_list": list(entries), **sections}))
        return check_file(file, today=TODAY, env=OPENAI if env is None else env, **options)

    return run
