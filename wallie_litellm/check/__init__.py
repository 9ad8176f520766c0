"""What `wallie-litellm check` finds out about a configuration.

``models``  the file as a whole: its models, prices and keys
``sinks``   the ledger and the sinks: each complete, its package installed
"""
