"""The shipped file, with keys or without, on a day that stays the same."""

from config_fixtures import clean_env, fake_keys, shipped

__all__ = ["clean_env", "fake_keys", "shipped"]
