"""The size of what is sent to a model: text, JSON, tokens and media, in the shape of any wire.

Everything that a vendor turns into tokens counts. What it does not, such as ids, signatures and encrypted reasoning,
does not count, and no file counts by the length of its base64. Nothing here raises, whatever the shape.

Of a list of more than :data:`MANY` items, as of texts to embed, so many stand for all: one of each stretch, at changing
places in it. So the work is bounded, and the error is about a hundredth where lengths differ as those of texts do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from math import ceil
from typing import Any, Final, NamedTuple

from wallie_litellm.core.media_headers import audio_seconds, image_size, pdf_pages, text_bytes, video_seconds
from wallie_litellm.core.media_tokens import DEFAULT_RATES, MediaRates, Medium

BYTES_PER_TOKEN: Final = 4  # of UTF-8; of English text, characters
MANY: Final = 5_000  # items of a list that are looked into: some milliseconds. A batch of embeddings has 2,048 at most
_SAMPLED: Final = MANY // 4  # nodes that taking a sample counts for
_GOLDEN: Final = 0.618033988749895  # its multiples' fractions are spread evenly, whatever pattern a list has
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_MOST_NODES: Final = 50_000  # mappings and lists that are looked into: an object may contain itself
_MOST_DEPTH: Final = 60  # levels
_SHORT: Final = 256  # tokens below which a vendor's own additions to a prompt weigh more than its text


class PromptSize(NamedTuple):
    """What is sent: bytes of ``text`` and of ``structured`` text (JSON), ``tokens`` that are tokens already, and media.

    ``marked``: parts of it are marked for the vendor's cache.
    """

    text: int = 0
    structured: int = 0
    tokens: int = 0
    media: tuple[Medium, ...] = ()
    marked: bool = False

    def estimate(self, rates: MediaRates = DEFAULT_RATES) -> int:
        """The tokens, as far as characters say them."""
        whole = ceil((self.text + self.structured) / BYTES_PER_TOKEN) + self.tokens
        return whole + rates.tokens(self.media) if self.media else whole

    def kind(self, estimate: int) -> str:
        """What most of it is: prompts of a kind are over- or underestimated alike."""
        if estimate < _SHORT:
            return "short"
        read = (self.text + self.structured) / BYTES_PER_TOKEN
        if self.media and read < estimate / 2:
            return "media"
        return "structured" if self.structured > self.text else "text"


def width_of(text: str) -> int:
    """The length of a text as UTF-8: scripts that need more bytes need more tokens too."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def json_size(value: Any) -> int:
    """About the length of ``value`` as JSON; an iteration, so that depth is no matter."""
    total, nodes, stack = 0, 0, [value]
    while stack and nodes < _MOST_NODES:
        node = stack.pop()
        kind = type(node)
        if kind is str:
            total += (len(node) if node.isascii() else width_of(node)) + 3  # quotes and a comma
        elif kind is dict:
            nodes += 1
            for key, inner in node.items():
                total += len(key) + 4 if type(key) is str else 4  # quotes, a colon and a comma
                stack.append(inner)
        elif kind is list or kind is tuple:
            nodes += 1
            if len(node) <= MANY:
                stack.extend(node)
                continue
            nodes += _SAMPLED
            sample = _sample_of(node)
            if _SCALARS.issuperset(map(type, sample)):
                total += round(json_size(sample) * len(node) / MANY)
            else:
                stack.extend(node)
        elif isinstance(node, int | float) or node is None:
            total += 4
        else:
            nodes += 1
            inside = _fields_of(node)
            if inside is not None:
                stack.append(inside)
    return total


def _sample_of(values: Sequence[Any]) -> list[Any]:
    """:data:`MANY` of a longer list's items, one of each stretch of the same length."""
    stretch = len(values) / MANY
    return [values[int((place + place * _GOLDEN % 1) * stretch)] for place in range(MANY)]


