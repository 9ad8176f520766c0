"""LiteLLM's own Router: its deployments, its fallbacks and its pick. Public means of 1.106 to 1.110 alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from os import PathLike
from typing import Any, Final

from litellm.router import Router

from wallie_litellm.config.differences import IGNORED
from wallie_litellm.core.destinations import Destination
from wallie_litellm.core.scopes import model_scope
from wallie_litellm.core.scrubbing import mask_secrets, one_line
from wallie_litellm.errors import ConfigError
from wallie_litellm.litellm_adapter.providers import Providers
from wallie_litellm.litellm_adapter.run_ready import NotReady, run_ready
from wallie_litellm.litellm_adapter.usage_count import UsageCount
from wallie_litellm.litellm_adapter.version import note_untested

Deployment = Mapping[str, Any]  # an entry of the Router's ``model_list``

#: The Router's methods that change its deployments or settings; 1.110 has ``apply`` and ``aapply`` for all of them.
CHANGES: Final = frozenset(
    {
        "aapply",
        "add_deployment",
        "apply",
        "delete_deployment",
        "register_plugin",
        "set_custom_routing_strategy",
        "set_model_list",
        "update_settings",
        "upsert_deployment",
    }
)
MOST_GROUPS: Final = 1_000  # groups whose providers are kept: with a wildcard, callers invent names
FALLBACKS: Final = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


_FALLBACK_CHECKS: Final = ("fallback_access_check", "fallback_budget_check")


class InnerRouter:
    """A ``litellm.Router`` of its own, and what the request loop asks of it.

    Answers are kept until :meth:`changed` is called.
    """

    def __init__(
        self,
        router: Any,
        on_destination: Callable[[str, str, bool, str, str | None], object] | None = None,
        names: Mapping[str, str] = {},
    ) -> None:
        self.router = router
        self._on_destination = (
            on_destination  # called with each destination, the model's scope and its group, before it is first returned
        )
        self._select = getattr(router, "select", None)  # LiteLLM 1.109 and newer
        self._registry = getattr(router, "registry", None)  # likewise
        self._for_checks = {"llm_router": router} if self._registry is None else {"ctx": _context_of(router)}
        self._usage = UsageCount(router) if self._registry is None else None
        self._groups: dict[str, tuple[Deployment, ...]] = {}
        self._providers: dict[str, frozenset[str]] = {}
        self._scopes: dict[str, frozenset[str]] = {}
        self._naming = Providers()
        self._are_named = False  # whether the present deployments are
        self._destinations: dict[str, Destination] = {}  # by the deployment's id
        self._aliases: dict[str, str] | None = None
        self._defaults: Mapping[str, Any] | None = None
        self._names = names
        self._keep_names()

    @property
    def has_entry_points(self) -> bool:
        """Whether LiteLLM is 1.109 or newer, where a facade stands before the Router's core."""
        return self._registry is not None

    def discard(self) -> None:
        """Take the Router's own callbacks out of LiteLLM. Idempotent."""
        if self._usage is not None:
            self._usage.discard()
        retire(self.router)

    def ids(self) -> frozenset[str]:
        """The ids of all deployments."""
        return frozenset(filter(None, map(id_of, self.deployments())))

    def deployments_beside(self, known: Collection[str]) -> list[dict[str, Any]]:
        """The deployments with other ids than these, as a ``model_list`` has them."""
        return [dict(one) for one in self.deployments() if id_of(one) not in known]

    def use_names(self, names: Mapping[str, str]) -> None:
        """Have LiteLLM's Router know these tiers, and no others."""
        gone = self._names.keys() - names.keys()
        self._names = names
        if gone:
            aliases = {name: target for name, target in self._read_aliases().items() if name not in gone}
            self._set_aliases({**aliases, **names})
            self._aliases = None
        self._keep_names()

    def serves(self, model: str) -> bool:
        """Whether ``model`` is a group, an alias, a wildcard's match or a deployment's id."""
        return bool(self.deployments_of(model)) or self._has_deployment(model) or self._default() is not None

    def changed(self) -> None:
        """Read deployments anew."""
        # Anew, not cleared: another thread may still write what it has read before.
        self._groups = {}
        self._providers = {}
        self._scopes = {}
        self._are_named = False
        self._destinations = {}
        self._aliases = None
        self._defaults = None
        self._keep_names()
        if self._usage is not None:
            self._usage.changed()

    def first_of(self, group: str) -> Deployment | None:
        """A group's first deployment."""
        return next(iter(self.deployments_of(group)), None)

    def groups(self) -> Sequence[str]:
        """The names of all model groups, in the order of the ``model_list``."""
        return tuple(dict.fromkeys(str(one["model_name"]) for one in self.deployments()))

    def deployments(self) -> Sequence[Deployment]:
        """All entries of the Router's ``model_list``."""
        found = self._registry().all() if self._registry is not None else self.router.model_list
        return tuple(found or ())

    def deployments_of(self, group: str) -> tuple[Deployment, ...]:
        """The deployments behind a model group, an alias or a name that a wildcard matches."""
        groups = self._groups
        found = groups.get(group)
        if found is None:
            listed = (
                self._registry().deployments(group)
                if self._registry is not None
                else self.router.get_model_list(model_name=group)
            )
            found = tuple(listed or ())
            if len(groups) < MOST_GROUPS:
                groups[group] = found
        return found

    def deployment_with(self, key: str | None) -> Deployment | None:
        """The deployment with this id."""
        return next((one for one in self.deployments() if id_of(one) == key), None) if key is not None else None

    def providers_of(self, group: str) -> frozenset[str]:
        """The providers behind a model group."""
        providers = self._providers
        found = providers.get(group)
        if found is None:
            found = frozenset(map(self.provider_of, self.deployments_of(group)))
            if len(providers) < MOST_GROUPS:
                providers[group] = found
        return found

    def scopes_of(self, group: str) -> frozenset[str]:
        """The scopes of the models behind a model group."""
        scopes = self._scopes
        found = scopes.get(group)
        if found is None:
            found = frozenset(map(self.scope_of, self.deployments_of(group)))
            if len(scopes) < MOST_GROUPS:
                scopes[group] = found
        return found

    def destinations(self) -> frozenset[str]:
        """The providers and accounts of all deployments."""
        return frozenset(name for one in map(self.destination_of, self.deployments()) for name in one[:2])

    def places(self) -> dict[str, bool]:
        """The providers of all deployments, and whether each is at its vendor's own address."""
        return {one.provider: one.is_vendors_own for one in map(self.destination_of, self.deployments())}

    def provider_of(self, deployment: Deployment) -> str:
        """The provider whose limits and breaker a deployment is under."""
        return self.destination_of(deployment).provider

    def scope_of(self, deployment: Deployment) -> str:
        """The scope of a deployment's model: a pause may hold for it, for its account or for its provider."""
        return _scope(self.destination_of(deployment), deployment)

    def destination_of(self, deployment: Deployment) -> Destination:
        """The provider and the account of a deployment."""
        key, destinations = id_of(deployment), self._destinations
        destination = destinations.get(key) if key is not None else None
        if destination is None:
            if not self._are_named:
                self._naming.learn(self.deployments())
                self._are_named = True
            destination = self._naming.destination_of(deployment)
            if self._on_destination is not None:
                self._on_destination(*destination, _scope(destination, deployment), deployment.get("model_name"))
            if key is not None:
                destinations[key] = destination
        return destination

    def defaults(self) -> Mapping[str, Any]:
        """The Router's ``default_litellm_params``, which every call has that does not state them itself."""
        if self._defaults is None:
            self._defaults = dict(getattr(self._settings(), "default_litellm_params", None) or {})
        return self._defaults

    def fallbacks(self) -> dict[str, Any]:
        """The Router's chains as LiteLLM writes them, under the names in ``FALLBACKS``."""
        source = self._settings()
        return {name: getattr(source, name, None) for name in FALLBACKS}

    def alias_target(self, group: str) -> str | None:
        """The group that ``group`` is an alias of."""
        if self._aliases is None:
            self._aliases = {
                name: str(target["model"]) if isinstance(target, Mapping) else target
                for name, target in self._read_aliases().items()
            }
        return self._aliases.get(group)

    async def may_fall_back(self, group: str, request: Mapping[str, Any], *, granted: bool = False) -> bool:
        """Whether the Router's own checks let this request go on to ``group``: its caller may have no access to it.

        ``granted``: it has, by the name that it used.
        """
        source = self._settings()
        for name in _FALLBACK_CHECKS[granted:]:
            check = getattr(source, name, None)
            if check is not None and not await check(model=group, request_kwargs=request, **self._for_checks):
                return False
        return True

    async def pick(self, group: str, request: dict[str, Any], messages: Any, prompt: Any) -> Deployment:
        """The deployment that the Router's strategy chooses among those that its filters leave.

        Raises:
            Exception: LiteLLM's own, when no deployment is left.
        """
        chosen: Deployment = await self._picking(group, request, messages, prompt)
        return chosen

    def pick_blocking(self, group: str, request: dict[str, Any], messages: Any, prompt: Any) -> Deployment:
        """:meth:`pick` for code without an event loop. Filters hold only where the Router's pick does not wait."""
        try:
            return run_ready(self.pick(group, request, messages, prompt))
        except NotReady:  # its strategy asks Redis
            chosen: Deployment = self.router.get_available_deployment(
                group, messages=messages, input=prompt, request_kwargs=request
            )
            return chosen

    def _keep_names(self) -> None:
        """Have LiteLLM's Router know tiers, each as an alias of its first group: the proxy lists aliases."""
        aliases = self._read_aliases()
        if any(aliases.get(name) != group for name, group in self._names.items()):
            self._set_aliases({**aliases, **self._names})

    def _set_aliases(self, aliases: Mapping[str, Any]) -> None:
        if self._registry is None:
            self.router.update_settings(model_group_alias=aliases)
        else:
            self.router.apply(_router_api().ChangeSet(settings={"model_group_alias": aliases}))

    def _read_aliases(self) -> Mapping[str, Any]:
        return (self._registry().aliases() if self._registry is not None else self.router.model_group_alias) or {}

    def _has_deployment(self, key: str) -> bool:
        return bool(
            self._registry().has_deployment(key) if self._registry is not None else self.router.has_model_id(key)
        )

    def _default(self) -> Any:
        return getattr(self._settings(), "default_deployment", None)

    def _settings(self) -> Any:
        return self.router.settings() if self._registry is not None else self.router

    def _picking(self, group: str, request: dict[str, Any], messages: Any, prompt: Any) -> Any:
        if self._select is not None:
            return self._select(group, request, messages=messages, input=prompt)
        return self.router.async_get_available_deployment(group, request, messages=messages, input=prompt)


