"""The installed LiteLLM's version: one that is not supported is refused, one that is newer than tested is noted.

``pyproject.toml`` states the same range; an index or an option of the installer may still have led to another version.
"""

from __future__ import annotations

import logging
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

logger = logging.getLogger(__name__)

OLDEST: Final = (1, 106, 2)  # before it, parts of LiteLLM that this package uses look different
NEWEST_TESTED: Final = (1, 110, 2)
NEVER: Final = (1, 107)  # the line whose release 1.107.0 was compromised
SUPPORTED: Final = "litellm>=1.106.2,<1.111,!=1.107.*"
_LEADING: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


class _Version(NamedTuple):
    """An installed version: its numbers, which are compared, and how it is written."""

    numbers: tuple[int, int, int]
    text: str


def require_supported() -> None:
    """Refuse a LiteLLM that cannot work. Where none is installed, its own import says so.

    Raises:
        ImportError: the installed LiteLLM is older than the oldest supported, or of the line that never is.
    """
    installed = _installed()
    if installed is not None and (installed.numbers < OLDEST or installed.numbers[:2] == NEVER):
        raise ImportError(f"LiteLLM {installed.text} is not supported. Install another: pip install '{SUPPORTED}'")


@cache
def note_untested() -> None:
    """Log a warning, once in a process, where the installed LiteLLM is newer than the newest tested."""
    installed = _installed()
    if installed is not None and installed.numbers > NEWEST_TESTED:
        newest = ".".join(map(str, NEWEST_TESTED))
        logger.warning(
            "LiteLLM %s is newer than %s, the newest that this release of wallie-litellm was tested with. "
            "It starts, and may behave differently. To be safe: pip install --upgrade wallie-litellm, "
            "or pip install 'litellm<=%s'",
            installed.text,
            newest,
            newest,
        )


def _installed() -> _Version | None:
    """The installed version; ``None`` where there is none, or none that reads as one."""
    try:
        text = version("litellm")
    except PackageNotFoundError:
        return None
    found = _LEADING.match(text)
    return _Version((int(found[1]), int(found[2]), int(found[3] or 0)), text) if found else None
