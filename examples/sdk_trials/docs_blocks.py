"""The Python blocks of the documentation that need a package which the suite has not, and what shows that each works.

``docs_trial.py`` runs them as they stand in the documentation; ``tests/docs/test_python_runs.py`` runs all others.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# The package that a block imports, its name in requirements-newest.txt, and what is run after the block.
PACKAGES = {
    "anthropic": (
        "anthropic",
        "assert client.messages.create(model='claude-sonnet-4', max_tokens=9, messages=messages).content",
    ),
    "langchain_openai": ("langchain-openai", "assert chat.invoke('Hi!').content"),
    "langchain_litellm": ("langchain-litellm", "assert chat.invoke('Hi!').content"),
    "celery": (
        "celery",
        "worker_process_init.send(None)\nassert report('much')\nworker_process_shutdown.send(None)",
    ),
}


def imported(text: str) -> set[str]:
    """The packages that a block imports."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def blocks() -> Iterator[tuple[str, str, str]]:
    """Each block with its page's name and the package that it needs."""
    for page in sorted(DOCS.glob("*.md")):
        for text in FENCE.findall(page.read_text()):
            for package in sorted(imported(text) & PACKAGES.keys()):
                yield page.name, package, text
