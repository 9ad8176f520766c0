"""A LiteLLM that cannot work is refused at import; a newer one than was tested starts with one warning."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from wallie_litellm import litellm_adapter
from wallie_litellm.litellm_adapter import version

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Metadata as pip writes it, found before that of the LiteLLM that is installed."""

    def write(number: str) -> None:
        metadata = tmp_path / f"litellm-{number}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: litellm\nVersion: {number}\n")
        monkeypatch.syspath_prepend(tmp_path)
        assert importlib.metadata.version("litellm") == number
        version.note_untested.cache_clear()

    yield write
    version.note_untested.cache_clear()


@pytest.mark.parametrize("number", ["1.106.1", "1.105.9", "0.1.824", "1.107.0", "1.107.5", "1.107.0rc1"])
def test_an_unsupported_litellm_is_refused_when_the_adapter_is_imported(install, number):
    install(number)
    said = re.escape(f"LiteLLM {number} is not supported. Install another: pip install 'litellm>=1.106.2,")
    with pytest.raises(ImportError, match=said):
        importlib.reload(litellm_adapter)


@pytest.mark.parametrize("number", ["1.106.2", "1.106.12", "1.108.0", "1.109.3", "1.110.2"])
def test_a_supported_litellm_is_used_without_a_word(install, number, caplog):
    install(number)
    importlib.reload(litellm_adapter)
    version.note_untested()
    assert not caplog.records


@pytest.mark.parametrize("number", ["1.110.3", "1.111.0rc1", "1.112", "2.0.0"])
def test_a_newer_litellm_starts_with_one_warning(install, number, caplog):
    install(number)
    importlib.reload(litellm_adapter)
    for _ in range(3):
        version.note_untested()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"LiteLLM {number} is newer than 1.110.2, the newest that ")
    assert "pip install 'litellm<=1.110.2'" in record.getMessage()


def test_a_litellm_without_a_readable_version_is_used(install):
    install("unknown")
    importlib.reload(litellm_adapter)
    version.note_untested()


def test_the_refusal_names_the_range_that_the_installer_is_given():
    (stated,) = [text for text in PYPROJECT["dependencies"] if Requirement(text).name == "litellm"]
    assert stated == version.SUPPORTED
    supported = SpecifierSet(stated.removeprefix("litellm"))
    oldest, newest = (".".join(map(str, ends)) for ends in (version.OLDEST, version.NEWEST_TESTED))
    assert supported.contains(oldest)
    assert supported.contains(newest)
    assert not supported.contains("1.106.1")
    assert not supported.contains(f"{version.NEVER[0]}.{version.NEVER[1]}.0")


def requirements(texts: Iterable[str], extra: str = "") -> list[Requirement]:
    """Those of the base, or those that an extra adds, that hold on this machine."""
    found = map(Requirement, texts)
    return [
        one
        for one in found
        if (one.marker is None and not extra) or (one.marker is not None and one.marker.evaluate({"extra": extra}))
    ]


def test_the_proxy_extra_names_what_litellms_own_does():
    """But its companions: an index may lack the one release that LiteLLM asks for, and the proxy starts without."""
    extras = PYPROJECT["optional-dependencies"]
    ours = {canonicalize_name(Requirement(text).name) for text in [*extras["proxy"], *PYPROJECT["dependencies"]]}
    listed = importlib.metadata.requires("litellm") or []
    base = {one.name for one in requirements(listed)}
    theirs = {one.name: one.specifier for one in requirements(listed, "proxy") if one.name not in base}
    companions = {name for name in theirs if name.startswith("litellm-")}
    assert len(theirs) > 30
    assert theirs.keys() - companions <= ours | {canonicalize_name(name) for name in base}
    unfit = {
        name: importlib.metadata.version(name)
        for name in theirs.keys() - companions
        if not theirs[name].contains(importlib.metadata.version(name))
    }
    assert not unfit
