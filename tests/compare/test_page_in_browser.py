"""The page in headless Chromium: charts, sorting, slider, keyboard, dark mode, and a phone's width."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from manifests import list_anew

from kd.compare.comparison import Latencies
from kd.compare.gathering.gather import gather
from kd.compare.page.predictions import Picture, Pictures
from kd.compare.page.report import render
from kd.runs import MetricResult

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
COLORS = ((0, 0, 0), (230, 80, 60), (60, 120, 230))
CURVE = {"ece": 0.1} | {f"{part} {b}": 0.1 + 0.2 * b for b in range(4) for part in ("share", "confidence", "accuracy")}


@pytest.fixture(scope="module")
def file(runs_in, tmp_path_factory):
    """The page of two students with two seeds."""
    made = runs_in(tmp_path_factory.mktemp("page") / "runs")
    made.teacher()
    metrics = {"CalibrationError": MetricResult(CURVE, "%", "lower")}
    for seed in range(2):
        made.write("small_kl-bbbbbbbb", 80, seed=seed, val=made.counted(80, 70 + seed, 90))
    run_dirs = [
        made.student(name=name, seed=seed, val=replace(made.counted(right, 75, 95), metrics=metrics),
                     taught_val=made.counted(95, 95, 95))
        for name, right in (("small_kl-cccccccc", 85), ("a_student_of_quite_a_long_name-dddddddd", 30))
        for seed in range(2)
    ]  # fmt: skip
    for run_dir in run_dirs:
        lines = [{"step": 10 * i, "val/miou": 0.1 * i, "loss/kl": 1 / i, "loss/supervised": 2 / i} for i in range(1, 5)]
        (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        list_anew(run_dir)
    comparison = gather(sorted({str(run_dir.parent) for run_dir in run_dirs}))
    image = np.full((60, 90, 3), 120, np.uint8)
    labels = np.zeros((60, 90), np.uint8)
    labels[:, 45:] = 1
    shown = []
    for index, why in enumerate(("best", "median", "worst")):
        maps = {entry.key: np.roll(labels, 5 * place + index, 1) for place, entry in enumerate(comparison.entries)}
        shown.append(Picture(f"val/{index}.png", image, labels, maps, why, 0.1 - 0.1 * index))
    latencies = Latencies({entry.key: 3.0 + place for place, entry in enumerate(comparison.entries)}, "one image")
    path = tmp_path_factory.mktemp("html") / "report.html"
    path.write_text(render(replace(comparison, latencies=latencies), Pictures(tuple(shown), COLORS, ())), "utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with warnings.catch_warnings():  # the process forks; torch's threads do not matter to Chromium
        warnings.simplefilter("ignore")
        opened = Browser()
    yield opened
    opened.close()


@pytest.fixture
def page(browser, file):
    browser.open(file)
    return browser


def column(page, section, index):
    return page.js(
        f"[...document.querySelectorAll('#{section} table.sortable tbody tr')].map((r) => r.cells[{index}].textContent)"
    )


def test_nothing_is_loaded_and_the_console_stays_empty(page):
    assert page.problems == []
    assert [address for address in page.requests if not address.startswith(("file:", "data:"))] == []


def test_every_chart_is_drawn_with_a_text_for_those_who_do_not_see_it(page):
    names = page.js(
        "[...document.querySelectorAll('[data-chart] svg[role=img]')].map((s) => s.getAttribute('aria-label'))"
    )
    starts = ("mIoU in percent; an arrow", "mIoU in percent against milliseconds", "Points of each class", "val mIoU")
    assert all(any(name.startswith(start) for name in names) for start in starts), names
    assert [name for name in names if name.startswith("Loss terms of")] == [
        "Loss terms of small_kl, before their weights"
    ]
    assert any(name.startswith("Accuracy of the pixels") for name in names)
    assert page.js("document.querySelectorAll('section[hidden]').length") == 0
    # two students and a baseline without a curve; a line a seed, and the means
    assert (
        page.js("document.querySelectorAll('#training svg')[0].querySelectorAll('[aria-label=line] path').length") == 6
    )


def test_a_column_sorts_by_mouse_and_by_keyboard_and_unknown_values_stay_last(page):
    sort = "document.querySelectorAll('#scores thead button')[2]"  # mIoU
    page.js(f"{sort}.click()")
    scores = [float(text.split(" ")[0]) for text in column(page, "scores", 2)]
    assert scores == sorted(scores, reverse=True)
    page.js(f"{sort}.focus()")
    page.key("Enter", 13)
    scores = [float(text.split(" ")[0]) for text in column(page, "scores", 2)]
    assert scores == sorted(scores)
    assert page.js(f"{sort}.closest('th').getAttribute('aria-sort')") == "ascending"
    page.js("document.querySelectorAll('#scores thead button')[3].click()")  # vs baseline: two rows have one
    gains = column(page, "scores", 3)
    assert gains[0].startswith("+")
    assert gains[1].startswith("−")
    assert gains[2:] == ["–", "–"]


def test_the_slider_moves_by_keyboard_and_by_pointer(page):
    clip = "document.querySelector('.stage .over').style.clipPath"
    assert page.js(clip) == "inset(0px 50% 0px 0px)"
    page.js("document.querySelector('#viewer input').focus()")
    page.key("ArrowRight", 39)
    assert page.js(clip) == "inset(0px 49% 0px 0px)"
    page.js("document.querySelector('.stage').scrollIntoView()")
    left, top, width = page.js(
        "((box) => [box.left, box.top, box.width])(document.querySelector('.stage').getBoundingClientRect())"
    )
    page.call(
        "Input.dispatchMouseEvent", type="mousePressed", x=left + width / 4, y=top + 9, button="left", clickCount=1
    )
    page.call(
        "Input.dispatchMouseEvent", type="mouseReleased", x=left + width / 4, y=top + 9, button="left", clickCount=1
    )
    assert page.js("document.querySelector('#viewer input').value") == "25"
    assert page.problems == []


def test_the_reader_chooses_image_and_both_pictures(page):
    choose = "(s, i) => { s.selectedIndex = i; s.dispatchEvent(new Event('change')); }"
    selects = "[...document.querySelectorAll('#viewer select')]"
    assert page.js(f"{selects}.map((s) => s.value)") == ["val/0.png (best: +10.0 points)", "baseline", "small_kl"]
    page.js(f"{selects}.slice(0, 1).forEach((s) => ({choose})(s, 2))")
    page.js(f"{selects}.slice(1, 2).forEach((s) => ({choose})(s, 0))")
    assert page.js("document.querySelector('.stage .over img').alt") == "image of val/2.png"
    assert page.js("document.querySelector('.stage .under img').src.startsWith('data:image/png')")


def test_what_was_fixed_is_drawn_over_the_image_in_the_strip_and_in_the_viewer(page):
    over = "getComputedStyle(document.querySelector('{}'), '::before').backgroundImage.slice(0, 20)"
    assert page.js(over.format("article .marked")).startswith('url("data:image/jpeg')
    assert page.js("document.querySelectorAll('.stage .marked').length") == 0
    page.js(
        "((s) => { s.selectedIndex = [...s.options].findIndex((o) => o.text === 'small_kl: fixed and broken'); "
        "s.dispatchEvent(new Event('change')); })(document.querySelectorAll('#viewer select')[2])"
    )
    assert page.js(over.format(".stage .under.marked")).startswith('url("data:image/jpeg')
    assert page.js("document.querySelector('.stage').clientWidth") <= 6 * 90
    assert page.problems == []


def test_a_confusion_leads_to_the_image_in_which_it_changed_most(page):
    page.js("document.querySelectorAll('.confusion tbody tr')[0].querySelectorAll('button')[1].click()")
    answer = page.js("document.querySelector('#confusions [aria-live]').textContent")
    assert answer.startswith("sky read as road: ")
    assert "most changed in val/" in answer
    assert page.js("document.querySelectorAll('#viewer select')[2].selectedOptions[0].textContent") == "small_kl"


def test_another_student_can_be_chosen_for_the_losses(page):
    change = "((s) => { s.selectedIndex = 1; s.dispatchEvent(new Event('change')); })"
    page.js(f"{change}(document.querySelector('#training select'))")
    names = page.js(
        "[...document.querySelectorAll('#training svg[role=img]')].map((s) => s.getAttribute('aria-label'))"
    )
    assert names == ["val mIoU while training", "Loss terms of a_student_of_quite_a_long_name, before their weights"]
    assert page.problems == []


def test_another_student_can_be_chosen_for_the_classes(page):
    bars = "document.querySelectorAll('#classes [data-chart] svg g[aria-label=bar] rect').length"
    assert page.js(bars) == 2
    labels = "[...document.querySelectorAll('#classes svg g[aria-label=text] text')].map((t) => t.textContent)"
    before = page.js(labels)
    page.js("(() => { const s = document.querySelector('#classes select'); s.selectedIndex = 1; "
            "s.dispatchEvent(new Event('change')); })()")  # fmt: skip
    assert page.js(labels) != before
    assert any(text.startswith("−") for text in [*before, *page.js(labels)])


def contrast(page, selector):
    """The luminances of an element's text and of the page."""
    script = (
        f"((s) => [s(document.querySelector('{selector}')).color, s(document.body).backgroundColor])(getComputedStyle)"
    )
    text, ground = (
        sum(weight * int(value) for weight, value in zip((0.2, 0.7, 0.1), color[4:-1].split(", "), strict=True)) / 255
        for color in page.js(script)
    )
    return text, ground


