"""The latencies that `kd latency` has stored in the runs of a comparison."""

import shlex
from collections import Counter

from kd.compare.comparison import NO_LATENCIES, Comparison, Entry, Latencies, Note
from kd.errors import StorageError
from kd.runs import Latency, read_latency


def stored_latencies(comparison: Comparison) -> tuple[Latencies, list[Note]]:
    """The stored latencies that can be compared, and a line on the others.

    Of measurements on several processors or with several numbers of threads, those that most networks have count.
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
    known = {key: latency.milliseconds for key, latency in found.items() if latency.how == how}
    others = [entry for entry in comparison.entries if entry.key in found and entry.key not in known]
    if others:
        labels = ", ".join(map(comparison.label, others))
        line = f"latency measured otherwise, and not shown: {labels}; {_command(comparison)} measures all alike"
        notes.append(Note("latency", line))
    return Latencies(known, how), notes


def _command(comparison: Comparison) -> str:
    """The `kd latency` that measures one network of each kind."""
    kinds: dict[tuple[str, int], Entry] = {}
    for entry in comparison.entries:
        if entry.run_dirs:
            kinds.setdefault(entry.kind, entry)
    trust = ["--trust"] if comparison.trust else []
    return shlex.join(["kd", "latency", *trust, *(str(entry.run_dirs[0]) for entry in kinds.values())])
