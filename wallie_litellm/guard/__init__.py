"""A request's path, from the call to the recorded result. In the order in which a request meets them:

 1. ``api``               the helpers that applications call
 2. ``router``            LiteLLM's Router with the guard around every attempt
 3. ``streaming_router``  the same for streams
 4. ``current``           the request and the attempt of the present context
 5. ``guard``             filter, admit, settle; what operators and applications ask for
 6. ``admission``         who may go where, who waits and for how long
 7. ``pacing``            a crowd of requests reserves a few at a time
 8. ``refusals``          from what is in the way to the error that says so
 9. ``reporter``          states as events what was decided and seen

What they hand to each other:

``context``           what is known of a request and its attempts
``chain``             the chain of groups, and the error at its end
``stream``            a provider's stream that settles its attempt however it ends
``capacity_lease``    capacity for a call that is made outside the router
"""

from wallie_litellm.guard.guard import Guard

__all__ = ["Guard"]
