"""From `use` and `args` to an object; trust and the call are checked first."""

import importlib
import importlib.util
import os
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from kd.components import user_files as files
from kd.components.faults import check_dataset, check_shapes, is_users, refusal, refused_by
from kd.components.signatures import misfits, parameters
from kd.errors import DataError, RecipeError, did_you_mean
from kd.recipe import Recipe, Use
from kd.recipe.schema import components
from kd.recipe.sources import Code
from kd.recipe.trust import TRUSTED, is_trusted
from kd.types import SegmentationDataset

REFUSED = {
    "LBFGS": "it calls the loss several times a step",
    "Muon": "it takes matrices only, and convolutions have four dimensions",
    "SparseAdam": "it takes sparse gradients only",
}
ZOO = {  # module -> package: optional collections of networks for `teachers.Wrapped`
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "timm": "timm",
    "transformers": "transformers",
}
NOT_INSTALLED = "(not installed)"
OFFERED = ("num_classes", "channels", "label_counts")  # facts that a loss receives if its constructor names them
OFFERED_TO_METRICS = OFFERED[:1]


def _accepted(component: Any, offered: Iterable[str]) -> list[str]:
    """The `offered` facts that a component's constructor names."""
    return [name for name in offered if name in (parameters(component) or ())]


class Maker:
    """Builds the components of one recipe: datasets, networks, losses and all others.

    Args:
        recipe: gives the folder that `file.py:Name` is relative to, and whether code outside `TRUSTED` is allowed.
            None: components of kd alone.
    """

    def __init__(self, recipe: Recipe | None = None) -> None:
        self._recipe = recipe
        self._folder = Path() if recipe is None else recipe.folder
        self._trust = recipe is not None and recipe.trust

    def find(self, use: Use) -> Any:
        """The class or function that `use` names.

        Raises:
            RecipeError: it is not trusted, does not exist, is not public, or its module cannot be imported.
        """
        where, trusted = use.where(), is_trusted(use.use)
        if not (self._trust or trusted):
            fix = "kd components lists what is" if self._recipe is None else "if you trust it, add --trust"
            raise RecipeError(f"{where}: '{use.use}' is not part of kd; {fix}")
        source, colon, name = use.use.rpartition(":" if ":" in use.use else ".")
        if not source:
            raise RecipeError(f"{where}: must be package.module.Name or file.py:Name, got '{use.use}'")
        if colon == ":":
            code = None if self._recipe is None else self._recipe.sources.code.get(source)
            module = _module_of_file(self._folder / source, code, where)
        else:
            _refuse_shadow(source, where)
            module = _module(source, where)
        component = getattr(module, name, None)
        public = _public(module, source)
        if component is None or (trusted and name not in public):
            raise RecipeError(f"{where}: {source} has no '{name}'{did_you_mean(name, public)}")
        if source == "torch.optim" and name in REFUSED:
            raise RecipeError(f"{where}: torch.optim.{name} cannot train here: {REFUSED[name]}; use SGD or AdamW")
        if not callable(component):
            raise RecipeError(f"{where}: {use.use} is a {type(component).__name__}, not a class or function")
        return component

    def build(self, use: Use, *, facts: Mapping[str, Callable[[], Any]] | None = None, **supplied: Any) -> Any:
        """Call the component that `use` names with its `args` and the engine's arguments; components in `args` first.

        Args:
            use: the component.
            facts: name in `OFFERED` -> function that computes the fact; for this component and those in its `args`,
                where their constructors name it.
            **supplied: arguments that only the engine knows (channels, parameters); a recipe must not give them.

        Raises:
            RecipeError: the component does not exist, does not take these arguments, or refuses their values
                (ValueError, TypeError or OSError, which is then the cause); or a user's component raises anything.
            DataError: it is a dataset whose files are missing or wrong.
        """
        component = self.find(use)
        if facts is not None:
            supplied |= {name: facts[name]() for name in _accepted(component, facts)}
        if mistakes := misfits(use, component, supplied):
            raise RecipeError(mistakes)
        args = self._built(use.args, facts)
        try:
            built = component(**args, **supplied)
            if isinstance(built, nn.Module):
                check_shapes(use, built)
            return built
        except (RecipeError, DataError):
            raise
        except (ValueError, TypeError, OSError) as error:
            raise RecipeError(f"{use.where()}: {refusal(use, error)}") from error
        except (Exception, SystemExit) as error:
            if not is_users(use, error):
                raise
            raise refused_by(use, error) from error

    def dataset(self, split: str, **changed: Any) -> SegmentationDataset:
        """One split of the recipe's dataset.

        Args:
            split: "train", "val" or "test".
            changed: arguments in place of the recipe's.

        Raises:
            RecipeError: it does not exist, or has no class names, colours or channels.
            DataError: its files are missing or wrong.
        """
        assert self._recipe is not None
        use = self._recipe.data.dataset
        use = use.model_copy(update={"args": use.args | changed})
        dataset: SegmentationDataset = self.build(use, split=split)
        check_dataset(use, dataset)
        return dataset

    def network(self, use: Use, num_classes: int, in_channels: int) -> nn.Module:
        """A network for data of `num_classes` classes and `in_channels` channels.

        For two classes the recipe may state `num_classes: 1`: a single logit, which `kd.types.as_classes` turns into
        two.

        Raises:
            RecipeError: the recipe states another number of classes; the network does not exist, or is not a network.
        """
        stated = use.args.get("num_classes", num_classes)
        if "num_classes" in use.args and (stated, num_classes) != (1, 2):
            fix = "remove it, or state 1 for a single logit" if num_classes == 2 else "remove it"
            raise RecipeError(
                f"{use.where('num_classes')}: num_classes is {stated!r}, but the data have {num_classes}; {fix}"
            )
        return self.module(use, "a network", **network_facts(use, num_classes, in_channels))

    def module(self, use: Use, role: str, **supplied: Any) -> nn.Module:
        """What `build` makes, for the role of "a network" or "an adapter".

        Raises:
            RecipeError: it does not exist, or is no module.
        """
        module = self.build(use, **supplied)
        if not isinstance(module, nn.Module):
            raise RecipeError([f"{use.at()}: {use.use} is {type(module).__name__}, not {role} (torch.nn.Module)"])
        return module

    def check(self) -> None:
        """Check that every component of the recipe exists and takes its arguments; nothing is built.

        Raises:
            RecipeError: with every mistake.
        """
        recipe = self._recipe
        assert recipe is not None
        mistakes: list[str] = []
        if recipe.track is not None and _version("wandb") == NOT_INSTALLED:
            mistakes.append(f"{recipe.at('track')}: track: {missing('wandb', 'wandb')}, or track=null")
        for use, given, offered in _roles(recipe):
            try:
                component = self.find(use)
            except RecipeError as error:
                mistakes += error.mistakes
            else:
                mistakes += misfits(use, component, [*given, *_accepted(component, offered)])
        if mistakes:
            raise RecipeError(dict.fromkeys(mistakes))

    def _built(self, value: Any, facts: Mapping[str, Callable[[], Any]] | None) -> Any:
        if isinstance(value, Use):
            return self.build(value, facts=facts)
        if isinstance(value, dict):
            return {key: self._built(item, facts) for key, item in value.items()}
        if isinstance(value, list):
            return [self._built(item, facts) for item in value]
        if isinstance(value, str) and self._recipe is not None:
            self._recipe.sources.check(value)
        return value


