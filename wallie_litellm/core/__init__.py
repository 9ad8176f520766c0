"""The arithmetic: numbers in, values out. Nothing here awaits, reads a clock, or knows LiteLLM or a store."""
