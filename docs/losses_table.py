"""Write the table of docs/losses.md: one row per loss, from the code and the pages of docs/methods.

Run `make generated` after adding a loss; a test compares the page with this script's output.
"""

import inspect
import re
from collections import Counter
from pathlib import Path

import kd.losses

DOCS = Path(__file__).resolve().parent
KINDS = ("response", "feature", "relation", "modifiers", "supervised")
START = "| loss | kind |"


def page() -> str:
    """The text of docs/losses.md: its text before the table, and the table of the code."""
    text = (DOCS / "losses.md").read_text(encoding="utf-8").partition(START)[0]
    cases = comparisons()
    names = sorted(kd.losses.__all__, key=lambda name: (KINDS.index(kind(name)), name.lower()))
    head = (f"{START} what it does | reads | published code | gain |", "| --- | --- | --- | --- | --- | --- |")
    return text + "".join(f"{line}\n" for line in (*head, *(row(name, cases) for name in names)))


def row(name: str, cases: Counter[tuple[str, str]]) -> str:
    """One line of the table."""
    loss = getattr(kd.losses, name)
    stem = loss.__module__.rpartition(".")[2]
    summary = (inspect.getdoc(loss) or "").partition("\n")[0].rstrip(".")
    relations = (("equal", "equal"), ("equal up to a factor", "by a factor"), ("differs", "different on purpose"))
    counts = [f"{cases[name, relation]} {text}" for relation, text in relations if cases[name, relation]]
    cells = (
        f"[{name}](methods/{stem}.md)",
        kind(name).removesuffix("s"),
        summary,
        reads(loss),
        ", ".join(counts) or "–",
        gain(name, (DOCS / "methods" / f"{stem}.md").read_text(encoding="utf-8")),
    )
    return f"| {' | '.join(cells)} |"


def kind(name: str) -> str:
    """The package below `kd.losses` that holds the loss."""
    return str(getattr(kd.losses, name).__module__.split(".")[2])


def reads(loss: type) -> str:
    """What a loss compares, and what its types allow."""
    if not hasattr(loss, "compares"):
        return "logits, labels"
    if "loss" in inspect.signature(loss).parameters and loss.compares == "either":
        return "as the inner loss"
    teacher = str(inspect.signature(loss.forward).parameters["teacher"].annotation)
    notes = {"tuple": ", several taps", "_D": ", any channels"}
    what = {"either": "logits or features"}.get(loss.compares, loss.compares)
    return what + "".join(note for mark, note in notes.items() if mark in teacher)


def comparisons() -> Counter[tuple[str, str]]:
    """How many cases of docs/methods/cases.md a loss has, by loss and relation."""
    cases: Counter[tuple[str, str]] = Counter()
    for line in (DOCS / "methods" / "cases.md").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"\| (\w+) \| `.+?` \| (\d+) \| ([^:|]+)", line):
            cases[found[1], found[3].strip()] += int(found[2])
    return cases


def gain(name: str, text: str) -> str:
    """The measured gains of a loss, from the table at the end of its page."""
    rows = re.findall(r"\| \[(.+?)\]\(\.\./(results/.+?)\)(.*?) \| (.+?) \| (.+?) \|", text.partition("## Measured")[2])
    gains = [
        f"{points} ([{data}]({target}){seeds}{'' if terms == name else f', {terms}'})"
        for data, target, seeds, terms, points in rows
        if name in terms.split(" + ")
    ]
    return "; ".join(gains) or "–"


if __name__ == "__main__":
    (DOCS / "losses.md").write_text(page(), encoding="utf-8")
