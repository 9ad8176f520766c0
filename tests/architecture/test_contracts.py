"""The checkout keeps every contract, and the contracts' lists are true."""

from __future__ import annotations

from pathlib import Path

import pytest

from architecture import core, layers, litellm_use, maps, shape
from architecture.contracts import CONTRACTS
from architecture.imports import imports_of, top
from architecture.layers import is_within, litellm_imports
from architecture.sources import PACKAGE, Checkout

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def checkout() -> Checkout:
    return Checkout(ROOT)


def test_there_is_something_to_check(checkout: Checkout) -> None:
    assert {"token_bucket.py", "circuit_breaker.py", "wait_queue.py"} <= {
        file.path.name for file in checkout.within("core")
    }
    assert {file.path.name for file in checkout.package} >= {"responses.py", "guard.py", "limiter.py"}
    assert {file.name.partition("/")[0] for file in checkout.besides} >= {
        "tests",
        "benchmarks",
        "callbacks",
        "examples",
    }


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_contract_is_kept(checkout: Checkout, name: str) -> None:
    found = sorted({str(violation) for violation in CONTRACTS[name](checkout)})
    assert not found, "\n".join(found)


def test_every_layer_exists(checkout: Checkout) -> None:
    rooms = {file.module.split(".")[1] for file in checkout.package if file.module != PACKAGE}
    assert set(layers.FLOOR) == rooms


@pytest.mark.parametrize("name", [*layers.IMPORTS_LITELLM, *layers.IMPORTS_LITELLM_LATE])
def test_what_is_listed_as_importing_litellm_does(checkout: Checkout, name: str) -> None:
    assert any(is_within(found.file, name) for found in litellm_imports(checkout))


@pytest.mark.parametrize(
    "name",
    ["core", "config", "limiter", "telemetry", "ledger", "dashboard", "cli", "guard.admission", "guard.settlement"],
)
def test_these_are_never_listed_as_importing_litellm(name: str) -> None:
    listed = (*layers.IMPORTS_LITELLM, *layers.IMPORTS_LITELLM_LATE)
    assert not any(f"{other}.".startswith(f"{name}.") or f"{name}.".startswith(f"{other}.") for other in listed)


def test_what_is_listed_as_a_use_of_litellm_is_one(checkout: Checkout) -> None:
    names, written = (
        {(use.module, use.name) for use in find(checkout)} for find in (litellm_use.private_names, litellm_use.writes)
    )
    assert litellm_use.WRITES.keys() <= written
    assert litellm_use.PRIVATE_NAMES.keys() <= {name for _, name in names}


@pytest.mark.parametrize("module", core.BESIDES)
def test_what_the_core_may_import_besides_is_imported(checkout: Checkout, module: str) -> None:
    imported = {top(found.target) for found in imports_of(checkout.modules[module], checkout.modules)}
    assert imported >= core.BESIDES[module].keys()


def test_class_names_that_may_be_defined_twice_are(checkout: Checkout) -> None:
    names = [definition.name for file in checkout.package for definition in shape.class_definitions(file)]
    assert all(names.count(name) > 1 for name in shape.TWICE)


def test_places_of_tests_without_a_package_exist() -> None:
    assert all((ROOT / "tests" / name).exists() for name in (*maps.FOLDERS, *maps.BESIDE))
