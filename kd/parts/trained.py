"""The trained network of a run: write its weights, and load them into the network of the run's recipe."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kd.components import Maker
from kd.errors import StorageError
from kd.recipe import Recipe
from kd.runs import read_result, read_run_recipe
from kd.storage import read_json, write_atomic


def write_weights(run_dir: Path, network: nn.Module) -> None:
    """Write a network's weights as `student.safetensors`, under the network's own keys."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomic(run_dir / "student.safetensors", save(_unshared(state)))


def _unshared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without shared memory, which safetensors refuses: a tied weight is written twice."""
    seen: set[int] = set()
    unshared = {}
    for key, value in state.items():
        unshared[key] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return unshared


def load_network(run_dir: Path, *, recipe: Recipe | None = None, trust: bool = False) -> nn.Module:
    """Build the network of a finished run and load its weights: in evaluation mode, on the CPU.

    Args:
        run_dir: the run directory.
        recipe: the run's, if it has been read already.
        trust: whether the recipe in the run directory may name code outside kd.

    Raises:
        StorageError: the run has no weights, or they do not fit the recipe's network.
        RecipeError: the run's recipe names code that is not trusted.
    """
    recipe = recipe or read_run_recipe(run_dir, trust=trust)
    classes = next(iter(read_result(run_dir).splits.values())).classes
    channels = read_json(run_dir / "environment.json")["in_channels"]
    network = Maker(recipe).network(recipe.student.network, len(classes), channels)
    load_weights(run_dir, network)
    return network.eval()


def load_weights(run_dir: Path, network: nn.Module) -> None:
    """Load the weights of a finished run into a network.

    Raises:
        StorageError: the weights are missing, damaged, or of another network.
    """
    file = run_dir / "student.safetensors"
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{file}: cannot be read ({error}); run the recipe again") from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise StorageError(f"{file}: does not fit {type(network).__name__} ({reason})") from None
