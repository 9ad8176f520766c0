"""``wallie-litellm demo``: the specification's scenarios against simulated providers, or one request to real ones.

``demo``       plays the scenarios
``scenarios``  what is played
``stage``      the simulated providers, and routers that call them
``findings``   what a scenario expected and saw
``display``    how that is shown
``serving``    the dashboard afterwards
``live``       ``--live``
"""
