"""The panels for all viewers: rendered at most once a second per range and language, and anew on every change."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from wallie_litellm.config import WallieConfig
from wallie_litellm.config.models import QuotaSettings
from wallie_litellm.core.last_used import LastUsed
from wallie_litellm.dashboard.change_watch import LONG_POLL_SECONDS, ChangeWatch
from wallie_litellm.dashboard.ledger_reader import LedgerReader
from wallie_litellm.dashboard.panel_key import PanelKey
from wallie_litellm.dashboard.panel_version import PanelVersion, status_digest
from wallie_litellm.dashboard.panels import MOST_RANGES, Panels, Rendered
from wallie_litellm.dashboard.render_process import RenderProcess, RenderProcessGone
from wallie_litellm.dashboard.single_flight import SingleFlight
from wallie_litellm.dashboard.source import Action, DashboardSource
from wallie_litellm.guard.live_config import Reloaded

RENDER_TTL: Final = 1.0  # seconds, how long rendered panels are served to every viewer
AFTER_ACTION: Final = 3.0  # seconds after an action in which its record may still be on its way to the ledger
SHUTDOWN_GRACE: Final = 2.0  # seconds that running ledger queries have when the dashboard closes


@dataclass(frozen=True, slots=True)
class VersionedPanels:
    """The panels as HTML, also compressed, and their version."""

    html: bytes
    compressed: bytes
    version: PanelVersion


class PanelFeed:
    """Belongs to the event loop of the dashboard service's thread.

    ``render_process`` is ``None`` where the thread renders. ``shutdown`` is set when the server begins to end. ``now``
    is the wall clock.
    """

    def __init__(
        self,
        source: DashboardSource,
        ledger: LedgerReader,
        panels: Panels,
        render_process: RenderProcess | None,
        quota: QuotaSettings,
        shutdown: threading.Event,
        now: Callable[[], float],
    ) -> None:
        self.ledger = ledger
        self.panels = panels
        self.render_process = render_process
        self._source = source
        self._quota = quota
        self._shutdown = shutdown
        self._now = now
        self._rendered: LastUsed[PanelKey, SingleFlight[VersionedPanels]] = LastUsed(MOST_RANGES)
        self._change_watch = ChangeWatch(self._digest, self.forget)
        self._acted_at = float("-inf")

    async def next(self, key: PanelKey, after: PanelVersion | None) -> VersionedPanels:
        """The panels; to a client that has the present ones, when they change or when its wait is over."""
        if after is not None:
            digest = await self._change_watch.digest()
            if after.digest == digest and not self._shutdown.is_set():
                await self._change_watch.wait_for_change(RENDER_TTL if self._just_acted() else LONG_POLL_SECONDS)
            elif (shown := self._rendered.get(key)) is not None and (await shown.get()).version.digest != digest:
                shown.forget()
        kept = self._rendered.use(key, lambda: SingleFlight(lambda: self._render(key), self._now, RENDER_TTL))
        return await kept.get()

    async def configure(self, config: WallieConfig) -> None:
        """Go by another configuration from now on, and show it to the next viewer."""
        self._quota = config.quota
        self.panels.configure(config)
        if self.render_process is not None:
            await self.render_process.configure(config)
        self.forget()

    async def reload(self, actor: str, detail: str | None) -> Reloaded:
        """Have the source take up the changed file, and show it to the next viewer.

        Raises:
            ConfigError: it cannot be used.
            ActionRefused: the source is read-only.
        """
        try:
            return await asyncio.to_thread(self._source.reload, actor, detail)
        finally:
            self._acted_at = time.monotonic()
            self.forget()

    async def act(
        self, action: Action, provider: str, actor: str, detail: str | None = None, model: str | None = None
    ) -> None:
        """Have the source carry out ``action``, and show its effect to the next viewer.

        Raises:
            ValueError: there is no such provider, or no such model at it.
            ActionRefused: the source is read-only.
        """
        try:
            self._source.act(action, provider, actor, detail, model)
        finally:
            self._acted_at = time.monotonic()
            self.forget()

    async def switch(self, name: str, actor: str, detail: str | None, *, on: bool) -> None:
        """Have the source set a switch, and show it to the next viewer.

        Raises:
            ValueError: there is no such switch.
            ActionRefused: the source is read-only.
        """
        self._source.switch(name, actor, detail, on=on)
        self._acted_at = time.monotonic()
        self.forget()

    async def conclude_experiment(self, name: str, winner: str, actor: str, detail: str | None) -> None:
        """Have the source end an experiment, and show it to the next viewer.

        Raises:
            AlreadyConcluded: it was concluded before.
            ValueError: there is no such experiment or arm.
            ActionRefused: the source is read-only.
        """
        self._source.conclude_experiment(name, winner, actor, detail)
        self._acted_at = time.monotonic()
        self.forget()

    async def resume_arm(self, name: str, arm: str, actor: str, detail: str | None) -> None:
        """Have the source let a stopped arm go on, and show it to the next viewer.

        Raises:
            ValueError: there is no such experiment or arm, or it is not stopped.
            ActionRefused: the source is read-only.
        """
        self._source.resume_arm(name, arm, actor, detail)
        self._acted_at = time.monotonic()
        self.forget()

    async def feedback(self, request_id: str, value: float) -> None:
        """Have the source record feedback.

        Raises:
            ValueError: that is no request's id, or no value.
            ActionRefused: the source is read-only.
        """
        self._source.feedback(request_id, value)

    async def record_export(self, actor: str, detail: str) -> None:
        """Have the source put an export on record, and show it to the next viewer."""
        self._source.record_export(actor, detail)
        self._acted_at = time.monotonic()
        self.forget()

    def forget(self) -> None:
        """Render the panels anew for the next viewer."""
        for _, cached in self._rendered.items():
            cached.forget()

    def release_waiting(self) -> None:
        """Answer all clients that wait for a change."""
        self._change_watch.release()

    async def close(self) -> None:
        """Let running ledger queries end before the loop closes: the database's thread reports to this loop."""
        self._change_watch.release()
        if self.render_process is not None:
            await self.render_process.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=SHUTDOWN_GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.ledger.close()

    async def _render(self, key: PanelKey) -> VersionedPanels:
        status, refresh = await self._source.status(), self._just_acted()
        rendered = await self._render_in_process(key, status, refresh=refresh)
        if rendered is None:
            if refresh:
                self.panels.forget()
            rendered = await self.panels.render(key)
        version = PanelVersion(status_digest(status, self._quota), rendered.etag)
        return VersionedPanels(rendered.html, rendered.compressed, version)

    async def _render_in_process(self, key: PanelKey, status: Any, *, refresh: bool) -> Rendered | None:
        """The render process's panels; ``None`` while there is no such process."""
        if self.render_process is None or not self.render_process.ready:
            return None
        fleet = await self.panels.fleet()
        try:
            return await self.render_process.render(key, status=status, fleet=fleet, refresh=refresh)
        except RenderProcessGone:  # it has logged why
            return None

    async def _digest(self) -> str:
        return status_digest(await self._source.status(), self._quota)

    def _just_acted(self) -> bool:
        """Whether an action's record may not have reached the ledger yet."""
        return time.monotonic() - self._acted_at < AFTER_ACTION
