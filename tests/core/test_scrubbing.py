"""One list of secrets' forms for records and messages, and plain JSON within the bounds that a caller sets."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from wallie_litellm.config.problems import show
from wallie_litellm.core.scrubbing import (
    JsonRules,
    is_secret_name,
    is_secret_setting,
    json_safe,
    mask_secrets,
    may_be_secret,
    one_line,
    scrubbed_metadata,
    scrubbed_name,
    type_name,
    valid_unicode,
)

KEYS = (
    *("sk-proj-abcdefgh12345678", "sk_live_abcdefgh12345678", "pk-lf-abcdefgh12345678", "rk_live_abcdefgh12345678"),
    *("gsk_abcdefgh12345678", "hf_abcdefgh12345678", "xai-abcdefgh12345678"),
    *("phc_abcdefgh12345678", "phx_abcdefgh12345678"),
    *("xoxa-12345678-abcdefgh", "xoxb-12345678-abcdefgh", "xoxp-12345678-abcdefgh"),
    *("ghp_abcdefgh12345678", "gho_abcdefgh12345678", "ghs_abcdefgh12345678", "github_pat_abcdefgh12345678"),
    *("glpat-abcdefgh12345678", "whsec_abcdefgh12345678"),
    *("AIzaSyA1234567890abcdefghijk", "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"),
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdef",
    "Bearer abcdefgh12345678",
    "https://hooks.slack.com/services/T000/B000/abcdef",
)
STARTS = (  # of the same, which only a message hides
    *("sk-", "pk-", "rk_", "gsk_", "hf_", "xai-", "phc_", "phx_", "xoxb-", "ghp_", "github_pat_", "glpat-", "whsec_"),
    *("AIza", "AKIA1", "ASIA1", "eyJ0", "Bearer x", "hooks.slack.com/"),
)


@pytest.mark.parametrize("key", KEYS)
def test_a_secret_is_masked_in_records(key: str) -> None:
    assert mask_secrets(f"before {key} after") == "before *** after"
    assert scrubbed_name(key) == "***"
    assert scrubbed_metadata([("note", f"it is {key}"), (key, 1)]) == {"note": "it is ***", "***": 1}


@pytest.mark.parametrize("key", [*KEYS, *STARTS])
def test_a_secret_and_the_start_of_one_are_hidden_in_messages(key: str) -> None:
    assert may_be_secret(key)
    assert may_be_secret(f"before {key} after")
    assert key not in show(key, "providers.openai.rpm")


@pytest.mark.parametrize("text", ["sk-learning", "gpt-4o-mini", "task-force", "network-2", "AKIA", "a basic 7"])
def test_records_keep_what_only_resembles_a_secret(text: str) -> None:
    assert mask_secrets(text) == text


@pytest.mark.parametrize("text", ["gpt-4o-mini", "task-force", "network-2", "openai", "1 minute", "60s", "shelf_4"])
def test_messages_show_what_resembles_no_secret(text: str) -> None:
    assert not may_be_secret(text)
    assert show(text, "providers.openai.rpm") == repr(text)


def test_messages_hide_addresses_with_credentials_and_random_characters() -> None:
    assert may_be_secret("user:hunter2@host")
    assert may_be_secret("0123456789abcdef01234567")
    assert not may_be_secret("abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize("name", ["api_key", "apiKey", "client_secret", "passwd", "password", "Authorization", "token"])
def test_names_of_secrets_are_recognised_in_metadata_and_settings(name: str) -> None:
    assert is_secret_name(name)
    assert is_secret_setting(name)


def test_settings_hide_more_names_than_metadata() -> None:
    for name in ("max_tokens", "keyboard", "dsn", "webhook_url", "slack"):
        assert not is_secret_name(name)
        assert is_secret_setting(name)


# Text


def test_one_line_replaces_what_cannot_be_printed() -> None:
    assert one_line("a\nb\x1bc") == "a\ufffdb\ufffdc"
    assert one_line("a\nb\x1bc", " ") == "a b c"
    assert one_line("ünïcödé 🙂") == "ünïcödé 🙂"


def test_halves_of_surrogate_pairs_are_replaced() -> None:
    assert valid_unicode("cut \ud83d") == "cut ?"
    assert valid_unicode("你好 👋") == "你好 👋"


# JSON


def rules(**changes: Any) -> JsonRules:
    return JsonRules(depth=3, leaf=leaf, key=str)._replace(**changes)


def leaf(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else type_name(value)


def test_plain_values_are_copied() -> None:
    given = {"a": [1, 2.5, None, True, "x", {"b": 2}]}
    copied = json_safe(given, rules())
    assert copied == given
    assert copied is not given
    assert copied["a"] is not given["a"]


def test_containers_beyond_the_depth_are_replaced() -> None:
    circle: dict[str, Any] = {"a": 1}
    circle["self"] = circle
    assert json_safe(circle, rules()) == {"a": 1, "self": {"a": 1, "self": {"a": 1, "self": "<dict>"}}}
    assert json_safe(circle, rules(depth=1, cut="...")) == {"a": 1, "self": "..."}
    assert json_safe([[]], rules(depth=1)) == ["<list>"]


def test_entries_beyond_the_width_are_left_out() -> None:
    assert json_safe({"a": [1, 2, 3], "b": 1, "c": 2}, rules(width=2)) == {"a": [1, 2], "b": 1}


def test_values_beyond_the_number_are_left_out() -> None:
    assert json_safe([1, [2, 3], 4], rules(values=4)) == [1, [2]]
    endless: list[Any] = []
    endless += [endless] * 20
    assert len(json.dumps(json_safe(endless, rules(depth=50, values=1_000)))) < 10_000


def test_only_the_types_named_become_lists() -> None:
    assert json_safe([(1,), {2}, b"x"], rules()) == [[1], "<set>", "<bytes>"]
    assert json_safe([(1,), {2}, b"x", range(2)], rules(sequences=(Iterable,))) == [[1], [2], "<bytes>", [0, 1]]


def test_values_of_secret_names_are_masked_where_asked_for() -> None:
    given = {"api_key": [1], "has_password": True, "deep": {"token": "x"}}
    assert json_safe(given, rules()) == given
    assert json_safe(given, rules(mask_named=True)) == {
        "api_key": "***",
        "has_password": True,
        "deep": {"token": "***"},
    }
