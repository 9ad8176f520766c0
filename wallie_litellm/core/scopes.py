"""The names of scopes, which have breakers and pauses: a provider, one of its accounts, or one model at either.

A provider's and an account's are their names (:mod:`~wallie_litellm.core.provider_names`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

MODEL_MARK: Final = "|"  # between the name of a provider or an account and that of a model


@lru_cache(maxsize=1_000)
def model_scope(account: str, model: str) -> str:
    """The scope of a model at ``account``, which is a provider's name where that has only one key.

    ``model`` is LiteLLM's name, of which the vendor's prefix is left out: two spellings of one model share a scope.
    """
    return f"{account}{MODEL_MARK}{model.partition('/')[2] or model}"


def account_in(scope: str) -> str:
    """The account, or the provider, whose scope or whose model's scope this is."""
    return scope.partition(MODEL_MARK)[0]


def model_in(scope: str) -> str:
    """The model of a scope; empty for a provider's or an account's."""
    return scope.partition(MODEL_MARK)[2]


def in_words(scope: str) -> str:
    """A scope as messages name it."""
    account, _, model = scope.partition(MODEL_MARK)
    return f"{account}'s {model}" if model else account
