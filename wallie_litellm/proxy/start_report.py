"""What a proxy's process says when it is guarded: which file, which limits, and where ledger and page are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from wallie_litellm.config import RouterConfig
from wallie_litellm.config.values import mask_url
from wallie_litellm.core.scrubbing import one_line

ADDRESS: Final = "WALLIE_PROXY_ADDRESS"  # where the proxy listens, for its processes: `wallie-litellm proxy` sets it
PAGE: Final = "/wallie/"
_NAMED: Final = 5  # providers that are named; of more, the number alone


def start_report(config: RouterConfig, *, processes: int = 1, address: str = "", page: bool = True) -> str:
    """The lines, put together.

    ``processes`` are those that divide the limits among them, ``address`` is the proxy's where it is known, and
    ``page`` says whether the operator's page is served.
    """
    return "\n".join(f"wallie-litellm: {one_line(line)}" for line in _lines(config, processes, address, page))


def _lines(config: RouterConfig, processes: int, address: str, page: bool) -> Iterator[str]:
    yield f"guarded by {config.path.resolve()}: {_groups(config)}, {_providers(config)}"
    shown = f"page {address}{PAGE}" if page else "no page"
    yield f"{_limits(config, processes)}; {_ledger(config)}; {shown}"
    if processes > 1 and config.wallie.store.url == "memory":
        alone = "by itself" if config.wallie.reload == "watch" else "only with reload: watch"
        yield f"each of {processes} workers has its own breakers and alerts, and takes up an edited file {alone}"
    else:
        yield "after an edit of the file: wallie-litellm reload, or SIGHUP"


def _groups(config: RouterConfig) -> str:
    count = len(config.groups)
    return f"{count} model group{'' if count == 1 else 's'}" if count else "models of the proxy's database"


def _providers(config: RouterConfig) -> str:
    from wallie_litellm.litellm_adapter.providers import Providers  # late: it imports LiteLLM

    providers = Providers()
    providers.learn(config.model_list)
    names = sorted({providers.destination_of(entry).provider for entry in config.model_list})
    shown = f" ({', '.join(names)})" if 0 < len(names) <= _NAMED else ""
    return f"{len(names)} provider{'' if len(names) == 1 else 's'}{shown}"


def _limits(config: RouterConfig, processes: int) -> str:
    url = config.wallie.store.url
    if url != "memory":
        return f"limits shared through {mask_url(url)}"
    return "limits in memory" if processes == 1 else f"1/{processes} of every limit, in memory"


def _ledger(config: RouterConfig) -> str:
    if config.wallie.ledger is None:
        return "no ledger"
    from wallie_litellm.ledger.engine import file_of  # late: SQLAlchemy takes a moment to import

    url = config.wallie.ledger.url
    return f"ledger {file_of(url) or mask_url(url)}"
