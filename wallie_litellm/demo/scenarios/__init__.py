"""The specification's scenarios, over real HTTP and in real time.

What a scenario expects comes from the configuration: with the shipped file, the specification's numbers.

``limits``    requests that wait: a minute's limit, tokens, days, patience and deadlines
``failures``  the breaker, the chains, the retries
``leaks``     nothing stays reserved, whatever happens to requests
``quota``     alerts and the ledger
"""

from collections.abc import Sequence

from wallie_litellm.demo.findings import Scenario
from wallie_litellm.demo.scenarios.failures import breaker, chains, retries
from wallie_litellm.demo.scenarios.leaks import nothing_leaks
from wallie_litellm.demo.scenarios.limits import rate_limit, tokens_and_days, wait_or_fall_back
from wallie_litellm.demo.scenarios.quota import quota_alerts

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("Rate limit", "a minute's requests and a fifth more, all at once", rate_limit),
    Scenario("Tokens and days", "a small account runs out of tokens, then of its day", tokens_and_days),
    Scenario("Circuit breaker", "openai fails, is not called, and comes back", breaker),
    Scenario("Chains", "providers go down one after the other", chains),
    Scenario("Retries", "errors that pass, errors that stay, and a 429 with a long Retry-After", retries),
    Scenario("Wait or fall back", "a chat that waits 2 s at most while another could answer", wait_or_fall_back),
    Scenario(
        "Nothing leaks", "300 requests with faults, a third of them cancelled, streams of all kinds", nothing_leaks
    ),
    Scenario("Quota and ledger", "a limit runs out; PostHog receives it once, the ledger every attempt", quota_alerts),
)


def named(names: Sequence[str]) -> tuple[Scenario, ...]:
    """The scenarios with these names, such as ``tokens-and-days``; all of them where none is named.

    Raises:
        ValueError: there is no scenario of such a name.
    """
    known = {one.title.lower().replace(" ", "-"): one for one in SCENARIOS}
    wrong = [name for name in names if name not in known]
    if wrong:
        raise ValueError(f"no scenario {', '.join(map(repr, wrong))}; there are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) or SCENARIOS
