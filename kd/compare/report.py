"""A comparison as one self-contained HTML page: no scripts, nothing loaded from anywhere."""

import base64
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from kd.compare import tables
from kd.compare.charts import Line, Mark, line_chart, ruler
from kd.compare.comparison import SPLIT, Comparison, Entry
from kd.compare.predictions import Picture, Pictures, pictures, run_texts
from kd.constants import __version__
from kd.errors import one_line
from kd.pictures import changes, colourise, differences, jpeg, png
from kd.runs import read_metrics

CURVE_POINTS = 120  # a longer loss curve shows the means of this many equal parts


def page(comparison: Comparison) -> bytes:
    """The page of a comparison, as `gather` returns it: HTML in UTF-8."""
    return render(comparison, pictures(comparison)).encode()


def render(comparison: Comparison, shown: Pictures) -> str:
    """The page's HTML: `page.html` filled in, with `page.css` inside it."""
    sections = (
        _opening(comparison),
        _section("Scores", _summary(comparison) + _notes(comparison)),
        _section("Classes", _classes(comparison, shown.colors)),
        _section("Training", _curves(comparison)),
        _section("Images", _images(comparison, shown)),
        _section("Sources", _sources(comparison)),
    )
    names = ", ".join(entry.name for entry in comparison.of_role("student")) or "comparison"
    folder = files("kd.compare")
    page = Template(folder.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{names}: the effect of distillation"),
        style=folder.joinpath("page.css").read_text(encoding="utf-8"),
        body="\n".join(sections),
        version=__version__,
    )
    return "\n".join(map(one_line, page.split("\n")))  # a control character may have any effect where the page is read


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>" if content else ""


def _color(comparison: Comparison, entry: Entry) -> str:
    """The entry's colour, as the style sheet's variable: one a role, three where a page compares several."""
    peers = comparison.of_role(entry.role)
    return f"var(--{entry.role}{peers.index(entry) % 3 if entry.role in ('student', 'alone') else ''})"


def _opening(comparison: Comparison) -> str:
    warned = "".join(f'<p class="warning" role="note">{escape(line)}</p>' for line in tables.warnings(comparison))
    first, *more = tables.headline(comparison)
    further = "".join(f'<p class="lead">{escape(line)}.</p>' for line in more)
    sizes = "".join(f"<p>{escape(line)}</p>" for line in _sizes(comparison))
    facts = f'<p class="quiet">{escape(tables.facts(comparison))}</p>'
    return f"<header>{warned}<h1>{escape(first)}.</h1>{further}{_ruler(comparison)}{sizes}{facts}</header>"


def _sizes(comparison: Comparison) -> Iterable[str]:
    """The size of each student beside its teacher's."""
    pairs = {(entry.network, entry.teacher): entry for entry in comparison.of_role("student")}
    for entry in pairs.values():
        teacher = comparison.get(entry.teacher)
        if teacher is not None:
            yield (
                f"{tables.short(entry.network)} has {tables.count(entry.parameters)} parameters "
                f"({entry.megabytes:.1f} MB), its teacher {tables.short(teacher.network)} "
                f"{tables.count(teacher.parameters)} ({teacher.megabytes:.1f} MB): "
                f"{teacher.parameters / entry.parameters:.1f} times as many."
            )


def _ruler(comparison: Comparison) -> str:
    """All networks' mIoU on one line, and how much of the gap each student closes."""
    entries = comparison.entries
    scores = [entry.miou for entry in entries]
    if len(entries) < 2 or not tables.is_gain(max(scores) - min(scores)):  # equal scores drawn apart would mislead
        return ""
    marks = []
    for entry in entries:
        baseline = comparison.get(entry.baseline)
        label = f"{comparison.label(entry)} {tables.percent(entry.miou)}"
        start = None if baseline is None else baseline.miou
        marks.append(Mark(label, _color(comparison, entry), entry.miou, entry.role == "student", start))
    return ruler(f"{comparison.score} in percent: " + ", ".join(mark.label for mark in marks), marks)


