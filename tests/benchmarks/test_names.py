"""What ``python -m benchmarks`` names is there: the package that it measures changes without it."""

from __future__ import annotations

import importlib

import pytest

from benchmarks.__main__ import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_named_benchmark_can_be_imported_and_run(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").run)
