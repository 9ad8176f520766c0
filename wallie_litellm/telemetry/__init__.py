"""What becomes of the guard's events.

``bus``    from the guard to the sinks, without making a request wait
``sink``   what a receiver of events looks like
``spool``  records on disk until their receiver is back
``sinks``  one receiver a file
"""
