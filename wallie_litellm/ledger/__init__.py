"""The durable record: every attempt, request, alert, transition and operator action, in SQL.

SQL is written nowhere else.

``schema``       the tables
``migrations``   making them, and moving those of an earlier version forward
``engine``       connections to SQLite or PostgreSQL
``records``      events as rows
``writer``       the sink that writes events, off every request's path
``backlog``      records that wait to be written: in memory, then on disk
``database``     what the writer does to the database, and what its errors mean
``insert``       each record exactly once, however often it is tried
``rollup``       sums by quarter of an hour and by day
``retention``    removing records that are too old; their sums stay
``restore``      what a starting process takes up
``reader``       opening a ledger only to read it
``queries``      what the dashboard, the KPIs and the budget ask
``figures``      what the queries answer with
``ranges``       where a range of time is looked up: in records or in sums
``aggregates``   the statements that add up, and reading their rows
``percentiles``  percentiles from the sums' histogram
``kpis``         the key figures against their targets
``export``       records as CSV or JSON Lines
"""
