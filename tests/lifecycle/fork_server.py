"""Runs scripts as processes of their own, without having each of them import LiteLLM again.

Reads requests from its standard input, a JSON object per line, and answers with one. A forked child leaves the loop
and goes on as the script, in ``__main__`` and at the top of the stack: the interpreter handles its exceptions and its
end, as it does for any script.
"""

import gc
import json
import os
import signal
import sys
import time

# The slowest imports of a script, some of them lazy. None of them starts a thread.
import aiosqlite  # noqa: F401
import openai.resources  # noqa: F401
import sqlalchemy.dialects.sqlite.aiosqlite  # noqa: F401

import wallie_litellm.guard.router
import wallie_litellm.ledger.restore
import wallie_litellm.ledger.writer  # noqa: F401


def reap(pid: int, seconds: float) -> int:
    """Wait for a child, and kill it after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


gc.freeze()  # otherwise the last collection of a child would copy all of these pages
print(json.dumps("ready"), flush=True)  # noqa: T201 - an answer
while line := sys.stdin.readline():
    request = json.loads(line)
    if "wait" in request:
        print(json.dumps(reap(request["wait"], request["seconds"])), flush=True)  # noqa: T201
        continue
    child = os.fork()
    if child == 0:
        break
    print(json.dumps(child), flush=True)  # noqa: T201
else:
    sys.exit()

os.chdir(request["folder"])
output = os.open("output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(output, 1)
os.dup2(output, 2)
exec(compile(request["script"], "script.py", "exec"))  # noqa: S102 - that is what it is for
