"""Files that `include` names, put together as LiteLLM's proxy does."""

from __future__ import annotations

from pathlib import Path

import pytest

from wallie_litellm.config import load_config
from wallie_litellm.errors import ConfigError

MODEL = "model_list: [{model_name: %s, litellm_params: {model: openai/%s}}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.yaml").write_text(MODEL % ("b", "b") + "include: [more.yaml]\nwallie: {ledger: null}\n")
    (tmp_path / "more.yaml").write_text(MODEL % ("c", "c") + "include: [models.yaml, main.yaml]\n")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    file = folder / "main.yaml"
    file.write_text(text)
    return file


def problems_of(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(file, env={})
    return [problem.removeprefix(f"{file}: ") for problem in caught.value.problems]


def test_lists_are_joined_and_other_values_are_replaced_in_the_order_of_inclusion(folder: Path) -> None:
    config = load_config(
        write(folder, MODEL % ("a", "a") + "include: [models.yaml]\nwallie: {admission: {}}\n"), env={}
    )
    assert config.groups == ("a", "b", "c")
    assert config.wallie.ledger is None


def test_a_file_may_have_all_its_models_in_others(folder: Path) -> None:
    assert load_config(write(folder, "include: [more.yaml]\n"), env={}).groups == ("c", "b")


def test_a_path_is_relative_to_the_file_that_names_it_else_to_the_first_one(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (inner / "first.yaml").write_text("include: [near.yaml, more.yaml]\n")
    (inner / "near.yaml").write_text(MODEL % ("near", "a"))
    assert load_config(write(folder, "include: [inner/first.yaml]\n"), env={}).groups == ("near", "c", "b")


@pytest.mark.parametrize(
    ("named", "content", "said"),
    [
        ("other.yaml", None, "no such file"),
        ("other.yaml", "- a\n", "found a list, expected a mapping"),
        ("other.yaml", "a: [\n", "line 2, column 1: not valid YAML"),
        (".", None, "is a directory"),
    ],
)
def test_an_included_file_that_cannot_be_used_is_named(
    folder: Path, named: str, content: str | None, said: str
) -> None:
    if content is not None:
        (folder / named).write_text(content)
    [problem] = problems_of(write(folder, MODEL % ("a", "a") + f"include: [{named}]\n"))
    assert problem.startswith(f"include: {folder / named}: ")
    assert said in problem


def test_a_repeated_key_of_an_included_file_is_refused_with_its_place(folder: Path) -> None:
    (folder / "other.yaml").write_text("wallie: {}\nwallie: {}\n")
    [problem] = problems_of(write(folder, MODEL % ("a", "a") + "include: [other.yaml]\n"))
    assert problem.startswith(f"{folder / 'other.yaml'}: line 2, column 1: the key 'wallie' is there twice")


def test_a_mistake_in_an_included_model_names_the_file_and_the_place_in_that(folder: Path) -> None:
    wrong = folder / "wrong.yaml"
    wrong.write_text("model_list: [{model_name: d, litellm_params: {model: 1}}]\n")
    (folder / "z.yaml").write_text("wallie: {}\n")
    main = write(folder, MODEL % ("a", "a") + "include: [more.yaml, z.yaml, wrong.yaml]\n")
    [problem] = problems_of(main)
    assert problem.startswith(f"{wrong}: model_list[0].litellm_params.model: found 1, expected a model")


@pytest.mark.parametrize("value", ["other.yaml", "[1]", "[{a: b}]", "['']"])
def test_what_is_no_list_of_paths_is_refused(folder: Path, value: str) -> None:
    [problem] = problems_of(write(folder, MODEL % ("a", "a") + f"include: {value}\n"))
    assert "include: found " in problem
    assert "expected a list of paths" in problem
