"""The lease server in Redis.

``lua/exchange.lua`` is ``core/lease_server.py`` once more: change both.

``fleet``       the thread that makes the exchanges of all providers of a guard
``connection``  a client for the URL: one server, TLS, Sentinel, or a cluster
``inspect``     a fleet's state, read without changing it
``watch``       whether an operator's action has reached Redis
"""
