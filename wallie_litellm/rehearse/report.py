"""What a rehearsal has shown, as values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from wallie_litellm.core.limit_keys import dimension_in, scope_in
from wallie_litellm.rehearse.expectations import METRICS, Expectation, Judgement
from wallie_litellm.rehearse.need import rounded_up
from wallie_litellm.rehearse.plan import DEAD, OptionError, PlannedFault, RehearsalPlan

VERSION: Final = 1  # of the JSON
RETURNING: Final = DEAD | {"redis_away"}  # those after which what was away is back
# Scenarios of failoverbench (github.com/failoverbench/failoverbench, scenarios/catalogue.yaml) with the same fault.
SCENARIO_IDS: Final = {"outage": "S15", "silent": "S06", "slow": "S07"}

Figures = dict[str, Any]


@dataclass(frozen=True)
class Shortfall:
    """A limit that the load would have passed at once only if it were ``needs``; it ``has`` less.

    ``models`` are the model groups that were called there.
    """

    provider: str
    limit: str
    has: int
    needs: int
    models: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """``claude-sonnet-4 at anthropic would need rpm 1,450, has 1,000``."""
        scope = scope_in(self.limit)
        who = scope or ", ".join(self.models) or "it"
        return f"{who} at {self.provider} would need {dimension_in(self.limit)} {self.needs:,}, has {self.has:,}"


@dataclass(frozen=True)
class Report:
    """A rehearsal: the plan, the figures of its run and of the run without faults, and the limits that were short."""

    plan: RehearsalPlan
    played: Figures
    normal: Figures
    shortfalls: tuple[Shortfall, ...]

    def metric(self, name: str, feature: str | None = None) -> float | None:
        """One figure, by the names that expectations have; ``None`` for a time that never came.

        Raises:
            OptionError: there is no such feature.
        """
        if feature is not None and feature not in self.played["features"]:
            known = ", ".join(self.played["features"])
            raise OptionError(f"--expect: {feature} is no feature of the rehearsal: {known}")
        own = self.played["total"] if feature is None else self.played["features"][feature]
        match name:
            case "answered" | "fell_back" | "failed":
                return float(own[name] / max(1, own["requests"]))
            case "cost":
                return float(own["cost_usd"])
            case "noticed":
                return _latest(fault["noticed_after"] for fault in self.played["faults"])
            case "back":
                seen = zip(self.plan.faults, self.played["faults"], strict=True)
                return _latest(one["back_after"] for fault, one in seen if fault.kind in RETURNING)
            case "alerts":
                return float(len(self.played["alerts"]))
            case "upstream_429":
                return float(sum(one["upstream_429"] for one in self.played["providers"].values()))
        return float(own[name])

    def judge(self, expectations: Sequence[Expectation]) -> list[Judgement]:
        """Whether each expectation is met."""
        found = [(one, self.metric(one.metric, one.feature)) for one in expectations]
        return [Judgement(one.text, one.metric, value, one.met_by(value)) for one, value in found]

    def held(self, provider: str) -> bool:
        """Whether the limits of ``provider`` held: no call waited for them, went elsewhere, or was refused upstream."""
        return not is_short(self.played["providers"][provider])

    def to_json(self, judgements: Sequence[Judgement] = ()) -> dict[str, Any]:
        """All of it; seconds, US dollars, shares from 0 to 1."""
        return {
            "version": VERSION,
            "plan": self.plan.to_json(),
            "scenarios": [SCENARIO_IDS.get(fault.kind) for fault in self.plan.faults],
            "played": self.played,
            "normal": self.normal,
            "shortfalls": [{**asdict(one), "sentence": one.sentence} for one in self.shortfalls],
            "metrics": {name: self.metric(name) for name in METRICS},
            "expectations": [asdict(one) for one in judgements],
        }


def _latest(times: Iterator[float | None]) -> float | None:
    found = list(times)
    return None if None in found else max((one for one in found if one is not None), default=0.0)


def is_short(provider: Figures) -> bool:
    """Whether a provider's limits kept calls waiting, or had them go elsewhere."""
    return bool(provider["waited"] or provider["turned_down"] or provider["upstream_429"])


def report_of(plan: RehearsalPlan, played: Figures, normal: Figures, unlimited: Figures | None) -> Report:
    """The report of a run, of the one without faults, and of the one without limits, where there was one."""
    shortfalls = () if unlimited is None else tuple(_shortfalls(plan, played, unlimited))
    return Report(plan, played, normal, shortfalls)


def _shortfalls(plan: RehearsalPlan, played: Figures, unlimited: Figures) -> Iterator[Shortfall]:
    for provider, own in played["providers"].items():
        if not is_short(own):
            continue
        models = tuple(unlimited["providers"][provider]["models"])
        for limit, need in unlimited["providers"][provider]["needs"].items():
            has = max(1, int(own["limits"][limit]["limit"] * _share(plan.faults, provider)))
            if need > has:
                yield Shortfall(provider, limit, has, rounded_up(need), models)


def _share(faults: Sequence[PlannedFault], provider: str) -> float:
    """The least share of its limits that the account has in the rehearsal."""
    return min((one.amount for one in faults if one.kind == "tier" and one.provider == provider), default=1.0)
