"""The checks of each deployment: LiteLLM lists its model, it has a price and a key, and it has not ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.config import DEFAULT_PROVIDERS, ProviderLimits, RouterConfig
from wallie_litellm.config.variables import ENV_REFERENCE
from wallie_litellm.litellm_adapter.price_map import has_price, price_entry

if TYPE_CHECKING:
    from wallie_litellm.core.destinations import Destination

# The variables from which LiteLLM takes a key that the deployment does not give; one of them is enough.
API_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
}
INPUT_PRICE: Final = "input_cost_per_token"  # LiteLLM's key, US dollars
OUTPUT_PRICE: Final = "output_cost_per_token"  # LiteLLM's key, US dollars
_NOTICE: Final = timedelta(days=60)  # a note announces a model's deprecation date this long before


@dataclass(frozen=True)
class DeploymentFacts:
    """One entry of ``model_list`` beside what LiteLLM's price map has about its model."""

    where: str
    group: str
    model: str
    provider: str | None  # whose limits it counts against
    account: str  # whose breaker and pauses hold for it: the provider's name, or that of one of its keys
    has_default_limits: bool  # where the file says nothing: the limits are those of the vendor's own address
    vendor: str | None  # whose API LiteLLM calls; None where LiteLLM has no provider for the model
    params: Mapping[str, Any] = field(repr=False)  # may hold a key
    info: Mapping[str, Any]
    entry: Mapping[str, Any] | None = field(repr=False)  # LiteLLM's price map on this model

    @property
    def is_pattern(self) -> bool:
        """Whether the model stands for several."""
        return "*" in self.model

    @property
    def is_unknown(self) -> bool:
        """Whether the model is that of a variable which is not set."""
        return self.model.startswith(ENV_REFERENCE)

    def price(self, name: str) -> float | None:
        """US dollars per token; the deployment's own price goes before the map's."""
        places = (self.info, self.params, self.entry or {})
        return next((amount for place in places if (amount := _amount(place.get(name))) is not None), None)

    @property
    def has_price(self) -> bool:
        """Whether anything prices its calls, be it at 0."""
        return any(self.price(name) is not None for name in (INPUT_PRICE, OUTPUT_PRICE)) or has_price(self.entry)

    @property
    def has_own_price(self) -> bool:
        """Whether the file itself gives a price per token."""
        places = (self.info, self.params)
        return any(_amount(place.get(name)) is not None for place in places for name in (INPUT_PRICE, OUTPUT_PRICE))

    @property
    def ends(self) -> date | None:
        """The last day on which the vendor serves the model, where LiteLLM has one."""
        try:
            return date.fromisoformat(str((self.entry or {}).get("deprecation_date")))
        except ValueError:
            return None


def _amount(value: object) -> float | None:
    """A price; as text too, because YAML reads ``1e-6`` as text."""
    try:
        return None if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def read_deployments(litellm: Any, config: RouterConfig, env: Mapping[str, str]) -> list[DeploymentFacts]:
    """The deployments of ``model_list``, in its order."""
    from wallie_litellm.litellm_adapter.providers import Providers  # late: it imports LiteLLM

    providers = Providers({**env, **config.environment_variables})
    providers.learn(config.model_list)
    return [
        _read_deployment(litellm, index, entry, providers.destination_of(entry))
        for index, entry in enumerate(config.model_list)
    ]


def _read_deployment(litellm: Any, index: int, entry: Mapping[str, Any], destination: Destination) -> DeploymentFacts:
    from wallie_litellm.litellm_adapter.providers import vendor_of  # late: it imports LiteLLM

    params, info = entry["litellm_params"], entry.get("model_info") or {}
    model = str(params["model"])
    vendor = None if model.startswith(ENV_REFERENCE) else vendor_of(model, params)
    return DeploymentFacts(
        where=f"model_list[{index}].litellm_params.model",
        group=entry["model_name"],
        model=model,
        provider=destination.provider if vendor or info.get("wallie_provider") else None,
        account=destination.account,
        has_default_limits=destination.is_vendors_own,
        vendor=vendor,
        params=params,
        info=info,
        entry=price_entry(litellm.model_cost, model, vendor, info.get("base_model")),
    )


