"""Runs scripts as processes of their own, without having each of them import LiteLLM again.

Imports the modules that its arguments name. Then reads requests from its standard input, a JSON object per line, and
answers with one. A forked child leaves the loop and goes on as the script, in ``__main__`` and at the top of the stack:
the interpreter handles its exceptions and its end, as it does for any script.
"""

import gc
import importlib
import json
import os
import sys

ended = {}  # exit codes by process id


def exit_code(pid):
    """The exit code of a child, or None while it runs. Until it is asked for, the child's id belongs to no other."""
    if pid not in ended:
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if not reaped:
            return None
        ended[pid] = os.waitstatus_to_exitcode(status)
    return ended[pid]


gc.disable()  # an import makes no garbage that is worth looking for
for module in sys.argv[1:]:
    importlib.import_module(module)
gc.freeze()  # otherwise the last collection of a child would copy all of these pages
gc.enable()
print(json.dumps("ready"), flush=True)  # noqa: T201 - an answer
while line := sys.stdin.readline():
    request = json.loads(line)
    if "ended" in request:
        print(json.dumps(exit_code(request["ended"])), flush=True)  # noqa: T201
        continue
    child = os.fork()
    if child == 0:
        break
    print(json.dumps(child), flush=True)  # noqa: T201
else:
    sys.exit()

os.chdir(request["folder"])
os.environ.clear()
os.environ.update(request["environment"])
sys.argv[:] = request["arguments"]
__file__ = sys.argv[0]  # which workers that this process spawns import as their main module
output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(output, 1)
os.dup2(output, 2)
exec(compile(request["script"], request["arguments"][0], "exec"))  # noqa: S102 - that is what it is for
