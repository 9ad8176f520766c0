"""What is rendered for viewers, by which those who see the same share it."""

from __future__ import annotations

from typing import NamedTuple

from wallie_litellm.dashboard.usage_tables import DEFAULT_BY, By


class PanelKey(NamedTuple):
    """The panels for a range, by its name, in a language, with the use by ``by``; or one provider's page.

    ``provider`` is empty for the main page; ``base`` is the path that a provider's page has its links from. Times are
    in ``zone``, an IANA name.
    """

    range_name: str
    language: str
    by: By = DEFAULT_BY
    provider: str = ""
    base: str = ""
    zone: str = "UTC"
