"""Plain ``litellm.Router`` and ``WallieRouter`` side by side, against one simulated provider with many accounts.

``upstream``            the simulated provider: accounts by path, scripted answers, a record of every request
``media``               what it answers at other endpoints than chat, embeddings, responses and messages
``row``                 one documented behaviour: configuration, action, expected outcome
``routers``             the two routers of a row, built with the same arguments
``litellm_state``       names of what LiteLLM keeps for the whole process
``observation``         what a row's action gave: answer, error, requests upstream
``actions``             calls and reads that rows make
``callbacks``           what a callback is given
``named_differences``   where the two may differ, each with its reason
``group_rows``          model groups, aliases, wildcards, tags, weights
``strategy_rows``       routing strategies
``fallback_rows``       fallbacks of every form
``parameter_rows``      parameters of router, deployment and request
``endpoint_rows``       endpoints other than chat
``stream_rows``         streams
``outcome_rows``        errors, retries, headers, callbacks
``registry_rows``       what a router knows of its deployments, and changes of them at run time
"""
