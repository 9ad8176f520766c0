"""What LiteLLM's objects look like: its requests, responses, errors, metadata and prices.

Nothing here decides; it translates for ``core`` and ``guard``.

``adapter``    requests into demands, errors into how an attempt ended
``responses``  the tokens that responses and streams report
``metadata``   feature, user and the caller's own metadata, as they may be recorded
``pricing``    what an attempt cost
``price_map``  a model in LiteLLM's price map
"""
