"""The requests that a ledger has, as those of a rehearsal: rates, features, models, sizes, times. It has no content."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from wallie_litellm.core.operations import GENERATING
from wallie_litellm.ledger.past_requests import PastRequest, past_requests
from wallie_litellm.ledger.reader import open_reader
from wallie_litellm.rehearse.answers import PlannedAnswer, usual_answer
from wallie_litellm.rehearse.traffic import Arrival


class LedgerTraffic(NamedTuple):
    """The arrivals, in order, and how many requests are not among them: the file has not their model, or no chat."""

    arrivals: list[Arrival]
    left_out: int


async def ledger_traffic(
    url: str, names: Collection[str], since: float, until: float, usual_tokens: tuple[int, int]
) -> LedgerTraffic:
    """What the ledger at ``url`` has between two Unix times, for models of these ``names``.

    ``usual_tokens`` are those of a request that was not answered.

    Raises:
        ConfigError: there is no ledger to read.
    """
    arrivals, left_out = [], 0
    async with open_reader(url) as engine:
        async for one in past_requests(engine, since, until):
            if one.operation not in GENERATING or one.model not in names:
                left_out += 1
            else:
                arrivals.append(_arrival(one, since, usual_tokens))
    return LedgerTraffic(sorted(arrivals, key=lambda arrival: arrival.at), left_out)


def _arrival(one: PastRequest, since: float, usual_tokens: tuple[int, int]) -> Arrival:
    prompt, output = one.prompt_tokens or usual_tokens[0], one.completion_tokens or usual_tokens[1]
    answer = usual_answer(output, 1.0)
    if one.seconds is not None:
        first = answer.first if one.first_token is None else one.first_token
        answer = PlannedAnswer(output, one.seconds, min(first, one.seconds))
    return Arrival(max(0.0, one.at - since), one.feature, one.model, prompt, answer, one.stream)
