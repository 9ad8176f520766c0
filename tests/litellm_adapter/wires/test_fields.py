from types import SimpleNamespace
from typing import Any

import litellm
import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr

from wallie_litellm.litellm_adapter.wires.fields import value_of


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    stated: int = 1
    _hidden: dict[str, int] = PrivateAttr({"kept": 1})

    @property
    def derived(self) -> int:
        return self.stated + 1


def without_a_field() -> litellm.Usage:
    usage = litellm.Usage(prompt_tokens=1)
    del usage.prompt_tokens_details
    return usage


@pytest.mark.parametrize(
    ("thing", "name", "value"),
    [
        ({"stated": 1}, "stated", 1),
        ({}, "stated", None),
        (SimpleNamespace(stated=1), "stated", 1),
        (SimpleNamespace(), "stated", None),
        (None, "stated", None),
        (Model(), "stated", 1),
        (Model(more=2), "more", 2),
        (Model(), "more", None),
        (Model(), "_hidden", {"kept": 1}),
        (Model(), "derived", 2),
        (Model(), "absent", None),
        (Model.model_construct(), "stated", 1),
        (without_a_field(), "prompt_tokens_details", None),
    ],
)
def test_a_value_is_found_in_whatever_holds_it(thing: Any, name: str, value: Any) -> None:
    assert value_of(thing, name) == value


def test_of_a_model_the_attribute_is_the_one_that_python_finds() -> None:
    answer = litellm.ModelResponse(model="m", usage=litellm.Usage(prompt_tokens=1, completion_tokens=2))
    names = ("usage", "choices", "_hidden_params", "service_tier", "object", "nothing", "model_extra")
    assert [value_of(answer, name) for name in names] == [getattr(answer, name, None) for name in names]
