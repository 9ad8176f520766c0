"""The panel of experiments: intervals on one scale, verdicts in words."""

from __future__ import annotations

import pytest
from dashboard_samples import NOW, arm, experiment, figures, snapshot

from wallie_litellm.core.confidence_sequence import Interval
from wallie_litellm.dashboard.experiment_view import WIDTH, effect_text, interval_bars
from wallie_litellm.dashboard.formats import UNKNOWN, Formats
from wallie_litellm.dashboard.html import render_panels
from wallie_litellm.ledger.experiments import ExperimentFigures
from wallie_litellm.routing.experiments import Standing


def panel(*experiments: ExperimentFigures, language: str = "en") -> str:
    html = render_panels(snapshot((), figures([], experiments=experiments)), language)
    _, _, rest = html.partition('<section id="panel-experiments"')
    return " ".join(rest.partition("</section>")[0].split())


def test_intervals_share_a_scale_with_no_difference_in_the_middle() -> None:
    arms = [
        arm("a"),
        arm("b", Interval(-0.1, 0.1, 0.4)),
        arm("c", Interval(0.1, 0.2, 0.3)),
        arm("d", Interval(-0.4, -0.3, -0.2)),
    ]
    bars = interval_bars(arms, lower_is_better=False)
    assert list(bars) == ["b", "c", "d"]
    assert bars["b"].x < WIDTH / 2 < bars["b"].x + bars["b"].width <= WIDTH
    assert bars["d"].x == pytest.approx(WIDTH - (bars["b"].x + bars["b"].width))
    assert bars["c"].estimate == pytest.approx(bars["c"].x + bars["c"].width / 2)
    assert [bar.side for bar in bars.values()] == ["", "better", "worse"]
    assert [bar.side for bar in interval_bars(arms, lower_is_better=True).values()] == ["", "worse", "better"]
    assert interval_bars([arm("a")], lower_is_better=True) == {}


@pytest.mark.parametrize(
    ("metric", "value", "english", "spanish"),
    [
        ("success", 0.031, "+3.1\u202fpp", "+3,1\u202fpp"),
        ("latency", -0.12, "-12.0\u202f%", "-12,0\u202f%"),
        ("cost", -0.0004, "-$0.000400", "-0,000400\u202fUS$"),
        ("feedback", 0.125, "+0.125", "+0,125"),
        ("cost", None, UNKNOWN, UNKNOWN),
    ],
)
def test_an_effect_is_in_the_metrics_own_unit(metric: str, value: float | None, english: str, spanish: str) -> None:
    assert (effect_text(Formats("en"), metric, value), effect_text(Formats("es"), metric, value)) == (english, spanish)


def test_the_better_arm_is_said_and_how_to_end_the_experiment() -> None:
    html = panel(experiment())
    assert 'class="interval better"' in html
    assert "claude-sonnet-4 is better than the others. `wallie-litellm experiments conclude chat-model` ends" in html
    assert "the arm that others are compared with" in html
    assert 'data-field="effect" data-value="0.031"' in html
    assert "No arm is better" in panel(experiment(leader=None))
    assert "No arm is better" not in panel(experiment(leader=None, standing=Standing()))


def test_a_stopped_arm_a_winner_and_a_wrong_split_are_said() -> None:
    stopped = [arm("a", stopped=True), arm("b")]
    html = panel(experiment(arms=stopped, split=0.00002, leader=None))
    assert "stopped" in html
    assert "not divided as stated (p = 0.000020)" in html
    assert "too few units yet" in html
    concluded = Standing(NOW - 9, "c1", frozenset(), "claude-sonnet-4", NOW, "cheaper")
    html = panel(experiment(standing=concluded))
    assert "winner" in html
    assert "cheaper" in html
    assert "experiments conclude" not in html


def test_without_experiments_there_is_no_panel() -> None:
    assert "panel-experiments" not in render_panels(snapshot((), figures([])), "en")
