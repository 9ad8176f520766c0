"""The store of a fleet's worker: it spends capacity that it leases from a server which all workers share.

The server's rule is ``core/lease_server.py``; it runs in Redis, or in this process while Redis cannot be reached.

``leased_limiter``      the queue in front of that store, driven by the exchanges with the server
``leased_store``        a provider's state at a worker: admits from the lease, settles, reports
``leased_accounting``   what it keeps for that: limits, leases, reports to make, limits that are set at run time
``leased_way``          which leases and slots the admissions of the account, or of a model, pass
``limits_in_force``     limits that are set at run time, and hold for the whole fleet
``lease_client``        the exchange with the server: requests are built, and answers applied
``lease_balance``       how much of a lease is left, now and as time passes
``prefetch``            when more capacity is asked for before a call waits for it, and how much
``usage_mirror``        the fleet's usage, as the server last answered
``minute_usage``        what the last minute used: the server's answer, and what is not reported yet
``local_lease_server``  a lease server in this process while Redis is away
``fleet_serves``        which models have served lately, here and at other workers
``breaker_replica``     the fleet's circuit breaker, as the server last answered
"""
