"""The names of providers are those of the model list alone, and show nothing of an address but host and port."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.core.provider_names import Address, ProviderNames, address_of, key_digest

SECRET = "sk-qvx7wz9"


def names(*addresses: Address) -> dict[Address, str]:
    found = ProviderNames()
    found.learn(addresses)
    return {address: found.name_of(address) for address in addresses}


def place(base: str, vendor: str = "openai") -> str:
    return address_of(vendor, {"model": "m", "api_base": base}, {}).place


def test_the_vendors_own_address_has_the_plain_name_and_another_its_host_and_port() -> None:
    own, local = Address("openai"), Address("openai", "127.0.0.1:8000")
    assert names(own, local) == {own: "openai", local: "openai/127.0.0.1:8000"}


def test_the_only_address_of_a_vendor_has_the_plain_name_wherever_it_is() -> None:
    local, own = Address("openai", "127.0.0.1:8000"), Address("groq")
    assert names(local, own) == {local: "openai", own: "groq"}


def test_two_addresses_that_are_not_the_vendors_own_are_both_named_in_full() -> None:
    a, b = Address("azure", "res-a.openai.azure.com"), Address("azure", "res-b.openai.azure.com")
    assert names(a, b) == {a: "azure/res-a.openai.azure.com", b: "azure/res-b.openai.azure.com"}


def test_an_address_that_is_added_later_renames_no_other() -> None:
    a, b, own = Address("openai", "a"), Address("openai", "b"), Address("openai")
    found = ProviderNames()
    found.learn([a])
    found.learn([a, b, own])
    assert [found.name_of(address) for address in (a, b, own)] == ["openai", "openai/b", "openai/api.openai.com"]
    assert names(a, b, own)[own] == "openai"  # after a restart


ADDRESSES = st.lists(
    st.builds(Address, st.sampled_from(["openai", "azure", "groq"]), st.sampled_from(["", "a", "b:1", "c.example"])),
    unique=True,
    max_size=8,
)


@given(ADDRESSES, st.randoms())
def test_names_do_not_depend_on_the_order_of_the_list_and_are_never_shared(addresses, random) -> None:
    shuffled = list(addresses)
    random.shuffle(shuffled)
    assert names(*shuffled) == names(*addresses)
    assert len(set(names(*addresses).values())) == len(addresses)


@given(ADDRESSES, ADDRESSES)
def test_a_name_in_use_stays_whatever_is_added(before, added) -> None:
    found = ProviderNames()
    found.learn(before)
    given_first = {address: found.name_of(address) for address in before}
    found.learn(added)
    assert {address: found.name_of(address) for address in before} == given_first
    everything = set(before) | set(added)
    assert len({found.name_of(address) for address in everything}) == len(everything)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://api.openai.com/v1", ""),
        ("https://API.OpenAI.com:443/v1/", ""),
        ("http://api.openai.com:8080", "api.openai.com:8080"),
        ("http://127.0.0.1:8000/v1", "127.0.0.1:8000"),
        ("http://localhost:80", "localhost"),
        ("localhost:11434/v1", "localhost:11434"),
        ("https://[::1]:8443/v1", "[::1]:8443"),
        ("https://gateway.example./openai?x=1#y", "gateway.example"),
    ],
)
def test_an_address_is_its_host_and_port(base: str, expected: str) -> None:
    assert place(base) == expected


@pytest.mark.parametrize(
    "base",
    [
        f"https://{SECRET}@host.example/v1",
        f"https://user:{SECRET}@host.example/v1",
        f"https://user:{SECRET}/x@host.example/v1",
        f"https://{SECRET}/x@host.example/v1",
        f"https://host.example/{SECRET}/v1",
        f"https://host.example/v1?api-key={SECRET}",
        f"https://host.example/v1#{SECRET}",
        f"user:{SECRET}@host.example/v1",
        f"https:///{SECRET}",
        f"https://[{SECRET}/v1",
        f"https://host.example:{SECRET}/v1",
    ],
)
def test_nothing_of_an_address_but_its_host_can_be_read_from_a_name(base: str) -> None:
    assert SECRET not in place(base)
    assert place(base)


@given(st.text(max_size=40))
def test_any_text_for_an_address_makes_a_name_of_plain_characters(base: str) -> None:
    found = place(base)
    assert len(found) < 200
    assert all(character.isascii() and (character.isalnum() or character in "._-:[]") for character in found)


@pytest.mark.parametrize(
    ("vendor", "params", "expected"),
    [
        ("bedrock", {"aws_region_name": "eu-west-1"}, "eu-west-1"),
        ("bedrock", {"model": "bedrock/eu-west-1/anthropic.claude-v2"}, "eu-west-1"),
        ("bedrock", {"aws_region_name": "us-west-2"}, ""),
        ("bedrock", {}, ""),
        ("vertex_ai", {"vertex_location": "europe-west1"}, "europe-west1"),
        ("vertex_ai", {"vertex_location": "us-central1"}, ""),
        ("bedrock", {"aws_bedrock_runtime_endpoint": "https://vpce-1.example"}, "vpce-1.example"),
    ],
)
def test_vendors_with_limits_per_region_have_an_address_per_region(vendor, params, expected) -> None:
    assert address_of(vendor, {"model": "m", **params}, {}).place == expected


def test_the_environments_region_and_address_are_those_of_deployments_that_state_none() -> None:
    env = {"AWS_REGION": "eu-west-1", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    assert address_of("bedrock", {"model": "m", "aws_region_name": "eu-west-1"}, env).place == ""
    assert address_of("bedrock", {"model": "m", "aws_region_name": "us-west-2"}, env).place == "us-west-2"
    assert address_of("openai", {"model": "m"}, env).place == "127.0.0.1:9"


def test_a_digest_tells_keys_apart_and_does_not_show_them() -> None:
    digests = {key_digest("openai", {"api_key": f"{SECRET}{number}"}, {}) for number in range(100)}
    assert len(digests) == 100
    assert all(len(digest) == 8 and int(digest, 16) >= 0 for digest in digests)


def test_a_key_is_the_same_whether_the_file_or_the_environment_states_it() -> None:
    env = {"OPENAI_API_KEY": SECRET}
    assert key_digest("openai", {}, env) == key_digest("openai", {"api_key": SECRET}, {})


@pytest.mark.parametrize("name", ["organization", "vertex_project", "aws_profile_name", "litellm_credential_name"])
def test_what_else_an_account_goes_by_tells_two_apart(name: str) -> None:
    found = {key_digest("openai", {"api_key": SECRET, name: value}, {}) for value in ("one", "two")}
    assert len(found) == 2


def test_every_order_of_a_small_list_gives_the_same_names() -> None:
    addresses = [Address("azure", "a"), Address("azure", "b"), Address("openai"), Address("openai", "c")]
    assert len({tuple(sorted(names(*order).items())) for order in permutations(addresses)}) == 1
