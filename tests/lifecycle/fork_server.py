"""Runs scripts as processes of their own, without having each of them import LiteLLM again.

Reads orders from its standard input, a JSON object per line, and answers with one. A forked child leaves the loop and
goes on as the script, in ``__main__`` and at the top of the stack: what it raises, and how it ends, is then the
interpreter's own affair, as it is for any script.
"""

import gc
import json
import os
import signal
import sys
import time

# What takes a script most of its time, some of it imported only when it is first needed. None of it starts a thread.
import aiosqlite  # noqa: F401
import openai.resources  # noqa: F401
import sqlalchemy.dialects.sqlite.aiosqlite  # noqa: F401

import wallie_litellm.guard.router
import wallie_litellm.ledger.restore
import wallie_litellm.ledger.writer  # noqa: F401


def reap(pid: int, seconds: float) -> int:
    """Wait for a child; one that takes longer than it may is killed."""
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


gc.freeze()  # a child that looked through all of that at its end would copy it
print(json.dumps("ready"), flush=True)  # noqa: T201 - an answer
while line := sys.stdin.readline():
    order = json.loads(line)
    if "wait" in order:
        print(json.dumps(reap(order["wait"], order["seconds"])), flush=True)  # noqa: T201
        continue
    child = os.fork()
    if child == 0:
        break
    print(json.dumps(child), flush=True)  # noqa: T201
else:
    sys.exit()

os.chdir(order["folder"])
output = os.open("output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(output, 1)
os.dup2(output, 2)
exec(compile(order["script"], "script.py", "exec"))  # noqa: S102 - that is what it is for
