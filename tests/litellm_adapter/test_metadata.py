"""The origin of a request, as it may be recorded: bounded, printable, and without keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from math import inf, nan
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallie_litellm.core.scrubbing import (
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_KEYS,
    MOST_METADATA,
    MOST_VALUES,
    scrubbed_name,
)
from wallie_litellm.litellm_adapter.metadata import recordable, tags_of


class Plan(StrEnum):
    PRO = "pro"


class Tier(Enum):
    TOP = "top"


KEYS = (
    "sk-proj-abcdefgh12345678",
    "sk-ant-api03-abcdefgh12345678",
    "gsk_abcdefgh12345678",
    "phc_abcdefgh12345678",
    "AIzaSyA1234567890abcdefghijk",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_abcdefgh12345678",
    "xoxb-12345678-abcdefgh",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdef",
    "https://hooks.slack.com/services/T000/B000/abcdef",
)

# Names


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("wallie-chat", "wallie-chat"),
        ("  wallie-chat\n", "wallie-chat"),
        ("a\x00b\x1b[31mc\x7f", "a b [31mc"),
        ("two\r\nlines\u2028three\x85four", "two  lines three four"),
        ("half of a character \ud83d", "half of a character"),
        ("ünïcödé 🙂", "ünïcödé 🙂"),
        ("x" * 10_000, "x" * LONGEST_NAME),
        ("", None),
        (" \n ", None),
        (None, None),
        (7, "7"),
        pytest.param(10**5000, f"<{(10**5000).bit_length()} bits>", id="huge"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Plan.PRO, "pro"),
        (Tier.TOP, "top"),
        ({"a": 1}, None),
        ([1], None),
        (b"bytes", None),
        (object(), None),
    ],
)
def test_a_name_is_one_printable_line_of_bounded_length(given: object, kept: str | None) -> None:
    assert scrubbed_name(given) == kept


@pytest.mark.parametrize("key", KEYS)
def test_a_key_in_the_place_of_a_name_is_masked(key: str) -> None:
    assert scrubbed_name(key) == "***"
    assert key[8:] not in str(scrubbed_name("x" * (LONGEST_NAME - 10) + " " + key))


# The feature


@pytest.mark.parametrize(
    "kwargs",
    [
        {"metadata": {"feature": "chat"}},
        {"metadata": {"feature": " chat\n"}},
        {"metadata": {"tags": ["x", "feature:chat", "feature:other"]}},
        {"metadata": {"tags": ("feature: chat",)}},
        {"metadata": {"request_tags": ["feature:chat"]}},
        {"metadata": {"requester_metadata": {"feature": "chat"}}},
        {"metadata": {"requester_metadata": {"tags": ["feature:chat"]}}},
        {"litellm_metadata": {"feature": "chat"}},
        {"litellm_metadata": {"tags": ["feature:chat"]}, "metadata": {"feature": "other"}},
        {"proxy_server_request": {"headers": {"x-wallie-feature": "chat"}}},
        {"proxy_server_request": {"headers": {"X-Wallie-Feature": "chat"}}},
        {"metadata": {"feature": "chat"}, "proxy_server_request": {"headers": {"x-wallie-feature": "other"}}},
        {"metadata": {"feature": " "}, "proxy_server_request": {"headers": {"x-wallie-feature": "chat"}}},
        {"metadata": {"feature": None, "tags": ["feature:", "feature:chat"]}},
    ],
)
def test_the_feature_is_found_in_metadata_tags_and_headers(kwargs: dict[str, Any]) -> None:
    assert tags_of(kwargs).feature == "chat"


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"metadata": None},
        {"metadata": "feature:chat"},
        {"metadata": {"feature": {"nested": "chat"}}},
        {"metadata": {"tags": "feature:chat"}},
        {"metadata": {"tags": [None, 7, {"feature": "chat"}, "chat"]}},
        {"metadata": {"requester_metadata": ["feature:chat"]}},
        {"proxy_server_request": None},
        {"proxy_server_request": "GET /"},
        {"proxy_server_request": {"headers": None}},
        {"proxy_server_request": {"headers": ["x-wallie-feature"]}},
        {"proxy_server_request": {"headers": {"x-wallie-feature": 7}}},
    ],
)
def test_entries_that_name_no_feature_are_skipped(kwargs: dict[str, Any]) -> None:
    assert tags_of(kwargs).feature is None


@pytest.mark.parametrize(
    ("kwargs", "user"),
    [
        ({"user": "u1", "metadata": {"user_id": "u2"}}, "u1"),
        ({"metadata": {"user_id": "u2"}}, "u2"),
        ({"user": "", "metadata": {"user_id": "u2"}}, "u2"),
        ({"metadata": {"requester_metadata": {"user_id": "u3"}}}, "u3"),
        ({"user": 42}, "42"),
        ({"user": "a\nb"}, "a b"),
        ({"user": None}, None),
        ({"user": {"id": 1}}, None),
    ],
)
def test_the_user_is_the_argument_or_the_metadatas(kwargs: dict[str, Any], user: str | None) -> None:
    assert tags_of(kwargs).user_id == user


DEVICE, ACCOUNT = "5f" * 32, "0b6b3c1e-3f5a-4c1d-9a7e-2f4d1c0a9b8e"


def in_json(**fields: object) -> str:
    return json.dumps({"device_id": DEVICE, "account_uuid": ACCOUNT, **fields})


@pytest.mark.parametrize(
    ("user_id", "recorded"),
    [
        (f"user_{DEVICE}_account_{ACCOUNT}_session_{{}}", f"user_{DEVICE}_account_{ACCOUNT}"),
        (f"user_{DEVICE}_account__session_{{}}", f"user_{DEVICE}"),
        (in_json(session_id="{}"), f"user_{DEVICE}_account_{ACCOUNT}"),
        (in_json(session_id="{}", account_uuid=""), f"user_{DEVICE}"),
        (in_json(session_id="{}", account_uuid=None, more=[1]), f"user_{DEVICE}"),
    ],
)
def test_claude_codes_user_is_the_same_in_every_session_and_version(user_id: str, recorded: str) -> None:
    sessions = "1c9e6a52-77d0-4a0e-8a34-0c2f6a1b7d11", "9f1b2c3d-0000-4a0e-8a34-0c2f6a1b7d99"
    user_ids = [user_id.replace("{}", session) for session in sessions]
    for kwargs in ({"user": ""}, {"user": None}, {"metadata": {"user_id": "a person"}}):
        users = {tags_of({**kwargs, "litellm_metadata": {"user_id": user_id}}).user_id for user_id in user_ids}
        assert users == {recorded}


@pytest.mark.parametrize(
    "user_id",
    [
        "user_of_the_session",
        f"user_{DEVICE}_account_{ACCOUNT}",
        f"a_user_{DEVICE}_account_{ACCOUNT}_session_1c9e6a52",
        '{"device_id": 7, "session_id": "s"}',
        '{"device_id": "d"}',
        '{"device_id":',
        "{}",
    ],
)
def test_a_user_of_another_form_is_recorded_as_it_is(user_id: str) -> None:
    assert tags_of({"user": user_id}).user_id == user_id


@pytest.mark.parametrize(
    ("sent", "recorded"),
    [
        ("müde-ünïcödé".encode(), "müde-ünïcödé"),
        ("聊天 🙂".encode(), "聊天 🙂"),
        ("müde".encode("latin-1"), "müde"),
        (b"wallie-chat", "wallie-chat"),
    ],
)
def test_a_feature_in_a_header_may_be_utf8_or_latin1(sent: bytes, recorded: str) -> None:
    headers = {"x-wallie-feature": sent.decode("latin-1")}  # as ASGI servers read them
    assert tags_of({"proxy_server_request": {"headers": headers}}).feature == recorded


def test_a_feature_in_a_header_that_was_read_as_utf8_stays() -> None:
    assert tags_of({"proxy_server_request": {"headers": {"x-wallie-feature": "聊天"}}}).feature == "聊天"


# Metadata


def test_plain_metadata_is_kept_as_it_is() -> None:
    given = {"conversationId": "123", "hasRAG": True, "n": 7, "score": 0.5, "none": None, "deep": {"a": [1, {"b": 2}]}}
    assert recordable(given) == given


def test_values_with_a_text_form_are_kept_as_text() -> None:
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    given = {"id": UUID(int=7), "at": moment, "on": moment.date(), "price": Decimal("1.10"), "plan": Plan.PRO}
    assert recordable(given) == {
        "id": "00000000-0000-0000-0000-000000000007",
        "at": "2026-11-23 00:00:00+00:00",
        "on": "2026-11-23",
        "price": "1.10",
        "plan": "pro",
    }


def test_any_other_value_is_kept_as_its_type() -> None:
    assert recordable({"a": object(), "b": b"bytes", "c": {1, 2}, "d": lambda: 0}) == {
        "a": "<object>",
        "b": "<bytes>",
        "c": "<set>",
        "d": "<function>",
    }


def test_numbers_that_json_or_a_database_cannot_hold_become_text() -> None:
    kept = recordable({"nan": nan, "inf": -inf, "large": 10**5000, "negative": -(10**30), "fits": 2**63})
    assert kept == {
        "nan": "nan",
        "inf": "-inf",
        "large": f"<{(10**5000).bit_length()} bits>",
        "negative": f"-<{(10**30).bit_length()} bits>",
        "fits": 2**63,
    }


def test_keys_become_printable_text() -> None:
    kept = recordable({1: "a", None: "b", "c\nd": "e", ("t",): "f", "x" * 500: "g", 2.5: {"i\x00n": 1}})
    assert kept == {
        "1": "a",
        "<NoneType>": "b",
        "c d": "e",
        "<tuple>": "f",
        "x" * LONGEST_NAME: "g",
        "<float>": {"i n": 1},
    }


def test_control_characters_are_replaced_and_line_breaks_kept() -> None:
    assert recordable({"a": "one\ntwo\tthree\x00\x1b[0m\ud83d"}) == {"a": "one\ntwo\tthree\ufffd\ufffd[0m\ufffd"}


@pytest.mark.parametrize(
    "key",
    [
        *("api_key", "apiKey", "x-api-key", "OPENAI_API_KEY", "client_secret", "password", "passwd", "Authorization"),
        *("credentials", "access_token", "accessToken", "refreshToken", "token", "session-token", "Cookie"),
    ],
)
@pytest.mark.parametrize("value", ["plain", 123456, ["a"], {"inner": "text"}])
def test_a_value_under_a_secret_key_is_masked(key: str, value: object) -> None:
    assert recordable({key: value}) == {key: "***"}
    assert recordable({"outer": {key: value}}) == {"outer": {key: "***"}}
    assert recordable({"outer": [{key: value}]}) == {"outer": [{key: "***"}]}


def test_a_value_that_only_resembles_a_secret_is_kept() -> None:
    given = {"max_tokens": 5, "totalTokens": 7, "keyboard": "qwerty", "has_password": True, "note": "a basic question"}
    assert recordable(given) == given


@pytest.mark.parametrize("key", [*KEYS, "Bearer abcdefgh12345678"])
def test_a_key_is_masked_anywhere_in_a_text(key: str) -> None:
    given = {
        "note": f"my key is {key}, keep it",
        "list": [key],
        "deep": {"a": {"b": key}},
        key: 1,
        "end": "x " * (LONGEST_TEXT // 2 - 4) + key,
    }
    written = json.dumps(recordable(given))
    assert key not in written
    assert key[-8:] not in written
    assert recordable({"note": f"my key is {key}"})["note"] == "my key is ***"


def test_a_password_in_an_address_is_masked() -> None:
    assert recordable({"db": "postgresql://wallie:hunter2@db/x"}) == {"db": "postgresql://***@db/x"}


def test_litellms_own_entries_are_left_out() -> None:
    given = {"model_group": "o", "deployment": "x", "feature": "chat", "user_id": "u", "tags": ["a"], "mine": 1}
    assert recordable(given) == {"mine": 1}


def test_one_huge_value_costs_the_others_nothing() -> None:
    huge = [["x" * 400] * 50] * 50
    assert recordable({"a": 1, "huge": huge, "b": 2}) == {"a": 1, "huge": "<list>", "b": 2}


def test_long_text_is_cut() -> None:
    assert recordable({"a": "x" * 100_000}) == {"a": "x" * LONGEST_TEXT}


def test_deep_and_circular_metadata_is_cut() -> None:
    circle: dict[str, Any] = {"a": 1}
    circle["self"] = circle
    assert recordable(circle)["self"] == {"a": 1, "self": {"a": 1, "self": {"a": 1, "self": "<dict>"}}}
    deep: Any = "bottom"
    for _ in range(10_000):
        deep = [deep]
    assert recordable({"deep": deep}) == {"deep": [[["<list>"]]]}


def test_wide_metadata_is_read_up_to_a_bound() -> None:
    looked_at = 0

    class Wide(dict[str, Any]):
        def items(self) -> Any:
            nonlocal looked_at
            looked_at += 1
            return super().items()

    wide: Any = 1
    for _ in range(4):
        wide = Wide((str(number), wide) for number in range(50))  # six million leaves
    kept = recordable({str(number): wide for number in range(10_000)})
    assert 0 < len(kept) <= MOST_KEYS
    assert looked_at <= MOST_VALUES * (MOST_KEYS + 1)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
    max_leaves=15,
)


@given(st.dictionaries(st.text() | st.integers(), VALUES, max_size=60))
@settings(deadline=None, max_examples=80)
def test_recordable_metadata_can_always_be_written_as_json(metadata: dict[Any, Any]) -> None:
    kept = recordable(metadata)
    written = json.dumps(kept, allow_nan=False, ensure_ascii=False)
    written.encode()
    assert "\x00" not in written
    assert "\\u0000" not in written
    assert json.loads(written) == kept
    assert len(kept) <= MOST_KEYS
    assert len(json.dumps(kept)) <= MOST_METADATA + 10 * MOST_KEYS


# The caller's own metadata


def test_the_proxys_own_metadata_is_not_the_callers() -> None:
    proxys = {"user_api_key": "hash", "user_api_key_alias": "team", "headers": {"authorization": "x"}}
    assert tags_of({"metadata": proxys}).metadata == {}
    assert tags_of({"metadata": {**proxys, "requester_metadata": {"a": 1}}}).metadata == {"a": 1}
    assert tags_of({"litellm_metadata": {**proxys, "requester_metadata": {"a": 1}}}).metadata == {"a": 1}
    assert tags_of({"litellm_metadata": proxys, "metadata": {"a": 1}}).metadata == {"a": 1}


@pytest.mark.parametrize("kwargs", [{}, {"metadata": None}, {"metadata": "x"}, {"metadata": ["x"]}, {"metadata": {}}])
def test_no_metadata_is_none(kwargs: dict[str, Any]) -> None:
    assert tags_of(kwargs).metadata == {}


def test_plain_metadata_of_a_call_is_the_callers() -> None:
    assert tags_of({"metadata": {"feature": "chat", "a": 1}}).metadata == {"a": 1}


# The proxy's virtual key


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"metadata": {"user_api_key_hash": "0123456789abcdef" * 4, "user_api_key_alias": "chat-app"}}, "chat-app"),
        ({"metadata": {"user_api_key_hash": "0123456789abcdef" * 4, "user_api_key_alias": None}}, "0123456789ab"),
        ({"metadata": {"user_api_key_hash": "litellm_proxy_master_key"}}, "litellm_proxy_master_key"),
        ({"metadata": {"user_api_key_hash": "a-key-itself"}}, "4718acc8e4e3"),
        ({"metadata": {"user_api_key_hash": None, "user_api_key_alias": None}}, None),
        ({"metadata": {"user_api_key_alias": "chat-app"}}, None),
        ({"metadata": {"requester_metadata": {"user_api_key_hash": "f" * 64}}}, None),
        ({"litellm_metadata": {"user_api_key_hash": "f" * 64}, "metadata": {"user_api_key_hash": "0" * 64}}, "f" * 12),
        ({"user": "u"}, None),
    ],
)
def test_the_proxys_key_is_named_by_its_alias_else_by_its_hash_and_never_by_itself(
    kwargs: dict[str, Any], name: str | None
) -> None:
    assert tags_of(kwargs).proxy_key == name
