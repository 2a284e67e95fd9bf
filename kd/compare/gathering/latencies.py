"""The latencies that `kd latency` has stored in the runs of a comparison."""

import shlex
from collections import Counter

from kd.compare.comparison import NO_LATENCIES, Comparison, Entry, Latencies, Note
from kd.errors import RecipeError, StorageError
from kd.runs import Latency, read_latency, read_run_recipe


def stored_latencies(comparison: Comparison) -> tuple[Latencies, list[Note]]:
    """The stored latencies that can be compared, and a line on the others.

    Of measurements on several processors or with several numbers of threads, those that most networks have count. A
    network without one has that of another of its kind, whose recipe has the same size.
    """
    notes: list[Note] = []
    found: dict[str, Latency] = {}
    for entry in comparison.entries:
        try:
            latency = next(filter(None, map(read_latency, entry.run_dirs)), None)
        except StorageError as error:
            notes.append(Note("damaged", f"left out: {error}; kd latency measures it again"))
            continue
        if latency is not None:
            found[entry.key] = latency
    if not found:
        return NO_LATENCIES, notes
    how = Counter(latency.how for latency in found.values()).most_common(1)[0][0]
    counted = {key: latency for key, latency in found.items() if latency.how == how}
    of_kind: dict[object, float] = {
        (entry.kind, counted[entry.key].size): counted[entry.key].milliseconds
        for entry in comparison.entries
        if entry.key in counted
    }
    known = {key: latency.milliseconds for key, latency in counted.items()}
    for entry in comparison.entries:
        if entry.key not in known and (same := of_kind.get((entry.kind, _size(entry)))) is not None:
            known[entry.key] = same
    others = [entry for entry in comparison.entries if entry.key in found and entry.key not in known]
    if others:
        labels = ", ".join(map(comparison.label, others))
        line = f"latency measured otherwise, and not shown: {labels}; {_command(comparison)} measures all alike"
        notes.append(Note("latency", line))
    return Latencies(known, how), notes


def _command(comparison: Comparison) -> str:
    """The `kd latency` that measures one network of each kind and size."""
    kinds: dict[object, Entry] = {}
    for entry in comparison.entries:
        if entry.run_dirs:
            kinds.setdefault((entry.kind, _size(entry)), entry)
    trust = ["--trust"] if comparison.trust else []
    return shlex.join(["kd", "latency", *trust, *(str(entry.run_dirs[0]) for entry in kinds.values())])


def _size(entry: Entry) -> tuple[int, int] | None:
    """The height and width of its recipe, at which `kd latency` measures it; None where it is unknown."""
    try:
        return read_run_recipe(entry.run_dirs[0], trust=True).scored_size
    except (RecipeError, StorageError, IndexError):  # IndexError: a network without a run
        return None
