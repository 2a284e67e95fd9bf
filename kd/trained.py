"""The trained network of a run: its weights written, and loaded into the network of the run's recipe."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kd.errors import StorageError
from kd.recipe import read_recipe
from kd.runs import build_network, read_result
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


def load_network(run_dir: Path, *, trust: bool = False) -> nn.Module:
    """Build the network of a finished run and load its weights: in evaluation mode, on the CPU.

    Raises:
        StorageError: the run has no weights, or they do not fit the recipe's network.
        RecipeError: the run's recipe names code that is not trusted.
    """
    recipe = read_recipe(run_dir / "recipe.yaml", trust=trust)
    classes = next(iter(read_result(run_dir).splits.values())).classes
    channels = read_json(run_dir / "environment.json")["in_channels"]
    network = build_network(recipe, recipe.student.network, len(classes), channels)
    file = run_dir / "student.safetensors"
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{file}: cannot be read ({error}); run the recipe again") from None
    except RuntimeError as error:
        raise StorageError(f"{file}: does not fit {recipe.student.use} ({_in_one_line(error)})") from None
    return network.eval()


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
