"""HTML from the templates. The template engine escapes every value."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from wallie_litellm.dashboard.formats import IN_UTC, Formats, ShownZone, iso
from wallie_litellm.dashboard.page_ranges import range_of
from wallie_litellm.dashboard.provider_order import is_near, is_roomy
from wallie_litellm.dashboard.translations import translator
from wallie_litellm.dashboard.view_model import RANGES
from wallie_litellm.telemetry.playbook import section_of

_UNSEEN: Final = re.compile(  # control characters, those that reverse or hide others, and lone surrogates
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("wallie_litellm.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.globals["section_of"] = section_of
    environment.tests["near"] = is_near
    environment.tests["roomy"] = is_roomy
    environment.filters["iso"] = iso
    environment.filters["ends"] = _ends
    environment.filters["url"] = lambda text: quote(str(text), safe="", errors="replace")
    environment.filters["raw"] = lambda value: "" if value is None else repr(value)
    environment.filters["exact"] = lambda text: escape(text.encode(errors="replace").decode())
    return environment


def _ends(range_name: str) -> tuple[int, int] | None:
    """When a free range begins and ends, in Unix seconds, by its name; ``None`` for the name of another."""
    found = range_of(range_name)
    return None if found.until is None else (found.until - found.seconds, found.until)


def _visible(value: object) -> object:
    """``value`` with U+FFFD in place of characters that are invisible or mislead the reader."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else _UNSEEN.sub("\ufffd", value)


def render(
    template: str, language: str, *, formats: Formats | None = None, shown_in: ShownZone = IN_UTC, **values: Any
) -> str:
    """A template filled with ``values``; times are those of ``formats``, or in ``shown_in``."""
    return (
        _environment()
        .get_template(template)
        .render(
            t=translator(language),
            f=Formats(language, shown_in.name) if formats is None else formats,
            viewer_zone=shown_in.name if shown_in.is_viewers else "",
            language=language,
            ranges=list(RANGES),
            **values,
        )
    )


def clock_of(formats: Formats) -> Callable[[float], str]:
    """A function that writes a time, with its date where it is not of today."""
    now = time.time()
    return lambda at: formats.clock(at, now)
