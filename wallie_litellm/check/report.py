"""The check of a router_config.yaml as a whole: problems, notes, and the rows of the summary."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from wallie_litellm.check.alerts import alert_notes
from wallie_litellm.check.budgets import budget_notes
from wallie_litellm.check.caching import cache_notes, cache_problems
from wallie_litellm.check.callback import callback_problems
from wallie_litellm.check.experiments import experiment_notes
from wallie_litellm.check.forecast import forecast_notes
from wallie_litellm.check.hedging import hedge_notes
from wallie_litellm.check.litellm_notes import (
    chains_that_end,
    different_settings,
    local_limits,
    proxy_alone,
    unused_lists,
)
from wallie_litellm.check.models import (
    INPUT_PRICE,
    OUTPUT_PRICE,
    DeploymentFacts,
    expiring_models,
    limits_in_force,
    missing_keys,
    model_problems,
    read_deployments,
    several_destinations,
    unmatched_providers,
)
from wallie_litellm.check.packages import proxy_package_problems
from wallie_litellm.check.settings import late_variables, settings_problems, unset_references
from wallie_litellm.check.sinks import ledger_file_problems, secret_notes, sink_problems, webhook_notes
from wallie_litellm.check.store import store_problems
from wallie_litellm.config import Dimension, RouterConfig, load_config
from wallie_litellm.core.scrubbing import one_line
from wallie_litellm.errors import ConfigError


@dataclass(frozen=True)
class DeploymentRow:
    """A deployment in the summary; prices are US dollars per token, ``None`` where there is none."""

    group: str
    model: str
    input_price: float | None
    output_price: float | None
    chain: tuple[str, ...]  # the groups tried after this one


@dataclass(frozen=True)
class LimitsRow:
    """The limits of one scope; of these, ``autos`` take the vendor's, and begin at their amount, 0 is none."""

    limits: Mapping[Dimension, int]
    autos: Mapping[Dimension, int]


@dataclass(frozen=True)
class ProviderRow(LimitsRow):
    """A provider that a deployment uses: its account's limits, and by pattern those of some of its models."""

    name: str
    models: Mapping[str, LimitsRow]


@dataclass(frozen=True)
class CheckReport:
    """The result of a check; each problem and each note is one line, complete in itself."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    deployments: tuple[DeploymentRow, ...] = ()
    providers: tuple[ProviderRow, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; notes do not count."""
        return not self.problems


def check_file(
    path: str | os.PathLike[str] | None = None,
    *,
    today: date | None = None,
    ignore_keys: bool = False,
    library: bool = False,
    env: Mapping[str, str] | None = None,
) -> CheckReport:
    """Check a router_config.yaml (the default one as in ``load_config``) and the models it names.

    ``today`` is the day on which models must not be past their deprecation date. ``ignore_keys`` leaves out whether
    the environment holds the keys, ``library`` what only the proxy needs. Whatever is wrong with the file is a problem
    in the report; nothing is raised.
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
    deployments = read_deployments(litellm, config, env)
    found = [*settings_problems(litellm, config), *store_problems(config), *sink_problems(config)]
    found += [*ledger_file_problems(config), *cache_problems(config, env)]
    for deployment in deployments:
        found += model_problems(litellm, deployment, today)
    notes = [
        *different_settings(config),
        *local_limits(config),
        *chains_that_end(config),
        *unused_lists(config),
        *proxy_alone(config),
        *expiring_models(deployments, today),
        *unmatched_providers(config, deployments),
        *several_destinations(deployments),
        *cache_notes(config, deployments),
        *budget_notes(config, deployments),
        *hedge_notes(config, deployments),
        *experiment_notes(config, deployments),
        *forecast_notes(config),
        *alert_notes(config),
        *webhook_notes(config),
    ]
    if not library:
        found += callback_problems(config)
        notes += proxy_package_problems()
    if not ignore_keys:
        found += unset_references(config, env)
        found += missing_keys(deployments, {**env, **config.environment_variables})
        notes += [*late_variables(config, env), *secret_notes(config)]
    return CheckReport(
        problems=tuple(one_line(f"{config.path}: {config.locate(line)}") for line in found),
        notes=tuple(one_line(f"{config.path}: {config.locate(line)}") for line in notes),
        deployments=tuple(_deployment_rows(config, deployments)),
        providers=tuple(_provider_rows(config, deployments)),
    )


def _today() -> date:
    return date.today()


def _import_litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import tries a download
    import litellm

    return litellm


def _deployment_rows(config: RouterConfig, deployments: Sequence[DeploymentFacts]) -> Iterator[DeploymentRow]:
    for one in deployments:
        chain = config.chain(one.group)
        yield DeploymentRow(one.group, one.model, one.price(INPUT_PRICE), one.price(OUTPUT_PRICE), chain)


def _provider_rows(config: RouterConfig, deployments: Sequence[DeploymentFacts]) -> Iterator[ProviderRow]:
    used = {deployment.provider for deployment in deployments}
    for name, limits in limits_in_force(config, deployments).items():
        if name in used:
            models = {pattern: LimitsRow(own.by_dimension(), own.autos()) for pattern, own in limits.models.items()}
            yield ProviderRow(limits.by_dimension(), limits.autos(), name, models)
