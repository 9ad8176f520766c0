"""What a vendor says of its limits: in which headers, and in its refusals.

LiteLLM (1.106 to 1.110) drops the headers of ``/v1/messages`` in one piece, of text completions, moderations and
reranking; those of Groq's chat in one piece it keeps from 1.109 on. Streams and errors have them on every endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from wallie_litellm.core.limit_headers import VOCABULARIES, Vocabulary
from wallie_litellm.core.limit_sightings import Sighting
from wallie_litellm.core.limit_texts import sightings_in_answer

REFUSALS: Final = frozenset({413, 429})  # statuses of answers that may name a limit
_SILENT: Final = Vocabulary((), "")


class Refusal(NamedTuple):
    """What an answer that refuses a call for a limit says of limits: in its text, and its headers."""

    in_text: tuple[Sighting, ...]
    headers: Mapping[str, str]


def vocabulary_of(model: str, parameters: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of the vendor of a deployment; one without headers where the vendor tells nothing in any."""
    from wallie_litellm.litellm_adapter.providers import vendor_of  # late: it imports LiteLLM, which takes seconds

    return VOCABULARIES.get(vendor_of(model, parameters) or "", _SILENT)


def refusal_in(error: BaseException) -> Refusal:
    """What an error says of limits; its text counts where the provider's own status is that of a limit."""
    from wallie_litellm.litellm_adapter.error_evidence import causes_of  # late, as above
    from wallie_litellm.litellm_adapter.http_answer import answer_behind

    answer = answer_behind(error, tuple(causes_of(error)))
    is_refusal = answer.status is None or answer.status in REFUSALS
    return Refusal(sightings_in_answer(answer.body) if is_refusal else (), answer.headers)
