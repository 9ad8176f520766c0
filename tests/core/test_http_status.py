from __future__ import annotations

import pytest

from wallie_litellm.core.http_status import CALLER_STATUSES, FAULTS, KEY_REFUSED, PROVIDER_4XX, StatusFault, fault_of


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (200, None),
        (302, None),
        (400, StatusFault.CALLER),
        (401, StatusFault.ACCOUNT),
        (408, StatusFault.TRANSIENT),
        (418, None),
        (429, StatusFault.RATE_LIMIT),
        (500, StatusFault.SERVER),
        (529, StatusFault.SERVER),
    ],
)
def test_a_status_is_the_fault_of(status: int, fault: StatusFault | None) -> None:
    assert fault_of(status) is fault


def test_the_sets_that_decisions_are_taken_from() -> None:
    assert {400, 404, 405, 413, 415, 422} == CALLER_STATUSES
    assert {401, 403} == KEY_REFUSED
    assert {401, 402, 403, 408, 409, 429} == PROVIDER_4XX
    assert all(400 <= status < 500 for status in FAULTS)
