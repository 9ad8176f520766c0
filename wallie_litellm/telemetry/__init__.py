"""What becomes of the guard's events: a bus, and one file per sink."""
