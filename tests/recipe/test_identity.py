"""Machine settings are marked in the schema: left out of the meaning, and taken over from another recipe."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from pydantic import Field

from kd.recipe import Recipe
from kd.recipe.identity import Scope, plain, with_machine_settings
from kd.recipe.schema import CacheConfig, DataConfig, Flag, LogConfig, Section, TrainConfig


class Small(Section):
    """The sections of a recipe that hold machine settings, and top-level ones."""

    data: DataConfig
    train: TrainConfig
    cache: CacheConfig | None = None
    log: Annotated[LogConfig, Scope.MACHINE] = Field(default=LogConfig())
    deterministic: Annotated[Flag, Scope.MACHINE] = False


def small(**sections):
    data = {"use": "kd.data.CamVid", "args": {"root": "a"}, "size": [64, 64]}
    return Small.model_validate({"data": data, "train": {"steps": 5, "batch_size": 2}} | sections)


ELSEWHERE = {
    "data": {"use": "kd.data.CamVid", "args": {"root": "b"}, "size": [64, 64], "workers": 7},
    "cache": {"views": 2, "folder": "b"},
    "log": {"every": 3},
    "deterministic": True,
}


def test_the_meaning_is_without_machine_settings_seeds_and_defaults():
    assert plain(small(), defaults=False, without=Scope) == {
        "data": {"use": "kd.data.CamVid", "size": [64, 64]},
        "train": {"steps": 5, "batch_size": 2},
    }
    train = {"steps": 5, "batch_size": 2, "seeds": [1, 2]}
    elsewhere = small(**ELSEWHERE, train=train)
    same_meaning = small(cache={"views": 2})
    assert elsewhere != same_meaning
    assert plain(elsewhere, without=Scope) == plain(same_meaning, without=Scope)
    assert plain(elsewhere, without=[Scope.MACHINE])["train"]["seeds"] == [1, 2]
    assert plain(elsewhere)["data"]["args"] == {"root": "b"}


def test_components_are_replaced_at_any_depth():
    data = {"use": "kd.data.CamVid", "size": [64, 64], "augment": [{"use": "a.py:A", "args": {"then": {"use": "b.B"}}}]}
    tree = plain(small(data=data), str.upper, defaults=False)["data"]
    assert tree["use"] == "KD.DATA.CAMVID"
    assert tree["augment"] == [{"use": "A.PY:A", "args": {"then": {"use": "B.B"}}}]


def test_other_keys_of_a_section_with_machine_settings_are_meaning():
    assert plain(small(cache={"views": 3}), defaults=False, without=Scope)["cache"] == {"views": 3}


def test_machine_settings_are_taken_over_and_nothing_else():
    train = {"steps": 9, "batch_size": 2, "seeds": [4]}
    source = small(**ELSEWHERE, train=train)
    section = small(cache={"views": 5})
    assert with_machine_settings(section, source) == small(
        data=ELSEWHERE["data"], cache={"views": 5, "folder": "b"}, log={"every": 3}, deterministic=True
    )
    assert with_machine_settings(section, source).data.at("root") == section.data.at("root")
    assert with_machine_settings(small(), source).cache is None


@pytest.mark.parametrize(
    ("use", "root"), [("kd.data.CamVid", "b"), ("kd.data.Folders", "a")], ids=["same dataset", "another"]
)
def test_the_data_root_belongs_to_one_dataset(use, root):
    data = {"use": use, "args": {"root": "a", "val": 0.2}, "size": [64, 64]}
    taken = with_machine_settings(small(data=data), small(**ELSEWHERE))
    assert taken.data.args == {"root": root, "val": 0.2}
    assert taken.data.workers == 7


def sections_of(annotation: Any) -> Iterator[type[Section]]:
    """The sections that a key may hold, at any depth of its type."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from sections_of(part)


def marked(section: type[Section], scope: Scope, path: str = "") -> Iterator[str]:
    """The keys of a scope, with their paths."""
    for name, field in section.model_fields.items():
        if scope in field.metadata:
            yield path + name
        else:
            for part in sections_of(field.annotation):
                yield from marked(part, scope, f"{path}{name}.")
    if scope is Scope.MACHINE:
        yield from (f"{path}args.{name}" for name in getattr(section, "machine_args", ()))


@pytest.mark.parametrize("name", ["recipes", "same-run"])
def test_the_pages_list_the_keys_that_are_no_part_of_the_id(name):
    text = " ".join((Path(__file__).parents[2] / f"docs/{name}.md").read_text(encoding="utf-8").split())
    listed = re.search(r"`train.seeds`. `train.accumulate: auto` .{3,20} the machine settings ((?:`[^`]+`,? ?)+)", text)
    assert sorted(re.findall(r"`([\w.]+)`", listed[1])) == sorted(marked(Recipe, Scope.MACHINE))
    assert list(marked(Recipe, Scope.RUN)) == ["train.seeds"]
