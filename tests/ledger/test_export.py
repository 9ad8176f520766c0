from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import Any

import pytest
from ledger_query_fixtures import FileWriter, Writer
from ledger_support import ended, settled
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.events import OperatorActed, QuotaCrossed, UsageReported, new_id
from wallie_litellm.ledger.export import Format, columns_of, export
from wallie_litellm.ledger.schema import RECORD_TABLES

NOW = 1_790_000_000.25


async def exported(engine: AsyncEngine, form: Format, *arguments: Any, **options: Any) -> str:
    return "".join([chunk.text async for chunk in export(engine, form, *arguments, **options)])


def from_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def from_jsonl(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


PRICED = settled(at=NOW, user_id='line\nbreak, "quotes" and ünïcode', metadata={"a": [1, {"b": "ü"}]})
UNPRICED = settled(at=NOW + 1, cost_usd=None, unpriced=True, feature=None)
ALERT = QuotaCrossed(new_id(NOW + 2), NOW + 2, "openai", "rpm", "critical", 0.96, 480.0, 500, 12.0)


async def test_csv_read_back_is_what_was_recorded(engine: AsyncEngine, write: Writer) -> None:
    await write([UNPRICED, PRICED, ALERT])
    text = await exported(engine, "csv")
    assert text.splitlines()[0].split(",") == columns_of(tuple(RECORD_TABLES))
    first, second, alert = from_csv(text)
    assert (first["kind"], first["id"], first["at"]) == ("attempt", PRICED.id, "2026-09-21T14:13:20.250000Z")
    assert first["user_id"] == PRICED.user_id
    assert json.loads(first["metadata"]) == PRICED.metadata
    assert (first["success"], float(first["cost_usd"]), first["unpriced"]) == ("true", PRICED.cost_usd, "false")
    assert (second["cost_usd"], second["unpriced"], second["feature"], second["error"]) == ("", "true", "", "")
    assert (alert["kind"], alert["level"], alert["utilization"], alert["cost_usd"]) == ("alert", "critical", "0.96", "")


async def test_json_lines_read_back_are_what_was_recorded(engine: AsyncEngine, write: Writer) -> None:
    await write([UNPRICED, PRICED, ended(PRICED), ALERT])
    first, second, request, alert = from_jsonl(await exported(engine, "jsonl"))
    assert list(first)[:3] == ["kind", "id", "at"]
    assert {name: first[name] for name in ("id", "user_id", "metadata", "cost_usd", "success", "total_tokens")} == {
        name: getattr(PRICED, name) for name in ("id", "user_id", "metadata", "cost_usd", "success", "total_tokens")
    }
    assert (second["cost_usd"], second["unpriced"]) == (None, True)
    assert (request["kind"], request["attempts"]) == ("request", 1)
    assert alert["limit"] == 500.0
    assert "cost_usd" not in alert


async def test_an_export_can_be_limited_to_kinds_and_times(engine: AsyncEngine, write: Writer) -> None:
    acted = OperatorActed(new_id(NOW), NOW, "ops", "reset_quota", "openai", None)
    outside = UsageReported(new_id(NOW), NOW, "openai", PRICED.charged, "lease")
    await write([PRICED, UNPRICED, acted, outside, ALERT])
    both = from_jsonl(await exported(engine, "jsonl", ["action", "outside_usage"]))
    assert [row["kind"] for row in both] == ["action", "outside_usage"]
    text = await exported(engine, "csv", ["alert"])
    assert text.splitlines()[0].startswith("kind,id,at,worker,type,level")
    ids = [row["id"] for row in from_csv(await exported(engine, "csv", ["attempt"], NOW, NOW + 1))]
    assert ids == [PRICED.id]
    assert [row["id"] for row in from_csv(await exported(engine, "csv", ["attempt"], NOW + 0.5))] == [UNPRICED.id]


async def test_rows_are_in_order_of_time_however_they_were_written(engine: AsyncEngine, write: Writer) -> None:
    events = [settled(at=NOW + offset) for offset in (5, 3, 9, 1, 7)]
    for event in events:
        await write([event])
    found = [row["id"] for row in from_jsonl(await exported(engine, "jsonl", ["attempt"]))]
    assert found == [event.id for event in sorted(events, key=lambda event: event.at)]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
async def test_csv_text_is_no_formula_and_json_is_as_it_was(engine: AsyncEngine, write: Writer, text: str) -> None:
    await write([settled(at=NOW, user_id=text, latency_ms=-1.0)])
    (row,) = from_csv(await exported(engine, "csv", ["attempt"]))
    assert row["user_id"] == f"'{text}"
    assert row["latency_ms"] == "-1.0"  # a number is none
    (verbatim,) = from_jsonl(await exported(engine, "jsonl", ["attempt"]))
    assert verbatim["user_id"] == text


async def test_an_empty_ledger_exports_a_header_or_nothing(engine: AsyncEngine) -> None:
    assert (await exported(engine, "csv", ["alert"])).count("\n") == 1
    assert await exported(engine, "jsonl") == ""


MEASURED = """
import asyncio, resource, sys
from wallie_litellm.ledger.engine import open_engine
from wallie_litellm.ledger.export import export

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

async def main(url, form):
    engine = open_engine(url)
    rows, before = 0, 0
    async for chunk in export(engine, form):
        rows += chunk.rows
        before = before or (rows and peak())  # what the first rows took is there for all that follow
    print(rows, peak() - before)
    await engine.dispose()

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_hundred_thousand_rows_take_little_memory(ledger_file: FileWriter) -> None:
    one = settled(at=NOW)
    url = ledger_file([one._replace(id=f"{number:08x}", at=NOW + number) for number in range(100_000)])
    for form in ("csv", "jsonl"):
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, url, form], capture_output=True, text=True, timeout=120, check=True
        )
        rows, growth = map(int, done.stdout.split())
        assert rows == 100_000
        # In bytes; all of the rows would take ten times as much.
        assert growth * (1 if sys.platform == "darwin" else 1024) < 30_000_000