def model_problems(litellm: Any, deployment: DeploymentFacts, today: date) -> Iterator[str]:
    """What is wrong with one deployment's model: unknown, unpriced, or past its end."""
    if deployment.is_pattern or deployment.is_unknown:
        return
    where, model, group = deployment.where, deployment.model, deployment.group
    if deployment.vendor is None:
        yield f"{where}: LiteLLM cannot tell the provider of '{model}' (group {group}); write provider/model"
    elif deployment.entry is None and not deployment.has_own_price:
        yield (
            f"{where}: '{model}' (group {group}) is not in LiteLLM's price map, so its calls would be on record as "
            f"unpriced; name a listed model{_similar(litellm.model_cost, model, deployment.vendor)} or set "
            f"{INPUT_PRICE} and {OUTPUT_PRICE} in model_info"
        )
    elif not deployment.has_price:
        yield (f"{where}: '{model}' (group {group}) has no price; set {INPUT_PRICE} and {OUTPUT_PRICE} in model_info")
    if deployment.ends and deployment.ends < today:
        yield f"{where}: '{model}' (group {group}) is past its deprecation date {deployment.ends}; name its successor"


def _similar(prices: Mapping[str, Any], model: str, vendor: str) -> str:
    listed = {
        name.removeprefix(f"{vendor}/"): name
        for name, entry in prices.items()
        if isinstance(entry, Mapping) and entry.get("litellm_provider") == vendor
    }
    close = get_close_matches(model.removeprefix(f"{vendor}/"), listed, 3, 0.6)
    return f" such as {', '.join(listed[name] for name in close)}" if close else ""


def missing_keys(deployments: Sequence[DeploymentFacts], env: Mapping[str, str]) -> Iterator[str]:
    """Deployments for which neither the file nor the environment has an API key."""
    for deployment in deployments:
        variables = API_KEYS.get(deployment.vendor or "", ())
        given = deployment.params.get("api_key") or deployment.params.get("litellm_credential_name")
        if variables and not given and not any(env.get(name) for name in variables):
            where = deployment.where.replace(".model", ".api_key")
            yield f"{where}: no API key for '{deployment.model}' (group {deployment.group}); set {variables[0]}"


def several_destinations(deployments: Sequence[DeploymentFacts]) -> Iterator[str]:
    """The provider of each deployment whose vendor has several addresses, and the account where it has several keys."""
    addresses: dict[str | None, set[str]] = {}
    for one in deployments:
        addresses.setdefault(one.vendor, set()).add(one.provider or "")
    for one in deployments:
        if one.provider and (one.account != one.provider or len(addresses[one.vendor]) > 1):
            where = one.where.removesuffix(".litellm_params.model")
            yield f"{where}: '{one.model}' (group {one.group}) belongs to the {_kind(one)} '{one.account}'"


def _kind(one: DeploymentFacts) -> str:
    return "provider" if one.account == one.provider else "account"


def expiring_models(deployments: Sequence[DeploymentFacts], today: date) -> Iterator[str]:
    """Models whose deprecation date is near."""
    for deployment in deployments:
        if deployment.ends and today <= deployment.ends <= today + _NOTICE:
            yield f"{deployment.where}: '{deployment.model}' (group {deployment.group}) ends on {deployment.ends}"


def limits_in_force(config: RouterConfig, deployments: Sequence[DeploymentFacts]) -> Mapping[str, ProviderLimits]:
    """The limits by provider: those of the file, and at a vendor's own address those that hold without a word."""
    elsewhere = {one.provider for one in deployments if not one.has_default_limits}
    wallie = config.wallie
    found = {
        name: wallie.limits_elsewhere(name) if name in elsewhere else own for name, own in wallie.providers.items()
    }
    return {name: limits for name, limits in found.items() if limits is not None}


def unmatched_providers(config: RouterConfig, deployments: Sequence[DeploymentFacts]) -> Iterator[str]:
    """Providers without limits, and limits without a deployment."""
    used = {deployment.provider for deployment in deployments if deployment.provider}
    limits = limits_in_force(config, deployments)
    for provider in sorted(used - set(limits)):
        yield f"wallie.providers: no limits for '{provider}', so its calls do not wait"
    for provider in sorted(set(limits) - used - set(DEFAULT_PROVIDERS)):
        close = get_close_matches(provider, used | set(DEFAULT_PROVIDERS), 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        yield f"wallie.providers.{provider}: no deployment uses this provider{hint}"
