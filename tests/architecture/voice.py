"""The words of comments, docstrings and names: components, fields and types act, and each has one name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Final

from architecture.sources import PACKAGE, Checkout, SourceFile, Violation

PERSONS: Final = re.compile(
    r"\b(?:whoever|nobody|somebody|someone|anybody|anyone|everybody|everyone|no\s+one|(?:is|are|was|were|be|been|being)\s+told)\b",
    re.IGNORECASE,
)
PRONOUNS: Final = re.compile(r"\b(?:who|whom)\b", re.IGNORECASE)  # right for people, wrong for programs
# Words that the field does not have for what they stood for.
METAPHORS: Final = (
    "borrow", "borrowed", "borrower", "borrowers", "borrows", "desk", "door", "doors", "founder", "hungry", "hurdle",
    "hurdles", "lend", "lender", "lenders", "lends", "lent", "loan", "loans", "obstacle", "obstacles", "owed",
    "painter", "parting", "purse", "purses", "squeezed", "turnstile",
)  # fmt: skip
# Words that no name of the package has; in sentences they may be right.
NOT_NAMES: Final = (
    *METAPHORS, "books", "drawing", "ending", "endings", "gate", "hop", "hops", "news", "outline", "picture", "told",
)  # fmt: skip
METAPHOR: Final = re.compile(rf"\b(?:{'|'.join(METAPHORS)}|turn(?:s|ed)?\s+away)\b", re.IGNORECASE)
PARTS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # of a snake_case or CamelCase name
# Words that have a right use too; reported by ``--notes``, never fatal.
DOUBTFUL: Final = re.compile(
    r"\b(?:books|drawing|ending|endings|gate|hop|hops|news|orders?|outline|picture|places|scope|tells?|told)\b",
    re.IGNORECASE,
)


def persons(checkout: Checkout) -> Iterator[Violation]:
    """Comments and docstrings speak of components, not of persons."""
    yield from _in_prose(checkout.files, PERSONS)


def metaphors(checkout: Checkout) -> Iterator[Violation]:
    """Names, comments and docstrings use the field's words."""
    yield from _in_prose(checkout.files, METAPHOR)
    for files, words in ((checkout.package, NOT_NAMES), (checkout.besides, METAPHORS)):
        for file in files:
            for line, name in defined_names(file):
                if found := _words(name) & {*words}:
                    yield file.violation(line, f"the name {name} has the word {', '.join(sorted(found))}")


def lua(checkout: Checkout) -> Iterator[Violation]:
    """The scripts that run in Redis use the same words."""
    for path in sorted((checkout.root / PACKAGE).rglob("*.lua")):
        name = path.relative_to(checkout.root).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for word in sorted(_words(line) & {*METAPHORS}):
                yield Violation(name, number, f"has the word {word}")
            for found in PERSONS.findall(line.partition("--")[2]):
                yield Violation(name, number, f'"{found}" in a comment')


def doubtful(checkout: Checkout) -> Iterator[Violation]:
    """Words of the package's comments and docstrings that a reader should look at."""
    yield from _in_prose(checkout.package, PRONOUNS)
    yield from _in_prose(checkout.package, DOUBTFUL)


def defined_names(file: SourceFile) -> Iterator[tuple[int, str]]:
    """The names that a file gives: of itself, of classes, functions, parameters, variables and attributes."""
    yield 1, file.path.stem
    for node in file.nodes:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def uses(file: SourceFile, words: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Where the comments and docstrings of a file use some of the words."""
    for prose in file.prose:
        for found in words.finditer(prose.text):
            yield prose.line + prose.text.count("\n", 0, found.start()), " ".join(found.group().split())


def _words(text: str) -> set[str]:
    return {part.lower() for part in PARTS.findall(text)}


def _in_prose(files: Iterable[SourceFile], words: re.Pattern[str]) -> Iterator[Violation]:
    for file in files:
        yield from (file.violation(line, f'"{word}" in a comment or docstring') for line, word in uses(file, words))
