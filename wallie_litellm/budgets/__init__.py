"""Budgets in US dollars of features, users and keys: what may be spent a day and a month, exact over a fleet.

A cost is reserved by its estimate before the call, and settled at what it was. In the order of the way:

``rules``              which budgets hold for a request of a feature, a user and a key
``holds``              what one attempt has reserved
``accounts``           what this process knows of one account, and has reserved and spent in it
``spending``           what is spent in this process alone; the ledger says what was spent before
``shared_spending``    what a fleet spends: exchanged with Redis by a thread of its own
``budgets``            the facade: reserve, settle, alerts, and the rows of the status
"""
