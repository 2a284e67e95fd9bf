"""Read a network at a declared tap or at any module path."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kd.errors import TapError
from kd.types import Maps, Network, SegmentationOutput, Tap, as_classes, as_tuple

Address = str | tuple[str, ...]


class Taps:
    """A network whose maps are read while it runs: `output, at = taps(images)`.

    An address is `logits`, `aux.<name>`, a tap that the network declares, or a module path as `named_modules()`
    prints it, looked up in this order. Module paths are read by forward hooks. A copy of the network would copy them
    and fill this store: copy it before it is tapped, or inside `detached()`.

    Args:
        network: the network to read.
        addresses: term -> address, or a tuple of addresses for a term that reads several places.

    Raises:
        TapError: the network has nothing at an address.
    """

    def __init__(self, network: nn.Module, addresses: Mapping[str, Address]) -> None:
        self.addresses = dict(addresses)
        self.run: Callable[[Tensor], SegmentationOutput] = network  # or the compiled network
        self._seen: dict[str, tuple[Tensor, int]] | None = None  # a dict only during a call; otherwise hooks do nothing
        self._hooked: dict[str, nn.Module] = {}
        modules = {path: module for path, module in network.named_modules() if path}
        declared = declared_taps(network)
        for address in chain.from_iterable(map(as_tuple, self.addresses.values())):
            if address == "logits" or address.startswith("aux.") or address in declared:
                continue
            if address not in modules:
                raise TapError(address, f"no such tap or module{_hint(address, [*declared, 'logits'], modules)}")
            self._hooked[address] = modules[address]
        self._handles = self._attach()

    def __call__(self, images: Float[Tensor, "N C H W"]) -> tuple[SegmentationOutput, dict[str, Maps]]:
        """Run the network once; return its output and, for each term, the map or maps at its address.

        Raises:
            TapError: a tapped module did not run, ran twice, or its map was changed in place after it ran.
        """
        seen: dict[str, tuple[Tensor, int]] = {}
        self._seen = seen
        try:
            output: SegmentationOutput = self.run(images)
        finally:
            self._seen = None  # the maps must not outlive the step that made them
        if not hasattr(output, "logits"):
            raise ValueError(
                f"forward returned a {type(output).__name__}; return kd.types.SegmentationOutput(logits, features, "
                "aux), or give the network to teachers.Wrapped as its argument `network`"
            )
        at: dict[str, Maps] = {}
        for term, address in self.addresses.items():
            maps = tuple(_read(single, output, seen) for single in as_tuple(address))
            at[term] = maps if isinstance(address, tuple) else maps[0]
        return output, at

    @contextmanager
    def detached(self) -> Iterator[None]:
        """Remove the hooks from the network inside the block, so that a deepcopy of it has none."""
        for handle in self._handles:
            handle.remove()
        try:
            yield
        finally:
            self._handles = self._attach()

    def _attach(self) -> list[RemovableHandle]:
        return [module.register_forward_hook(self._hook(address)) for address, module in self._hooked.items()]

    def _hook(self, address: str) -> Callable[[nn.Module, object, object], None]:
        def keep(module: nn.Module, args: object, result: object) -> None:
            if self._seen is None:
                return
            if address in self._seen:
                raise TapError(address, "the module ran twice in one forward; tap a module that runs once")
            if not isinstance(result, Tensor):
                kind = type(result).__name__
                raise TapError(address, f"the module returned {kind}, not a tensor; tap a module inside it")
            self._seen[address] = (result, result._version)

        return keep


def declared_taps(network: nn.Module) -> dict[str, Tap]:
    """The taps that a network declares; none if it does not keep the `Network` contract."""
    return network.taps if isinstance(network, Network) else {}


def _read(
    address: str, output: SegmentationOutput, seen: Mapping[str, tuple[Tensor, int]]
) -> Float[Tensor, "N channels h w"]:
    if address == "logits":
        return as_classes(output.logits)
    if address.startswith("aux."):
        name = address.removeprefix("aux.")
        if name not in output.aux:
            raise TapError(address, f"the network has no such head; known: {', '.join(output.aux) or 'none'}")
        return as_classes(output.aux[name])
    if address in output.features:
        return output.features[address]
    if address not in seen:
        raise TapError(address, "the module did not run in this forward; tap one that does")
    result, version = seen[address]
    if result._version != version:
        raise TapError(
            address,
            "its map was changed in place after the module returned it (an in-place ReLU or `out +=`); "
            "set inplace=False there, or tap the module after it",
        )
    return result


def _hint(address: str, taps: list[str], modules: Iterable[str]) -> str:
    close = get_close_matches(address, [*taps, *modules], n=1)
    suggestion = f"; did you mean '{close[0]}'?" if close else ""
    return f"{suggestion} (taps: {', '.join(sorted(taps))})"
