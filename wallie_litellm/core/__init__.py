"""The arithmetic: numbers in, values out. Nothing here awaits, reads a clock, or knows LiteLLM or a store.

``dimensions``       what a limit can count
``demand``           what a request asks of the limits, and what is charged for how it ended
``token_estimate``   how many tokens a request will use, before the provider says so
``token_bucket``     a limit per minute
``daily_quota``      a limit per calendar day
``thresholds``       when a limit that runs out is announced
``wait_queue``       the order in which waiting requests are served
``circuit_breaker``  when a provider is not called, and when it is tried again
``lease_server``     one provider's limits and breaker, leased to the workers of a fleet
``lease_exchange``   the messages between a worker and the lease server
``outage``           what a worker uses while the lease server is away, and charges afterwards
``backoff``          the waits between retries
``retry_after``      the wait that a provider asks for
``bill``             what an attempt used and cost
``budget``           the month's cost against its budget
``loopback``         which addresses are this machine's own
``validation``       refusing numbers that are no counts
"""
