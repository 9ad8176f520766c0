import asyncio

from event_samples import ended, failed, settled

from wallie_litellm.config import parse_config
from wallie_litellm.rehearse.answers import PlannedAnswer
from wallie_litellm.rehearse.from_ledger import ledger_traffic
from wallie_litellm.rehearse.plan import RehearsalPlan
from wallie_litellm.rehearse.traffic import Arrival, arrivals_of, write_requests

FILE = {"model_list": [{"model_name": "gpt-4o", "litellm_params": {"model": "openai/gpt-4o"}}]}
SINCE = 1_000_000.0
USUAL = (600, 200)


def attempt(number: int, **changes):
    return settled(id=f"a{number}", at=SINCE + number, request_id=f"r{number}", **changes)


def request(number: int, *attempts, **changes):
    own = {"id": f"e{number}", "at": SINCE + number, "request_id": f"r{number}", "latency_ms": 4_000.0}
    return ended(*attempts, **{**own, "model": "gpt-4o", "feature": "chat", **changes})


def test_the_ledgers_requests_come_again_at_their_times_with_their_sizes_and_features(ledger_file, tmp_path):
    served = attempt(10, prompt_tokens=900, completion_tokens=70, latency_ms=3_000.0, first_token_ms=400.0, stream=True)
    hedge = attempt(10, prompt_tokens=900, completion_tokens=70, latency_ms=3_500.0)._replace(id="a10b", number=2)
    failing = failed(id="a30", at=SINCE + 30, request_id="r30")
    events = [
        *(served, hedge, request(10, served, stream=True)),
        *(failing, request(30, failing, success=False, feature=None)),
        request(40, model="gone"),
        request(50, operation="embedding"),
        request(60, cache_hit=True),
        request(7_000),
    ]
    found = asyncio.run(ledger_traffic(ledger_file(events), {"gpt-4o"}, SINCE, SINCE + 3_600, USUAL))
    assert found.left_out == 2
    assert found.arrivals == [
        Arrival(6.0, "chat", "gpt-4o", 900, PlannedAnswer(70, 3.0, 0.4), True),
        Arrival(26.0, None, "gpt-4o", 600, PlannedAnswer(200, 3.0, 0.5), False),
    ]
    write_requests(found.arrivals, file := tmp_path / "requests.jsonl")
    plan = RehearsalPlan("router_config.yaml", 20.0, 1, SINCE, requests=str(file))
    assert arrivals_of(plan, parse_config(FILE), ["gpt-4o"]) == found.arrivals[:1]