def network_facts(use: Use, num_classes: int, in_channels: int) -> dict[str, Any]:
    """The engine's arguments of a network: `in_channels`, and `num_classes` unless the recipe states it."""
    facts = {"num_classes": num_classes, "in_channels": in_channels}
    return {name: fact for name, fact in facts.items() if name == "in_channels" or name not in use.args}


def check_torch() -> None:
    """Check that torch and torchvision belong together.

    Raises:
        RecipeError: torchvision cannot be imported; the message has the fix.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        versions = " and ".join(f"{name} {_version(name)}" for name in ("torch", "torchvision"))
        reason = str(error).partition("\n")[0]
        raise RecipeError(
            f"{versions} do not work together ({reason}); pip install --upgrade torch torchvision"
        ) from None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED


def missing(package: str, extra: str) -> str:
    """A message on a package that is not installed, with the command that installs it."""
    return f"{package} is not installed; pip install 'kd-segmentation[{extra}]'"


def _module(name: str, where: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in ZOO:
            raise RecipeError(f"{where}: {missing(ZOO[error.name], 'zoo')}") from None
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise RecipeError(f"{where}: there is no module '{error.name}'") from None
        if (error.name or "kd").partition(".")[0] in ("kd", "teachers", "students"):
            raise  # a bug of ours
        raise RecipeError(f"{where}: {name} needs the module '{error.name}', which is not installed") from error
    except Exception as error:
        if name in TRUSTED:
            raise  # our own module: a bug, or a torch that check_torch explains
        raise RecipeError(f"{where}: importing {name} failed: {_import_error(error, None)}") from error


def _module_of_file(file: Path, code: Code | None, where: str) -> types.ModuleType:
    """The module of a file that a recipe names, from its `code` as the recipe holds it."""
    if code is None and not os.path.isfile(file):
        raise RecipeError(f"{where}: no file {file}")
    try:
        return files.load(code or file)
    except (Exception, SystemExit) as error:  # a user's file may raise anything
        raise RecipeError(f"{where}: importing {file} failed: {_import_error(error, file)}") from error


def _import_error(error: BaseException, file: Path | None) -> str:
    """The error of a module in one line, with the last line of `file` in its traceback."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while file is not None and trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file.resolve()):
            line = trace.tb_lineno
        trace = trace.tb_next
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {message}" + (f" (line {line})" if line else "")


