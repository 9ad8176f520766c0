"""The reliability benchmark: the same requests and the same faults, through every way to call two providers.

``python -m benchmarks reliability`` runs it; nothing but loopback is called. The modules, in the order of a run:

``__main__``   the command line
``peers``      what is installed for it, into a folder that git ignores
``faults``     what goes wrong, when, and what callers send meanwhile
``settings``   how each system is configured
``stage``      the simulated providers, gateways and callers of each system, as processes
``worker``     the callers of one system: a process, with nothing of ours imported but what the system itself needs
``systems``    how callers reach each system
``upstream``   what the providers saw
``scenarios``  the sixteen scenarios of a public failover benchmark, one request each
``figures``    from what both sides saw to figures and verdicts
``page``       tables in Markdown, and docs/reliability.md
``charts``     SVG from the figures
"""
