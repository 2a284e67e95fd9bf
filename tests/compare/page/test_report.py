import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from manifests import list_anew
from safetensors.torch import load_file, save_file

from kd.compare import compare_command
from kd.compare.gathering.gather import gather
from kd.compare.page import chosen, predictions
from kd.compare.page.gallery import images_html
from kd.compare.page.predictions import Picture, Pictures
from kd.compare.page.report import render
from kd.components import Maker
from kd.machine import choose
from kd.metrics import confusion_matrix
from kd.parts.trained import load_network, write_weights
from kd.recipe import read_recipe, to_yaml
from kd.runs import SplitResult, write_predictions
from kd.scoring import score

NETWORK = """
import torch
from torch import nn
from kd.types import SegmentationOutput

class Tiny(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.taps, self.num_classes, self.in_channels = {}, num_classes, in_channels
        self.convolution = nn.Conv2d(in_channels, num_classes, 3, stride=2, padding=1)

    def forward(self, images):
        return SegmentationOutput(self.convolution(images - 0.5), {}, {})
"""
RECIPE = """
student: {use: tiny.py:Tiny}
data: {use: kd.data.Shapes, args: {count: 4}, size: [64, 64], workers: 0}
supervised: {use: kd.losses.CrossEntropy}
optimizer: {use: torch.optim.SGD, args: {lr: 0.1}}
train: {epochs: 1, batch_size: 2}
"""
COLORS = ((0, 0, 0), (255, 0, 0), (0, 0, 255))
VOID_TAGS = {"meta", "img", "link", "br", "wbr"}


