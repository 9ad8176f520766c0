"""Simulated providers: real HTTP servers on loopback that speak the vendors' wire formats.

Nothing here imports LiteLLM, so a provider in a process of its own starts at once.

``provider``          the handle of one provider: start, stop, faults, counts
``providers``         several at once, and a configuration pointed at them
``settings``          how a provider is set up
``hosts``             where it runs: a thread, or a process of its own
``server``            its HTTP server, also with ``python -m``
``control``           its control routes: faults, counts, refused connections
``engine``            what happens to a request: counted, limited, failed, answered
``faults``            what it can do wrong
``tool_calls``        calls of tools, and answers in a JSON schema
``stream_script``     what a stream sends, as a fault changes it
``limits``            the limits of its account and of its models
``buckets``           one limit: a minute's, a day's, of calls at once
``tally``             what it counted, and its log of requests
``limit_header_values``  the rate-limit headers, in the vendor's vocabulary
``wire``              the interface of a vendor's wire format
``openai_wire``       OpenAI
``openai_responses``  OpenAI's Responses API
``openai_dialects``   Groq, DeepSeek, Mistral, Cerebras and Together
``azure_wire``        Azure OpenAI
``anthropic_wire``    Anthropic
``gemini_wire``       Gemini
``posthog_endpoint``  a simulated PostHog
``loopback_server``   an HTTP server in a thread
``refusable_port``    a port that can refuse connections
``listener``          a socket that closes without losing a connection
"""

from wallie_litellm.simulator.faults import Fault, FaultKind
from wallie_litellm.simulator.provider import SimulatedProvider
from wallie_litellm.simulator.providers import DEFAULT_LIMITS, SimulatedProviders
from wallie_litellm.simulator.tally import Counts, VisitRecord

__all__ = [
    "DEFAULT_LIMITS",
    "Counts",
    "Fault",
    "FaultKind",
    "SimulatedProvider",
    "SimulatedProviders",
    "VisitRecord",
]
