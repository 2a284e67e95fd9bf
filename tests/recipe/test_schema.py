"""The sections of a recipe: defaults, values, places."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from recipe_text import ALONE, TEXT, read

from kd.errors import Path_
from kd.recipe import Recipe, yaml12
from kd.recipe.schema import TermConfig, TrainConfig, Use


def test_defaults(folder: Path) -> None:
    recipe = read(ALONE)
    assert recipe.teacher is None
    assert recipe.distill == {}
    assert recipe.schedule == Use(use="kd.schedules.poly", args={"power": 0.9})
    assert (recipe.data.crop, recipe.data.augment, recipe.data.workers) == (None, (), "auto")
    assert recipe.supervised.aux_weight == 0.4
    assert recipe.train.model_dump() == {
        "epochs": None,
        "steps": 10,
        "batch_size": 4,
        "accumulate": 1,
        "scales": (1.0,),
        "seeds": (0,),
        "clip_norm": None,
        "precision": "auto",
        "memory_format": "auto",
        "evaluate_every": "20%",
        "save_every": "10%",
        "checkpoints": "unfinished",
        "on_nan": "stop",
        "nan_limit": 10,
        "sync_batchnorm": False,
        "ema": None,
        "compile": "off",
        "graph": "auto",
        "fold_batchnorm": False,
        "patience": None,
        "select": "last",
        "reestimate_batchnorm": 0,
    }
    assert recipe.log.model_dump() == {"every": 10, "panels": 4, "tensorboard": True, "gradients": 0}
    assert recipe.device == "auto"


def test_sections_are_frozen(folder: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read(ALONE).train.batch_size = 8


def test_recipes_can_be_made_in_python() -> None:
    term = TermConfig(loss={"use": "kd.losses.CWD", "args": {"temperature": 4}}, weight=2)
    assert term == TermConfig(loss=Use(use="kd.losses.CWD", args={"temperature": 4}), weight=2.0)
    with pytest.raises(ValidationError):
        TrainConfig(steps=1, batch_size=True)


def test_the_place_of_a_component(folder: Path) -> None:
    recipe = read(TEXT)
    masked = recipe.distill["cwd"].loss
    assert recipe.student.network.at() == "r.yaml:2:1"
    assert recipe.data.dataset.at("root") == "r.yaml:5:10"
    assert recipe.data.dataset.at("values", 255) == "r.yaml:5:46"
    assert recipe.data.augment[1].at() == "r.yaml:8:70"
    assert masked.at("more", 1) == "r.yaml:16:80"
    assert masked.args["more"][1].at() == "r.yaml:16:80"
    assert masked.where("more", 1) == "r.yaml:16:80: distill.cwd.loss.args.more.1"
    assert masked.at("nothing") == "r.yaml:16:35"  # of the args around it
    assert recipe.at("distill", "cwd", "at", "teacher") == "r.yaml:17:32"
    assert read(ALONE).schedule.at() == "kd.schedules.poly"  # a default has no place
    assert Use(use="kd.losses.CWD").at("temperature") == "kd.losses.CWD"
    assert Use(use="kd.losses.CWD").where() == "kd.losses.CWD"
    assert "r.yaml" not in repr(masked)
    assert masked.model_dump() == Use(use=masked.use, args=masked.args).model_dump()
    assert masked == Use(use=masked.use, args=masked.args)


def _nodes_of(data: object, path: Path_ = ()) -> list[Path_]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(inner for key, value in items for inner in _nodes_of(value, (*path, key)))]


def _data(text: str) -> tuple[Any, set[Path_]]:
    root = yaml12.compose(text, "t")
    assert root is not None
    data, positions, mistakes = yaml12.plain(root)
    assert mistakes == []
    return data, set(positions)


def test_every_location_of_500_mutants_is_a_node() -> None:
    rng = random.Random(3)
    values = [None, True, -1, 0.5, "x", "5%", [], {}, [1, "a"], {"use": 1}, {"use": "a.B", "x": 1}, {1: 2}, [[]], 10**6]
    errors = 0
    data = _data(TEXT)[0]
    for number in range(500):
        mutant = copy.deepcopy(data)
        for _ in range(rng.randint(1, 4)):
            *parent, key = rng.choice(_nodes_of(mutant)[1:])
            place = mutant
            for step in parent:
                place = place[step]
            action = rng.randrange(3)
            if action == 0:
                place[key] = rng.choice(values)
            elif action == 1:
                del place[key]
            elif isinstance(place, dict):
                place[f"{key}x"] = place.pop(key)
        nodes = set(_nodes_of(mutant))
        if number % 20 == 0:  # the reader's positions are these nodes; comparing every mutant takes too long
            assert _data(yaml12.dump(mutant)) == (mutant, nodes)
        try:
            Recipe.model_validate(mutant)
        except ValidationError as caught:
            for error in caught.errors(include_url=False):
                errors += 1
                loc = tuple(key for key in error["loc"] if key != "[key]")
                # a missing key, and a default that its neighbours make wrong, have no node: their parents do
                absent = error["type"] == "missing" or (error["type"] == "value_error" and loc not in nodes)
                assert (loc[:-1] if absent else loc) in nodes, error
    assert errors > 500
