"""The durable record: every attempt, request, alert, transition and operator action, in SQL.

SQL is written nowhere else.

``schema``       the tables
``migrations``   creating them, and converting those of an earlier version
``engine``       connections to SQLite or PostgreSQL
``forks``        no fork in the middle of a transaction
``records``      events as rows
``writer``       the sink that writes events, on a thread of its own
``backlog``      records that wait to be written: in memory, then on disk
``database``     the writer's transactions, and what their errors mean
``insert``       inserting each record exactly once, however often a write is retried
``rollup``       sums by quarter of an hour and by day
``retention``    removing records that are too old; their sums stay
``restore``      the usage, cost and alerts that a starting process continues from
``daily_use``    what forecasts of limits per day learn from
``request_log``      single requests, and the attempts of one
``incidents``    failures, fallbacks and changes of state since a time
``spending``     what features, users and keys have spent, as budgets begin with it
``reader``       opening a ledger only to read it
``queries``      the queries of the dashboard, the KPIs and the budget
``figures``      the results of the queries
``ranges``       a range of time as parts: of records, quarters of an hour and days
``aggregates``   the statements that add up, and reading their rows
``distributions``  the statements for percentiles, exact or from the sums' histograms
``percentiles``  histograms of milliseconds, and their percentiles
``experiments``  the figures of experiments and their arms, and which arms their guardrails stop
``experiment_watch``  keeps a process' experiments as they stand in the ledger
``kpis``         the key figures against their targets
``past_requests``  what was asked for in a time, without content
``export``       records as CSV or JSON Lines
"""
