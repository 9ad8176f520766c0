"""Which entry of a provider's ``models:`` section holds for a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import Final

WILDCARDS: Final = frozenset("*?[")  # that a pattern has, and a name has not
MOST_NAMES: Final = 1_000  # names whose pattern is remembered: with a wildcard, callers invent them


class ModelPatterns:
    """The patterns of a section, in the order of the file: the first that matches holds.

    ``provider`` is the provider's name, which begins with that of the vendor whose prefix a pattern may have. Patterns
    that are not ``stated`` in the file were added, each for the one model with its name.
    """

    __slots__ = ("_found", "_patterns", "_stated", "_vendor")

    def __init__(self, patterns: Iterable[str] = (), provider: str = "", stated: Collection[str] | None = None) -> None:
        self._patterns = tuple(patterns)
        self._vendor = provider.partition("/")[0]
        self._stated = frozenset(self._patterns if stated is None else stated)
        self._found: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def find(self, model: str, *groups: str) -> str:
        """The pattern of a model, whose name may have its vendor's prefix (``openai/gpt-4o``); empty if none matches.

        A pattern may have that prefix, too. A stated one that matches the name of one of its ``groups`` holds where
        none matches the model's.
        """
        found = (pattern for name in (model, *groups) if (pattern := self._first(name)) in self._stated)
        return next(found, "") or self._first(model)

    def _first(self, model: str) -> str:
        found = self._found.get(model)
        if found is None:
            found = next((pattern for pattern in self._patterns if _matches(model, pattern, self._vendor)), "")
            if len(self._found) >= MOST_NAMES:
                self._found = {}  # other threads read the old one
            self._found[model] = found
        return found


def hides(earlier: str, pattern: str) -> bool:
    """Whether all that ``pattern`` matches is matched by ``earlier`` already, as far as the two tell."""
    if "?" in earlier or "[" in earlier:
        return False
    is_name = not WILDCARDS & set(pattern)
    if "/" in pattern and "/" not in earlier:  # the prefix may be the vendor's, which is no part of the name
        return set(earlier) == {"*"} or (is_name and fnmatchcase(pattern.partition("/")[2], earlier))
    return fnmatchcase(pattern, earlier) or (is_name and _matches(pattern, earlier, ""))


def _matches(model: str, pattern: str, vendor: str) -> bool:
    bare = model.partition("/")[2]
    prefix, _, general = pattern.partition("/")
    # Without its vendor's prefix a model's name may still begin with its maker's: "meta-llama/*" is not "*".
    is_vendors = prefix == vendor or not bare or "/" in general
    # The vendor's prefix is no part of the name: "o*" is not "openai/gpt-4o".
    is_whole = "/" in pattern or not bare or model.partition("/")[0] != vendor
    return (
        (is_whole and fnmatchcase(model, pattern))
        or (bare != "" and fnmatchcase(bare, pattern))
        or (general != "" and is_vendors and fnmatchcase(model, general))
    )
