"""The kinds of value a setting can hold: durations, counts, shares, addresses, secrets.

Every validator refuses rather than guesses: text is never read as a number, and a boolean is not a number.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, PlainValidator, SecretStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from wallie_litellm.config import value_schemas as schemas
from wallie_litellm.core.scrubbing import LONGEST_NAME, scrubbed_name

DURATION_FORMS: Final = "a duration such as 30, '250ms', '2s', '5m', '1h' or '1d'"
LONGEST_DURATION: Final = 366 * 86400.0  # seconds; event loops and locks overflow far above it
SHORTEST_STORE_TIMEOUT: Final = 0.01  # seconds
LONGEST_STORE_TIMEOUT: Final = 10.0  # seconds
LARGEST_COUNT: Final = 10**15  # exact as a float, in Lua and in every database
LONGEST_PATTERN: Final = 256  # characters
LAST_PORT: Final = 65535
SHORTEST_WEBHOOK_SECRET: Final = 24  # bytes; Standard Webhooks 1.0.0, "Signature scheme"
LONGEST_WEBHOOK_SECRET: Final = 64  # bytes

_CHARACTER_SET: Final = re.compile(r"\[!?+\]?+[^]]*\]")  # as fnmatch has them: a "]" at the beginning is in the set
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SINK_PATH: Final = r"\w+(\.\w+)*:\w+"
_ALERT_PATTERN: Final = r"[a-z_*]+(\.[a-z_*]+)?"
_HOST: Final = r"[\w.:-]+"
_TITLE: Final = r"\S(.{0,58}\S)?"
_STORE_SCHEMES: Final = ("redis://", "rediss://", "redis+cluster://", "redis+sentinel://")
_LEDGER_SCHEMES: Final = ("sqlite:///", "postgresql://")
_WEB_SCHEMES: Final = ("https://", "http://")
_DURATION: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(ms|s|m|h|d)\s*", re.ASCII)


def expected(text: str) -> PydanticCustomError:
    """The error for a wrong value: the message becomes ``found <value>, expected <text>``."""
    return PydanticCustomError("wallie_expected", "expected {text}", {"text": text})


def conflict(field: str, text: str) -> PydanticCustomError:
    """The error for a ``field`` that is right on its own and wrong beside another one."""
    return PydanticCustomError("wallie_conflict", "{field}: {text}", {"field": field, "text": text})


def _feature_name(value: object) -> str:
    if not isinstance(value, str) or scrubbed_name(value) != value:
        raise expected(f"a name as requests have it on record: one line of 1 to {LONGEST_NAME} characters")
    return value


#: A feature that a request can have.
FeatureName = Annotated[
    str,
    BeforeValidator(_feature_name),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}),
]


def parse_duration(value: object) -> float:
    """Seconds from a number of seconds or from text such as ``250ms``, ``2s``, ``5m``, ``1h``, ``1d``.

    Raises:
        ValueError: the value is no duration, negative, or more than 366 days.
    """
    seconds = _seconds(value)
    if seconds is None or not 0 <= seconds < math.inf:
        raise expected(DURATION_FORMS)
    if seconds > LONGEST_DURATION:
        raise expected("a duration of at most 366d")
    return seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        return float(match[1]) * _UNITS[match[2]] if match else None
    return _as_float(value)


def _as_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _positive_duration(value: object) -> float:
    seconds = parse_duration(value)
    if seconds == 0:
        raise expected(f"{DURATION_FORMS}, above 0")
    return seconds


def _store_timeout(value: object) -> float:
    seconds = parse_duration(value)
    if not SHORTEST_STORE_TIMEOUT <= seconds <= LONGEST_STORE_TIMEOUT:
        raise expected("a duration from 10ms to 10s")
    return seconds


class AutoFirstToken(float):
    """A bound on the first token that follows from what is measured; the number says that there is none else."""

    __slots__ = ()


AUTO_FIRST_TOKEN: Final = AutoFirstToken("inf")


def _first_token(value: object) -> float:
    if value == "auto" or isinstance(value, AutoFirstToken):
        return AUTO_FIRST_TOKEN
    try:
        return _positive_duration(value)
    except PydanticCustomError:
        raise expected(f"{DURATION_FORMS}, above 0, or auto") from None


def _whole_number(minimum: int | None, text: str) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, str) and value.strip().isdecimal():
            raise expected(f"{text}, written without quotes")
        if isinstance(value, bool) or not isinstance(value, int) or (minimum is not None and value < minimum):
            raise expected(text)
        if abs(value) > LARGEST_COUNT:
            raise expected(f"{text}, at most 10^15")
        return value

    return check


class AutoLimit(int):
    """A limit without a number of its own, which takes the vendor's; until that is known it is this, 0 is none."""

    __slots__ = ()


