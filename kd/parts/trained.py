"""The trained network of a run: write its weights, and load them into the network of the run's recipe."""

from collections.abc import Mapping
from pathlib import Path

from pydantic_core import from_json
from safetensors.torch import load, save
from torch import Tensor, nn

from kd.components import Maker
from kd.errors import WeightsError, raised
from kd.files.manifest import WEIGHTS, again, read_manifest, read_verified
from kd.files.storage import write_atomic
from kd.recipe import Recipe
from kd.runs import finished_at, read_environment, read_result, read_run_recipe, with_origin


def write_weights(run_dir: Path, network: nn.Module, origin: Mapping[str, str] | None = None) -> None:
    """Write a network's weights as `student.safetensors`, under the network's own keys; `origin` is their metadata."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    weights = save(_unshared(state))
    write_atomic(run_dir / WEIGHTS, with_origin(weights, origin) if origin else weights)


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
        WeightsError: the run has no weights, or they are damaged or do not fit the recipe's network.
        StorageError: another file of the run is missing or damaged.
        RecipeError: the run's recipe names code that is not trusted; or the run is not finished.
    """
    recipe = recipe or read_run_recipe(run_dir, trust=trust)
    (run_dir,) = finished_at(run_dir, trust=trust)
    classes = next(iter(read_result(run_dir).splits.values())).classes
    channels = read_environment(run_dir).in_channels
    network = Maker(recipe).network(recipe.student.network, len(classes), channels)
    load_weights(run_dir, network)
    return network.eval()


def load_weights(run_dir: Path, network: nn.Module) -> None:
    """Load the weights of a finished run into a network.

    Raises:
        WeightsError: the weights are missing, damaged, or of another run or network.
        StorageError: the run's manifest is damaged.
    """
    data = read_verified(run_dir, WEIGHTS)
    try:
        tensors = load(data)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # a stranger's manifest vouches for any bytes; its reader raises anything
        raise WeightsError(f"{run_dir / WEIGHTS}: cannot be read ({raised(error)}); {again(run_dir)}") from None
    _check_owner(run_dir, data)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{run_dir / WEIGHTS}: does not fit {type(network).__name__} ({reason})") from None


def _check_owner(run_dir: Path, data: bytes) -> None:
    """Refuse readable weights that state another run than the manifest beside them; those of kd 0.2 state none."""
    manifest = read_manifest(run_dir)
    if manifest is None:
        return
    metadata = from_json(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}  # null is none
    stated, own = metadata.get("run"), f"{manifest.id}/seed{manifest.seed}"
    if stated not in (None, own):
        raise WeightsError(f"{run_dir / WEIGHTS}: of run {stated}, not of run {own}; {again(run_dir)}")
