"""What LiteLLM's objects look like: its requests, responses, errors, metadata and prices.

Nothing here decides; it translates for ``core`` and ``guard``.

``requests``   the demand of a call, and the provider of a deployment
``responses``  the tokens that responses and streams report, and what kind of response it is
``errors``     exceptions, classified into how an attempt ended
``metadata``   feature, user and the caller's own metadata
``pricing``    what an attempt cost
``price_map``  a model in LiteLLM's price map
``patches``    what is written into LiteLLM
``version``    which LiteLLM is refused, and which one noted
"""

from wallie_litellm.litellm_adapter.version import require_supported

require_supported()