def _summary(comparison: Comparison) -> str:
    header, rows = tables.summary_rows(comparison)
    heads = "".join(f'<th scope="col"{_side(i, 2)}>{escape(text)}</th>' for i, text in enumerate(header))
    body = []
    for entry, row in zip(comparison.entries, rows, strict=True):
        dot = f'<i class="dot" style="background:{_color(comparison, entry)}"></i>'
        cells = "".join(f"<td{_side(i, 2)}>{escape(text)}</td>" for i, text in enumerate(row) if i)
        body.append(f'<tr title="{escape(entry.key)}"><th scope="row">{dot}{escape(row[0])}</th>{cells}</tr>')
    arrow = " ↓: lower is better." if any(m.direction == "lower" for m in comparison.metrics.values()) else ""
    caption = (
        f"On {comparison.images} {SPLIT} images. vs: points of {comparison.score} above (+) or below (−), computed "
        "before rounding. "
        f"MB: parameters in float32. train min, images/s: of one seed, with its evaluations.{arrow}"
    )
    return _table(caption, heads, body)


def _table(caption: str, heads: str, body: Sequence[str]) -> str:
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _side(index: int, left: int) -> str:
    return "" if index < left else ' class="number"'


def _notes(comparison: Comparison) -> str:
    items = "".join(f"<li>{escape(note.text)}</li>" for note in comparison.notes)
    return f'<ul class="quiet">{items}</ul>' if items else ""


def _classes(comparison: Comparison, colors: Sequence[tuple[int, int, int]]) -> str:
    header, rows = tables.class_rows(comparison)
    texts = [escape(text).replace("_", "_<wbr>") for text in header[1:]]  # a long name may break there
    names = [f'<th scope="col" class="number">{text}</th>' for text in texts]
    heads = f'<th scope="col">class</th><th scope="col" class="bars">IoU, 0 to 100 %</th>{"".join(names)}'
    body = []
    for index, row in enumerate(rows):
        swatch = _swatch(colors[index]) if index < len(colors) else ""
        bars = "".join(_bar(comparison, entry, entry.iou[index]) for entry in comparison.entries)
        cells = "".join(f'<td class="number">{escape(text)}</td>' for text in row[1:])
        body.append(
            f'<tr><th scope="row">{swatch}{escape(row[0])}</th>'
            f'<td class="bars" aria-hidden="true">{bars}</td>{cells}</tr>'
        )
    return _table(
        "IoU of each class in percent; –: neither labelled nor predicted. gain: points above the baseline.", heads, body
    )


def _bar(comparison: Comparison, entry: Entry, iou: float | None) -> str:
    return f'<b style="width:{100 * (iou or 0):.1f}%;background:{_color(comparison, entry)}"></b>'


def _swatch(color: tuple[int, int, int]) -> str:
    return f'<i class="swatch" style="background:rgb({color[0]},{color[1]},{color[2]})"></i>'


def _curves(comparison: Comparison) -> str:
    trained = [entry for entry in comparison.entries if entry.role != "teacher"]
    metrics = {entry.key: [read_metrics(run_dir) for run_dir in entry.run_dirs] for entry in comparison.entries}
    scores, curve = [], "val/miou" if comparison.score == "mIoU" else "agreement/miou"
    for entry in trained:
        for lines in metrics[entry.key]:
            points = [(step, 100 * miou) for step, miou in _points(lines, curve)]
            scores.append(Line(comparison.label(entry), _color(comparison, entry), points))
    scores = [line for line in scores if line.points]
    if not scores:
        return "<p>No metrics.jsonl with scores: no curves.</p>"
    last = max(point[0] for line in scores for point in line.points)
    for teacher in comparison.of_role("teacher"):  # often trained for another number of steps: its final level
        level = [(0.0, 100 * teacher.miou), (last, 100 * teacher.miou)]
        scores.append(Line(f"{comparison.label(teacher)}, trained", _color(comparison, teacher), level, dashed=True))
    charts = [line_chart(f"{SPLIT} {comparison.score} while training", scores, "step", "%")]
    for entry in trained:
        if entry.role == "student" and metrics[entry.key]:
            charts.append(_loss_chart(entry, metrics))
    return f'<div class="charts">{"".join(charts)}</div>'


