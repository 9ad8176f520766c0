"""Where requests go first, and why: decided by the file and by what is measured, and switched off at run time.

``plan``           where one request goes: the group asked first, those after it, and what decided it
``routing``        what one guard decides by: the steps that make plans, and their switches
``experiments``    which arm a request has, and where an experiment stands
``tiers``     names for chains
``auto``      the group whose tier is chosen for each prompt
``order``          the members of a chain by what they take
``latencies``      what calls have taken, per model at an account
``first_token``    how long a call may say nothing, by what calls have taken
``ramp``           what has come back is given its traffic in steps
``silence``        a model that has fallen silent is asked second
``hedging``        whether a late call is hedged, by the budgets and by how many others are late
``answer_pool``    answers that are given again
``remembered``     what is remembered of requests for a while
``warm_prefixes``  which scope was lately sent the same beginning of a prompt
``turned_on``      which of the decisions a file turns on
``switches``       which of the decisions are switched off at run time
"""
