"""The configuration in force, and how a changed file takes its place: all of it, or nothing where it is wrong."""

from __future__ import annotations

import logging
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from wallie_litellm.config import RouterConfig, WallieConfig, load_config
from wallie_litellm.config.changes import ConfigChange, change_of, restart_needed
from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.errors import ConfigError

WATCH_EVERY: Final = 2.0  # seconds between two looks at the file

logger = logging.getLogger(__name__)

_State = tuple[tuple[int, int, int] | None, ...]  # of each file: when it was changed, its size and its inode


def _nothing() -> None:
    """What is undone where nothing was done."""


class Prepared(NamedTuple):
    """A part of the process that is ready to go by another configuration: ``commit`` cannot fail.

    ``undo`` is called in its place where another part refuses.
    """

    commit: Callable[[], object]
    undo: Callable[[], object] = _nothing


class Follower(Protocol):
    """A part of the process that goes by the file."""

    def prepare_reload(self, change: ConfigChange) -> Prepared:
        """Make ready for a change.

        Raises:
            ConfigError: it cannot be used.
        """


class Reloaded(NamedTuple):
    """What a reload has taken up, by key, and what only a restart takes up."""

    changed: list[str]
    restart_needed: list[str]

    def __str__(self) -> str:
        taken = ", ".join(self.changed) or "nothing that matters here"
        rest = f"; a restart is needed for {', '.join(self.restart_needed)}" if self.restart_needed else ""
        return f"changed: {taken}{rest}"


class LiveConfig:
    """The configuration of one guard and its file. ``wall`` is Unix time in seconds; ``is_proxy``: LiteLLM's reads it.

    ``now_in_force`` is what was loaded last, with the places (store, ledger, sinks) that the process has started with.
    """

    def __init__(self, loaded: RouterConfig, wall: Callable[[], float], *, is_proxy: bool = False) -> None:
        self.now_in_force = loaded
        self.loaded_at = wall()
        self.restart_needed: list[str] = []
        self.refused = False  # the file has been changed, and cannot be used as it is
        self._started = loaded
        self._wall = wall
        self._is_proxy = is_proxy
        self._seen = _state_of(loaded.files)
        self._lock = threading.Lock()
        self._followers: list[Callable[[], Follower | None]] = []

    def follow(self, follower: Follower) -> None:
        """Have ``follower`` take part in reloads for as long as it lives."""
        self._followers.append(weakref.ref(follower))

    def is_of(self, loaded: RouterConfig) -> bool:
        """Whether ``loaded`` is from the same file."""
        return loaded.path.resolve() == self.now_in_force.path.resolve()

    @property
    def state(self) -> _State:
        """When the file and those that it includes were changed, their sizes and inodes."""
        return _state_of(self.now_in_force.files)

    @property
    def file_has_changed(self) -> bool:
        """Whether the file, or one that it includes, is another one than what was loaded last."""
        return self.state != self._seen

    def reload(self, new: RouterConfig | None, use: Callable[[WallieConfig], object]) -> Reloaded:
        """Take up the file, or ``new``. ``use`` has the guard go by what is under ``wallie:``; followers come after it.

        Raises:
            ConfigError: it cannot be used; what is in force stays so.
        """
        with self._lock:
            seen = _state_of(self.now_in_force.files)
            try:
                loaded = load_config(self.now_in_force.path) if new is None else new
                change = change_of(self.now_in_force, loaded)
                with _variables(loaded.environment_variables):
                    prepared = self._prepare(change)
            except ConfigError:
                self.refused = True
                raise
            use(change.new.wallie)
            for part in prepared:
                part.commit()
            self.now_in_force, self.loaded_at, self.refused = change.new, self._wall(), False
            self._seen = seen if loaded.files == change.old.files else _state_of(loaded.files)
            in_force = change.new.wallie
            self.restart_needed = restart_needed(self._started, loaded, in_force, is_proxy=self._is_proxy)
            return Reloaded(change.keys(), self.restart_needed)

    def _prepare(self, change: ConfigChange) -> list[Prepared]:
        prepared: list[Prepared] = []
        try:
            for follower in filter(None, [find() for find in self._followers]):
                prepared.append(follower.prepare_reload(change))
        except BaseException:
            for part in prepared:
                part.undo()
            raise
        self._followers = [find for find in self._followers if find() is not None]
        return prepared

    def describe(self) -> dict[str, Any]:
        """What status reports show of it, JSON-ready; nothing of what is in the file."""
        return {
            "file": str(self.now_in_force.path.resolve()),
            "loaded_at": iso_time(self.loaded_at, "milliseconds"),
            "changed": self.file_has_changed,
            "refused": self.refused,
            "restart_needed": self.restart_needed,
        }


