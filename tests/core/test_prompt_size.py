"""The size of what is sent, in every shape that a wire has for it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage

from wallie_litellm.core.media_tokens import Medium
from wallie_litellm.core.prompt_size import MANY, PromptSize, SizeTally, json_size

FILE = base64.b64encode(bytes(3_000_000)).decode()  # 4 MB of base64
PDF = base64.b64encode(b"%PDF-1.7 <</Type/Pages/Count 7>>" + bytes(3_000_000)).decode()


def size_of(value: Any) -> PromptSize:
    tally = SizeTally()
    tally.add(value)
    return tally.size()


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


class Message:
    """As an SDK's: fields that are no mapping."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("sent", "text", "structured"),
    [
        ("x" * 400, 400, 0),
        ([{"role": "system", "name": "a" * 100, "content": "abcd"}], 4, 0),
        (["abcd", "efgh"], 8, 0),
        (("abcd", "efgh"), 8, 0),
        (user({"type": "text", "text": "x" * 8}), 8, 0),
        (
            user({"type": "tool_result", "tool_use_id": "t" * 30, "content": [{"type": "text", "text": "x" * 12}]}),
            12,
            0,
        ),
        ([{"role": "tool", "tool_call_id": "call_1", "content": "x" * 900}], 900, 0),
        ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "a" * 40_000}}]}], 0, 40_000),
        ([{"role": "assistant", "function_call": {"name": "f", "arguments": "a" * 40}}], 0, 40),
        ([{"type": "function_call_output", "call_id": "c", "output": "x" * 100_000}], 100_000, 0),
        ([{"type": "function_call", "call_id": "c", "name": "f", "arguments": "a" * 50}], 0, 50),
        ([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 20}]}], 20, 0),
        (user({"type": "thinking", "thinking": "x" * 100, "signature": "s" * 40_000}), 100, 0),
        (user({"type": "redacted_thinking", "data": "s" * 40_000}), 0, 0),
        ([{"type": "reasoning", "encrypted_content": "s" * 9000, "summary": [{"text": "x" * 30}]}], 30, 0),
        ([{"role": "assistant", "content": "x" * 10, "reasoning_content": "y" * 20}], 30, 0),
        (
            [{"content": "", "reasoning_content": "y" * 20, "thinking_blocks": [{"thinking": "y" * 20}]}],
            20,
            0,
        ),
        (user({"type": "document", "title": "ab", "source": {"type": "text", "data": "x" * 9000}}), 9002, 0),
        (user({"type": "document", "source": {"type": "content", "content": [{"text": "x" * 50}]}}), 50, 0),
        (user({"document": {"format": "txt", "source": {"bytes": b"x" * 70}}}), 70, 0),
        ([{"role": "user", "parts": [{"text": "x" * 60}, {"functionCall": {"args": "a" * 10}}]}], 60, 10),
        ([Message(role="user", content="x" * 33)], 33, 0),
        ([{"role": "user", "content": "größer"}], 8, 0),  # UTF-8
        ([{"role": "user", "content": "你好"}], 6, 0),
    ],
)
def test_all_text_that_is_sent_counts_and_nothing_else(sent: Any, text: int, structured: int) -> None:
    assert size_of(sent)[:2] == (text, structured)


@pytest.mark.parametrize(
    ("part", "medium"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + FILE, "detail": "low"}},
         Medium("image", low=True)),
        ({"type": "image_url", "image_url": "https://pictures.invalid/a.png"}, Medium("image")),
        ({"type": "input_image", "image_url": "data:image/png;base64," + FILE}, Medium("image")),
        ({"type": "input_image", "file_id": "file-1"}, Medium("image")),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": FILE}}, Medium("image")),
        ({"type": "image", "source": {"type": "url", "url": "https://pictures.invalid/a"}}, Medium("image")),
        ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
         Medium("document", pages=7)),
        ({"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + FILE}}, Medium("video")),
        ({"type": "input_audio", "input_audio": {"data": FILE, "format": "wav"}}, Medium("audio")),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64," + PDF}}, Medium("document", pages=7)),
        ({"type": "file", "file": {"file_id": "https://films.invalid/a.mp4", "format": "video/mp4"}}, Medium("video")),
        ({"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64," + PDF},
         Medium("document", pages=7)),
        ({"inline_data": {"mime_type": "audio/mp3", "data": FILE}}, Medium("audio")),
        ({"inlineData": {"mimeType": "image/png", "data": FILE}}, Medium("image")),
        ({"fileData": {"mimeType": "video/mp4", "fileUri": "gs://a/b"},
          "videoMetadata": {"startOffset": "10s", "endOffset": "40s"}}, Medium("video", seconds=30)),
        ({"image": {"format": "png", "source": {"bytes": bytes(4_000_000)}}}, Medium("image")),
        ({"video": {"format": "mp4", "source": {"bytes": bytes(4_000_000)}}}, Medium("video")),
        ({"type": "image_generation_call", "result": FILE}, Medium("image")),
        ({"type": "of_tomorrow", "picture": "data:image/png;base64," + FILE}, Medium("image")),
    ],
)  # fmt: skip
def test_a_file_counts_as_what_it_is_and_never_by_its_base64(part: dict[str, Any], medium: Medium) -> None:
    for shape in (user(part), [part], [{"role": "tool", "content": [part]}]):
        found = size_of(shape)
        assert found.media == (medium,)
        assert found.text + found.structured < 20
        assert found.estimate() < 20_000


def test_a_text_file_counts_as_its_text() -> None:
    data = "data:text/csv;base64," + base64.b64encode(b"a,b\n" * 900).decode()
    assert size_of(user({"type": "file", "file": {"file_data": data}})).text == 3600


