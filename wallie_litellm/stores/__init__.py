"""Where the state that requests share lives."""
