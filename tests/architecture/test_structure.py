"""The figures of ``benchmarks/structure.py`` for a small checkout."""

from __future__ import annotations

import importlib
from pathlib import Path

from architecture.sources import Checkout

structure = importlib.import_module("benchmarks.structure")


def checkout(root: Path, **modules: str) -> Checkout:
    (root / "wallie_litellm").mkdir()
    for name, source in {"__init__": "", **modules}.items():
        (root / f"wallie_litellm/{name}.py").write_text(source)
    return Checkout(root)


def test_floors_are_counted_along_the_longest_way_down(tmp_path: Path) -> None:
    files = {
        "cli": "from wallie_litellm import guard, core\n",
        "guard": "def late():\n    from wallie_litellm import limiter\n",
        "limiter": "import wallie_litellm.core\n",
        "core": "",
    }
    rooms = structure.rooms(checkout(tmp_path, **files))
    assert rooms.floors == {"core": 1, "limiter": 2, "guard": 3, "cli": 4}
    assert sum(map(len, rooms.arrows.values())) == 4
    assert not rooms.upwards


def test_the_typing_import_of_a_cycle_goes_upwards(tmp_path: Path) -> None:
    files = {
        "guard": "import wallie_litellm.core\n",
        "core": "if TYPE_CHECKING:\n    from wallie_litellm.guard import Guard\n",
    }
    rooms = structure.rooms(checkout(tmp_path, **files))
    assert rooms.upwards == {("core", "guard")}
    assert rooms.floors == {"core": 1, "guard": 2}


def test_every_import_of_a_cycle_at_run_time_goes_upwards(tmp_path: Path) -> None:
    rooms = structure.rooms(
        checkout(tmp_path, guard="import wallie_litellm.core\n", core="import wallie_litellm.guard\n")
    )
    assert rooms.upwards == {("core", "guard"), ("guard", "core")}


def test_a_spread_is_median_90th_percentile_and_maximum() -> None:
    assert str(structure.spread([*range(1, 11), 100])) == "6 / 10 / 100"
    assert str(structure.spread([])) == "0 / 0 / 0"


def test_the_tables_have_a_column_for_each_checkout_and_a_row_for_each_package(tmp_path: Path) -> None:
    found = checkout(tmp_path, core='def public():\n    """Count."""\n\n\ndef _own(): ...  # nobody\n')
    rows = dict(line.strip("| ").split(" | ", 1) for line in structure.table({"before": found, "after": found}))
    assert rows["functions"] == "2 | 2"
    assert rows["functions with a docstring: all / public"] == "50 % / 100 % | 50 % / 100 %"
    assert rows["persons in comments and docstrings"] == "1 | 1"
    assert rows["public classes and functions of modules"] == "1 | 1"
    assert [*structure.packages(found)][2:] == ["| top level | 2 | 5 | 5 | 2 / 2 | 1 |"]
