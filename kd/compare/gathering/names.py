"""The names of the networks of a comparison: where recipes share one, by the settings in which they differ."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kd.compare.comparison import Entry
from kd.errors import RecipeError, StorageError, one_line
from kd.recipe.identity import Scope
from kd.runs import read_run_recipe

SHOWN = 3  # settings in a name; further ones leave their place to the id
LENGTH = 24  # characters of a value
_DEFAULT = object()  # of an argument that a recipe does not state


def variant_names(entries: Iterable[Entry]) -> dict[str, str]:
    """A short name for each entry that shares its role with others, by its key: unique within the role.

    The recipe's stem; for several recipes of one stem, the settings in which they differ (`temperature=2`), with the
    stem if the role has others. Where the settings are many, or a recipe cannot be read, the id.
    """
    roles: dict[str, list[Entry]] = {}
    for entry in entries:
        roles.setdefault(entry.role, []).append(entry)
    names: dict[str, str] = {}
    for peers in roles.values():
        stems: dict[str, list[Entry]] = {}
        for entry in peers:
            stems.setdefault(entry.name, []).append(entry)
        for stem, variants in stems.items():
            if len(variants) == 1:
                names[variants[0].key] = stem
                continue
            texts = [one_line(text) for text in _settings(variants)]
            for entry, settings in zip(variants, texts, strict=True):
                text = settings if settings and texts.count(settings) == 1 else entry.key.removeprefix(f"{entry.name}-")
                names[entry.key] = f"{stem} {text}" if len(stems) > 1 else text
    return names


def _settings(variants: Sequence[Entry]) -> list[str]:
    """The settings of each variant in which they differ, as text; empty where they are unknown or too many."""
    try:
        recipes = [_recipe(entry) for entry in variants]
    except (RecipeError, StorageError, IndexError):  # IndexError: a teacher without a run
        return [""] * len(variants)
    found = dict(differing(recipes))
    if len(found) > SHOWN:
        return [""] * len(variants)
    short = _short_keys(found).items()
    return [" ".join(f"{key}={values[index]}" for key, values in short) for index in range(len(variants))]


def _recipe(entry: Entry) -> dict[str, Any]:
    return read_run_recipe(entry.run_dirs[0], trust=True).resolved([Scope.MACHINE, Scope.RUN])


def differing(trees: Sequence[Any], path: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], list[str]]]:
    """The places where plain data differ, each with the values as text: the highest place that one of them lacks.

    Of a component, only the path counts where it differs: its arguments then have other meanings. Arguments of equal
    components are compared one by one: those that a tree lacks have their default.
    """
    if all(tree == trees[0] for tree in trees):
        return
    if path[-1:] == ("args",) and all(isinstance(tree, Mapping) or tree is None for tree in trees):
        given = [tree or {} for tree in trees]
        for name in dict.fromkeys(name for tree in given for name in tree):
            yield from differing([tree.get(name, _DEFAULT) for tree in given], (*path, str(name)))
        return
    if not all(isinstance(tree, Mapping) and tree for tree in trees):
        yield path, [_text(tree) for tree in trees]
        return
    if len({tree.get("use") for tree in trees}) > 1:
        yield path, [_text(tree.get("use")) for tree in trees]
        return
    for key in dict.fromkeys(key for tree in trees for key in tree):
        yield from differing([tree.get(key) for tree in trees], (*path, str(key)))


def _text(value: Any) -> str:
    """A value in a few characters: a component by the last part of its path."""
    if value is _DEFAULT:
        return "default"
    if value is None or value == {} or value == []:
        return "no"
    if isinstance(value, Mapping):
        return _text(value["use"]) if isinstance(value.get("use"), str) else "yes"
    text = str(value)
    if isinstance(value, str) and " " not in text:
        text = text.replace(":", ".").rpartition(".")[2] or text
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"


def _short_keys(found: Mapping[tuple[str, ...], list[str]]) -> dict[str, list[str]]:
    """Each place by as many of its last keys as distinguish it from the others."""
    short = {}
    for path, values in found.items():
        length = next(
            number
            for number in range(1, len(path) + 1)
            if number == len(path) or sum(other[-number:] == path[-number:] for other in found) == 1
        )
        short[".".join(path[-length:])] = values
    return short
