"""The store of a fleet's worker: it spends capacity that it leases from a server which all workers share.

The server's rule is ``core/lease_server.py``; it runs in Redis, or here while Redis cannot be reached.

``leased_limiter``      the queue in front of that store, driven by the exchanges with the server
``leased_store``        a provider's state at a worker: admits from the lease, settles, reports
``lease_client``        the exchange with the server: what is reported, what is asked for, what is granted
``lease_balance``       how much of a lease is left, now and as time passes
``local_lease_server``  the server's stand-in in this process while Redis is away
``breaker_replica``     the fleet's circuit breaker as a worker knows it
"""
