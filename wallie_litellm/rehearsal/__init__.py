"""Simulated providers: real HTTP servers on loopback that speak the vendors' wire formats.

Nothing here imports LiteLLM, so that a provider in a process of its own starts at once.
"""

from wallie_litellm.rehearsal.faults import Fault, FaultKind
from wallie_litellm.rehearsal.fleet import DEFAULT_LIMITS, SimulatedFleet
from wallie_litellm.rehearsal.provider import SimulatedProvider
from wallie_litellm.rehearsal.tally import Counts

__all__ = ["DEFAULT_LIMITS", "Counts", "Fault", "FaultKind", "SimulatedFleet", "SimulatedProvider"]
