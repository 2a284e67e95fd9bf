"""A comparison as one self-contained HTML page: its scripts are inside it, and nothing is loaded from anywhere."""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from kd.compare import answer, tables
from kd.compare.comparison import Comparison, Entry
from kd.compare.page.charts import chart_data, color
from kd.compare.page.gallery import images_html, picture_data, swatch
from kd.compare.page.predictions import Pictures
from kd.compare.page.sources import named_folders, origins, shared, sources_html
from kd.constants import __version__
from kd.errors import one_line
from kd.markup import printable
from kd.units import NOTHING, duration

SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "page.js")

Value = float | str | None  # by which a cell is sorted


def render(comparison: Comparison, shown: Pictures) -> str:
    """The page's HTML: `page.html` filled in, with `page.css` and the scripts inside it."""
    sections = (
        _opening(comparison),
        _section("Scores", _summary(comparison) + _notes(comparison)),
        _section("Accuracy and latency", _chart("latency", _latency_caption(comparison))),
        _section("Classes", _classes(comparison, shown.colors)),
        _section("Training", _chart("curves")),
        _section("Confusions", _chart("confusions") if _has_baselines(comparison) else ""),
        _section("Reliability", _chart("reliability")),
        _section("Images", images_html(comparison, shown)),
        _section("Cost", _cost(comparison)),
        _section("Sources", sources_html(comparison)),
    )
    names = ", ".join(comparison.name(entry) for entry in comparison.of_role("student")) or "comparison"
    data = chart_data(comparison) | {"pictures": picture_data(comparison, shown)}
    data["origins"] = list(origins(comparison))
    folder = files("kd.compare.page")
    scripts = [folder.joinpath(*name.split("/")).read_text(encoding="utf-8") for name in SCRIPTS]
    return Template(folder.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(one_line(f"{names}: the effect of distillation")),
        style=folder.joinpath("page.css").read_text(encoding="utf-8"),
        body=printable("\n".join(filter(None, sections))),
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
        hashes=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
        version=__version__,
    )


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _section(title: str, content: str) -> str:
    name = title.split()[0].lower()
    return f'<section id="{name}"><h2>{escape(title)}</h2>\n{content}</section>' if content else ""


def _chart(name: str, caption: str = "") -> str:
    """The place of a chart; the script leaves the section out where there are no numbers."""
    quiet = f'<p class="quiet">{escape(caption)}</p>' if caption else ""
    return f'<div data-chart="{name}"></div>{quiet}'


def _opening(comparison: Comparison) -> str:
    warned = "".join(f'<p class="warning" role="note">{escape(line)}</p>' for line in answer.warnings(comparison))
    first, *more = answer.headline(comparison)
    further = "".join(f'<p class="lead">{escape(line)}.</p>' for line in (*more, *answer.decision(comparison)))
    sizes = "".join(f"<p>{escape(line)}</p>" for line in _sizes(comparison))
    facts = f'<p class="quiet">{escape(tables.facts(comparison))}</p>'
    return f"<header>{warned}<h1>{escape(first)}.</h1>{further}{_chart('scores')}{sizes}{facts}</header>"


def _sizes(comparison: Comparison) -> Iterable[str]:
    """The size of each student beside its teacher's."""
    pairs = {(entry.network, entry.teacher): entry for entry in comparison.of_role("student")}
    for entry in pairs.values():
        teacher = comparison.get(entry.teacher)
        if teacher is not None and entry.parameters:
            yield (
                f"{tables.short(entry.network)} has {tables.count(entry.parameters)} parameters "
                f"({entry.megabytes:.1f} MB), its teacher {tables.short(teacher.network)} "
                f"{tables.count(teacher.parameters)} ({teacher.megabytes:.1f} MB): "
                f"{teacher.parameters / entry.parameters:.1f} times as many."
            )


def _latency_caption(comparison: Comparison) -> str:
    if not comparison.latencies.milliseconds:
        return "No network could be timed here: parameters take the place of latency. kd latency measures it."
    return f"Latency: {comparison.latencies.how}. The area is the number of parameters, the line the Pareto front."


def _has_baselines(comparison: Comparison) -> bool:
    return any(comparison.get(entry.baseline) for entry in comparison.of_role("student"))


def _summary(comparison: Comparison) -> str:
    header, rows = tables.summary_rows(comparison)
    dots = [f'<i class="dot" style="background:{color(comparison, entry)}"></i>' for entry in comparison.entries]
    values = [_sort_values(comparison, entry) for entry in comparison.entries]
    ms = f"ms: {comparison.latencies.how}. " if comparison.latencies.milliseconds else ""
    arrow = " ↓: lower is better." if any(m.direction == "lower" for m in comparison.metrics.values()) else ""
    caption = (
        f"On {tables.images(comparison)}. vs: points of {comparison.score} above (+) or below (−), computed "
        f"before rounding. MB: parameters in float32. {ms}train min: of one seed, with its evaluations."
        f"{arrow}"
    )
    return _table(caption, header, rows, left=2, before=dots, values=values)


