"""What a router has put elsewhere, and takes away when it is gone."""

from __future__ import annotations

from wallie_litellm.guard.guard import Guard
from wallie_litellm.guard.router_view import RouterView
from wallie_litellm.litellm_adapter.inner_router import InnerRouter


class Attached:
    """A router's present view in its guard, and its callbacks in LiteLLM. With ``close``, the guard is its alone."""

    def __init__(self, guard: Guard, *, close: bool) -> None:
        self._guard = guard
        self._close = close
        self._view: RouterView | None = None
        self._inner: InnerRouter | None = None

    def replace(self, view: RouterView, inner: InnerRouter) -> None:
        """These are in the place of the earlier ones."""
        if self._view is None:
            self._guard.add_router(view)
        else:
            self._guard.replace_router(self._view, view)
        self._view, self._inner = view, inner

    def discard(self) -> None:
        """Take the router's callbacks out of LiteLLM."""
        if self._inner is not None:
            self._inner.discard()

    def drop(self) -> None:
        """The router is gone: what it had put into LiteLLM goes too, and its guard if no other can use it."""
        if self._view is not None:
            self._guard.remove_router(self._view)
        self.discard()
        if self._close:
            self._guard.close()
