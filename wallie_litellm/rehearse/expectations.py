"""``--expect "answered>=99.5%"``: a small grammar, and whether a report keeps to it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from wallie_litellm.config import parse_duration
from wallie_litellm.rehearse.plan import OptionError

# metric: its unit, and what it says.
METRICS: Final[Mapping[str, str]] = {
    "answered": "%",  # share of the requests
    "fell_back": "%",  # share of the requests that another member of the chain answered
    "failed": "%",
    "waited_p50": "s",
    "waited_p95": "s",
    "latency_p50": "s",
    "latency_p95": "s",
    "cost": "$",
    "noticed": "s",  # from the first fault to the first breaker that opens or fallback
    "back": "s",  # from the end of the last fault to the first answer from where it was
    "alerts": "",
    "upstream_429": "",
}
NO_FEATURE: Final = "(none)"  # the name of requests without a feature
OF_FEATURES: Final = frozenset(METRICS) - {"noticed", "back", "alerts", "upstream_429"}
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
_FORM: Final = re.compile(
    r"\s*(?P<metric>\w+)(?:\[(?P<feature>[^\]]+)\])?\s*(?P<sign>>=|<=|==|>|<)\s*(?P<value>\S+)\s*"
)
ALLOWED: Final = (
    f"a metric ({', '.join(METRICS)}), optionally a [feature], one of {', '.join(_COMPARISONS)}, and a value: "
    "a share such as 99.5%, a duration such as 2s, an amount such as $1.50, or a number"
)


@dataclass(frozen=True)
class Expectation:
    """``metric``, of one ``feature`` or of all requests, against ``value``: a share, seconds, dollars, or a count."""

    text: str
    metric: str
    sign: str
    value: float
    feature: str | None = None

    def met_by(self, found: float | None) -> bool:
        """Whether ``found`` keeps to it; ``None`` is a time that never came."""
        return _COMPARISONS[self.sign](float("inf") if found is None else found, self.value)


@dataclass(frozen=True)
class Judgement:
    """An expectation and what was found."""

    expected: str
    metric: str
    found: float | None
    met: bool


def parse_expectation(text: str) -> Expectation:
    """Read one expectation.

    Raises:
        OptionError: it cannot be understood; the message says what is allowed.
    """
    found = _FORM.fullmatch(text)
    if found is None or found["metric"] not in METRICS:
        raise OptionError(f"--expect {text!r}: expected {ALLOWED}")
    metric, feature = found["metric"], found["feature"]
    if feature is not None and metric not in OF_FEATURES:
        raise OptionError(f"--expect {text!r}: {metric} is of the whole rehearsal, of no feature")
    return Expectation(text, metric, found["sign"], _value(text, METRICS[metric], found["value"]), feature)


def check_features(expectations: Iterable[Expectation], known: Collection[str | None]) -> None:
    """Refuse an expectation of a feature that no request will be of.

    Raises:
        OptionError: there is one.
    """
    names = {name or NO_FEATURE for name in known}
    for one in expectations:
        if one.feature is not None and one.feature not in names:
            raise OptionError(
                f"--expect {one.text!r}: {one.feature} is no feature of the rehearsal: {', '.join(sorted(names))}"
            )


def _value(text: str, unit: str, given: str) -> float:
    try:
        if unit == "%":
            value = float(given[:-1]) / 100 if given.endswith("%") else float(given)
        else:
            value = parse_duration(given) if unit == "s" else float(given.removeprefix("$"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise OptionError(f"--expect {text!r}: {given} is no value of it; expected {ALLOWED}")
    if unit == "%" and not 0 <= value <= 1:
        raise OptionError(f"--expect {text!r}: expected a share such as 99.5%, from 0% to 100%")
    return value
