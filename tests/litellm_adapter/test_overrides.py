"""What only the installed LiteLLM can show of how the package uses it; ``tests/architecture`` reads the rest."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

PARTS = ("guard", "litellm_adapter", "proxy")  # packages whose modules import LiteLLM


def below_litellms() -> Iterator[tuple[type, type]]:
    """The package's classes that inherit from LiteLLM's, each with every one of those."""
    for part in PARTS:
        folder = importlib.import_module(f"wallie_litellm.{part}")
        for found in pkgutil.walk_packages(folder.__path__, f"{folder.__name__}."):
            for cls in vars(importlib.import_module(found.name)).values():
                if isinstance(cls, type) and cls.__module__ == found.name:
                    bases = (base for base in cls.__mro__[1:] if base.__module__.partition(".")[0] == "litellm")
                    yield from ((cls, base) for base in bases)


def test_no_class_overrides_a_private_method_of_litellms():
    overridden = {
        f"{cls.__name__}.{name}"
        for cls, base in below_litellms()
        for name in vars(cls).keys() & vars(base).keys()
        if name.startswith("_") and not name.startswith("__")
    }
    assert not overridden


def test_there_are_classes_to_look_at():
    assert "WallieHandler" in {cls.__name__ for cls, _ in below_litellms()}
