"""What the guard costs and what it saves, measured: ``python -m benchmarks`` runs all of it.

Everything here talks to 127.0.0.1 only, ends by itself, and prints its tables as Markdown.
"""
