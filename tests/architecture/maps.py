"""The maps name every module and nothing else; the tests mirror the packages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from architecture.sources import PACKAGE, Checkout, SourceFile, Violation

GUIDE: Final = "CONTRIBUTING.md"  # the map of the top level
ENTRY: Final = re.compile(r"^\s*(?:\d+\w?\.\s+)?``(\w+)``\s{2,}", re.MULTILINE)  # a line of an ``__init__``'s map
PATH: Final = re.compile(r"`((?:\w+/)*\w+(?:\.py|/))`")  # a file or a folder in the guide
# Folders of tests that are not named after a package, each with its reason.
FOLDERS: Final = {
    "architecture": "the rules of the house",
    "benchmarks": "what the benchmarks make of what they have seen",
    "browser": "the page in a real browser, end to end",
    "fleet": "several processes with one Redis, end to end",
    "failover": "what callers get of a provider's faults, in what time and by how many calls, end to end",
    "drop_in": "plain LiteLLM and this package side by side",
    "docs": "what the documentation says: its code, commands, keys, links and lists",
    "package": "what is published: wheel, source archive, image and manifests",
    "lifecycle": "starting, forking and ending of whole programs, end to end",
}
# Test files beside the folders, each with its reason. One named after a module beside the packages may stand there too.
BESIDE: Final = {
    "test_privacy.py": "follows one secret through every sink at once",
    "test_public_api.py": "the names that the root package exports",
}


def package_maps(checkout: Checkout) -> Iterator[Violation]:
    """A package's docstring names each of its modules and packages, and no other."""
    for file in checkout.package:
        if file.is_package and file.module != PACKAGE:
            entries = set(ENTRY.findall(ast.get_docstring(file.tree) or ""))
            children = _children(checkout, file.module)
            for name in sorted(children.keys() - entries):
                yield children[name].violation(1, f"is not named in the map of {file.name}")
            for name in sorted(entries - children.keys()):
                yield file.violation(1, f"names {name}, which is no module of {file.module}")


def guide(checkout: Checkout) -> Iterator[Violation]:
    """CONTRIBUTING.md names everything at the top level of the package, and only paths that exist."""
    path = checkout.root / GUIDE
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    named = {PurePosixPath(found).stem for found in PATH.findall(text)}
    for name, file in _children(checkout, PACKAGE).items():
        if name not in named:
            yield file.violation(1, f"is not named in {GUIDE}")
    for number, line in enumerate(text.splitlines(), start=1):
        folders = [checkout.root, checkout.root / PACKAGE]
        for found in PATH.findall(line):
            existing = [folder / found for folder in folders if (folder / found).exists()]
            folders += existing[:1]  # the rest of the line names paths below this one without repeating it
            if not existing:
                yield Violation(GUIDE, number, f"names {found}, which does not exist")


def tests_mirror_packages(checkout: Checkout) -> Iterator[Violation]:
    """Tests lie in the folder of the package that they are about, and every package has such a folder."""
    tests = [file for file in checkout.besides if file.name.startswith("tests/")]
    packages = {file.module.replace(".", "/") for file in checkout.package if file.is_package}
    modules = {f"test_{file.path.name}" for file in _children(checkout, PACKAGE).values() if not file.is_package}
    for file in tests:
        folder = PurePosixPath(file.name).parent.relative_to("tests").as_posix()
        if folder == ".":
            if file.path.name.startswith("test_") and file.path.name not in {*BESIDE, *modules}:
                yield file.violation(1, "is in no package's folder")
        elif folder not in FOLDERS and f"{PACKAGE}/{folder}" not in packages:
            yield file.violation(1, f"tests/{folder} has no package {PACKAGE}/{folder} and is not listed in {__name__}")
    for name, file in _children(checkout, PACKAGE).items():
        if file.is_package and not any(test.name.startswith(f"tests/{name}/") for test in tests):
            yield file.violation(1, f"has no tests in tests/{name}")


def _children(checkout: Checkout, package: str) -> dict[str, SourceFile]:
    """The modules and packages directly in a package, by name."""
    depth = package.count(".") + 1
    return {
        module.rpartition(".")[2]: file
        for module, file in checkout.modules.items()
        if module.startswith(f"{package}.") and module.count(".") == depth
    }
