"""The guard inside a LiteLLM proxy.

The proxy loads its callbacks before it builds its router, and builds it as ``litellm.Router(...)``: putting
:class:`ProxyRouter` in that place guards every endpoint that goes through the router.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger

from wallie_litellm.bootstrap import open_guard
from wallie_litellm.config import load_config
from wallie_litellm.errors import ConfigError, TierForbidden
from wallie_litellm.guard import Guard
from wallie_litellm.guard.request import Request
from wallie_litellm.guard.request_stream import RequestStream
from wallie_litellm.guard.router import WallieRouter
from wallie_litellm.guard.tier_names import TierNames
from wallie_litellm.litellm_adapter.errors import failure_from
from wallie_litellm.proxy.disconnects import cancel_when_clients_leave_once_started
from wallie_litellm.proxy.errors import log_expected_errors_in_one_line, passed_on
from wallie_litellm.proxy.shutdown import CallsUnderWay, end_with_process
from wallie_litellm.proxy.start_report import ADDRESS, start_report
from wallie_litellm.proxy.tier_access import is_granted, key_of, may_use
from wallie_litellm.proxy.workers import NOTED, divided, worker_count

logger = logging.getLogger(__name__)


class ProxyRouter(WallieRouter):
    """The router in the place of the proxy's own; its errors are the proxy's kind of errors."""

    under_way = CallsUnderWay()

    def _take(self, router: Any, settings: Mapping[str, Any], guard: Guard | None) -> None:
        super()._take(router, settings, guard)
        self.follow_file()

    async def request(self, *args: Any, **kwargs: Any) -> Any:
        """One request along its chain; the error that ends it is the proxy's kind."""
        with self.under_way:
            return await super().request(*args, **kwargs)

    async def _check_access(self, request: Request) -> None:
        context = request.context
        if (plan := context.route.plan) is None or plan.tier is None:
            return
        try:
            if not await is_granted(key_of(request.arguments), plan.tier, plan.group, self._inner.router):
                context.withhold()
        except TierForbidden as error:
            self.guard.end(context, failure_from(error))
            raise self._error_for(error) from error

    async def _may_have_arms(self, request: Request) -> bool:
        plan, step, key = request.context.route.plan, self.guard.routing.experiments, key_of(request.arguments)
        if plan is None or plan.experiment is None or step is None or key is None:
            return True
        # All of them: with some, its requests would be in these arms alone, which would be compared with others'.
        groups = step.groups_of(plan.experiment)
        return all([await may_use(key, arm, group, self._inner.router) for arm, group in groups.items()])

    def _error_for(self, error: Exception) -> Exception:
        return passed_on(error)

    async def _deliver(self, stream: RequestStream) -> RequestStream:
        """Answer once content has come: a failure until then has a status, and the headers name what serves."""
        await stream.prime()
        return stream


class WallieHandler(CustomLogger):  # type: ignore[misc] # LiteLLM is not type-checked here
    """The callback that the proxy's ``callbacks`` setting names; :class:`ProxyRouter` does the guarding.

    Where features have tiers, requests may leave their model out. The proxy refuses a request that still has none after
    its callbacks; whether the key may use the tier is checked where the request is planned.
    """

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self.guard = guard

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Name the tier in the model's place, where there is no model."""
        if not data.get("model") and (tier := TierNames(self.guard.routing.tiers).tier_for(None, data)) is not None:
            data["model"] = tier
        return data


_installed: WallieHandler | None = None


def install(default_config: str | PathLike[str] | None = None) -> WallieHandler:
    """Make the proxy build guarded routers from the file it was started with; returns its callback.

    The file is ``WALLIE_CONFIG``, else the one the proxy was started with, else ``default_config``. The proxy may run
    the callback module several times; there is one guard for the process.
    """
    global _installed  # noqa: PLW0603 - one guard for the process, however often the proxy runs the callback module
    if _installed is None:
        try:
            config = load_config(_config_path(default_config))
            guard = open_guard(config, processes=worker_count(os.environ), is_proxy=True)
        except ConfigError as error:
            print(error, file=sys.stderr)  # noqa: T201 - the proxy's log would bury it in a traceback
            raise SystemExit(1) from None
        note = divided(guard.config, guard.processes)
        if note is not None and not os.environ.get(NOTED):
            logger.warning("%s", note)
        # For the usage of a broken stream of a Llama model LiteLLM counts tokens, and would first download a tokenizer:
        # without a network, the event loop would stand still for up to a minute.
        litellm.disable_hf_tokenizer_download = True
        ProxyRouter.default_guard = guard
        litellm.Router = ProxyRouter
        end_with_process(guard, ProxyRouter.under_way)
        guard.reload_at_sighup()
        log_expected_errors_in_one_line()
        cancel_when_clients_leave_once_started()
        page = _show_dashboard(guard)
        _installed = WallieHandler(guard)
        # The proxy's log leaves out what is no warning.
        report = start_report(config, processes=guard.processes, address=os.environ.get(ADDRESS, ""), page=page)
        print(report, file=sys.stderr, flush=True)  # noqa: T201
    return _installed


def _show_dashboard(guard: Guard) -> bool:
    """Serve the operator's view under ``/wallie``, if that can be; the proxy's master key logs an operator in too."""
    server = sys.modules.get("litellm.proxy.proxy_server")
    if server is None or not hasattr(server, "app"):
        return False
    try:
        from starlette.routing import Mount

        from wallie_litellm.dashboard.server import PREFIX, dashboard_app, tokens_of
    except ImportError as error:
        logger.warning("no dashboard: %s is not installed; install wallie-litellm[dashboard]", error.name)
        return False
    own = tokens_of(guard.config)
    # The proxy may read its key after this.
    app, service = dashboard_app(guard, tokens=lambda: [*own(), str(getattr(server, "master_key", None) or "")])
    server.app.router.routes.insert(0, Mount(PREFIX, app=app))  # before the route that takes any path
    guard.on_close(service.close)
    return True


def _config_path(default: str | PathLike[str] | None) -> str | PathLike[str] | None:
    if os.environ.get("WALLIE_CONFIG"):
        return None  # load_config reads it from there
    server = sys.modules.get("litellm.proxy.proxy_server")
    started_with = getattr(server, "user_config_file_path", None) or os.environ.get("CONFIG_FILE_PATH")
    if started_with and Path(started_with).exists():
        return str(started_with)
    return default
