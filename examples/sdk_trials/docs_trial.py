"""The blocks of the documentation that use these SDKs, as they stand there, against the library and the proxy."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

from docs_blocks import PACKAGES, blocks
from trials import CONFIG, KEY, MESSAGES, PROXY, Found, Trials


def play(page: str, text: str, after: str) -> Found:
    """Run one block where the proxy listens at the address that the documentation names."""
    here = text.replace("http://127.0.0.1:4000", PROXY).replace("sk-...", KEY)
    exec(compile(f"{here}\n{after}", page, "exec"), {"messages": MESSAGES})  # noqa: S102
    return "works as it stands"


def main() -> None:
    """All of them, in a folder with a ``router_config.yaml``."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(CONFIG, Path(folder) / "router_config.yaml")
        os.chdir(folder)
        for page, package, text in blocks():
            distribution, after = PACKAGES[package]
            against = "library" if "build_router" in text else "proxy"
            Trials(distribution, distribution, against).run(
                f"the block in docs/{page}", partial(play, page, text, after)
            )


if __name__ == "__main__":
    main()