def _loss_chart(entry: Entry, metrics: dict[str, list[list[dict[str, float]]]]) -> str:
    """The student's loss terms, unweighted, with its baseline's supervised loss; of the first seed."""
    log = metrics[entry.key][0]
    names = dict.fromkeys(name for line in log for name in line if name.startswith("loss/") and name != "loss/total")
    lines = [
        Line(name.removeprefix("loss/"), f"var(--term{index % 4})", _thinned(_points(log, name)))
        for index, name in enumerate(names)
    ]
    if entry.baseline is not None and metrics[entry.baseline]:
        points = _thinned(_points(metrics[entry.baseline][0], "loss/supervised"))
        lines.append(Line("supervised, baseline", "var(--baseline)", points, dashed=True))
    return line_chart(f"Loss terms of {entry.name}, before their weights", lines, "step", "loss")


def _points(lines: Iterable[dict[str, float]], name: str) -> list[tuple[float, float]]:
    return [(line["step"], line[name]) for line in lines if line.get(name) is not None]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = -(-len(points) // CURVE_POINTS)
    parts = [points[start : start + size] for start in range(0, len(points), size)] if size else []
    return [(part[-1][0], statistics.fmean(value for _, value in part)) for part in parts]


def _images(comparison: Comparison, shown: Pictures) -> str:
    problems = "".join(f'<p class="warning">{escape(line)}</p>' for line in shown.problems)
    if not shown.pictures:
        return problems
    legend = "".join(
        f"<span>{_swatch(color)}{escape(name)}</span>"
        for name, color in zip(comparison.classes, shown.colors, strict=True)
    )
    marks = (
        '<p class="quiet">Orange: differs. Against the baseline: <i class="swatch gained"></i>now right, '
        '<i class="swatch lost"></i>now wrong, <i class="swatch still"></i>still wrong. '
        "Stripes in label maps: ignored pixels. Half of the images are spread evenly over the split; "
        "in the others student and baseline differ most. All predictions are those of the first seed.</p>"
    )
    figures = "".join(_picture(comparison, picture, shown.colors) for picture in shown.pictures)
    return f'{problems}<div class="legend">{legend}</div>{marks}{figures}'


def _picture(comparison: Comparison, picture: Picture, colors: Sequence[tuple[int, int, int]]) -> str:
    image, labels, predictions = picture.image, picture.labels, picture.predictions
    columns = [("image", jpeg(image)), ("labels", png(colourise(labels, colors)))]
    for entry in comparison.entries:
        if entry.key in predictions:
            columns.append((comparison.label(entry), png(colourise(predictions[entry.key], colors))))
    for student in comparison.of_role("student"):
        predicted = predictions.get(student.key)
        if predicted is None:
            continue
        name = comparison.label(student)
        columns.append((f"{name} ≠ labels", png(differences(image, predicted, labels))))
        if (teacher := predictions.get(student.teacher or "")) is not None:
            columns.append((f"{name} ≠ teacher", png(differences(image, predicted, teacher))))
        if (baseline := predictions.get(student.baseline or "")) is not None:
            columns.append((f"{name} against baseline", png(changes(image, baseline, predicted, labels))))
    small = ' class="pixels"' if image.shape[1] < 160 else ""
    cells = "".join(
        f'<figure><img{small} src="{_data_uri(data)}" alt="{escape(f"{title} of {picture.name}")}" '
        f'width="{image.shape[1]}" height="{image.shape[0]}"><figcaption>{escape(title)}</figcaption></figure>'
        for title, data in columns
    )
    return (
        f'<article><h3>{escape("/".join(Path(picture.name).parts[-2:]))}</h3><div class="strip">{cells}</div></article>'
    )


def _data_uri(data: bytes) -> str:
    """An image file as text inside the page."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _sources(comparison: Comparison) -> str:
    run_dirs = [run_dir for entry in comparison.entries for run_dir in entry.run_dirs]
    first_seeds = [entry.run_dirs[0] for entry in comparison.entries if entry.run_dirs]
    # A result states where its teacher's run is; the text of a run elsewhere has not been named by the user.
    named = {
        entry.run_dirs[0].resolve().parents[1] for entry in comparison.entries if entry.role in ("student", "alone")
    }
    shown = [run_dir for run_dir in first_seeds if run_dir.resolve().parents[1] in named]
    listed = "".join(f"<li><code>{escape(str(run_dir))}</code></li>" for run_dir in run_dirs)
    texts = "".join(
        f"<details><summary><code>{escape(path)}</code></summary><pre>{escape(text)}</pre></details>"
        for path, text in run_texts(shown)
    )
    return f"<ul>{listed}</ul>{texts}"
