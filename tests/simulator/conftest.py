"""One set of providers for the whole directory; every test finds it healed, empty and unlimited."""

from simulator_fixtures import chat, fleet, quiet_litellm, running_fleet

__all__ = ["chat", "fleet", "quiet_litellm", "running_fleet"]