def _limit(value: object) -> int:
    if isinstance(value, AutoLimit):
        return value
    if value == "auto":
        return AutoLimit()
    return _whole_number(1, "a whole number above 0 or auto")(value)


def _learn(value: object) -> str:
    value = "off" if value is False else value  # YAML reads off as false
    if value not in ("off", "advise", "enforce"):
        raise expected("off, advise or enforce")
    return str(value)


def _real(inside: Callable[[float], bool], text: str) -> Callable[[object], float]:
    def check(value: object) -> float:
        number = _as_float(value)
        if number is None or not math.isfinite(number) or not inside(number):
            raise expected(text)
        return number

    return check


def _time_zone(value: object) -> str:
    wanted = "an IANA time zone such as 'UTC' or 'America/Los_Angeles'"
    if not isinstance(value, str):
        raise expected(wanted)
    if not is_zone(value):
        raise expected(wanted + _did_you_mean(value))
    return value


def is_zone(name: str) -> bool:
    """Whether a text is the name of an IANA time zone."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a name; a folder of zones such as 'America'
        return False
    return True


def _did_you_mean(name: str) -> str:
    close = get_close_matches(name, available_timezones(), 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _url(*schemes: str, plain: str | None = None) -> Callable[[object], str]:
    """A validator of URLs with one of ``schemes``, or of the one word ``plain``."""
    text = " or ".join(([f"'{plain}'"] if plain else []) + ["a URL starting with " + ", ".join(schemes)])

    def check(value: object) -> str:
        good = isinstance(value, str) and any(len(value) > len(s) and value.startswith(s) for s in schemes)
        if not isinstance(value, str) or not (good or (plain and value == plain)):
            raise expected(text)
        return value

    return check


def _secret(value: object) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not text.strip():
        raise expected("text that is not empty")
    return SecretStr(text.strip())


def _secret_url(value: object) -> SecretStr:
    secret = _secret(value)
    _web_url(secret.get_secret_value())
    return secret


def _port(value: object) -> int:
    port = _whole_number(1, "a port from 1 to 65535")(value)
    if port > LAST_PORT:
        raise expected("a port from 1 to 65535")
    return port


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise expected("true or false")
    return value


def _text(text: str, pattern: str = r"\S(.*\S)?") -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise expected(text)
        return value

    return check


def _model_pattern(value: object) -> str:
    wanted = "a model's name, or a pattern such as 'gpt-4o*'"
    if not isinstance(value, str) or not re.fullmatch(r"\S+", value):
        raise expected(wanted)
    if len(value) > LONGEST_PATTERN:
        raise expected(f"{wanted}, of at most {LONGEST_PATTERN} characters")
    if not value.isprintable():
        raise expected(f"{wanted}, without control characters or invisible ones")
    if "[" in _CHARACTER_SET.sub("", value):
        raise expected(f"{wanted}: '[' begins a set that ends with ']', and '[[]' is the character itself")
    return value


def _sink_paths(value: object) -> tuple[str, ...]:
    text = "a list of 'module:Class'"
    if not isinstance(value, list | tuple):
        raise expected(text)
    for path in value:
        if not isinstance(path, str) or not re.fullmatch(_SINK_PATH, path):
            raise expected(f"{text}; {path!r:.100} is none")
    return tuple(value)


def _alert_patterns(value: object) -> tuple[str, ...]:
    text = "a list of types of alerts, or of patterns such as 'quota.*'"
    if not isinstance(value, list | tuple) or not value:
        raise expected(text)
    for pattern in value:
        if not isinstance(pattern, str) or not re.fullmatch(_ALERT_PATTERN, pattern):
            raise expected(f"{text}; {pattern!r:.100} is none")
    return tuple(value)


def _webhook_secret(value: object) -> SecretStr:
    """A secret as Standard Webhooks serializes it: 24 to 64 random bytes in base64, after ``whsec_``."""
    secret = _secret(value)
    prefix, _, encoded = secret.get_secret_value().partition("_")
    try:
        size = len(base64.b64decode(encoded, validate=True))
    except ValueError:
        size = 0
    if prefix != "whsec" or not SHORTEST_WEBHOOK_SECRET <= size <= LONGEST_WEBHOOK_SECRET:
        raise expected("'whsec_' and 24 to 64 bytes in base64, as `openssl rand -base64 32` prints them")
    return secret


def mask_url(url: str) -> str:
    """The URL as it may be shown: only its scheme if it could carry a password."""
    return f"{url.partition('://')[0]}://***" if "@" in url or "?" in url else url


_web_url = _url(*_WEB_SCHEMES)


def _count_schema(minimum: int) -> WithJsonSchema:
    return WithJsonSchema(schemas.whole_number(minimum, LARGEST_COUNT))


def _number_schema(**bounds: float) -> WithJsonSchema:
    return WithJsonSchema(schemas.number(**bounds))


def _list_schema(pattern: str, least: int = 0) -> WithJsonSchema:
    return WithJsonSchema(schemas.listed(schemas.text(f"^{pattern}$"), least))


DURATION_SCHEMA: Final = schemas.duration(LONGEST_DURATION)
_STORE_TIMEOUT_SCHEMA: Final = schemas.either(
    schemas.number(minimum=SHORTEST_STORE_TIMEOUT, maximum=LONGEST_STORE_TIMEOUT),
    *schemas.duration(LONGEST_DURATION)["anyOf"][1:],
)
_LIMIT_SCHEMA: Final = schemas.either(schemas.whole_number(1, LARGEST_COUNT), schemas.AUTO)
_LEARN_SCHEMA: Final = {"enum": ["off", "advise", "enforce", False]}  # YAML 1.1 reads off as false
_WEB_SCHEMA: Final = schemas.url(*_WEB_SCHEMES)
_WEBHOOK_SECRET_SCHEMA: Final = schemas.url("whsec_")

Duration = Annotated[float, BeforeValidator(_positive_duration), WithJsonSchema(DURATION_SCHEMA)]  # seconds, above 0
DurationOrZero = Annotated[  # seconds, 0 allowed
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(schemas.duration(LONGEST_DURATION, above_zero=False)),
]
StoreTimeout = Annotated[float, BeforeValidator(_store_timeout), WithJsonSchema(_STORE_TIMEOUT_SCHEMA)]  # seconds
FirstToken = Annotated[  # seconds, above 0, or AUTO_FIRST_TOKEN
    float,
    PlainValidator(_first_token),
    WithJsonSchema(schemas.either(DURATION_SCHEMA, schemas.AUTO)),
]
Count = Annotated[int, BeforeValidator(_whole_number(1, "a whole number above 0")), _count_schema(1)]
LimitOrAuto = Annotated[int, PlainValidator(_limit), WithJsonSchema(_LIMIT_SCHEMA)]  # or an AutoLimit
Learn = Annotated[Literal["off", "advise", "enforce"], BeforeValidator(_learn), WithJsonSchema(_LEARN_SCHEMA)]
CountOrZero = Annotated[int, BeforeValidator(_whole_number(0, "a whole number, 0 or more")), _count_schema(0)]
Priority = Annotated[int, BeforeValidator(_whole_number(None, "a whole number")), _count_schema(-LARGEST_COUNT)]
Share = Annotated[
    float,
    BeforeValidator(_real(lambda x: 0 <= x <= 1, "a number from 0 to 1")),
    _number_schema(minimum=0, maximum=1),
]
ShareAboveZero = Annotated[
    float,
    BeforeValidator(_real(lambda x: 0 < x <= 1, "a number above 0 and at most 1")),
    _number_schema(exclusiveMinimum=0, maximum=1),
]
ShareBelowOne = Annotated[
    float,
    BeforeValidator(_real(lambda x: 0 <= x < 1, "a number from 0 to below 1")),
    _number_schema(minimum=0, exclusiveMaximum=1),
]
Factor = Annotated[
    float,
    BeforeValidator(_real(lambda x: 1 <= x <= 1000, "a number from 1 to 1000")),
    _number_schema(minimum=1, maximum=1000),
]
Money = Annotated[
    float,
    BeforeValidator(_real(lambda x: x >= 0, "an amount in US dollars, 0 or more")),
    _number_schema(minimum=0),
]
Margin = Annotated[float, BeforeValidator(_real(lambda x: x >= 0, "a number, 0 or more")), _number_schema(minimum=0)]
TimeZone = Annotated[str, BeforeValidator(_time_zone), WithJsonSchema(schemas.text())]
StoreUrl = Annotated[
    str,
    BeforeValidator(_url(*_STORE_SCHEMES, plain="memory")),
    WithJsonSchema(schemas.url(*_STORE_SCHEMES, plain="memory")),
]
LedgerUrl = Annotated[str, BeforeValidator(_url(*_LEDGER_SCHEMES)), WithJsonSchema(schemas.url(*_LEDGER_SCHEMES))]
Port = Annotated[int, BeforeValidator(_port), WithJsonSchema(schemas.whole_number(1, LAST_PORT))]
Host = Annotated[
    str,
    BeforeValidator(_text("a host name or an IP address", _HOST)),
    WithJsonSchema(schemas.text(f"^{_HOST}$")),
]
ModelPattern = Annotated[
    str,
    BeforeValidator(_model_pattern),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST_PATTERN}),
]
Title = Annotated[
    str,
    BeforeValidator(_text("a name of at most 60 characters", _TITLE)),
    WithJsonSchema(schemas.text(f"^{_TITLE}$")),
]
Folder = Annotated[str, BeforeValidator(_text("the path of a folder")), WithJsonSchema(schemas.text())]
Switch = Annotated[bool, BeforeValidator(_switch)]
SinkPaths = Annotated[tuple[str, ...], BeforeValidator(_sink_paths), _list_schema(_SINK_PATH)]
WebUrl = Annotated[str, BeforeValidator(_web_url), WithJsonSchema(schemas.url(*_WEB_SCHEMES, reference=False))]
WebUrlOrReference = Annotated[WebUrl, WithJsonSchema(_WEB_SCHEMA)]  # of a key that may name a variable
Secret = Annotated[SecretStr, BeforeValidator(_secret), WithJsonSchema(schemas.text())]
AlertPatterns = Annotated[tuple[str, ...], BeforeValidator(_alert_patterns), _list_schema(_ALERT_PATTERN, 1)]
WebhookSecret = Annotated[SecretStr, BeforeValidator(_webhook_secret), WithJsonSchema(_WEBHOOK_SECRET_SCHEMA)]
SecretUrl = Annotated[SecretStr, BeforeValidator(_secret_url), WithJsonSchema(_WEB_SCHEMA)]
