"""What ``wallie-litellm check`` finds out about a configuration: values, which ``cli/check`` prints.

``report``         the check as a whole: problems, notes, and the rows of the summary
``models``         each deployment: its vendor, price, key and deprecation date
``settings``       LiteLLM's settings that exist, and the environment variables that the file names
``litellm_notes``  LiteLLM's settings that act otherwise here, and what to write instead
``callback``       the callbacks that the proxy loads: this package's is among them, and their modules can be loaded
``store``          Redis: its package is installed, its URL can be read
``budgets``        budgets: whether costs count, and last
``caching``        the caches of features: where answers are kept, and whether they have any effect
``hedging``        the hedges of features: whether they are ever sent
``forecast``       forecasts: whether they have anything to go by
``alerts``         alerts of queues: whether anything waits
``experiments``    experiments: whether their arms can be compared
``sinks``          the ledger and the sinks: each complete, its package installed
``packages``       whether an optional package is installed
"""