@contextmanager
def _variables(stated: Mapping[str, str]) -> Iterator[None]:
    """Set these variables of the process; they are as before after an error."""
    before = {name: os.environ.get(name) for name in stated}
    os.environ.update(stated)
    try:
        yield
    except BaseException:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        raise


def _state_of(files: Iterable[Path]) -> _State:
    return tuple(map(_stat, files))


def _stat(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:  # it is gone, or is being replaced
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class FileWatch:
    """Has ``reload`` called when the file has changed and has been left alone for one interval."""

    def __init__(self, live: LiveConfig, reload: Callable[[], object]) -> None:
        self._live = live
        self._reload = reload
        self._closing = threading.Event()

    def start(self) -> None:
        """Begin, on a thread of its own."""
        threading.Thread(target=self._watch, name="wallie-watch", daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._closing.set()

    def _watch(self) -> None:
        seen = tried = self._live.state
        while not self._closing.wait(WATCH_EVERY):
            before, seen = seen, self._live.state
            if seen == before and seen != tried:  # a file that is being written, or cannot be used, is left alone
                tried = seen
                if self._live.file_has_changed:
                    self._reload()


class Reloading:
    """The part of the guard that is about its configuration."""

    reporter: Any
    _fleet: Any
    #: The configuration in force and its file, of a guard that was opened from one.
    live: LiveConfig | None = None

    def configure(self, config: WallieConfig) -> None:
        """Go by another configuration from now on."""
        raise NotImplementedError

    def reload(self, config: RouterConfig | None = None, actor: str = "app", detail: str | None = None) -> Reloaded:
        """Take up the changed file, or ``config`` in its place, without ending a request; it goes on record.

        What waits keeps its place, levels and counts stay, and requests under way go on by the settings that they
        began with. May be called from any thread.

        Raises:
            ConfigError: it cannot be used, every problem is listed; or the guard was not opened from a file. What is
                in force stays so.
        """
        if self.live is None:
            raise ConfigError(["there is no file to reload: the guard was not opened from one"])
        try:
            done = self.live.reload(config, self.configure)
        except ConfigError as error:
            logger.error("the configuration stays as it was: %s", "; ".join(error.problems))
            raise
        logger.warning("%s is reloaded, %s", self.live.now_in_force.path, done)
        self.reporter.on_action(actor, "reload", "", "; ".join(filter(None, (detail, str(done)))))
        return done

    def _try_to_reload(self, actor: str) -> None:
        with suppress(ConfigError):  # it is in the log
            self.reload(actor=actor)

    def announce_reload(self) -> None:
        """Have the other workers of the fleet reload, each its own file."""
        if self._fleet is not None:
            self._fleet.switches.ask_for_reload()

    def reload_with_fleet(self) -> None:
        """Reload whenever another worker of the fleet is asked to."""
        if self._fleet is not None:
            self._fleet.switches.reloads.reload = self._reloading("fleet")

    def reload_at_sighup(self) -> bool:
        """Reload at SIGHUP, in place of the present handler; ``False`` on Windows, and outside of the main thread."""
        if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
            return False
        reload = self._reloading("SIGHUP")
        signal.signal(signal.SIGHUP, lambda _number, _frame: reload())
        return True

    def watch_file(self) -> Callable[[], object]:
        """Reload whenever the file has changed; what is returned ends that."""
        if self.live is None:
            return _nothing
        watch = FileWatch(self.live, self._reloading("watch"))
        watch.start()
        return watch.close

    def _reloading(self, actor: str) -> Callable[[], None]:
        """Has the file reloaded in a thread of its own, as long as the guard is there."""
        own = weakref.WeakMethod(self._try_to_reload)

        def reload() -> None:
            if (try_to_reload := own()) is not None:
                threading.Thread(target=try_to_reload, args=(actor,), name="wallie-reload", daemon=True).start()

        return reload