def test_dark_mode_is_dark_and_label_maps_have_an_edge(browser, file):
    browser.open(file, dark=True)
    text, ground = contrast(browser, "h1")
    assert text > 0.8
    assert ground < 0.2
    chart, _ = contrast(browser, "#training svg text")
    assert chart > 0.5
    assert browser.js("getComputedStyle(document.querySelector('.strip img')).outlineStyle") == "solid"
    assert browser.problems == []


@pytest.mark.parametrize("width", [400, 768])
def test_nothing_leaves_a_narrow_screen(browser, file, width):
    browser.open(file, width=width)
    assert browser.js("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.wide, pre, .stage') && "
    wide += f"e.getBoundingClientRect().right > {width} + 1).map((e) => e.outerHTML.slice(0, 80))"
    assert browser.js(wide) == []
    scroll = (
        "[...document.querySelectorAll('.wide:has(.sortable)')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert browser.js(scroll) == 0 or width > 640


def test_charts_are_drawn_anew_when_the_window_changes(page):
    page.resize(500)
    page.js("new Promise((done) => setTimeout(done, 300))")
    widths = "[...document.querySelectorAll('[data-chart] svg')].map((s) => s.getBoundingClientRect().width)"
    assert max(page.js(widths)) <= 500


def test_print_shows_everything_but_the_viewer(page):
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.js("getComputedStyle(document.getElementById('viewer')).display") == "none"
    assert page.js("document.querySelectorAll('article').length") == 3
    page.resize(680)  # a page of A4 between its margins
    wide = "[...document.querySelectorAll('.wide')].filter((e) => e.scrollWidth > e.clientWidth + 1)"
    assert page.js(f"{wide}.map((e) => [e.closest('section').id, e.scrollWidth])") == []
    page.call("Emulation.setEmulatedMedia", media="")


def test_what_a_comparison_lacks_leaves_no_empty_section_and_no_error(browser, made, tmp_path):
    """A single network; networks without a student; a student without a baseline: none has pictures or curves."""
    alone = [made.write("a-aaaaaaaa", 95), made.write("b-eeeeeeee", 80)]
    made.teacher()
    for number, run_dirs in enumerate((alone[:1], alone, [made.student()])):
        file = tmp_path / f"{number}.html"
        comparison = gather([str(run_dir) for run_dir in run_dirs])
        file.write_text(render(comparison, Pictures((), (), ())), encoding="utf-8")
        browser.open(file)
        assert browser.problems == []
        shown = browser.js("[...document.querySelectorAll('section')].filter((s) => !s.hidden).map((s) => s.id)")
        plotted = ["accuracy"] if len(comparison.entries) > 1 else []
        assert shown == ["scores", *plotted, "classes", "cost", "sources"]
        assert browser.js("document.querySelectorAll('#classes tbody tr').length") == 3


def overlaps(boxes):
    """The pairs of boxes (left, top, right, bottom) that cover each other by more than a pixel."""
    pairs = [(a, b) for place, a in enumerate(boxes) for b in boxes[:place]]
    return [
        pair
        for pair in pairs
        if all(min(pair[0][i + 2], pair[1][i + 2]) - max(pair[0][i], pair[1][i]) > 1 for i in (0, 1))
    ]


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("number", [1, 12])
def test_variants_of_one_network_have_labels_that_can_be_read(browser, runs_in, tmp_path, width, number):
    """All take equally long, and most score alike; one with others of the same score has no place of its own."""
    made = runs_in(tmp_path / "runs")
    made.teacher(80)
    made.baseline(80)
    run_dirs = [made.student(80 + place // 3, name=f"v{place}-{place:08d}", taught=80) for place in range(number)]
    comparison = gather(list(map(str, run_dirs)))
    latencies = Latencies({entry.key: 3.0 for entry in comparison.entries}, "one image")
    file = tmp_path / "report.html"
    file.write_text(render(replace(comparison, latencies=latencies), Pictures((), (), ())), "utf-8")
    browser.open(file, width=width)
    texts = "[...document.querySelectorAll('#accuracy svg [aria-label=text] text')]"
    boxes = browser.js(f"{texts}.map((t) => t.getBoundingClientRect()).map((b) => [b.left, b.top, b.right, b.bottom])")
    assert len(boxes) == number + 2
    assert overlaps(boxes) == []
    assert browser.problems == []


def test_the_text_below_a_table_that_is_scrolled_is_whole(page):
    page.resize(700)
    box = "document.querySelector('#scores .wide')"
    assert page.js(f"{box}.scrollWidth > {box}.clientWidth")
    ends = page.js(f"[{box}.querySelector('caption span'), {box}].map((e) => e.getBoundingClientRect().right)")
    assert ends[0] <= ends[1]
