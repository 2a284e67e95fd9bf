"""Write the table of docs/losses.md: one row per loss, from the code, the pages of docs/methods and the kept runs.

Run `make generated` after adding a loss; a test compares the page with this script's output.
"""

import inspect
import json
import re
import runpy
from collections import Counter
from pathlib import Path

import kd.losses

DOCS = Path(__file__).resolve().parent
RESULTS = runpy.run_path(str(DOCS / "results_table.py"))
VARIANTS = json.loads(RESULTS["LOSSES"].read_text(encoding="utf-8"))["variants"]  # of recipes/shapes/losses_study.yaml
LENGTHS = {1.0: "baseline", 1.5: "baseline × 1.5", 2.0: "baseline × 2", 3.0: "baseline × 3"}  # in times the study's
KINDS = ("response", "feature", "relation", "modifiers", "supervised")
START = "| loss | kind |"


def page() -> str:
    """The text of docs/losses.md: its text before the table, and the table of the code."""
    text = (DOCS / "losses.md").read_text(encoding="utf-8").partition(START)[0]
    cases = comparisons()
    names = sorted(kd.losses.__all__, key=lambda name: (KINDS.index(kind(name)), name.lower()))
    columns = (
        "what it does",
        "reads",
        "published code",
        "gain, equal steps",
        "gain, equal time (interpolated)",
        "step",
        "other data",
    )
    head = (f"{START} {' | '.join(columns)} |", "| --- " * (2 + len(columns)) + "|")
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
        *measured(name),
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


def measured(name: str) -> tuple[str, str, str]:
    """On drawn shapes: points above the student alone after as many steps and after as long, and the time of a step."""
    found = {variant: VARIANTS[variant]["step"] for variant in VARIANTS if variant.partition(" of ")[0] == name}
    rows = [
        (
            RESULTS["difference"]([(1, runs(variant)), (-1, runs("baseline"))]),
            at_equal_time(variant, step),
            f"{100 * step:.0f} %",
        )
        for variant, step in found.items()
    ]
    notes = [f" ({variant.partition(' of ')[2] or 'logits'})" if len(found) > 1 else "" for variant in found]
    cells = [[cell + note for cell, note in zip(column, notes, strict=True)] for column in zip(*rows, strict=True)]
    equal_steps, equal_time, step = ("; ".join(column) for column in cells) if rows else ("–", "–", "–")
    return equal_steps, equal_time, step


def at_equal_time(variant: str, step: float) -> str:
    """The gain over the student alone with `step` times the steps, from the two nearest lengths that were trained."""
    lengths = sorted(LENGTHS)
    step = min(max(step, lengths[0]), lengths[-1])
    above = next(length for length in lengths[1:] if length >= step)
    below = lengths[lengths.index(above) - 1]
    share = (step - below) / (above - below)
    alone = [(share - 1, runs(LENGTHS[below])), (-share, runs(LENGTHS[above]))]
    return str(RESULTS["difference"]([(1, runs(variant)), *(term for term in alone if term[0])]))


def runs(variant: str) -> list[Path]:
    """The kept runs of a variant, by seed."""
    return sorted((RESULTS["DATA"] / "losses" / VARIANTS[variant]["run"]).glob("seed*"))


def gain(name: str, text: str) -> str:
    """The gains of a loss on other data, from the table at the end of its page."""
    rows = re.findall(r"\| \[(.+?)\]\(\.\./(results/.+?)\)(.*?) \| (.+?) \| (.+?) \|", text.partition("## Measured")[2])
    gains = [
        f"{points} ([{data}]({target}){seeds}{'' if terms == name else f', {terms}'})"
        for data, target, seeds, terms, points in rows
        if name in terms.split(" + ")
    ]
    return "; ".join(gains) or "–"


if __name__ == "__main__":
    (DOCS / "losses.md").write_text(page(), encoding="utf-8")