def _context_of(router: Any) -> Any:
    return _router_api().RoutingContext(router)


def _router_api() -> Any:
    return import_module("litellm.router_api")  # LiteLLM 1.109 and newer


def _scope(destination: Destination, deployment: Deployment) -> str:
    return model_scope(destination.account, deployment["litellm_params"]["model"])


def id_of(deployment: Deployment) -> str | None:
    """LiteLLM's ``model_info.id`` of a deployment."""
    found = (deployment.get("model_info") or {}).get("id")
    return None if found is None else str(found)


def router_class() -> type:
    """LiteLLM's class of Routers, whatever stands in its place in the ``litellm`` module."""
    found: type = Router
    return found


def chat_of(chat: Any, router: Any) -> Any:
    """LiteLLM's OpenAI-like ``router.chat``, with calls that ``router`` makes."""
    return type(chat)(params=chat.params, router_obj=router)


def retire(router: Any) -> None:
    """Take a Router's own callbacks out of LiteLLM; it goes on serving calls. Idempotent."""
    (router.retire if hasattr(router, "retire") else router.discard)()


def make_router(*args: Any, **kwargs: Any) -> Any:
    """A ``litellm.Router``, whatever stands in its place in the ``litellm`` module.

    Cooldowns and retries are this package's: breakers and the request loop stand in their place.
    """
    note_untested()
    return Router(*args, **{**kwargs, "disable_cooldowns": kwargs.get("disable_cooldowns", True), "num_retries": 0})


def router_of_file(path: PathLike[str], arguments: Mapping[str, Any]) -> Any:
    """:func:`make_router` with what the file at ``path`` says.

    Raises:
        ConfigError: LiteLLM refuses.
    """
    try:
        return make_router(**{name: value for name, value in arguments.items() if name not in IGNORED})
    except Exception as error:  # of LiteLLM's, of any kind
        said = one_line(mask_secrets(f"{type(error).__name__}: {error}"))
        raise ConfigError([f"{path}: LiteLLM cannot use it ({said})"]) from error


def settings_in(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in LiteLLM's ``ChangeSet``, the argument of ``apply`` since 1.109."""
    changes = next(iter((*args, *kwargs.values())), None)
    return {**(getattr(changes, "assign", None) or {}), **(getattr(changes, "settings", None) or {})}
