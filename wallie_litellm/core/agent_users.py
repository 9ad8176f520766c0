"""What coding agents name as the user of a request: a device with its account, and the session."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Final, NamedTuple

# Claude Code's ``metadata.user_id``: a device, an account that may be empty, and a session, which is new each time.
# Newer versions write the same three as JSON.
_CLAUDE_CODE: Final = re.compile(r"user_([0-9a-f]+)_account_([0-9a-f-]*)_session_([0-9a-f-]+)")


class AgentUser(NamedTuple):
    """The ``user``, who is the same in all sessions, and the ``session``."""

    user: str
    session: str


def agent_user(text: object) -> AgentUser | None:
    """Both, as an agent writes them in one text; ``None`` for any other user."""
    if not isinstance(text, str):
        return None
    if (found := _CLAUDE_CODE.fullmatch(text)) is not None:
        return _named(*found.groups())
    if text.startswith("{"):
        with suppress(ValueError, RecursionError):
            stated = json.loads(text)
            if isinstance(stated.get("device_id"), str) and "session_id" in stated:
                return _named(stated["device_id"], str(stated.get("account_uuid") or ""), str(stated["session_id"]))
    return None


def _named(device: str, account: str, session: str) -> AgentUser:
    return AgentUser("_".join(("user", device, "account", account) if account else ("user", device)), session)
