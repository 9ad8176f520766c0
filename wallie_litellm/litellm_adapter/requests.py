"""LiteLLM's requests and deployments: what a call sends, what it asks for, and what a deployment's model accepts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from operator import is_
from typing import Any, Final

import litellm

from wallie_litellm.core.learned_estimates import Wish
from wallie_litellm.core.operations import CHAT, GENERATING
from wallie_litellm.core.prompt_size import MANY, PromptSize, SizeTally, json_size
from wallie_litellm.litellm_adapter.price_map import price_entry

_OUTPUT_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# Where Gemini's and Bedrock's own formats have them.
_SETTINGS: Final = ("config", "generationConfig", "generation_config", "inferenceConfig", "textGenerationConfig")
_INNER_OUTPUT_LIMITS: Final = (*_OUTPUT_LIMITS, "maxOutputTokens", "maxTokens", "maxTokenCount")
_WITH_INNER: Final = frozenset({*_SETTINGS, "json"})
_WISHES: Final = frozenset({*_OUTPUT_LIMITS, *_WITH_INNER, "best_of", "n"})  # what says anything of the output
_MARKS: Final = ("cache_control", "cache_control_injection_points")  # for the vendor's cache, beside the messages
_MOST_KEPT: Final = 8  # lists of tools, and schemas, whose size is kept
_COUNTED_AGAIN: Final = 64  # uses of a kept size: what is deep in an object may have been changed in place


def output_limit(params: Mapping[str, Any]) -> int | None:
    """The largest output that these parameters allow in tokens, over all choices; ``None`` when nothing limits it."""
    most: int | None = None
    for name in _OUTPUT_LIMITS:
        if name in params and isinstance(limit := params[name], int) and (most is None or limit > most):
            most = limit
    if most is not None:
        return most * choices_of(params)
    return None if _WITH_INNER.isdisjoint(params) else _inner_limit(params)


def choices_of(params: Mapping[str, Any]) -> int:
    """The answers that are asked for: ``n``, or the candidates of ``best_of``."""
    choices = params.get("n")
    if "best_of" in params and isinstance(best_of := params["best_of"], int):
        choices = max(best_of, choices if isinstance(choices, int) else 1)
    return choices if isinstance(choices, int) and choices > 1 else 1


def _inner_limit(params: Mapping[str, Any]) -> int | None:
    if "json" in params and isinstance(body := params["json"], Mapping):
        return output_limit(body)
    for name in _SETTINGS:
        settings = params.get(name)
        if isinstance(settings, Mapping):
            stated = [limit for limit in map(settings.get, _INNER_OUTPUT_LIMITS) if isinstance(limit, int)]
            if stated:
                return max(stated)
    return None


def wish_of(arguments: Mapping[str, Any], parameters: Mapping[str, Any], prompt: Any, operation: str) -> Wish:
    """What a call asks for; ``parameters`` are the deployment's, which hold where the caller says nothing.

    ``operation`` as in :attr:`wallie_litellm.events.Settled.operation`.
    """
    if operation not in GENERATING:
        return _NO_ANSWER
    if operation == CHAT and _WISHES.isdisjoint(arguments) and _WISHES.isdisjoint(parameters):
        return _ANY_ANSWER
    limit, choices = output_limit(arguments), choices_of(arguments)
    if limit is None:
        limit = output_limit(parameters)
        if limit is None and choices == 1 and operation == CHAT:
            return _ANY_ANSWER
    if operation == "text_completion" and type(prompt) is list and prompt and not isinstance(prompt[0], int):
        choices *= len(prompt)  # each prompt of a batch has an answer of its own
        limit = None if limit is None else limit * len(prompt)
    return Wish(limit, choices)


_NO_ANSWER: Final = Wish(generates=False)
_ANY_ANSWER: Final = Wish()


def is_marked(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Whether a call has the vendor's cache used, by what is said beside its messages."""
    return any(map(arguments.get, _MARKS)) or any(map(parameters.get, _MARKS))


