"""The ``wallie-litellm`` command, a file for each group of subcommands.

``command``       the list of subcommands, with ``demo`` and ``proxy``
``init``          ``init``: the files to begin with
``check``         ``check``
``schema``        ``schema``: the configuration in JSON Schema
``status``        ``status``
``limits``        ``limits``
``actions``       an operator's actions: ``reset-quota``, ``open-circuit``, ``close-circuit``, ``release-circuit``
``ledger``        ``export`` and ``kpis``
``requests``      ``requests``: the log of requests
``experiments``   ``experiments``: how arms compare
``experiment_actions``  an experiment is ended, or a stopped arm of it goes on
``forecast``      ``forecast``: when limits run out, and how good such forecasts have been
``route``         ``route``: where a request would go first
``rehearse``      ``rehearse``: one's own file against simulated providers
``reload``        ``reload``: a changed configuration is taken up
``switch``        ``switch``: a decision is switched off at run time
``dashboard``     ``dashboard``
``playbook``      ``playbook``: what to do when an alert comes
``fleet_report``  the fleet as Redis has it
``ledger_forecasts``  when limits per day run out, as the ledger has their use
``impact_report``  whether callers are hurt, from Redis and the ledger
``usage_report``  what was used in the last 24 hours
``export_file``   where an export is written: standard output, or a file that appears when it is complete
``remote``        the options of commands that can ask a running proxy or dashboard
``http_client``   the HTTP client of those commands
``option_types``  types of options that click has not
``exits``         exit codes, and how errors end a command
``tables``        how rows are laid out
"""

from wallie_litellm.cli.command import main

__all__ = ["main"]