class Page(HTMLParser):
    """Checks that tags are closed in order; keeps the tags, their attributes and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID_TAGS:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def drawn(maps):
    labels = np.zeros((8, 8), np.uint8)
    return Picture("val/one.png", np.full((8, 8, 3), 90, np.uint8), labels, maps)


def test_the_page_opens_with_the_answer_and_loads_nothing(made, trio):
    run_dir = trio()
    (run_dir / "recipe.yaml").write_text("# <script>alert(1)</script> & more\n")
    (run_dir / "metrics.jsonl").write_text(
        '{"step": 1, "loss/supervised": 2.0, "loss/kl": 0.5, "loss/total": 2.5}\n{"step": 2, "val/miou": 0.5}\n'
    )
    list_anew(run_dir)
    comparison = gather([str(run_dir)])
    maps = {entry.key: np.full((8, 8), index, np.uint8) for index, entry in enumerate(comparison.entries)}
    html = render(comparison, Pictures((drawn(maps),), COLORS, ("a problem <b>",)))
    page = Page(html)
    assert "<h1>Distillation changed the mIoU by +15.2 points (66.7 → 81.8 % mIoU), without an interval" in html
    assert "Small has 6.83 M parameters (27.3 MB), its teacher Big 40.00 M (160.0 MB): 5.9 times as many." in page.text
    assert [script.get("type") for script in page.all("script")] == ["application/json", None, None, None]
    assert "a problem <b>" in page.text
    body = html[: html.index("<script type")]
    for address in re.findall(r"(?:src|href)=\"([^\"]{0,20})|url\(([^)]{0,20})|@import", body):
        assert address[0].startswith("data:image/")
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-")
    assert [figure["alt"] for figure in page.all("img")] == [
        f"{title} of val/one.png"
        for title in (
            "image",
            "labels",
            "teacher",
            "baseline",
            "student",
            "student: fixed and broken",
            "student ≠ teacher",
        )
    ]
    data = data_of(html)
    assert [chart["title"] for chart in data["curves"]] == [
        "val mIoU while training",
        "Loss terms of small_kl, before their weights",
    ]
    assert data["pictures"] == [
        {"title": "val/one.png (spread)", "changed": {"small_kl-cccccccc": [[0, 1, -64], [0, 2, 64]]}}
    ]
    assert "# <script>alert(1)</script> & more" in page.text  # the recipe, as text
    for row in ("15.2", "−8.7", "sign"):
        assert row in page.text


def test_the_page_names_missing_weights_and_data(made, trio):
    run_dir = trio()
    compare_command([str(run_dir)])
    text = Page((run_dir / "report.html").read_text()).text
    assert f"the val images cannot be read: {run_dir / 'recipe.yaml'}" in text
    assert data_of((run_dir / "report.html").read_text())["curves"] == []
    assert not [file for file in run_dir.iterdir() if file.name.startswith(".tmp-")]


def test_a_warning_is_above_the_headline(made):
    made.teacher()
    made.baseline()
    run_dir = made.student(taught=70)
    html = render(gather([str(run_dir)]), Pictures((), (), ()))
    assert 0 < html.index("is not better than the baseline") < html.index("<h1>")


def test_networks_without_a_teacher_differ_in_colour_and_long_names_stay_inside(made):
    run_dirs = [made.write("a_network_of_a_long_name-aaaaaaaa", 95), made.write("small-bbbbbbbb", 80)]
    html = render(gather(run_dirs), Pictures((), (), ()))
    assert [network["color"] for network in data_of(html)["networks"]] == ["var(--alone0)", "var(--alone1)"]
    assert all(f"--alone{i}:" in html for i in range(6))
    assert ">a_<wbr>network_<wbr>of_<wbr>a_<wbr>long_<wbr>name<" in html  # heads a narrow column of classes


def test_names_and_texts_of_strangers_stay_data(made, trio):
    comparison = gather([str(trio())])
    hostile = replace(comparison, classes=("</script><b>", "a\x1b[31mb", "sign"))
    html = render(hostile, Pictures((), (), ()))
    page = Page(html)
    assert "</script><b>" in page.text
    assert data_of(html)["gains"][0]["rows"][0]["class"] == "</script><b>"
    assert "\x1b" not in html
    assert "a\\x1b[31mb" in page.text


def test_the_page_has_no_folders_of_this_machine(made, trio, tmp_path):
    run_dir = trio()
    (run_dir / "recipe.yaml").write_text(f"teacher: {{recipe: {tmp_path}/recipes/t.yaml}}\n")
    list_anew(run_dir)
    body = re.sub(r"<script.*?</script>", "", render(gather([str(run_dir)]), Pictures((), (), ())), flags=re.DOTALL)
    assert "t.yaml" in body
    assert "runs/small_kl-cccccccc/seed0" in body
    assert str(tmp_path) not in body


def test_a_page_of_twenty_large_images_stays_below_five_megabytes(made, trio):
    comparison = gather([str(trio())])
    across, down = np.meshgrid(np.linspace(0, 12, 960), np.linspace(0, 9, 720))
    generator = np.random.default_rng(0)
    image = (90 + 60 * np.sin(across[..., None] * (1, 2, 3)) * np.cos(down[..., None])).astype(np.uint8)
    image += generator.integers(0, 12, image.shape, dtype=np.uint8)  # the grain of a photograph
    maps = {
        entry.key: (np.sin(across + i) * np.cos(down) > 0).astype(np.uint8)
        for i, entry in enumerate(comparison.entries)
    }
    picture = Picture("val/one.png", image, (across > 6).astype(np.uint8), maps, "best", 0.1)
    assert len(render(comparison, Pictures((picture,) * 20, COLORS, ()))) < 5_000_000


def test_images_beyond_the_first_twelve_are_folded_up_and_can_be_chosen(made, trio):
    comparison = gather([str(trio())])
    shown = [drawn({}) for _ in range(12)]
    assert "<summary>" not in images_html(comparison, Pictures(tuple(shown), COLORS, ()))
    more = [replace(shown[0], name=f"val/{index}.png") for index in range(2)]
    html = render(comparison, Pictures((*shown, *more), COLORS, ()))
    folded = html[html.index("<details><summary>2 more images</summary>") :]
    assert folded[: folded.index("</details>")].count("<article>") == 2
    assert [picture["title"] for picture in data_of(html)["pictures"]][-1] == "val/1.png (spread)"


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A dataset, and two run directories with untrained networks: the files that predictions need."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "tiny.py").write_text(NETWORK)
    (folder / "small.yaml").write_text(RECIPE)
    recipe = read_recipe(folder / "small.yaml", trust=True)
    dataset = Maker(recipe).dataset("val")
    run_dirs = []
    for seed in range(2):
        torch.manual_seed(seed)
        run_dir = folder / str(seed)
        run_dir.mkdir()
        (run_dir / "recipe.yaml").write_text(to_yaml(recipe))
        write_weights(run_dir, Maker(recipe).network(recipe.student.network, len(dataset.class_names), 3))
        run_dirs.append(run_dir)
    return dataset, run_dirs


def put(source, run_dir):
    for name in ("recipe.yaml", "student.safetensors"):
        (run_dir / name).write_bytes((source / name).read_bytes())
    list_anew(run_dir)


class Only:
    """The shown images of a dataset."""

    def __init__(self, dataset, shown):
        self.class_names, self.colors, self.in_channels = dataset.class_names, dataset.colors, dataset.in_channels
        names = {picture.name for picture in shown}
        self.samples = [dataset[index, 0] for index in range(len(dataset)) if dataset[index, 0].name in names]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, key):
        return self.samples[key[0]]


def test_the_pictures_are_predicted_as_the_scores_were_taken(made, networks, monkeypatch):
    dataset, (first, second) = networks
    monkeypatch.setattr(predictions, "PASSES", 1)
    classes = list(dataset.class_names)
    val = SplitResult(np.ones((len(classes), len(classes)), np.int64), classes, len(dataset))
    put(first, made.baseline(val=val))
    student = made.student(val=val)
    put(second, student)
    comparison = gather([str(student)], trust=True)
    shown = predictions.pictures(comparison, count=4)
    assert len(shown.pictures) == 4
    assert shown.colors == tuple(dataset.colors)
    assert shown.problems == ("teacher: its network cannot be loaded: it has no run directory",)
    scored = score(
        load_network(student, trust=True), Only(dataset, shown.pictures), size=(64, 64), precision=choose("cpu")
    )
    total = sum(
        confusion_matrix(
            torch.from_numpy(picture.labels), torch.from_numpy(picture.predictions[student.parent.name]), 6
        )
        for picture in shown.pictures
    )
    assert total.tolist() == scored.confusion.tolist()
    shown_page = Page(render(comparison, shown))
    titles = [image["alt"] for image in shown_page.all("img") if "fixed and broken" in image["alt"]]
    assert titles == [f"student: fixed and broken of {picture.name}" for picture in shown.pictures]
    timed = shown.latencies.milliseconds
    assert set(timed) == {"small_kl-bbbbbbbb", student.parent.name}
    assert len(set(timed.values())) == 1  # networks of one kind are timed once


def test_kept_predictions_are_shown_without_a_network(made, networks, monkeypatch):
    """As for 30 runs of a study: neither their networks nor those of a stranger's code are needed."""
    dataset, (first, _) = networks
    classes = list(dataset.class_names)
    val = SplitResult(np.ones((len(classes), len(classes)), np.int64), classes, len(dataset))
    baseline, student = made.baseline(val=val), made.student(val=val)
    kept = {dataset[index, 0].name: np.full((64, 64), index, np.uint8) for index in (0, 1, 2)}
    for run_dir in (baseline, student):
        (run_dir / "recipe.yaml").write_bytes((first / "recipe.yaml").read_bytes())
        write_predictions(run_dir, kept, {name: labels + 1 for name, labels in kept.items()})
        list_anew(run_dir)
    monkeypatch.setattr(chosen, "spread", lambda length, count: [0, 1, 2])
    shown = predictions.pictures(gather([str(student)], trust=True))
    for index, picture in enumerate(shown.pictures):
        assert {key: int(labels[0, 0]) for key, labels in picture.predictions.items()} == {
            "small_kl-bbbbbbbb": index,
            "small_kl-cccccccc": index,
            "big-aaaaaaaa" if made.folder.joinpath("big-aaaaaaaa").exists() else "big": index + 1,
        }
    assert all("network cannot be loaded" in problem for problem in shown.problems)  # for the latency
    assert shown.latencies is None


