"""The names of providers, a vendor at an address each, and the digests of keys. Functions of the model list alone.

The vendor's own address has the vendor's name, and so has the only address of a vendor that the list names. Others are
``vendor/host[:port]``, or ``vendor/region`` where a vendor's limits are those of a region (Bedrock, Vertex AI). Nothing
else of an address goes into a name: no path, user or query.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

ACCOUNT_MARK: Final = "#"  # between a provider's name and the digest of a key, in the name of an account
DIGEST: Final = 8  # hexadecimal digits of a key's digest: enough to tell keys apart, too few to guess one
_ACCOUNT: Final = re.compile(rf"{ACCOUNT_MARK}[0-9a-f]{{{DIGEST}}}$")
LONGEST_PLACE: Final = 150  # characters; the ledger's column has 200

#: Vendors' own hosts. LiteLLM calls them where a deployment states no address.
OWN_HOSTS: Final[Mapping[str, str]] = {
    "anthropic": "api.anthropic.com",
    "cohere": "api.cohere.com",
    "deepseek": "api.deepseek.com",
    "gemini": "generativelanguage.googleapis.com",
    "groq": "api.groq.com",
    "mistral": "api.mistral.ai",
    "openai": "api.openai.com",
    "openrouter": "openrouter.ai",
    "text-completion-openai": "api.openai.com",
    "together_ai": "api.together.xyz",
    "xai": "api.x.ai",
}

_BASES: Final = ("api_base", "base_url", "aws_bedrock_runtime_endpoint")
_REGIONS: Final = ("aws_region_name", "vertex_location", "vertex_ai_location", "watsonx_region_name", "region_name")
_BEDROCK_REGION: Final = re.compile(r"(?:bedrock/)?(?:converse/|invoke/)?([a-z]{2,3}(?:-[a-z]+)+-\d)/")
_HOME_REGIONS: Final = {  # variables, and what LiteLLM takes where none is set
    "bedrock": (("AWS_REGION_NAME", "AWS_REGION"), "us-west-2"),
    "sagemaker": (("AWS_REGION_NAME", "AWS_REGION"), "us-west-2"),
    "vertex_ai": (("VERTEXAI_LOCATION", "VERTEX_LOCATION"), "us-central1"),
}
_PORTS: Final = {"http": 80, "https": 443}
_NOT_OF_A_HOST: Final = re.compile(r"[^a-z0-9._:\[\]-]")

# Whose account it is, besides the key itself: any of these tells two accounts apart.
_CREDENTIALS: Final = (
    "azure_ad_token", "tenant_id", "client_id", "aws_access_key_id", "aws_profile_name", "aws_role_name",
    "vertex_project", "vertex_credentials", "litellm_credential_name", "organization",
)  # fmt: skip

Parameters = Mapping[str, Any]


class Address(NamedTuple):
    """A vendor and where it is called: a host with its port, or a region; empty for the vendor's own."""

    vendor: str
    place: str = ""


def _stated(params: Parameters, name: str) -> str:
    """A parameter's value as text; empty where there is none."""
    value = params.get(name)
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True, default=str)
    return value.strip() if isinstance(value, str) else ""


def is_account(name: str) -> bool:
    """Whether this is the name of one of several keys of a provider."""
    return _ACCOUNT.search(name) is not None


def base_of(params: Parameters) -> str:
    """The URL that a deployment's parameters state; empty where there is none."""
    return _first(params, _BASES)


def address_of(vendor: str, params: Parameters, env: Mapping[str, str]) -> Address:
    """The address at which LiteLLM calls ``vendor`` for a deployment with these parameters.

    ``env`` has the vendor's own variables, which hold where a deployment states nothing.
    """
    base = base_of(params) or _environments_base(vendor, env)
    if base:
        place = _host_of(base)
        return Address(vendor, "" if place == OWN_HOSTS.get(vendor) else place)
    region = _first(params, _REGIONS)
    if not region and (found := _BEDROCK_REGION.match(str(params.get("model")))):
        region = found[1]
    place = _NOT_OF_A_HOST.sub("-", region.lower())[:LONGEST_PLACE]
    return Address(vendor, "" if place == _home_region(vendor, env) else place)


def key_digest(vendor: str, params: Parameters, env: Mapping[str, str]) -> str:
    """What tells the key of a deployment from others. The key cannot be read from it."""
    key = _stated(params, "api_key")
    parts = [value for name in _CREDENTIALS if (value := _stated(params, name))]
    if not key and "litellm_credential_name" not in params:
        key = env.get(f"{_variable(vendor)}_API_KEY") or ""
    return sha256("\n".join(filter(None, (key, *parts))).encode()).hexdigest()[:DIGEST]


class ProviderNames:
    """Names the addresses of a model list. A name that was given stays, whatever is added later."""

    def __init__(self) -> None:
        self._names: dict[Address, str] = {}

    def learn(self, addresses: Iterable[Address]) -> None:
        """Name the addresses that have no name yet. The order in which they come does not matter."""
        new = sorted(set(addresses) - self._names.keys())
        named_before = {address.vendor for address in self._names}
        taken = set(self._names.values())
        for address in new:
            vendor, place = address
            alone = vendor not in named_before and sum(other.vendor == vendor for other in new) == 1
            plain = (alone or not place) and vendor not in taken
            name = vendor if plain else f"{vendor}/{place or OWN_HOSTS.get(vendor, 'default')}"
            self._names[address] = name
            taken.add(name)

    def name_of(self, address: Address) -> str:
        """The provider's name."""
        if address not in self._names:
            self.learn((address,))
        return self._names[address]


def account_name(provider: str, digest: str) -> str:
    """The name of the account whose key has this digest, at ``provider``."""
    return f"{provider}{ACCOUNT_MARK}{digest}"


def digest_in(account: str) -> str:
    """The digest in the name of an account."""
    return account.rpartition(ACCOUNT_MARK)[2]


def _first(params: Parameters, names: Iterable[str]) -> str:
    return next((value for name in names if (value := _stated(params, name))), "")


def _variable(vendor: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", vendor.upper())


def _environments_base(vendor: str, env: Mapping[str, str]) -> str:
    """The address that the environment gives to deployments without one."""
    return env.get(f"{_variable(vendor)}_BASE_URL") or env.get(f"{_variable(vendor)}_API_BASE") or ""


def _home_region(vendor: str, env: Mapping[str, str]) -> str:
    variables, usual = _HOME_REGIONS.get(vendor, ((), ""))
    return next((env[name] for name in variables if env.get(name)), usual).lower()


def _host_of(base: str) -> str:
    """Host and port of a URL, and nothing else of it; a digest of it where no host can be read."""
    try:
        parts = urlsplit(base if "://" in base else f"https://{base.lstrip('/')}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or "@" in parts.path:  # a slash in a password ends the host before its time
        return f"unreadable-{sha256(base.encode()).hexdigest()[:DIGEST]}"
    host = _NOT_OF_A_HOST.sub("-", host.rstrip("."))[:LONGEST_PLACE]
    if ":" in host:
        host = f"[{host}]"
    return host if port is None or port == _PORTS.get(parts.scheme) else f"{host}:{port}"
