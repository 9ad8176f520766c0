"""The durable record: every attempt, request, alert, transition and operator action, in SQL."""
