"""An environment that says nothing about Wallie."""

from config_fixtures import clean_env

__all__ = ["clean_env"]
