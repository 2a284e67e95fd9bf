"""Read a network at a named tap or at any module path."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches

from torch import Tensor, nn

from kd.errors import TapError
from kd.types import Network, SegmentationOutput, Taken, as_classes, as_tuple

Address = str | tuple[str, ...]


class Taps:
    """A network that is read while it runs: `output, at = taps(images)`.

    An address is `logits`, `aux.<name>`, a tap that the network declares, or a module path as `named_modules()`
    prints it, looked up in this order. Attach taps last, after every deepcopy of the network: the hooks of a copy
    would fill this store.

    Args:
        network: the network to read.
        addresses: term -> address, or a tuple of addresses for a term that reads several places.

    Raises:
        ValueError: an address names nothing in this network.
    """

    def __init__(self, network: nn.Module, addresses: Mapping[str, Address]) -> None:
        self.addresses = dict(addresses)
        self.run: Callable[[Tensor], SegmentationOutput] = network  # or the same, compiled
        self._seen: dict[str, tuple[Tensor, int]] | None = None  # a dict only during a call; else hooks do nothing
        modules = {path: module for path, module in network.named_modules() if path}
        self._tapped: dict[str, nn.Module] = {}
        declared = network.taps if isinstance(network, Network) else {}
        for address in dict.fromkeys(a for one in self.addresses.values() for a in as_tuple(one)):
            if address == "logits" or address.startswith("aux.") or address in declared:
                continue
            if address not in modules:
                raise TapError(address, _nothing_at(address, [*declared, "logits"], list(modules)))
            self._tapped[address] = modules[address]
        self._attach()

    def _attach(self) -> None:
        self._handles = [module.register_forward_hook(self._hook(address)) for address, module in self._tapped.items()]

    @contextmanager
    def detached(self) -> Iterator[None]:
        """Take the hooks off while the block runs, so that the network can be copied."""
        for handle in self._handles:
            handle.remove()
        try:
            yield
        finally:
            self._attach()

    def __call__(self, images: Tensor) -> tuple[SegmentationOutput, dict[str, Taken]]:
        """Run the network once on images (N, C, H, W); its output, and for every term the map or maps at its address.

        Raises:
            ValueError: a tapped module did not run, ran twice, or its map was changed in place after it ran.
        """
        seen: dict[str, tuple[Tensor, int]] = {}
        self._seen = seen
        try:
            output: SegmentationOutput = self.run(images)
        finally:
            self._seen = None  # the maps must not outlive the step that made them
        found: dict[str, Taken] = {}
        for term, address in self.addresses.items():
            maps = tuple(_one(a, output, seen) for a in as_tuple(address))
            found[term] = maps if isinstance(address, tuple) else maps[0]
        return output, found

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


def _one(address: str, output: SegmentationOutput, seen: Mapping[str, tuple[Tensor, int]]) -> Tensor:
    if address == "logits":
        return as_classes(output.logits)
    if address.startswith("aux."):
        name = address.removeprefix("aux.")
        if name not in output.aux:
            raise TapError(address, f"the network has no such head; known: {_listed(output.aux)}")
        return as_classes(output.aux[name])
    if address in output.features:
        return output.features[address]
    if address not in seen:
        raise TapError(address, "the module did not run in this forward; tap one that does")
    result, version = seen[address]
    if result._version != version:
        raise TapError(
            address,
            "its map was changed in place after the module returned it "
            "(an in-place ReLU or `out +=`); set inplace=False there, or tap the module behind it",
        )
    return result


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(names) if names else "none"


def _nothing_at(address: str, taps: list[str], modules: list[str]) -> str:
    close = get_close_matches(address, [*taps, *modules], n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"no such tap or module{hint} (taps: {', '.join(sorted(taps))})"
