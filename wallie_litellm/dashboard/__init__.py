"""The operator's view: a page, an API and the actions that a person may take. See docs/dashboard.md.

``server``          on a port of its own, or as an application to mount
``app``             the application: routes, errors, security headers
``html_routes``     the routes that people use
``api_routes``      the routes that programs use
``schemas``         the API's answers
``auth``            who may come in, and whether an action is meant
``sessions``        signed cookies
``throttle``        how often a token may be guessed
``service``         finds out and draws once, for all viewers
``render_process``  does that in a process of its own
``panels``          what the page shows, from a source of the present and the ledger
``single_flight``   found out once for all who ask at the same time
``guard_source``    the present, from a guard in this process
``ledger_source``   the present, as far as a ledger tells it
``queries``         what the page asks of the ledger
``usage_ranges``    ranges and sums as the API takes and gives them
``view_model``      everything that the page shows, as plain values
``html``            the page from the view model
``charts``          where bars and lines go
``formats``         numbers and times as people read them
``translations``    the page's words
``metrics``         what Prometheus scrapes
"""
