"""What `wallie-litellm check` finds out: is the file right, and do its models exist, cost something, have keys?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from difflib import get_close_matches
from typing import Any, Final

from wallie_litellm.check.sinks import secret_notes, sink_problems
from wallie_litellm.cli.tables import aligned
from wallie_litellm.config import DEFAULT_PROVIDERS, RouterConfig, load_config
from wallie_litellm.config.load import ENV_REFERENCE
from wallie_litellm.config.problems import one_line
from wallie_litellm.errors import ConfigError
from wallie_litellm.litellm_adapter.price_map import has_price, price_entry

# The variables from which LiteLLM takes a key that the deployment does not give; one of them is enough.
API_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
}
_NOTICE: Final = timedelta(days=60)  # how long before a model's end a note says so
_PRICES: Final = ("input_cost_per_token", "output_cost_per_token")


@dataclass(frozen=True)
class CheckReport:
    """The result of a check; each problem, note and line of the summary is complete in itself."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; notes do not count."""
        return not self.problems


@dataclass(frozen=True)
class _Deployment:
    """One entry of `model_list` beside what LiteLLM knows about its model."""

    where: str
    group: str
    model: str
    provider: str | None  # whose limits it counts against
    vendor: str | None  # whose API LiteLLM calls
    params: Mapping[str, Any]
    info: Mapping[str, Any]
    entry: Mapping[str, Any] | None = field(repr=False)  # LiteLLM's price map on this model

    @property
    def is_pattern(self) -> bool:
        return "*" in self.model

    def price(self, name: str) -> float | None:
        """US dollars per token; the deployment's own price goes before the map's."""
        places = (self.info, self.params, self.entry or {})
        return next((amount for place in places if (amount := _amount(place.get(name))) is not None), None)

    @property
    def has_price(self) -> bool:
        per_token = any(self.price(name) is not None for name in _PRICES)
        return per_token or has_price(self.entry)

    @property
    def has_own_price(self) -> bool:
        return any(_amount(place.get(name)) is not None for place in (self.info, self.params) for name in _PRICES)


def _amount(value: object) -> float | None:
    """A price; as text too, because YAML reads `1e-6` as text."""
    try:
        return None if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def check_file(
    path: str | os.PathLike[str] | None = None,
    *,
    today: date | None = None,
    ignore_keys: bool = False,
    env: Mapping[str, str] | None = None,
) -> CheckReport:
    """Check a router_config.yaml (the default one as in `load_config`) and the models it names.

    `today` is the day on which models must not be past their deprecation date. `ignore_keys` leaves out whether
    the environment holds the keys. Never raises for anything that is wrong with the file.
    """
    env = os.environ if env is None else env
    try:
        config = load_config(path, env=env)
    except ConfigError as error:
        return CheckReport(problems=tuple(error.problems))
    try:
        litellm = _import_litellm()
    except Exception as error:  # noqa: BLE001  # a broken installation is a finding, not a traceback
        return CheckReport(problems=(f"LiteLLM cannot be imported: {type(error).__name__}: {error}",))
    today = today or _today()
    deployments = [_deployment(litellm, index, entry) for index, entry in enumerate(config.model_list)]
    found = [*_settings_problems(litellm, config), *sink_problems(config)]
    for deployment in deployments:
        found += _model_problems(litellm, deployment, today)
    if not ignore_keys:
        found += [*_unset_references(config, env), *_missing_keys(deployments, env)]
    notes = [*_notes(config, deployments, today), *(() if ignore_keys else secret_notes(config))]
    return CheckReport(
        problems=tuple(one_line(f"{config.path}: {line}") for line in found),
        notes=tuple(one_line(f"{config.path}: {line}") for line in notes),
        summary=tuple(_summary(config, deployments)),
    )


def _today() -> date:
    return date.today()


def _import_litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import tries a download
    import litellm

    return litellm


def _deployment(litellm: Any, index: int, entry: Mapping[str, Any]) -> _Deployment:
    params, info = entry["litellm_params"], entry.get("model_info") or {}
    model = str(params["model"])
    vendor = _vendor(litellm, model, params)
    return _Deployment(
        where=f"model_list[{index}].litellm_params.model",
        group=entry["model_name"],
        model=model,
        provider=info.get("wallie_provider") or vendor,
        vendor=vendor,
        params=params,
        info=info,
        entry=price_entry(litellm.model_cost, model, vendor, info.get("base_model")),
    )


def _vendor(litellm: Any, model: str, params: Mapping[str, Any]) -> str | None:
    from wallie_litellm.litellm_adapter.patches import debug_info_suppressed

    given = {name: params.get(name) for name in ("custom_llm_provider", "api_base")}
    with debug_info_suppressed():
        try:
            return str(litellm.get_llm_provider(model, **given)[1])
        except Exception:  # noqa: BLE001  # LiteLLM has many ways to say that it does not know
            return None


def _model_problems(litellm: Any, deployment: _Deployment, today: date) -> Iterator[str]:
    if deployment.is_pattern:
        return
    where, model, group = deployment.where, deployment.model, deployment.group
    if deployment.vendor is None:
        yield f"{where}: LiteLLM cannot tell the provider of '{model}' (group {group}); write provider/model"
    elif deployment.entry is None and not deployment.has_own_price:
        yield (
            f"{where}: '{model}' (group {group}) is not in LiteLLM's price map, so its calls would count as free; "
            f"name a listed model{_similar(litellm.model_cost, model, deployment.vendor)} or set "
            "input_cost_per_token and output_cost_per_token in model_info"
        )
    elif not deployment.has_price:
        yield (
            f"{where}: '{model}' (group {group}) has no price; set input_cost_per_token and output_cost_per_token "
            "in model_info"
        )
    ends = _end_of(deployment)
    if ends and ends < today:
        yield f"{where}: '{model}' (group {group}) is past its deprecation date {ends}; name its successor"


