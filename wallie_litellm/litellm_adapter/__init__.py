"""LiteLLM, by its public means: its Router, its calls, and what its objects look like.

Nothing here decides; it calls and translates for ``core`` and ``guard``. What is done with the Router:

``inner_router``   its deployments, its fallbacks and its pick
``sole_picks``     the picks of groups in which LiteLLM has nothing to choose
``usage_count``    LiteLLM's count of usage per minute, where something reads it
``selection``      the filter that LiteLLM calls for each pick
``kept_contexts``  context variables through a garbage collection, on CPython before 3.12
``calls``          one call to one deployment
``endpoints``      the Router's methods that make a call
``missing_packages``  packages that LiteLLM needs for some calls and a plain installation lacks
``mock_faults``    LiteLLM's ``mock_testing_*`` arguments
``run_ready``      coroutines that do not wait, run without an event loop
``router_arguments``  the sections of a file that concern calls, as the arguments of one Router
``complexity``     what LiteLLM's complexity router says of a prompt
``response_cache``  LiteLLM's response cache, kept to the calls of Routers
``answer_keys``    the key under which the answer to a request is kept
``kept_answers``   answers as values that can be kept, and as LiteLLM's objects again
``hit_log``        their use in LiteLLM's success callbacks
``answer_store``   where they are kept: in memory, in LiteLLM's Redis, or in files
``prompt_marks``   where prompts are marked for the vendors' caches

What its objects look like:

``requests``       what a call sends and asks for
``providers``      the provider and the account of a deployment
``responses``      answers in one piece: their usage, headers, and of which kind they are
``wires``          a reader for the answers of each wire: text, usage, errors, end mark
``errors``         exceptions, classified into how an attempt ended
``error_table``    whose failure an answer is, by vendor, status, code and wording
``error_evidence``  what an exception shows of its origin
``limit_signs``    what a vendor says of its limits
``http_answer``    the provider's own answer behind an exception
``openai_errors``  this package's errors as OpenAI's
``metadata``       feature, user and the caller's own metadata
``pricing``        what an attempt cost
``price_map``      a model in LiteLLM's price map
``plain_prices``   the price of text alone, by the map's two prices
``debug_info``     LiteLLM's printed hints, suppressed
``version``        which LiteLLM is refused, and which one noted
"""

from wallie_litellm.litellm_adapter.version import require_supported

require_supported()
