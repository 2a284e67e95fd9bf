"""Names of classes on two sides: which channel is which class."""

from collections.abc import Sequence


def folded(name: str) -> str:
    """A name as names are compared: without case and outer spaces."""
    return name.strip().casefold()


def channels_of(wanted: Sequence[str], names: Sequence[str]) -> tuple[int, ...] | None:
    """The channel of each wanted class; None unless both sides have the same names, each once.

    Args:
        wanted: names of classes.
        names: those of a network, in the order of its channels.
    """
    channels = {folded(name): channel for channel, name in enumerate(names)}
    if len(wanted) == len(names) and channels.keys() == {folded(name) for name in wanted}:
        return tuple(channels[folded(name)] for name in wanted)
    return None


def displaced(stated: Sequence[str], recorded: Sequence[str]) -> bool:
    """Whether a name that both sides have is at another channel; other names may be other words for the same class."""
    channels = {folded(name): channel for channel, name in enumerate(recorded)}
    return any(channels.get(folded(name), channel) != channel for channel, name in enumerate(stated))