def test_a_teacher_without_a_run_is_loaded_as_in_its_recipe(networks):
    dataset, (run_dir, _) = networks
    expected = load_file(run_dir / "student.safetensors")
    save_file({f"old.{name}": value for name, value in expected.items()}, run_dir / "renamed.safetensors")
    weights = f"{{file: {run_dir / 'renamed.safetensors'}, rename: {{'old.': ''}}}}"
    teacher = f"teacher={{use: 'tiny.py:Tiny', weights: {weights}}}"
    terms = "distill={kl: {loss: {use: kd.losses.PixelKL}}}"
    recipe = read_recipe(run_dir.parent / "small.yaml", [teacher, terms], trust=True)
    entry = SimpleNamespace(run_dirs=(), network="tiny.py:Tiny")
    network = predictions._network(SimpleNamespace(trust=True), entry, recipe, dataset)
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_code_that_is_not_trusted_is_not_run(made, networks):
    student = made.student()
    put(networks[1][0], student)
    (problem,) = predictions.pictures(gather([str(student)])).problems
    assert "tiny.py:Tiny" in problem
    assert "--trust" in problem


def test_the_best_student_and_its_relatives_come_first(made, trio):
    first, second = trio(), made.student(94, name="small_cwd-dddddddd")
    ranked = predictions._ranked(gather([str(first), str(second)]))
    assert [entry.key for entry in ranked] == [
        "small_cwd-dddddddd",
        "small_kl-bbbbbbbb",
        "big-aaaaaaaa",
        "small_kl-cccccccc",
    ]
