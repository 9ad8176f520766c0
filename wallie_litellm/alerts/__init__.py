"""Alerts about what is measured over a while: a share of failures, and a queue that does not empty.

``watch``       looks every few seconds: what has ended, what waits
``error_rate``  the share of failures, of the requests for a group and of the attempts at a provider
``queues``      queues that stand
``episodes``    what is announced: once when it begins, and once when it is over
"""
