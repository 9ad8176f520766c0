"""``wallie-litellm limits``: what limits are configured, what the vendors say, and what is used of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from wallie_litellm.cli.exits import DONE, FAILED, echo_error, load_or_refuse
from wallie_litellm.cli.fleet_report import FleetUnavailable, fleet_report
from wallie_litellm.cli.remote import one_line_errors, running_client, url_options
from wallie_litellm.cli.tables import aligned, moment, text
from wallie_litellm.core.limit_keys import ACCOUNT

if TYPE_CHECKING:
    from wallie_litellm.config import ProviderLimits, RouterConfig

_IN_MEMORY: Final = (
    "What vendors say, and what is used, is known to the process that makes the calls: give --url of a running proxy "
    "or dashboard, or share limits through WALLIE_REDIS_URL."
)
_HEADER: Final = "# As the vendors tell the limits; for the wallie: section of the file."


@click.command("limits")
@url_options
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
@click.option(
    "--write", is_flag=True, help="Print the limits that vendors tell, as YAML for the file; it is not changed."
)
def limits_command(url: str | None, insecure: bool, config: str | None, as_json: bool, write: bool) -> None:
    """Show all limits: configured, told by the vendor, in force, and used; of accounts and of models.

    With --url as a running proxy or dashboard has them; else as the Redis has them that the workers share.

    The exit code is 0, 1 if the server at --url or Redis cannot be read, and 2 if the configuration is wrong.
    """
    client = running_client(url, insecure, config)
    if client is not None:
        with one_line_errors():
            report: Mapping[str, Any] = client.get("api/limits")
    else:
        report = _from_store(load_or_refuse(config))
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        for line in _yaml_lines(report) if write else _table(report):
            click.echo(line)
    sys.exit(DONE)


# Where they come from


def _from_store(loaded: RouterConfig) -> dict[str, Any]:
    from wallie_litellm.config.used_providers import used_providers
    from wallie_litellm.config.values import mask_url

    url, described = loaded.wallie.store.url, {}
    if url == "memory":
        echo_error(_IN_MEMORY)
    else:
        try:
            described = fleet_report(loaded)["providers"]
        except FleetUnavailable as error:
            echo_error(f"wallie.store.url: {mask_url(url)} cannot be read: {error}")
            sys.exit(FAILED)
    wallie = loaded.wallie
    names = sorted(described.keys() or filter(wallie.states_limits_of, wallie.providers))
    elsewhere = {one.provider for one in used_providers(loaded) if not one.is_vendors_own}
    stated = {
        name: wallie.limits_elsewhere(name) if name in elsewhere else wallie.providers.get(name) for name in names
    }
    return {"providers": {name: {"scopes": _scopes(name, stated[name], described.get(name, {}))} for name in names}}


def _scopes(name: str, settings: ProviderLimits | None, described: Mapping[str, Any]) -> dict[str, Any]:
    """The scopes of one provider: the file's limits, and those that Redis has in force."""
    from wallie_litellm.config import ProviderLimits
    from wallie_litellm.config.limits import beside_limits

    limits = ProviderLimits() if settings is None else settings
    beside = beside_limits(name, settings)
    stated = {ACCOUNT: limits, **limits.models}
    quotas = {ACCOUNT: described.get("quota", {})}
    quotas |= {scope: own.get("quota", {}) for scope, own in described.get("models", {}).items()}
    found = {}
    others = {scope for scope, quota in quotas.items() if quota} - stated.keys()
    for scope in [*stated, *sorted(others)]:  # the first entry that matches a model holds
        own = stated.get(scope)
        numbers: dict[str, Any] = {} if own is None else {str(key): one for key, one in own.by_dimension().items()}
        numbers |= {} if own is None else {str(key): "auto" for key in own.autos()}
        shown = quotas.get(scope, {})
        found[scope] = {
            "learn": limits.learn_mode(scope),
            "settings": beside.get(scope, {}),
            "limits": {
                dimension: _row(numbers.get(dimension), shown.get(dimension))
                for dimension in [*numbers, *(shown.keys() - numbers)]
            },
        }
    return found


def _row(configured: int | str | None, quota: Mapping[str, Any] | None) -> dict[str, Any]:
    """One limit; a limit in force that is not the configured one is what a worker has learned."""
    in_force = None if quota is None else quota["limit"]
    learned = in_force if in_force is not None and in_force != configured and configured != "auto" else None
    return {
        "configured": configured,
        "learned": learned,
        "source": None,
        "seen_at": None,
        "limit": in_force,
        "used": None if quota is None else quota["used"],
        "left": None if quota is None else quota["left"],
    }


# How they are shown


def _table(report: Mapping[str, Any]) -> Iterator[str]:
    from wallie_litellm.core.scrubbing import one_line

    rows: list[tuple[str, ...]] = [
        ("", "models", "limit", "configured", "learned", "from", "seen (UTC)", "in force", "used", "left", "learn")
    ]
    for provider, described in report["providers"].items():
        shown = provider
        for scope, own in described["scopes"].items():
            for dimension, one in own["limits"].items():
                seen = "" if one["seen_at"] is None else moment(one["seen_at"])
                amounts = (text(one["configured"]), text(one["learned"]), one["source"] or "", seen, text(one["limit"]))
                left = None if one["left"] is None else f"{one['left']:.0f}"
                rows.append((shown, scope or "all", dimension, *amounts, text(one["used"]), text(left), own["learn"]))
                shown = ""
    if len(rows) == 1:
        yield "no limits"
        return
    yield from map(one_line, aligned(rows, right=(3, 4, 7, 8, 9)))


def _yaml_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The ``providers:`` section as the file has it, with what is learned of models in place of their numbers."""
    import yaml

    providers = {}
    for provider, described in report["providers"].items():
        scopes = {scope: _section(own, is_account=not scope) for scope, own in described["scopes"].items()}
        account = scopes.pop(ACCOUNT, {})
        models = {scope: section for scope, section in scopes.items() if section}
        if account or models:
            providers[provider] = {**account, **({"models": models} if models else {})}
    yield _HEADER
    yield from yaml.safe_dump({"providers": providers}, sort_keys=False, default_flow_style=None).splitlines()


def _section(own: Mapping[str, Any], *, is_account: bool) -> dict[str, Any]:
    """What to write of one scope. Vendors tell no limits of an account's, but those of its models.

    A limit ``auto`` takes the vendor's anyway. A learned limit's burst changes in proportion, as where it is kept to.
    """
    settings, amounts = dict(own.get("settings", {})), {}
    burst = dict(settings.pop("burst", {}))
    for name, one in own["limits"].items():
        configured, learned = one["configured"], one["learned"]
        is_learned = learned is not None and configured != "auto" and not is_account
        amount = learned if is_learned else configured
        if amount is not None:
            amounts[name] = amount
        if is_learned and configured and name in burst:
            burst[name] = max(1, burst[name] * amount // configured)
    return {**amounts, **({"burst": burst} if burst else {}), **settings}
