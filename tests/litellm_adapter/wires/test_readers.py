"""Readers of raw streams: events of an unknown shape, and events that come in many pieces."""

from __future__ import annotations

import json

import pytest
from wire_scripts import sse

from wallie_litellm.litellm_adapter.wires.anthropic_messages import MessagesReader
from wallie_litellm.litellm_adapter.wires.chat import ChatReader
from wallie_litellm.litellm_adapter.wires.media import ImagesReader
from wallie_litellm.litellm_adapter.wires.reader import StreamReader
from wallie_litellm.litellm_adapter.wires.sse import SSEDecoder
from wallie_litellm.litellm_adapter.wires.statuses import SERVER_ERROR, status_in

UNKNOWN = {
    "chat": (ChatReader, {"choices": [{"delta": {"tool_calls": 5}}]}),
    "images": (ImagesReader, {"type": {"name": "image_generation.completed"}}),
}


@pytest.mark.parametrize(("reader", "event"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_last_event_of_an_unknown_shape_is_no_error(reader: type[StreamReader], event: dict[str, object]) -> None:
    stream = reader()

    stream.see(f"data: {json.dumps(event)}".encode())
    stream.end()

    assert stream.has_content


def test_events_after_one_of_an_unknown_shape_are_read_though_they_came_in_one_piece() -> None:
    class Picky(MessagesReader):
        def read(self, event: object) -> None:
            if event == {"type": "unknown"}:
                raise TypeError
            super().read(event)

    stream = Picky()
    stream.see(sse({"type": "unknown"}) + sse({"type": "message_stop"}))

    assert stream.was_ended()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_an_event_is_the_same_in_whatever_pieces_it_comes(end: str, size: int) -> None:
    events = [{"a": 1}, {"b": "é"}, {"c": []}]
    stream = "".join(f": ping{end}event: x{end}data: {json.dumps(event)}{end}{end}" for event in events).encode()
    decoder = SSEDecoder()

    found = [one for at in range(0, len(stream), size) for one in decoder.feed(stream[at : at + size])]

    assert [*found, *decoder.flush()] == events


def test_a_line_of_many_pieces_is_put_together_once() -> None:
    decoder = SSEDecoder()
    list(decoder.feed(b'data: {"image": "'))
    longest = 0

    for _ in range(1_000):
        list(decoder.feed(b"A" * 100))
        longest = max(longest, *map(len, decoder._line))

    assert longest == 100
    assert list(decoder.feed(b'"}\n\n')) == [{"image": "A" * 100_000}]


@pytest.mark.parametrize("code", ["²", "५²", "-500"])
def test_a_code_that_is_no_number_is_a_servers_error(code: str) -> None:
    assert status_in({"code": code}) == SERVER_ERROR
