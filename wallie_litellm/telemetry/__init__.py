"""Delivers the guard's events to the sinks.

``bus``         queues events for the sinks, without making a request wait
``sink``        the protocol of a sink
``alert_sink``  what sinks share that post alerts to an address
``alert_facts``  the alerts among the events, in words
``http_log``    addresses that are secrets stay out of the log
``playbook``    what to do when an alert comes
``spool``       records on disk until their receiver is back
``spool_file``  a file of it
``sinks``       the sinks, one or a few files each
"""
