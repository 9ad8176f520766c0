"""Images, recordings and documents in tokens, by kind and size as the vendors bill them, never by their bytes.

OpenAI: https://platform.openai.com/docs/guides/images-vision#calculating-costs; audio is a token per 100 ms,
https://platform.openai.com/docs/guides/realtime-costs. Anthropic: https://platform.claude.com/docs/en/build-with-claude/vision
and /pdf-support (1,500 to 3,000 tokens a page). Gemini: https://ai.google.dev/gemini-api/docs/tokens, and from
Gemini 3 on https://ai.google.dev/gemini-api/docs/media-resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from math import ceil
from typing import Final, NamedTuple

ASSUMED_SECONDS: Final = 60.0  # length of a recording whose header does not say it
ASSUMED_PAGES: Final = 5  # of a document whose pages cannot be counted
ASSUMED_SIDE: Final = 1_024  # pixels of each side of an image whose size is not known


class Medium(NamedTuple):
    """One image, recording or document. ``None`` is not known; ``low`` is the caller's wish for a low resolution."""

    kind: str  # image, audio, video, document
    width: int | None = None  # pixels
    height: int | None = None
    seconds: float | None = None
    pages: int | None = None
    low: bool = False


class MediaRates(NamedTuple):
    """What one vendor's model counts for media: tokens of an image by its size, and rates."""

    image: Callable[[int, int, bool], int]
    audio: float  # tokens per second
    video: float  # tokens per second
    page: int  # tokens of a document's page, its text included

    def tokens(self, media: Iterable[Medium]) -> int:
        """The tokens of all ``media``."""
        return sum(map(self._tokens_of, media))

    def _tokens_of(self, medium: Medium) -> int:
        if medium.kind == "image":
            width = ASSUMED_SIDE if medium.width is None else medium.width
            height = ASSUMED_SIDE if medium.height is None else medium.height
            return self.image(width, height, medium.low)
        if medium.kind == "document":
            return self.page * (ASSUMED_PAGES if medium.pages is None else medium.pages)
        seconds = ASSUMED_SECONDS if medium.seconds is None else medium.seconds
        return ceil(seconds * (self.audio if medium.kind == "audio" else self.video))


def _tiled(base: int, tile: int) -> Callable[[int, int, bool], int]:
    """OpenAI's tiles of 512 pixels, after scaling into 2,048 by 2,048 and the shorter side down to 768."""

    def tokens(width: int, height: int, low: bool) -> int:
        if low:
            return base
        scale = min(1.0, 2048 / max(width, height))
        scale *= min(1.0, 768 / max(1.0, min(width, height) * scale))
        return base + tile * ceil(width * scale / 512) * ceil(height * scale / 512)

    return tokens


def _patched(multiplier: float) -> Callable[[int, int, bool], int]:
    """OpenAI's patches of 32 pixels, at most 1,536 of them."""
    return lambda width, height, _low: ceil(min(1536, ceil(width / 32) * ceil(height / 32)) * multiplier)


def _anthropic(width: int, height: int, _low: bool) -> int:
    """A token for 750 pixels, after scaling the longer side to 1,568 pixels; at most about 1,600."""
    scale = min(1.0, 1568 / max(width, height))
    return min(1600, ceil(width * scale * height * scale / 750))


def _gemini_tiles(width: int, height: int, _low: bool) -> int:
    """258 tokens for a small image, and for each tile of 768 pixels of a larger one."""
    return 258 if max(width, height) <= 384 else 258 * ceil(width / 768) * ceil(height / 768)


def _gemini_fixed(_width: int, _height: int, low: bool) -> int:
    """From Gemini 3 on, by the resolution that is asked for."""
    return 280 if low else 1120


_OPENAI: Final = MediaRates(_tiled(85, 170), audio=10, video=263, page=1_300)  # a page: its text and one image
_ANTHROPIC: Final = MediaRates(_anthropic, audio=10, video=263, page=2_250)
_GEMINI: Final = MediaRates(_gemini_tiles, audio=32, video=263, page=258)
_GEMINI_3: Final = MediaRates(_gemini_fixed, audio=32, video=102, page=560)  # video: 70 a frame, 32 of its sound

# The first pattern that the model's name, without the vendor's prefix, matches.
_BY_MODEL: Final[Mapping[str, MediaRates]] = {
    "*claude*": _ANTHROPIC,
    "*gemini-1*": _GEMINI,
    "*gemini-2*": _GEMINI,
    "*gemini*": _GEMINI_3,
    "*gpt-4o-mini*": _OPENAI._replace(image=_tiled(2833, 5667)),
    "*gpt-4.1-mini*": _OPENAI._replace(image=_patched(1.62)),
    "*gpt-4.1-nano*": _OPENAI._replace(image=_patched(2.46)),
    "*gpt-5-mini*": _OPENAI._replace(image=_patched(1.62)),
    "*gpt-5-nano*": _OPENAI._replace(image=_patched(2.46)),
    "*o4-mini*": _OPENAI._replace(image=_patched(1.72)),
    "*gpt-5*": _OPENAI._replace(image=_tiled(70, 140)),
}


def rates_of(model: str) -> MediaRates:
    """The rates of a model, by its name; OpenAI's for one that is not in the table."""
    return next((rates for pattern, rates in _BY_MODEL.items() if fnmatchcase(model, pattern)), _OPENAI)


DEFAULT_RATES: Final = _OPENAI