@pytest.mark.parametrize(("tokens", "count"), [([101, 7592, 102], 3), ([[1, 2, 3], [4, 5]], 5)])
def test_tokens_are_counted_as_tokens(tokens: Any, count: int) -> None:
    assert size_of(tokens).tokens == count
    assert size_of(tokens).estimate() == count


@pytest.mark.parametrize("sent", [None, [], "", (), [{}], [{"role": "user", "content": None}], user(), 5, b"abcd"])
def test_an_empty_prompt_has_no_tokens(sent: Any) -> None:
    assert size_of(sent).estimate() == 0


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (400, 100)])
def test_four_bytes_are_a_token_rounded_up(size: int, tokens: int) -> None:
    assert PromptSize(size).estimate() == PromptSize(structured=size).estimate() == tokens


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (PromptSize(400), "short"),
        (PromptSize(40_000, 20_000), "text"),
        (PromptSize(20_000, 40_000), "structured"),
        (PromptSize(100, media=(Medium("image"),)), "media"),
        (PromptSize(40_000, media=(Medium("image"),)), "text"),
    ],
)
def test_a_prompt_is_of_the_kind_of_most_of_it(size: PromptSize, kind: str) -> None:
    assert size.kind(size.estimate()) == kind


def test_marks_for_the_vendors_cache_are_noticed() -> None:
    part = {"type": "text", "text": "abcd", "cache_control": {"type": "ephemeral"}}
    assert size_of(user(part)).marked
    assert not size_of(user({"type": "text", "text": "abcd"})).marked


@pytest.mark.parametrize("value", [{}, [], {"a": [1, 2.5, None, True, {"b": "c"}]}, ["x" * 100] * 10])
def test_json_is_about_as_long_as_it_is(value: Any) -> None:
    assert abs(json_size(value) - len(json.dumps(value))) <= 8 + 0.1 * len(json.dumps(value))


TEXTS = ["word", "unïque", "日本語", "x" * 300]
LONG_LISTS: dict[str, list[Any]] = {
    "alike": [f"text {number}" for number in range(40_000)],
    "sorted": ["x" * (number // 100) for number in range(40_000)],
    "every other": ["x" * 40 if number % 2 else "" for number in range(40_000)],
    "every eighth": ["x" * 400 if number % 8 == 0 else "y" for number in range(40_000)],
    "scripts": [TEXTS[number * number % 7 % 4] for number in range(40_000)],
    "rounded": ["x" * round(60 * (1 + number % 97 / 10)) for number in range(40_000)],
    "kinds": [{"text": "x" * 90} if number % 3 else "y" * 7 for number in range(40_000)],
}


@pytest.mark.parametrize("name", LONG_LISTS)
def test_a_long_list_is_about_as_long_as_its_items_together(name: str) -> None:
    values = LONG_LISTS[name]
    whole = sum(size_of([one]).text for one in values)
    assert size_of(values).text == pytest.approx(whole, rel=0.02)
    assert size_of({"content": values}).text == pytest.approx(whole, rel=0.02)
    if name != "kinds":
        assert json_size(values) == pytest.approx(sum(json_size([one]) for one in values), rel=0.02)


def test_of_a_long_list_tokens_media_and_marks_count_for_all() -> None:
    assert size_of([[1, 2, 3]] * 40_000).tokens == 120_000
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}, "cache_control": {"type": "ephemeral"}}
    found = size_of([image] * (MANY + 1))
    assert len(found.media) == MANY
    assert found.marked


def test_of_a_long_list_a_bounded_number_of_items_is_looked_into() -> None:
    class Counted:
        looks = 0

        def __getattribute__(self, name: str) -> Any:
            if name != "__dict__":
                return object.__getattribute__(self, name)
            Counted.looks += 1
            return {"text": "abcd"}

    assert size_of([Counted()] * 1_000_000).text == 4_000_000
    assert Counted.looks == MANY


def test_what_contains_itself_ends() -> None:
    loop: list[Any] = ["x" * 100]
    loop += [loop, loop]
    assert size_of(loop).text >= 100
    assert json_size({"a": loop}) > 0
    loop += [*["x"] * MANY, loop]
    assert size_of(loop).text >= MANY


# Fields that are read in a way of their own, with any value in them.
_FIELDS = st.sampled_from(
    [
        "type", "content", "text", "source", "image_url", "input_audio", "file", "file_data", "inlineData", "fileData",
        "videoMetadata", "document", "image", "arguments", "input", "output", "result", "tool_calls", "function",
        "parts",
        "data", "url", "startOffset", "endOffset", "mimeType", "media_type", "cache_control", "thinking", "detail",
    ]
)  # fmt: skip
_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=20),
    st.sampled_from(["image", "base64", "data:image/png;base64,iVBORw0KGgo", "data:,", "text/plain", "10s", "-1s"]),
    st.builds(object), st.just(Message), st.builds(Message, content=st.text(max_size=3)),
)  # fmt: skip
_SHAPES = st.recursive(
    _VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_FIELDS, inner, max_size=4), max_leaves=20
)


@given(_SHAPES)
@settings(deadline=None)
def test_no_shape_whatever_raises_or_has_a_size_that_is_none(shape: Any) -> None:
    for found in (size_of(shape), size_of([shape])):
        estimate = found.estimate()
        assert isinstance(estimate, int)
        assert 0 <= estimate < 10**7
        assert found.kind(estimate)
    assert json_size(shape) >= 0


def test_fields_that_an_sdks_object_has_beyond_its_own_count() -> None:
    answer = {"role": "assistant", "content": "yes", "reasoning_content": "x" * 400}
    tally = SizeTally()
    tally.add(ChatCompletionMessage.model_validate(answer))
    assert tally.size().text == 403