def _sort_values(comparison: Comparison, entry: Entry) -> list[Value]:
    """The numbers of a row of `tables.summary_rows`, in its order."""
    gain, below = comparison.gain(entry), comparison.to_teacher(entry)
    metrics = [entry.metric(label, unit) for label, unit in comparison.metrics]
    return [
        comparison.label(entry),
        tables.short(entry.network),
        entry.miou,
        None if gain is None else gain.value,
        None if below is None else below.value,
        entry.figure("pixel_accuracy").mean,
        *(None if metric is None else metric.headline.mean for metric in metrics),
        entry.parameters,
        entry.parameters,
        *([comparison.latency(entry)] if comparison.latencies.milliseconds else []),
        entry.seconds,
    ]


def _table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: int = 1,
    before: Sequence[str] = (),
    values: Sequence[Sequence[Value]] = (),
) -> str:
    """A table that can be sorted, and whose rows become blocks on a narrow screen.

    Args:
        caption: below the table.
        header: the columns' titles.
        rows: of plain text; the first cell is the row's name.
        left: number of columns of words.
        before: HTML before each row's name.
        values: by which the cells of each row are sorted.
    """
    heads = "".join(f'<th scope="col"{_side(i, left)}>{_breakable(text)}</th>' for i, text in enumerate(header))
    body = []
    for place, row in enumerate(rows):
        cells = []
        for index, (title, text) in enumerate(zip(header, row, strict=True)):
            value = values[place][index] if values else None
            known = value is not None and not (isinstance(value, float) and math.isnan(value))
            by = f' data-value="{escape(str(value))}"' if known else ""
            if index == 0:
                mark = before[place] if before else ""
                cells.append(f'<th scope="row"{by}>{mark}{escape(text)}</th>')
            else:
                cells.append(f'<td{_side(index, left)}{by} data-title="{escape(title)}">{escape(text)}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table class="sortable"><caption><span>{escape(caption)}</span></caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _side(index: int, left: int) -> str:
    return "" if index < left else ' class="number"'


def _breakable(text: str) -> str:
    """A title in which a long name may break."""
    return escape(text).replace("_", "_<wbr>")


def _notes(comparison: Comparison) -> str:
    named = named_folders(comparison)
    items = "".join(f"<li>{escape(shared(note.text, named))}</li>" for note in comparison.notes)
    return f'<ul class="quiet">{items}</ul>' if items else ""


def _classes(comparison: Comparison, colors: Sequence[tuple[int, int, int]]) -> str:
    header, rows = tables.class_rows(comparison)
    swatches = [swatch(colors[index]) if index < len(colors) else "" for index in range(len(rows))]
    gaining = [comparison.gains[entry.key] for entry in comparison.of_role("student") if comparison.gain(entry)]
    values = [
        [name, *(entry.iou[index] for entry in comparison.entries), *(gain.classes[index] for gain in gaining)]
        for index, name in enumerate(comparison.classes)
    ]
    caption = "IoU of each class in percent; –: neither labelled nor predicted. gain: points above the baseline."
    return _chart("classes") + _table(caption, header, rows, before=swatches, values=values)


def _cost(comparison: Comparison) -> str:
    """What training each network took, and all of them together."""
    header = ["", "trained, one seed", "images/s in training", "seeds", "trained, all", "peak memory GB"]
    rows, values = [], []
    taken: dict[Path, float] = {}  # seconds by run: an assistant's is in the row of a student and in that of a teacher
    for entry in comparison.entries:
        seeds = len(entry.run_dirs)
        all_seeds = None if entry.seconds is None else entry.seconds * seeds
        taken |= {run_dir.resolve(): entry.seconds or 0.0 for run_dir in entry.run_dirs}
        memory = None if entry.peak_memory is None else entry.peak_memory / 1e9
        rows.append(
            [
                f"{entry.role} {label}" if (label := comparison.label(entry)) != entry.role else label,
                NOTHING if entry.seconds is None else duration(entry.seconds),
                NOTHING if entry.images_per_second is None else f"{entry.images_per_second:.1f}",
                str(seeds) if seeds else NOTHING,
                NOTHING if all_seeds is None else duration(all_seeds),
                NOTHING if memory is None else f"{memory:.2f}",
            ]
        )
        values.append([label, entry.seconds, entry.images_per_second, seeds, all_seeds, memory])
    total = duration(sum(taken.values()))
    caption = f"{total} in all, evaluations included. A teacher without a run of kd is not counted."
    return _table(caption, header, rows, values=values)