class SizeReader:
    """Reads the sizes of requests; that of a list of tools or a schema is kept, for when the same one is sent again."""

    def __init__(self) -> None:
        self._kept: dict[int, _KeptSize] = {}

    def size_of(self, arguments: Mapping[str, Any], name: str) -> PromptSize:
        """The size of all that a call sends; its prompt is the argument ``name``. Never raises."""
        prompt = arguments.get(name)
        if type(prompt) is list and _FIELDS.isdisjoint(arguments):
            characters = 0
            for message in prompt:
                # The usual case: a role and a text, without any further look.
                if type(message) is not dict or len(message) != 2 or type(text := message.get("content")) is not str:
                    break
                characters += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            else:
                return PromptSize(characters)
        return self._walk(arguments, name, prompt)

    def _walk(self, arguments: Mapping[str, Any], name: str, prompt: Any) -> PromptSize:
        tally = SizeTally()
        is_walked = isinstance(prompt, list | tuple) and not _are_tokens(prompt) and len(prompt) <= MANY
        parts = prompt if is_walked else (prompt,)
        for part in parts:
            _try(tally.add, part)
        if name == "json" and isinstance(prompt, Mapping):
            return tally.size()  # a body in a vendor's own format has all its fields
        for field in _FIELDS & arguments.keys():
            if field != name and (value := arguments[field]):
                _try(self._add_field, tally, field, value)
        return tally.size()

    def _add_field(self, tally: SizeTally, field: str, value: Any) -> None:
        if field in _CONTENT:
            tally.add(value)
        elif field in _SETTINGS:
            for name in _CONTENT & value.keys():
                tally.add(value[name])
            for name in (_TOOLS | _INNER_SCHEMAS) & value.keys():
                tally.add_json(_schema_of(value[name]))
        else:
            self._add_kept(tally, value)

    def _add_kept(self, tally: SizeTally, value: Any) -> None:
        """Count JSON, or a class that stands for its schema; its size is kept."""
        kept = self._kept.get(id(value))
        if kept is None or not kept.holds(value):
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[id(value)] = kept = _KeptSize(value)
        tally.structured += kept.size
        tally.marked = tally.marked or kept.marked


class _KeptSize:
    """The size of one list of tools, or of one schema. It holds the object, so that its id is not given to another."""

    __slots__ = ("_items", "_uses", "_value", "marked", "size")

    def __init__(self, value: Any) -> None:
        self._value = value
        self._items = tuple(_items_of(value))
        self._uses = 0
        self.size = json_size(_schema_of(value))
        self.marked = any(isinstance(tool, Mapping) and "cache_control" in tool for tool in self._items)

    def holds(self, value: Any) -> bool:
        """Whether this is the same object with the same items in it."""
        self._uses += 1
        if self._value is not value or self._uses >= _COUNTED_AGAIN:
            return False
        items = _items_of(value)
        return len(items) == len(self._items) and all(map(is_, items, self._items))


def _items_of(value: Any) -> Collection[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


# What is sent beside the prompt, on any wire: as content, as tools, or as a schema.
_CONTENT: Final = frozenset(
    {"system", "instructions", "systemInstruction", "system_instruction", "suffix", "query", "prediction", "documents"}
)
_TOOLS: Final = frozenset({"tools", "functions", "toolConfig"})
_SCHEMAS: Final = frozenset({"response_format", "text", "text_format", "output_format", "output_config"})
_INNER_SCHEMAS: Final = frozenset({"responseSchema", "response_schema", "responseJsonSchema", "response_json_schema"})
_FIELDS: Final = _CONTENT | _TOOLS | _SCHEMAS | frozenset(_SETTINGS)


def _are_tokens(prompt: Sequence[Any]) -> bool:
    return bool(prompt) and type(prompt[0]) is int


def _schema_of(value: Any) -> Any:
    """The schema of a response format that is given as a class."""
    if isinstance(value, type):
        describe = getattr(value, "model_json_schema", None)
        return None if describe is None else describe()
    return value


def _try(read: Callable[..., object], *arguments: Any) -> None:
    """Read one part of a request; one of an unknown shape is left out, as the call is LiteLLM's to refuse."""
    with suppress(Exception):  # of any kind: an application's own objects are looked into
        read(*arguments)


def accepts_prefill(deployment: Mapping[str, Any]) -> bool:
    """Whether a deployment's model goes on from the beginning of an answer, by its ``model_info`` or LiteLLM's list."""
    name, params = "supports_assistant_prefill", deployment["litellm_params"]
    stated = (deployment.get("model_info") or {}).get(name)
    if stated is not None:
        return bool(stated)
    try:
        return bool(litellm.get_model_info(params["model"], params.get("custom_llm_provider")).get(name))
    except Exception:  # noqa: BLE001 # LiteLLM does not list the model
        return False


def most_output_of(model: str, vendor: str) -> int | None:
    """The most tokens that a model can generate, as LiteLLM lists it."""
    most = (price_entry(litellm.model_cost, model, vendor) or {}).get("max_output_tokens")
    return most if isinstance(most, int) and most > 0 else None