def _refuse_shadow(module: str, where: str) -> None:
    """Refuse another folder named `teachers` or `students` that comes before ours on the import path."""
    top = module.partition(".")[0]
    if top not in ("teachers", "students"):
        return
    ours = Path(__file__).resolve().parents[2] / top
    spec = importlib.util.find_spec(top)
    folders = [Path(folder).resolve() for folder in (spec.submodule_search_locations or [])] if spec else []
    if spec is not None and folders[:1] != [ours]:
        shadow = folders[0] if folders else spec.origin
        raise RecipeError(f"{where}: {shadow} shadows {ours}; rename it, or run from another folder")


def _public(module: types.ModuleType, source: str) -> list[str]:
    if source == "torch.optim":
        base = module.Optimizer
        return [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, base) and v is not base]
    listed = getattr(module, "__all__", None)
    return [n for n in vars(module) if not n.startswith("_")] if listed is None else list(listed)


def _roles(recipe: Recipe) -> Iterator[tuple[Use, Sequence[str], Sequence[str]]]:
    """Every component of a recipe, with the names of the engine's arguments and of the facts that it may take."""
    networks = (recipe.teacher.network if recipe.teacher else None, recipe.student.network)
    roles: list[tuple[Use | None, Sequence[str], Sequence[str]]] = [
        *((use, tuple(network_facts(use, 0, 0)), ()) for use in networks if use is not None),
        (recipe.data.dataset, ("split",), ()),
        *((transform, (), ()) for transform in recipe.data.augment),
        (recipe.supervised.loss, (), OFFERED),
        *((metric, (), OFFERED_TO_METRICS) for metric in recipe.evaluate.metrics),
    ]
    for term in recipe.distill.values():
        roles += [(term.loss, (), OFFERED), (term.adapter, ("in_channels", "out_channels"), ())]
        roles += [(term.weight, ("steps",), ())] if isinstance(term.weight, Use) else []
    roles += [(recipe.optimizer.factory, ("params",), ()), (recipe.schedule, ("steps",), ())]
    for use, given, offered in roles:
        if use is not None:
            yield use, given, offered
            yield from ((inner, (), offered) for inner in components(use.args))
