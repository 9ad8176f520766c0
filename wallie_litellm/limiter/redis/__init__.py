"""The lease server in Redis.

``lua/lease_server.lua`` is ``core/lease_server.py`` in Lua, and its neighbours are the bucket and the breaker: change
both.

``fleet``       the thread that makes the exchanges of all providers of a guard
``waiting``     how long it waits for Redis
``paused_models``  the models that any worker has paused, or whose breakers are not closed
``shared_reloads``   reloads that hold for the whole fleet
``shared_switches``  the switches that are off in a fleet
``workers``     the workers, as Redis lists them
``layout``      keys, channel and scripts in Redis
``connection``  a client for the URL: one server, TLS, Sentinel, or a cluster
``inspect``     a fleet's state, read without changing it
``watch``       whether an operator's action has reached Redis
"""
