"""The `wallie-litellm` command, a file for each group of commands.

``command``       the group itself, with ``check``, ``demo`` and ``proxy``
``status``        `status`
``orders``        an operator's actions
``ledger``        `export` and `kpis`
``dashboard``     `dashboard`
``fleet_report``  the fleet as Redis has it
``usage_report``  what was used in the last 24 hours
``remote``        the options of commands that can ask a running proxy or dashboard
``http_client``   asking it
``tables``        how rows are laid out
"""

from wallie_litellm.cli.command import main

__all__ = ["main"]
