"""The names of limits inside one provider: a dimension, and whose it is where it is not the account's.

``tpm`` is the account's limit, ``tpm@claude-opus-4*`` that of the models that the pattern matches. Stores, leases and
the lease server take such a key as it is.
"""

from __future__ import annotations

from typing import Final

ACCOUNT: Final = ""  # the scope of the limits that all models share
SCOPE_MARK: Final = "@"  # between a dimension, which has none, and a pattern, which may


def limit_key(dimension: str, scope: str) -> str:
    """The key of the limit of ``dimension`` in ``scope``."""
    return f"{dimension}{SCOPE_MARK}{scope}" if scope else dimension


def dimension_in(key: str) -> str:
    """The dimension of a limit's key."""
    return key.partition(SCOPE_MARK)[0]


def scope_in(key: str) -> str:
    """The scope of a limit's key."""
    return key.partition(SCOPE_MARK)[2]
