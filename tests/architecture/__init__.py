"""The rules of the house, as contracts that ``make lint`` and the tests check.

``sources``          the files of a checkout, parsed once; violations
``imports``          the import graph: runtime, lazy and typing imports, and its cycles
``layers``           which package may import which, and which modules import LiteLLM
``litellm_use``      no subclass of LiteLLM's Router, no private name, no unlisted write
``core``             the arithmetic stays pure
``shape``            sizes: lines of a file, attributes of an ``__init__``; class names
``maps``             every module is named in its package's map; tests mirror packages
``voice``            the words of comments, docstrings and names
``style``            how constants are explained and docstrings are written
``contracts``        all contracts by name
``test_contracts``   the checkout keeps each contract
``test_violations``  each contract reports a deliberate violation
``test_structure``   the figures of ``benchmarks/structure.py``
"""
