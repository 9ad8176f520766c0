"""The ``routing:`` section: what decides where requests go first."""

from __future__ import annotations

from wallie_litellm.config.section import Section


class RoutingSettings(Section):
    """What decides where requests go first; without any of it, they go where they say."""