class SizeTally:
    """Adds up a prompt's size while its parts are walked through."""

    __slots__ = ("_nodes", "marked", "media", "structured", "text", "tokens")

    def __init__(self) -> None:
        self.text = self.structured = self.tokens = 0
        self.media: list[Medium] = []
        self.marked = False
        self._nodes = 0

    def size(self) -> PromptSize:
        """The sum so far."""
        return PromptSize(self.text, self.structured, self.tokens, tuple(self.media), self.marked)

    def add(self, value: Any, depth: int = 0) -> None:
        """Count text, a message, a part, or a list of these."""
        kind = type(value)
        if kind is str:
            self.text += width_of(value)
            return
        self._nodes += 1
        if depth > _MOST_DEPTH or self._nodes > _MOST_NODES:
            return
        if kind is list or kind is tuple:
            if value and type(value[0]) is int:
                self.tokens += len(value)
                return
            if len(value) > MANY:
                self._add_many(value, depth)
                return
            for item in value:
                self.add(item, depth + 1)
        elif kind is dict:
            self._add_fields(value, depth)
        elif (inside := _fields_of(value)) is not None:
            self._add_fields(inside, depth)

    def _add_many(self, values: Sequence[Any], depth: int) -> None:
        part = SizeTally()
        part._nodes = self._nodes + _SAMPLED
        for item in _sample_of(values):
            part.add(item, depth + 1)
        each = len(values) / MANY
        self.text += round(part.text * each)
        self.structured += round(part.structured * each)
        self.tokens += round(part.tokens * each)
        self.media += islice(cycle(part.media), min(round(len(part.media) * each), MANY))
        self.marked = self.marked or part.marked
        self._nodes = part._nodes

    def _add_fields(self, part: Mapping[Any, Any], depth: int) -> None:
        for key, value in part.items():
            if value is None:
                continue
            reader = _READERS.get(key) if type(key) is str else None
            if reader is not None:
                reader(self, part, value, depth)
            elif type(value) is str:
                if value.startswith("data:") and key not in _PROSE:
                    self.add_file(None, value)
                else:
                    self.text += width_of(value)
            else:
                self.add(value, depth + 1)

    def add_json(self, value: Any) -> None:
        """Count a value that is sent as JSON."""
        if type(value) is str:
            self.structured += width_of(value)
        else:
            self.structured += json_size(value)

    def add_file(
        self, kind: str | None, data: Any, mime: Any = None, *, low: bool = False, seconds: Any = None
    ) -> None:
        """Count a file: its ``data`` as bytes, base64, a data URL, or the address of a file that is elsewhere."""
        mime = mime if isinstance(mime, str) else _mime_in(data)
        if (mime.startswith("text/") or mime in _TEXT_TYPES) and not _is_address(data):
            self.text += text_bytes(data)
            return
        family = mime.partition("/")[0]
        kind = family if family in _KINDS else kind or "document"
        if kind == "image":
            width, height = image_size(data) or (None, None)
            self.media.append(Medium(kind, width, height, low=low))
        elif kind == "audio":
            self.media.append(Medium(kind, seconds=audio_seconds(data) if seconds is None else seconds))
        elif kind == "video":
            self.media.append(Medium(kind, seconds=video_seconds(data) if seconds is None else seconds, low=low))
        else:
            self.media.append(Medium("document", pages=pdf_pages(data)))


_KINDS: Final = frozenset({"image", "audio", "video"})
_TEXT_TYPES: Final = frozenset({"application/json", "application/xml", "application/csv"})
_TEXT_FORMATS: Final = frozenset({"txt", "md", "csv", "html", "json", "xml"})  # of Bedrock's documents
_PROSE: Final = frozenset({"text", "content", "thinking", "input"})  # text, whatever it begins with


def _fields_of(value: Any) -> Mapping[Any, Any] | None:
    """What an object of an SDK holds; ``None`` for anything that is no container of fields."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, type | bytes | bytearray) or callable(value):
        return None
    inside = getattr(value, "__dict__", None)
    if not isinstance(inside, dict):
        return None
    extra = getattr(value, "__pydantic_extra__", None)  # fields that the SDK does not know, such as reasoning_content
    return {**inside, **extra} if isinstance(extra, dict) and extra else inside


def _mime_in(data: Any) -> str:
    """The media type in a data URL, else the one that an address ends in."""
    if not isinstance(data, str):
        return ""
    if data.startswith("data:"):
        return data[5 : 5 + 64].partition(",")[0].partition(";")[0]
    suffix = data[-8:].rpartition(".")[2].lower() if _is_address(data) else ""
    return _BY_SUFFIX.get(suffix, "")


_BY_SUFFIX: Final = {
    "mp4": "video/mp4", "mov": "video/mov", "webm": "video/webm", "mp3": "audio/mp3", "wav": "audio/wav",
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif",
}  # fmt: skip


def _is_address(data: Any) -> bool:
    return isinstance(data, str) and "://" in data[:16]


def _field(value: Any, *names: str) -> Any:
    """The first of these fields that a mapping has."""
    if not isinstance(value, Mapping):
        value = _fields_of(value) or {}
    return next((value[name] for name in names if value.get(name) is not None), None)


def _seconds_between(limits: Any) -> float | None:
    """The length of the clip that Gemini's ``videoMetadata`` names."""
    begin, end = (_seconds_in(_field(limits, *names)) for names in (_STARTS, _STOPS))
    return max(0.0, end - (begin or 0.0)) if end is not None else None


_STARTS: Final = ("startOffset", "start_offset")
_STOPS: Final = ("endOffset", "end_offset")


def _seconds_in(offset: Any) -> float | None:
    text = str(offset).removesuffix("s")
    return float(text) if text.replace(".", "", 1).isdecimal() and len(text) < 12 else None


# One reader for each field that is not simply text


Reader = Callable[[SizeTally, Mapping[Any, Any], Any, int], None]


def _skip(_tally: SizeTally, _part: Mapping[Any, Any], _value: Any, _depth: int) -> None:
    """A field that no vendor turns into tokens, or a few at most."""


def _mark(tally: SizeTally, _part: Mapping[Any, Any], _value: Any, _depth: int) -> None:
    tally.marked = True


