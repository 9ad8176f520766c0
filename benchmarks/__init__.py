"""What the guard costs and what it saves, measured: ``python -m benchmarks`` runs all of it.

Everything here talks to 127.0.0.1 only, ends by itself, and prints its tables as Markdown.
"""

import os

# LiteLLM would fetch its price map when it is imported; the processes started from here inherit this.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
