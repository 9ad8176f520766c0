"""The output of the demo: plain lines, or a live table in a terminal that has ``rich``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from wallie_litellm.demo.findings import Row, Scenario, ScenarioResult

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Write = Callable[[str], None]

INSTALL_HINT: Final = "For the live display: pip install 'wallie-litellm[demo]'. Plain lines until then."
_BAR: Final = 12  # characters of the bar that shows how much of a limit is used


class Display(Protocol):
    """Receives what happens, in this sequence, and may show it or not."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *_: object) -> None: ...

    def say(self, line: str) -> None:
        """A line that stays."""

    def begin(self, number: int, total: int, scenario: Scenario) -> None:
        """A scenario begins."""

    def tick(self, providers: Mapping[str, Any]) -> None:
        """What the providers look like now, as in ``guard.status()["providers"]``."""

    def end(self, number: int, total: int, result: ScenarioResult) -> None:
        """A scenario has ended."""

    def table(self, results: Sequence[ScenarioResult]) -> None:
        """All that was expected and seen."""


def choose_display(write: Write) -> Display:
    """The live display when standard output is a terminal and ``rich`` is there, else plain lines."""
    if not sys.stdout.isatty():
        return PlainDisplay(write)
    try:
        import rich  # noqa: F401 - only whether it is there
    except ImportError:
        write(INSTALL_HINT)
        return PlainDisplay(write)
    return RichDisplay()


def summary(result: ScenarioResult) -> str:
    """One scenario's outcome in a line."""
    count = len(result.rows)
    outcome = f"all {count} as expected" if result.ok else f"{result.differing} of {count} differ"
    return f"{outcome}, {result.seconds:.1f} s"


class PlainDisplay:
    """Lines of text without colours."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, line: str) -> None:
        """A line."""
        self._write(line)

    def begin(self, number: int, total: int, scenario: Scenario) -> None:
        """Its title and story."""
        self._write(f"[{number}/{total}] {scenario.title}: {scenario.story}")

    def tick(self, providers: Mapping[str, Any]) -> None:
        """Nothing: lines cannot be taken back."""

    def end(self, number: int, total: int, result: ScenarioResult) -> None:
        """How many rows are as expected."""
        self._write(f"      {summary(result)}")

    def table(self, results: Sequence[ScenarioResult]) -> None:
        """Aligned columns."""
        for line in plain_table(results):
            self._write(line)


def plain_table(results: Sequence[ScenarioResult]) -> Iterator[str]:
    """The rows of all scenarios in columns, each scenario under its title."""
    head = Row("", "EXPECTED", "SEEN", ok=True)
    rows = [head, *(row for result in results for row in result.rows)]
    what, expected = max(len(row.what) for row in rows), max(len(row.expected) for row in rows)

    def line(mark: str, row: Row) -> str:
        return f"  {mark:7}  {row.what:{what}}  {row.expected:{expected}}  {row.seen}".rstrip()

    yield ""
    yield line("", head)
    for number, result in enumerate(results, 1):
        yield f"{number}. {result.scenario.title}"
        yield from (line("ok" if row.ok else "DIFFERS", row) for row in result.rows)
    yield ""


class RichDisplay:
    """A live table of the providers under the scenario that is being played."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        # Refreshed on the event loop: a thread would take its share of every measured millisecond.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._blocks = "#." if self._console.options.ascii_only else "█·"
        self._heading = ""
        self._started = time.monotonic()

    def __enter__(self) -> RichDisplay:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def say(self, line: str) -> None:
        """A line above the table."""
        self._console.print(line, markup=False)

    def begin(self, number: int, total: int, scenario: Scenario) -> None:
        """The heading of the table."""
        self._heading = f"[{number}/{total}] {scenario.title}: {scenario.story}"
        self._started = time.monotonic()
        self.tick({})

    def tick(self, providers: Mapping[str, Any]) -> None:
        """Refresh the table."""
        self._live.update(self._table_of(providers), refresh=True)

    def end(self, number: int, total: int, result: ScenarioResult) -> None:
        """The scenario joins those above the table."""
        style = "green" if result.ok else "bold red"
        self._console.print(f"[{number}/{total}] {result.scenario.title}: {summary(result)}", style=style, markup=False)

    def table(self, results: Sequence[ScenarioResult]) -> None:
        """A table that folds what is too wide for the terminal."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table("", "", "expected", "seen", box=box.SIMPLE_HEAD)
        for number, result in enumerate(results, 1):
            table.add_row("", Text(f"{number}. {result.scenario.title}", style="bold"), "", "")
            for row in result.rows:
                cells = [Text(text) for text in (row.what, row.expected, row.seen)]
                table.add_row(_mark(row.ok), *cells, style=None if row.ok else "bold red")
        self._console.print(table)

    def _table_of(self, providers: Mapping[str, Any]) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        seconds = f"{time.monotonic() - self._started:.0f} s"
        return Group(Text(f"{self._heading}  {seconds}", style="bold"), _provider_table(providers, self._blocks))


def _mark(ok: bool) -> str:
    return "[green]ok[/]" if ok else "[bold red]DIFFERS[/]"


_STYLES: Final = {"healthy": "green", "degraded": "yellow", "down": "red"}


def _provider_table(providers: Mapping[str, Any], blocks: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("provider", "health", "breaker", "requests a minute", box=box.SIMPLE_HEAD)
    for heading in ("in flight", "waiting"):
        table.add_column(heading, justify="right")
    for name, provider in providers.items():
        health = Text(provider["health"], style=_STYLES.get(provider["health"], ""))
        state, quota = provider["breaker"]["state"], provider["quota"].get("rpm")
        numbers = (str(provider["in_flight"]), str(provider["waiting"]))
        table.add_row(name, health, state, _bar(quota, blocks) if quota else "", *numbers)
    return table


def _bar(quota: Mapping[str, Any], blocks: str) -> str:
    used, limit = quota["used"], quota["limit"]
    filled = min(_BAR, round(_BAR * used / limit))
    return f"{blocks[0] * filled}{blocks[1] * (_BAR - filled)} {used}/{limit}"
