"""Where the calls of a model list go: the provider and the account of each entry. Functions of the list alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from wallie_litellm.core.provider_names import Address, ProviderNames, account_name, address_of, key_digest


class Destination(NamedTuple):
    """Whose limits, breaker and pauses a deployment is under.

    ``account`` is ``provider``, and where the list has several keys for that provider, ``provider#digest``.
    """

    provider: str
    account: str
    is_vendors_own: bool  # the vendor's own address, or a name that the file gives


class EntryFacts(NamedTuple):
    """What an entry of a model list says: the name that it gives, the address, and the digest of the key."""

    given: str
    address: Address
    digest: str


def facts_of(entry: Mapping[str, Any], vendor: str, params: Mapping[str, Any], env: Mapping[str, str]) -> EntryFacts:
    """The facts of an entry of this ``vendor``; ``params`` are its parameters with variables replaced by values."""
    given = str((entry.get("model_info") or {}).get("wallie_provider") or "")
    return EntryFacts(given, address_of(vendor, params, env), key_digest(vendor, params, env))


class Destinations:
    """The destinations of one model list. A provider that has been named keeps its name."""

    def __init__(self) -> None:
        self._names = ProviderNames()
        self._digests: dict[str, set[str]] = {}  # of the keys, by provider

    def learn(self, entries: Iterable[EntryFacts]) -> None:
        """These are all entries from now on."""
        listed = list(entries)
        self._names.learn(facts.address for facts in listed if not facts.given)
        self._digests = {}
        for facts in listed:
            self._digests.setdefault(self._name(facts), set()).add(facts.digest)

    def of(self, facts: EntryFacts) -> Destination:
        """The destination of one entry."""
        name = self._name(facts)
        several = len(self._digests.get(name, ())) > 1
        account = account_name(name, facts.digest) if several else name
        return Destination(name, account, bool(facts.given) or not facts.address.place)

    def _name(self, facts: EntryFacts) -> str:
        return facts.given or self._names.name_of(facts.address)
