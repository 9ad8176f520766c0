"""``wallie-litellm rehearse``: one's own file against simulated providers, on simulated time.

``plan``           what is rehearsed: faults, traffic, how long; the options in words
``expectations``   ``--expect``
``run``            the runs of a plan, each in a process of its own
``play``           one run: what that process does
``virtual_time``   an event loop whose waits take no time
``loopback_only``  no socket reaches another machine
``world``          the simulated providers, and the file's routers pointed at them
``fleet``          routers that share their limits, as workers in one event loop
``simulated_redis``  the Redis that they share them through
``answers``        how they answer: sizes and times that follow from the seed
``traffic``        when requests come, and for what
``from_ledger``    the requests that a ledger has, in their place
``session``        the requests are made, the faults come and go
``record``         a run's figures
``fleet_record``   what a fleet has used and admitted in all
``limit_changes``  what calls take of limits, and give back
``alerts``         the alerts that it has raised, in words
``need``           the least limit under which a load does not wait
``report``         what the runs show together
``terminal``       a report as lines
``html``           a report as one HTML file
"""
