"""A request's path, from the call to the recorded result. In the order in which a request meets them:

 1. ``api``               the helpers that applications call
 2. ``router``            LiteLLM's Router with the guard around every attempt
 3. ``streaming_router``  the same for streams
 4. ``current``           the request and the attempt of the present context
 5. ``guard``             the facade: filter, admit, settle; what operators and applications ask for
 6. ``admission``         takes an attempt's capacity, or queues it, for a bounded time, or refuses it
 7. ``pacing``            lets a burst of requests reserve a few at a time
 8. ``refusals``          from a limiter's denial to the error that the caller receives
 9. ``settlement``        ends an attempt: limits, breaker, pause, event
10. ``reporter``          builds and publishes the events

Values that they pass on:

``context``           a request and its attempts
``router_view``       one router's chains, providers and prices
``chain``             the chain of groups, and the error at its end
``stream``            a provider's stream that settles its attempt however it ends
``capacity_lease``    capacity for a call that is made outside the router
"""

from wallie_litellm.guard.guard import Guard

__all__ = ["Guard"]
