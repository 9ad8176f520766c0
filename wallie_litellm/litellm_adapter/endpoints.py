"""The Router's methods that make one call to a model: what each asks of a provider, and under which argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from wallie_litellm.core.operations import BEDROCK, CHAT, GENERATE_CONTENT, PASS_THROUGH, RESPONSES


class Endpoint(NamedTuple):
    """One method of the Router.

    ``operation`` as in :attr:`wallie_litellm.events.Settled.operation`. ``parameters`` are the names of its positional
    arguments, in order. ``prompt`` is the argument that holds what is sent, ``metadata`` the one under which LiteLLM
    keeps the request's metadata. ``streams``: the answer is a stream, whatever the arguments.
    """

    name: str
    operation: str
    parameters: Sequence[str] = ("model",)
    prompt: str = "input"
    metadata: str = "metadata"
    streams: bool = False

    def operation_of(self, arguments: Mapping[str, Any]) -> str:
        """The operation of one call; of a request in a vendor's own format, its path says it."""
        if self.operation == PASS_THROUGH and str(arguments.get("endpoint")).endswith(_BEDROCK_PATHS):
            return BEDROCK
        return self.operation

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of a call, by name.

        Raises:
            TypeError: there are more than the method has, or one comes twice.
        """
        if len(args) > len(self.parameters):
            raise TypeError(f"{self.name}() takes at most {len(self.parameters)} positional arguments")
        positional = dict(zip(self.parameters, args, strict=False))
        if twice := positional.keys() & kwargs.keys():
            raise TypeError(f"{self.name}() got multiple values for argument {min(twice)!r}")
        return {**positional, **kwargs}


_BEDROCK_PATHS: Final = ("/converse", "/converse-stream", "/invoke", "/invoke-with-response-stream")
_LITELLM_METADATA: Final = "litellm_metadata"  # where the wire format has a ``metadata`` of its own

ASYNC: Final[Mapping[str, Endpoint]] = {
    one.name: one
    for one in (
        Endpoint("acompletion", CHAT, ("model", "messages", "stream"), "messages"),
        Endpoint("atext_completion", "text_completion", ("model", "prompt"), "prompt"),
        Endpoint("aembedding", "embedding", ("model", "input")),
        Endpoint("aresponses", RESPONSES, metadata=_LITELLM_METADATA),
        Endpoint("anthropic_messages", "messages", prompt="messages", metadata=_LITELLM_METADATA),
        Endpoint("aanthropic_messages", "messages", prompt="messages", metadata=_LITELLM_METADATA),
        Endpoint("agenerate_content", GENERATE_CONTENT, prompt="contents", metadata=_LITELLM_METADATA),
        Endpoint(
            "agenerate_content_stream", GENERATE_CONTENT, prompt="contents", metadata=_LITELLM_METADATA, streams=True
        ),
        Endpoint("aimage_generation", "aimage_generation", ("prompt", "model"), "prompt"),
        Endpoint("aimage_edit", "aimage_edit", prompt="prompt", metadata=_LITELLM_METADATA),
        Endpoint("atranscription", "atranscription", ("file", "model"), ""),
        Endpoint("aspeech", "aspeech", ("model", "input", "voice")),
        Endpoint("arerank", "arerank", ("model", "query"), "documents"),
        Endpoint("amoderation", "amoderation", ("model", "input")),
        Endpoint("allm_passthrough_route", PASS_THROUGH, prompt="json", metadata=_LITELLM_METADATA),
    )
}
SYNC: Final[Mapping[str, Endpoint]] = {
    one.name: one
    for one in (
        Endpoint("completion", CHAT, ("model", "messages"), "messages"),
        Endpoint("text_completion", "text_completion", ("model", "prompt"), "prompt"),
        Endpoint("embedding", "embedding", ("model", "input")),
        Endpoint("image_generation", "image_generation", ("prompt", "model"), "prompt"),
    )
}