def _json(tally: SizeTally, _part: Mapping[Any, Any], value: Any, _depth: int) -> None:
    tally.add_json(value)


def _input(tally: SizeTally, _part: Mapping[Any, Any], value: Any, depth: int) -> None:
    """Of a tool, as JSON; else text or what else is sent."""
    if isinstance(value, Mapping):
        tally.add_json(value)
    else:
        tally.add(value, depth + 1)


def _result(tally: SizeTally, part: Mapping[Any, Any], value: Any, depth: int) -> None:
    if part.get("type") == "image_generation_call":
        tally.add_file("image", value)
    else:
        tally.add(value, depth + 1)


def _reasoning(tally: SizeTally, part: Mapping[Any, Any], value: Any, depth: int) -> None:
    if not part.get("thinking_blocks"):  # which hold the same text
        tally.add(value, depth + 1)


def _address(kind: str) -> Reader:
    def read(tally: SizeTally, part: Mapping[Any, Any], value: Any, _depth: int) -> None:
        url = value if isinstance(value, str) else _field(value, "url")
        detail = part.get("detail") if isinstance(value, str) else _field(value, "detail")
        tally.add_file(kind, url, _field(value, "format"), low=detail == "low")

    return read


def _input_audio(tally: SizeTally, _part: Mapping[Any, Any], value: Any, _depth: int) -> None:
    tally.add_file("audio", _field(value, "data"))


def _source(tally: SizeTally, part: Mapping[Any, Any], value: Any, depth: int) -> None:
    """Anthropic's: what is in it says its type, what it is for the part's."""
    kind, inside = str(part.get("type")), _field(value, "type")
    if inside == "text":
        tally.add(_field(value, "data"), depth + 1)
    elif inside == "content":
        tally.add(_field(value, "content"), depth + 1)
    elif isinstance(value, str):
        tally.add(value, depth + 1)
    else:
        data = _field(value, "data", "bytes", "url", "file_id")
        tally.add_file(kind if kind in _KINDS else None, data, _field(value, "media_type"))


def _bedrock(kind: str | None) -> Reader:
    """Bedrock's ``{format, source: {bytes}}`` under the name of its kind."""

    def read(tally: SizeTally, part: Mapping[Any, Any], value: Any, depth: int) -> None:
        source = _field(value, "source")
        if source is None:
            tally.add(value, depth + 1)
            return
        text = _field(source, "text", "content")
        if text is not None:
            tally.add(text, depth + 1)
            return
        form = _field(value, "format")
        tally.add_file(kind, _field(source, "bytes", "data"), "text/plain" if form in _TEXT_FORMATS else None)

    return read


def _blob(tally: SizeTally, part: Mapping[Any, Any], value: Any, _depth: int) -> None:
    """Gemini's ``inlineData`` and ``fileData``, or the data of a file of OpenAI's."""
    if isinstance(value, str):
        tally.add_file(None, value)
        return
    seconds = _seconds_between(_field(part, "videoMetadata", "video_metadata"))
    data = _field(value, "data", "fileUri", "file_uri")
    tally.add_file(None, data, _field(value, "mimeType", "mime_type"), seconds=seconds)


def _file(tally: SizeTally, _part: Mapping[Any, Any], value: Any, depth: int) -> None:
    data = _field(value, "file_data", "file_url", "file_id")
    if data is None:
        tally.add(value, depth + 1)
    else:
        limits = _field(value, "video_metadata")
        tally.add_file(None, data, _field(value, "format"), seconds=_seconds_between(limits))


def _file_elsewhere(tally: SizeTally, part: Mapping[Any, Any], value: Any, _depth: int) -> None:
    tally.add_file("image" if part.get("type") == "input_image" else None, value)


_NOT_SENT: Final = (
    "type", "id", "role", "name", "index", "status", "call_id", "tool_call_id", "tool_use_id", "toolUseId", "item_id",
    "filename",
    "format", "detail", "phase", "signature", "thought_signature", "thoughtSignature", "encrypted_content", "data",
    "media_type", "mime_type", "mimeType", "video_metadata", "videoMetadata", "provider_specific_fields",
    "annotations", "logprobs", "citations", "usage",
)  # fmt: skip

_READERS: Final[Mapping[str, Reader]] = {
    **dict.fromkeys(_NOT_SENT, _skip),
    **dict.fromkeys(("cache_control", "cachePoint"), _mark),
    **dict.fromkeys(
        ("arguments", "args", "response", "parameters", "input_schema", "json", "tools", "toolConfig", "functions"),
        _json,
    ),
    "input": _input,
    "result": _result,
    "reasoning_content": _reasoning,
    "image_url": _address("image"),
    "video_url": _address("video"),
    "audio_url": _address("audio"),
    "input_audio": _input_audio,
    "source": _source,
    "image": _bedrock("image"),
    "video": _bedrock("video"),
    "document": _bedrock(None),
    **dict.fromkeys(("inline_data", "inlineData", "fileData", "file_data"), _blob),
    "file": _file,
    **dict.fromkeys(("file_id", "file_url"), _file_elsewhere),
}
