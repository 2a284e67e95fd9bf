"""Every message that gives advice has a test that follows it: a new message comes with a row."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import advised_calls
import advised_recipes
from test_followed import ROWS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kd", "teachers", "students")
DESCRIBING = {"Field", "add_argument", "add_parser", "add_files", "ArgumentParser"}  # their texts are help
VERBS = "use|set|give|state|name|add|remove|train|leave|choose|free|pip install|did you mean"
ADVICE = re.compile(rf"; \S|(^|: |, or )({VERBS}) ")
CERTAIN = 40  # characters of a message, besides its values, that no other message ends with

# Texts that look like advice and are none, or that no test can follow; by the reason.
WITHOUT: dict[str, set[str]] = {
    "a fact, or the title of a table": {
        "{}, {}, {} classes, median of {}; forward: one image; step: {} images, forward, backward and update",
        "{}: trains, saves, resumes with the same bits, scores and reports; {} is removed",
        "few independent groups of images: {}; below {} the interval is a rough one",
        "{}: {} was trained again between its seeds (mIoU {} %); each seed is compared with its own teacher",
        "IoU of each class in percent; –: neither labelled nor predicted. gain: points above the baseline.",
        "warning: {} {} ({}); {}",
        "{}: {} image{}, {} classes; scores in percent, differences in points of {}{}{}{}{}",
        "{}{}; without a baseline, the effect of distillation is unknown",
        "; the teacher is {} points above the baseline",
        "; the teacher is {} points above it",
        "; agreement: mIoU against the teacher's classes, as there are no labels",
        "; mean ± standard deviation over seeds",
        "warning: {} of the {} {} images {} {}: {}{}; scores on them are too high",
        "shades {} … {}; {}",
        "masks of several kinds: {}; classes and values decide for all: they hold {}",
        "{}: {} % of the pixels are ignored; {} ({})",
        "Gradients at the parameters that a term and the supervised loss share; batches: {}",
        "{}: {} parameters; taps: {}",
        "plan: {}{}, until about {}; {}checkpoints and weights at most {} MB on disk{}",
        "{}: {} MB, takes {}; {}",
        "train min",
        "{}; a number v becomes {}, with [low, high] of the channels: {}",
        "not in the file: {}; it computes one pass over the image",
        " They were taken with {}; the file computes one pass over the image.",
        "budget: {}; {} of {} within",
        "  {}; its maps differ by at most {} % (root mean square)",
        "; about {} left",
        "set -eu",
        "{}; training: {}{}",
        "; * the gain is not 0, adjusted for {} gains (Holm)",
        "min: training of one seed; ● no other network scores higher with as few parameters",
        "loader alone: {} images/s ({}), {} × what the step trains; {} is the limit",
        "kd computes results in another way now (revision {}, now {}; see CHANGELOG.md)",
    },
    "an exit status, in the help": {
        "a bug in kd; the traceback and how to report it are printed",
        "runs of a study failed; each is named with its own status",
        *(
            f"stopped by {signal}; a run has saved a checkpoint, and the same command resumes it"
            for signal in (
                "SIGHUP (its terminal was closed)",
                "SIGINT (Ctrl-C)",
                "SIGQUIT (Ctrl-\\)",
                "SIGUSR1 (on macOS 158)",
                "SIGUSR2 (on macOS 159)",
                "SIGTERM",
            )
        ),
    },
    "kd carries on by itself, and reports how": {
        "train.compile: failed ({}); training continues uncompiled",
        "teacher: its classes are in another order ({}); they are mapped by name",
        "members.{}: the order of its classes is not recorded; taken to be {}",
        "cache: maps in {} {}; they are computed again",
        "cache: {}; training continues without it",
        "{}; its curves are left out",
        "{}: cannot be read ({}); its runs are left out",
        "{}: cannot be read ({}); it is left out",
        "{}: not a line of metrics (the file is damaged); line skipped",
        "{}; the teacher is scored again",
        "{}; {} ({} of at most {})",
        "  {}; using the previous one",
        "{}: {}; moved to {}",
        "{}; the next save tries again",
        "{}; waiting for it ({})",
        "metrics.jsonl: {}; its lines are kept and written later",
        "log.txt: not written ({}); training continues",
        "pictures: not drawn ({}); training continues",
        "{}: not written ({}); training continues",
        "{}: stopped ({}); training continues",
    },
    "on a GPU alone": {
        "kd bench: --gpu: torch finds no CUDA device; run it on a machine with one",
        "kd bench: --compiled: torch.compile failed, as the warning states; leave --compiled out",
        "{} keeps numbers on the processor, or may; SGD and AdamW do not",
        "train.graph: {}; the steps run without a graph",
        "train.graph: the GPU's memory does not hold a step of another size beside the captured one; the steps run "
        "without a graph",
        "train.graph: {} cannot be captured: {}; the steps run without a graph (docs/graphs.md shows what to write "
        "instead)",
    },
    "a package or a disk that is not there for tests": {
        "--on: ray is not installed; pip install 'kd-segmentation[ray]'",
        "--on: no Ray cluster answers at {} ({}); start one: ray start --head",
        "--on: what listens at {} is no head of a Ray cluster; give the address that ray start --head prints (its port "
        "is 6379, not the 10001 of Ray Client)",
        "--on: the cluster at {} asks for a token; put RAY_AUTH_MODE=token before the command (Ray reads the token "
        "from ~/.ray/auth_token)",
        "segmentation_models_pytorch is not installed: pip install 'kd-segmentation[smp]'",
        "timm is not installed: pip install 'kd-segmentation[timm]'",
        "torch_pruning is not installed: pip install 'kd-segmentation[prune]'",
        "datasets is not installed: pip install 'kd-segmentation[datasets]'",
        "pip install 'kd-segmentation[tiff]'",
        "{}; of several channels: pip install 'kd-segmentation[tiff]', and state ranges",
        "  a checkpoint takes {} to write, and torchrun kills processes 30 s after it asks them to stop: ask early "
        "(Slurm: --signal=B:USR1@120), or choose a faster disk with --runs DIR",
    },
    "a part of another message, whose rows follow it": {
        "  that is below twice chance; kd doctor: {}",
        "import torch, safetensors.torch as s; n = torch.load({}, map_location='cpu', weights_only={}){}; "
        "s.save_file({k: v.contiguous().clone() for k, v in n.state_dict().items()}, {})",
    },
}


@cache
def messages() -> dict[str, str]:
    """Every text in the packages that advises, with `{}` for a value, and its place.

    What comes after a semicolon counts as advice, and what begins with one of `VERBS`.
    """
    found = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for line, text in texts(ast.parse(file.read_text(encoding="utf-8"))):
                if ADVICE.search(text):
                    found[text] = f"{file.relative_to(ROOT)}:{line}"
    return found


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The texts in a file but its docstrings and help, with their lines."""
    left_out = {
        id(inner)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in DESCRIBING)
        for inner in ast.walk(node)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in left_out | parts:
            continue
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def followed(text: str, tested: list[str]) -> bool:
    """Whether one of the messages ends like such a text, from the word on that leaves it in no doubt."""
    text = re.sub(r"^(\{\}: )+", "", text)
    starts = [0, *(match.end() for match in re.finditer(r"(?<!;) ", text.partition("; ")[0]))]
    start = max((s for s in starts if len(text[s:].replace("{}", "")) >= CERTAIN), default=0)
    fixed = text[start:].split("{}")
    pattern = re.compile(".*?".join(map(re.escape, fixed)), re.DOTALL)
    return any(max(fixed, key=len) in message and pattern.search(message) for message in tested)


def test_every_advice_is_followed_somewhere():
    tested = [row.message for row in (*advised_calls.ROWS, *advised_recipes.ROWS, *ROWS)]
    without = set().union(*WITHOUT.values())
    assert without <= messages().keys()
    missing = [
        f"{place}: {text}" for text, place in messages().items() if text not in without and not followed(text, tested)
    ]
    print(f"{len(messages()) - len(without)} messages with advice, {len(missing)} without a test that follows it")
    assert missing == []