def _end_of(deployment: _Deployment) -> date | None:
    try:
        return date.fromisoformat(str((deployment.entry or {}).get("deprecation_date")))
    except ValueError:
        return None


def _similar(prices: Mapping[str, Any], model: str, vendor: str) -> str:
    listed = {
        name.removeprefix(f"{vendor}/"): name
        for name, entry in prices.items()
        if isinstance(entry, Mapping) and entry.get("litellm_provider") == vendor
    }
    close = get_close_matches(model.removeprefix(f"{vendor}/"), listed, 3, 0.6)
    return f" such as {', '.join(listed[name] for name in close)}" if close else ""


def _settings_problems(litellm: Any, config: RouterConfig) -> Iterator[str]:
    known = set(litellm.Router.get_valid_args())
    for name in config.router_settings:
        if name not in known:
            close = get_close_matches(str(name), known, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            yield f"router_settings.{name}: litellm.Router has no such setting{hint}"


def _unset_references(config: RouterConfig, env: Mapping[str, str]) -> Iterator[str]:
    """Each variable that is named and not set, once, with the first place that names it."""
    places: dict[str, list[str]] = {}
    for section in ("model_list", "router_settings", "litellm_settings", "general_settings"):
        for where, name in _references(section, getattr(config, section), set()):
            places.setdefault(name, []).append(where)
    for name, used in places.items():
        if not env.get(name):
            more = f" (and {len(used) - 1} more)" if len(used) > 1 else ""
            yield f"{used[0]}{more}: the environment variable {name} is not set"


def _references(where: str, value: object, seen: set[int]) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and value.startswith(ENV_REFERENCE):
        yield where, value.removeprefix(ENV_REFERENCE)
    if not isinstance(value, Mapping | list) or id(value) in seen:  # YAML aliases may repeat, even form a loop
        return
    seen.add(id(value))
    inside: Iterable[tuple[str, object]]
    if isinstance(value, Mapping):
        inside = ((f".{key}", inner) for key, inner in value.items())
    else:
        inside = ((f"[{index}]", inner) for index, inner in enumerate(value))
    for step, inner in inside:
        yield from _references(where + step, inner, seen)


def _missing_keys(deployments: list[_Deployment], env: Mapping[str, str]) -> Iterator[str]:
    for deployment in deployments:
        variables = API_KEYS.get(deployment.vendor or "", ())
        given = deployment.params.get("api_key") or deployment.params.get("litellm_credential_name")
        if variables and not given and not any(env.get(name) for name in variables):
            where = deployment.where.replace(".model", ".api_key")
            yield f"{where}: no API key for '{deployment.model}' (group {deployment.group}); set {variables[0]}"


def _notes(config: RouterConfig, deployments: list[_Deployment], today: date) -> Iterator[str]:
    yield from _later_releases(config)
    yield from _ignored_settings(config)
    for deployment in deployments:
        ends = _end_of(deployment)
        if ends and today <= ends <= today + _NOTICE:
            yield f"{deployment.where}: '{deployment.model}' (group {deployment.group}) ends on {ends}"
    yield from _unmatched_providers(config, deployments)


def _unmatched_providers(config: RouterConfig, deployments: list[_Deployment]) -> Iterator[str]:
    used = {deployment.provider for deployment in deployments if deployment.provider}
    limits = config.wallie.providers
    for provider in sorted(used - set(limits)):
        yield f"wallie.providers: no limits for '{provider}', so its calls do not wait"
    for provider in sorted(set(limits) - used - set(DEFAULT_PROVIDERS)):
        close = get_close_matches(provider, used | set(DEFAULT_PROVIDERS), 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        yield f"wallie.providers.{provider}: no deployment uses this provider{hint}"


def _later_releases(config: RouterConfig) -> Iterator[str]:
    """The sections that this version validates and does not act on."""
    if config.wallie.store.url != "memory":
        yield "wallie.store: a Redis store comes in a later release; until then build_router and the proxy refuse it"


def _ignored_settings(config: RouterConfig) -> Iterator[str]:
    settings = config.router_settings
    for name in ("num_retries", "retry_after", "retry_policy", "model_group_retry_policy"):
        if settings.get(name) is not None:
            yield f"router_settings.{name}: wallie.retry is the only authority for retries; remove this"
    if settings.get("disable_cooldowns", True) is not True:
        yield "router_settings.disable_cooldowns: set it to true, else LiteLLM's cooldowns stay beside wallie.breaker"


def _summary(config: RouterConfig, deployments: list[_Deployment]) -> Iterator[str]:
    rows = [(d.group, d.model, _dollars(d), ", ".join(config.chain(d.group)) or "-") for d in deployments]
    yield from aligned([("GROUP", "MODEL", "$ PER 1M TOKENS IN / OUT", "THEN"), *rows])
    yield ""
    used = {deployment.provider for deployment in deployments}
    limits = [
        (name, ", ".join(f"{key} {value:,}" for key, value in provider.by_dimension().items()) or "none")
        for name, provider in config.wallie.providers.items()
        if name in used
    ]
    yield from aligned([("PROVIDER", "LIMITS"), *limits])


def _dollars(deployment: _Deployment) -> str:
    prices = [deployment.price(name) for name in _PRICES]
    return " / ".join("-" if price is None else f"{price * 1e6:.3f}".removesuffix("0") for price in prices)
