"""A request's path, from the call to the recorded result. In the order in which a request meets them:

 1. ``api``              the helpers that applications call
 2. ``router``           a LiteLLM Router by interface; opens requests, and passes on what is not guarded
 3. ``planner``          where a request goes first, and along which chain
    ``cheapest``         its step for budgets that are used up
 4. ``cached_requests``  answered by an answer that is kept, or their own is kept
 5. ``batch``            the Router's batch methods
 6. ``request_loop``     chain( retry( attempt )): what comes after each attempt
 7. ``attempts``         carries the loop's steps out, for coroutines and for threads
 7. ``hedged_attempt``   an attempt, and the one that is made beside it where no token comes
 8. ``tier_names``       tiers as a router's names
 8. ``picking``          what LiteLLM picks a deployment from
 9. ``guard``            the facade: filter, admit, settle; what operators and applications ask for
    ``budgeting``        reserves an attempt's cost of its budgets, or refuses the request
10. ``admission``        takes an attempt's capacity, or queues it, for a bounded time, or refuses it
11. ``pacing``           lets a burst of requests reserve a few at a time
12. ``refusals``         from a limiter's denial to the error that the caller receives
13. ``attempt_stream``   a provider's stream that settles its attempt however it ends
14. ``request_stream``   the caller's stream, which goes on along the chain until content has come
15. ``settlement``       ends an attempt: limits, breaker, pause, event
16. ``vendor_limits``    what answers say of the vendor's limits is learned
17. ``answer_headers``   the headers of an answer that say how it came about
    ``own_limits``       those that tell callers the limits here
18. ``reporter``         builds and publishes the events
    ``alerting``         what alerts of failures and queues look at

Values that they pass on:

``request``           one call of a router's method: what is sent, under which rules, along which chain
``live_config``       the configuration in force, and how a changed file takes its place
``attached``          what a router has put into its guard and into LiteLLM
``configured_chains``  the chains of a router's settings
``refusal_log``       refusals in the log, one line for many of a kind
``prices``            what a router's attempts cost
``operator_actions``  what operators do to providers and models
``auto_savings``      what the choice of ``auto`` has saved
``experiments``       feedback on answers, and which arm of an experiment has won
``context``           a request and its attempts
``taken_capacity``    what an attempt holds of the limits that it passes
``router_view``       one router's chains, providers and prices
``estimates``         what each call will use, learned from what providers report
``answers``           from an answer in one piece to the result of its attempt
``background_responses``  responses that are finished later, billed once
``chain``             the chain of groups, and the error at its end
``background_loop``   an event loop for code without one
``admin_apis``        vendors' administration APIs, asked for an account's limits
``status``            the limits of providers and features as status reports show them
``silence_bound``     a bound on a provider's silence that a busy event loop does not pass
``under_way``         waits and streams that the end of the guard ends
``shared_store``      the processes that share a guard's limits
``capacity_lease``    capacity for a call that is made outside the router
"""

from wallie_litellm.guard.guard import Guard

__all__ = ["Guard"]
