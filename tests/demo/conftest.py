"""The demo's providers, a stage over them, and the demo played with scenarios of one's own."""

from simulator_fixtures import demo_fleet, fleet, quiet_litellm, run, running_fleet, stage

__all__ = ["demo_fleet", "fleet", "quiet_litellm", "run", "running_fleet", "stage"]
