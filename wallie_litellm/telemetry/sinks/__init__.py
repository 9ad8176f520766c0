"""One file per receiver of events."""
