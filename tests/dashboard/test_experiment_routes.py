"""Experiments over the API: their figures, their end, feedback."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from dashboard_support import TOKEN
from ledger_support import ended, rows, settled
from sqlalchemy import select
from test_openapi import described, mistakes

from wallie_litellm.events import Event, ExperimentChanged, FeedbackGiven, new_id
from wallie_litellm.ledger.schema import actions, experiment_changes, feedback
from wallie_litellm.routing.experiments import Change

BEARER = {"authorization": f"Bearer {TOKEN}", "x-wallie-actor": "maria"}
EXPERIMENT = {"feature": "chat", "arms": {"mini": 0.5, "sonnet": 0.5}, "metric": "feedback"}

MakeApp = Callable[..., Any]


def open_app(make_app: MakeApp, requests: int = 0) -> Any:
    """An application with an experiment in which ``sonnet`` gets the better feedback."""
    app = make_app(features={"chat": {}}, experiments={"m": EXPERIMENT})
    now = time.time() - 100
    experiment = app.guard.routing.experiments.by_name["m"]
    definition = experiment.settings.definition
    started = ExperimentChanged(new_id(now), now, "m", definition, "started", "", "wallie", None)
    experiment.learn([Change(started.id, now, definition, "started", "")])
    events: list[Event] = [started]
    for number in range(requests):
        arm = "sonnet" if number % 2 else "mini"
        end = ended(settled(at=now + 1), experiment="m", arm=arm, unit=f"{number // 3:08x}{arm[:4]}")
        events += [end, FeedbackGiven(new_id(), now + 2, end.request_id, 0.9 if number % 2 else number % 3 / 4)]
    app.record(events)
    return app


def post(app: Any, path: str, body: Any = None) -> Any:
    return app.client.post(f"/wallie/api/{path}", headers=BEARER, json=body)


def url(app: Any) -> str:
    place: str = app.guard.config.ledger.url
    return place


def test_experiments_have_their_arms_with_intervals(make_app: MakeApp) -> None:
    app = open_app(make_app, 200)
    answer = app.client.get("/wallie/api/experiments", headers=BEARER)
    assert mistakes(described(app), "get", "/api/experiments", answer) == []
    (found,) = answer.json()["experiments"]
    assert (found["name"], found["metric"], found["state"], found["leader"]) == ("m", "feedback", "running", "sonnet")
    mini, sonnet = found["arms"]
    assert (mini["requests"], mini["feedbacks"], mini["effect"]) == (100, 100, None)
    assert sonnet["mean"] == pytest.approx(0.9)
    assert 0 < sonnet["effect"]["low"] < sonnet["effect"]["estimate"] < sonnet["effect"]["high"]


def test_the_leader_wins_when_it_is_concluded_and_that_is_on_record(make_app: MakeApp) -> None:
    app = open_app(make_app, 200)
    done = post(app, "experiments/m/conclude", {"reason": "users like it"})
    assert mistakes(described(app), "post", "/api/experiments/{name}/conclude", done) == []
    assert (done.json()["winner"], done.json()["actor"]) == ("sonnet", "maria (api, 127.0.0.1)")
    assert app.guard.status()["routing"]["experiments"]["m"]["winner"] == "sonnet"
    app.record([])
    last = rows(url(app), select(experiment_changes).order_by(experiment_changes.c.at.desc()))[0]
    assert (last.change, last.arm, last.reason) == ("concluded", "sonnet", "users like it")
    (action,) = rows(url(app), select(actions))
    assert (action.action, action.provider, action.actor) == ("conclude_experiment", "m", "maria (api, 127.0.0.1)")
    for body in (None, {"winner": "sonnet"}):
        again = post(app, "experiments/m/conclude", body)
        assert mistakes(described(app), "post", "/api/experiments/{name}/conclude", again) == []
        assert (again.status_code, again.json()["before"], again.json()["winner"]) == (200, True, "sonnet")
        assert again.json()["at"] <= done.json()["at"]
    other = post(app, "experiments/m/conclude", {"winner": "mini"})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "wallie_already_concluded")
    assert "m was concluded before, at 20" in other.json()["error"]["message"]
    assert len(rows(url(app), select(experiment_changes))) == 2


def stop(app: Any, arm: str) -> None:
    experiment = app.guard.routing.experiments.by_name["m"]
    at, definition = experiment.time_of_change(time.time()), experiment.settings.definition
    event = ExperimentChanged(new_id(at), at, "m", definition, "stopped", arm, "wallie", None)
    experiment.note(Change(event.id, at, definition, "stopped", arm))
    app.record([event])


def test_a_stopped_arm_goes_on_and_that_is_on_record(make_app: MakeApp) -> None:
    app = open_app(make_app)
    stop(app, "sonnet")
    done = post(app, "experiments/m/resume", {"arm": "sonnet", "reason": "the vendor is back"})
    assert mistakes(described(app), "post", "/api/experiments/{name}/resume", done) == []
    assert not app.guard.status()["routing"]["experiments"]["m"]["arms"]["sonnet"]["stopped"]
    app.record([])
    (action,) = rows(url(app), select(actions))
    assert (action.action, action.provider, action.detail) == (
        "resume_arm", "m", "sonnet goes on: the vendor is back"
    )  # fmt: skip
    again = post(app, "experiments/m/resume", {"arm": "sonnet"})
    assert (again.status_code, again.json()["error"]["message"]) == (404, "sonnet of m is not stopped")


def test_a_visitor_resumes_an_arm_and_ends_the_experiment_on_the_page(make_app: MakeApp) -> None:
    app = open_app(make_app)
    stop(app, "sonnet")
    app.client.post("/wallie/login", content=f"token={quote(TOKEN)}&name=maria")
    for action, said in (
        ("resume_arm", "sonnet takes its units of m again"),
        ("conclude_experiment", "sonnet serves all requests of m from now on"),
    ):
        link = f"confirm?action={action}&provider=m&model=sonnet"
        assert link.replace("&", "&amp;") in app.client.get("/wallie/panels").text
        page = app.client.get(f"/wallie/{link}").text
        assert said in page
        csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
        body = f"action={action}&provider=m&model=sonnet&range=24h&reason=ok&csrf="
        for token, status in (("", 403), (quote(csrf), 303)):
            sent = app.client.post("/wallie/orders", content=body + token, headers={"origin": "http://127.0.0.1"})
            assert sent.status_code == status
        app.record([])
        assert link.replace("&", "&amp;") not in app.client.get("/wallie/panels").text
    assert app.guard.status()["routing"]["experiments"]["m"]["winner"] == "sonnet"
    assert app.client.get("/wallie/confirm?action=resume_arm&provider=m&model=sonnet").status_code == 404
    found = [(one.action, one.detail) for one in rows(url(app), select(actions).order_by(actions.c.at))]
    assert found == [("resume_arm", "sonnet goes on: ok"), ("conclude_experiment", "sonnet has won: ok")]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("experiments/m/conclude", None, 409, "no arm of m is better than the others yet; say which has won"),
        ("experiments/x/conclude", None, 404, "unknown experiment 'x'; known: m"),
        ("experiments/a%2Fb/conclude", None, 404, "unknown experiment 'a/b'; known: m"),
        ("experiments/x/resume", {"arm": "mini"}, 404, "unknown experiment 'x'; known: m"),
        ("experiments/m/resume", {"arm": "mini"}, 404, "mini of m is not stopped"),
        ("experiments/m/conclude", {"winner": "opus"}, 404, "unknown arm 'opus'; the arms of m: mini, sonnet"),
        ("feedback", {"request_id": "r1", "value": 1.5}, 422, "value"),
        ("feedback", {"request_id": "r1", "value": True}, 422, "value"),
        ("feedback", {"request_id": "", "value": 1}, 422, "request_id"),
    ],
)
def test_what_cannot_be_done_is_explained(make_app: MakeApp, path: str, body: Any, status: int, said: str) -> None:
    answer = post(open_app(make_app), path, body)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


def test_an_arm_can_be_named_the_winner_without_a_leader(make_app: MakeApp) -> None:
    app = open_app(make_app)
    assert post(app, "experiments/m/conclude", {"winner": "mini"}).status_code == 200
    assert app.guard.status()["routing"]["experiments"]["m"]["state"] == "concluded"


def test_feedback_is_recorded(make_app: MakeApp) -> None:
    app = open_app(make_app)
    given = post(app, "feedback", {"request_id": "r1", "value": 0.5})
    assert mistakes(described(app), "post", "/api/feedback", given) == []
    app.record([])
    (row,) = rows(url(app), select(feedback))
    assert (row.request_id, row.value) == ("r1", 0.5)
    assert app.client.post("/wallie/api/feedback", json={"request_id": "r1", "value": 0.5}).status_code == 401
