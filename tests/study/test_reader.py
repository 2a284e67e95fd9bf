"""A study's file: which runs it asks for, and every mistake at its place."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_text import WITH_TEACHER

from kd.errors import RecipeError
from kd.recipe import baseline_of
from kd.study.reader import Plan, read_study


def plan(text: str, *overrides: str) -> Plan:
    Path("s.yaml").write_text(text)
    return read_study("s.yaml", overrides, runs=Path("runs"))


def refused(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        plan(text, *overrides)
    return caught.value.mistakes


def labels(study: Plan) -> list[str]:
    return [run.label for run in study.runs()]


TWO = "base: r.yaml\nseeds: [3, 5]\nvariants:\n  a: {}\n  b: {train.batch_size: 2, train.steps: 20}\n"


def test_each_variant_has_its_seeds_its_baseline_and_one_teacher_for_all(readable: Path) -> None:
    runs = plan(TWO).runs()
    assert [run.label for run in runs] == [
        "teacher/0", "baseline of a/3", "baseline of a/5", "a/3", "a/5",
        "baseline of b/3", "baseline of b/5", "b/3", "b/5",
    ]  # fmt: skip
    assert [run.role for run in runs[:4]] == ["teacher", "baseline", "baseline", "student"]
    assert runs[3].needs == (runs[0],)
    assert runs[1].needs == ()
    assert runs[4].run_dir(Path("runs")) == Path("runs") / f"r-{runs[3].recipe.id}" / "seed5"


def test_variants_with_one_student_share_a_baseline(readable: Path) -> None:
    found = labels(plan("base: r.yaml\nseeds: [0]\nvariants: {a: {}, b: {distill.kl.weight: 2}}\n"))
    assert found == ["teacher/0", "baseline/0", "a/0", "b/0"]


def test_a_variant_may_be_the_baseline_of_another_one(readable: Path) -> None:
    text = "base: r.yaml\nseeds: [0]\nvariants: {plain: {teacher: null, distill: null}, kl: {}}\n"
    runs = plan(text).runs()
    assert [(run.label, run.role) for run in runs] == [
        ("teacher/0", "teacher"), ("plain/0", "baseline"), ("kl/0", "student"),
    ]  # fmt: skip


def test_a_baseline_is_trained_without_the_images_without_labels(readable: Path) -> None:
    text = WITH_TEACHER.replace("size: [64", "args: {count: 8}, unlabelled: {args: {count: 16}}, size: [64")
    (readable / "u.yaml").write_text(text.replace("PixelKL}", "PixelKL}, pixels: all"))
    study = plan("base: u.yaml\nseeds: [0]\nvariants: {kl: {}}\n")
    assert study.baselines["baseline"].id == baseline_of(study.variants["kl"]).id
    assert study.baselines["baseline"].data.unlabelled is None


def test_a_study_may_leave_baselines_out(readable: Path) -> None:
    assert labels(plan("base: r.yaml\nseeds: [0]\nbaselines: false\nvariants: {a: {}}\n")) == ["teacher/0", "a/0"]


def test_a_variant_may_name_a_recipe_of_its_own(readable: Path) -> None:
    study = plan("seeds: [0]\nvariants: {a: {recipe: r.yaml}, t: {recipe: sub/t.yaml, train.steps: 7}}\n")
    assert study.variants["t"].train.steps == 7
    assert study.variants["t"].file.name == "t.yaml"


def test_the_command_line_comes_last_and_reaches_every_variant(readable: Path) -> None:
    study = plan(TWO.replace("variants", "overrides: {train.steps: 5}\nvariants"), "train.seeds=[7]", "device=cpu")
    assert [study.variants[name].train.steps for name in "ab"] == [5, 20]
    assert {run.seed for run in study.runs() if run.role == "student"} == {7}
    assert {run.recipe.device for run in study.runs()} == {"cpu"}  # the teacher takes over machine settings
    assert study.words == ("study", "s.yaml", "train.seeds=[7]", "device=cpu")


def test_a_variant_may_repeat_an_override_after_a_section(readable: Path) -> None:
    """The same text in both places holds where it comes last."""
    b = "{train: {steps: 3, batch_size: 4}, train.batch_size: 2}"
    study = plan(f"base: r.yaml\noverrides: {{train.batch_size: 2}}\nvariants: {{a: {{}}, b: {b}}}\n")
    assert [recipe.train.batch_size for recipe in study.variants.values()] == [2, 2]


def test_ids_are_those_of_the_same_recipe_read_alone(readable: Path) -> None:
    from kd.recipe import read_recipe

    study = plan(TWO)
    assert study.variants["b"].id == read_recipe("r.yaml", ["train.batch_size=2", "train.steps=20"]).id


EQUAL = "base: r.yaml\nvariants:\n  a: {train.steps: 10}\n  b: {}\n"


def test_two_variants_that_say_the_same_are_refused(readable: Path) -> None:
    (line,) = refused(EQUAL)
    assert line.startswith("s.yaml:4:3: variants.b: is the same as variants.a (id ")
    assert line.endswith("); change a value, or remove one of them")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("variants: {a: {}}", ["s.yaml:1:12: variants.a: needs 'recipe', as the study has no 'base'"]),
        ("base: r.yaml", ["s.yaml:1:1: needs 'variants'"]),
        (
            "base: absent_one.yaml\nvariants: {a: {}, b: {train.steps: 2}}",
            ["s.yaml:1:1: base: absent_one.yaml: no such file, here or among the shipped recipes"],
        ),
        (
            "base: r.yaml\nvariants:\n  a: {recipe: absent_one.yaml}",
            ["s.yaml:3:7: variants.a.recipe: absent_one.yaml: no such file, here or among the shipped recipes"],
        ),
        ("base: r.yaml\nvariants: {}", ["s.yaml:2:1: variants: must have at least 1 item, got 0"]),
        ("- base", ["s.yaml: not a mapping; a study has `base`, `variants` and `seeds` (docs/studies.md)"]),
        ("base: r.yaml\nseed: [0]\nvariants: {a: {}}", ["s.yaml:2:1: seed: unknown key; did you mean 'seeds'?"]),
        (
            "base: r.yaml\nvariants:\n  a/b: {}",
            ["s.yaml:3:3: variants.a/b: a variant's name has at most 40 printable characters and no '/'"],
        ),
        (
            "base: r.yaml\nvariants:\n  a: {train.step: 3, distil.kl: null}",
            [
                "s.yaml:3:22: variants.a.distil.kl: no 'distil'; did you mean 'distill'?",
                "s.yaml:3:7: variants.a.train.step: unknown key; did you mean 'steps'?",
            ],
        ),
        *(
            (
                f"base: r.yaml\noverrides: {{{text}}}\nvariants: {{a: {{}}}}",
                [
                    f"s.yaml:2:13: overrides.{key}: the seeds of every variant are the study's `seeds` "
                    "([0, 1, 2]); give them there"
                ],
            )
            for key, text in (
                ("train.seeds", "train.seeds: [7], train.steps: 2"),
                ("train", "train: {steps: 2, batch_size: 4, seeds: [7]}"),
            )
        ),
        ("base: r.yaml\noverrides: {data.size: 3}\nvariants: {a: {}, b: {train.steps: 3}}", None),
    ],
)
def test_a_mistake_is_a_line_at_its_place(readable: Path, text: str, lines: list[str] | None) -> None:
    wanted = lines or ["s.yaml:2:13: overrides.data.size: must be [height, width] in pixels, got 3"]
    assert refused(text) == wanted


MATCHED = "base: r.yaml\nbudget: {match: epochs}\nseeds: [0]\nvariants:\n  a: {}\n  b: {recipe: sub/t.yaml}\n"


def test_equal_steps_are_those_of_the_first_variant(readable: Path) -> None:
    (readable / "sub" / "t.yaml").write_text(
        (readable / "sub" / "t.yaml").read_text().replace("steps: 10", "epochs: 9")
    )
    study = plan(MATCHED.replace("match: epochs", "match: steps"))
    assert [(r.train.steps, r.train.epochs) for r in study.variants.values()] == [(10, None)] * 2
    assert "train.steps=10" in study.variants["b"].overrides  # so that its own command trains the same run


@pytest.mark.parametrize(
    ("match", "a", "b"),
    [
        ("steps", "", "recipe: longer.yaml"),
        ("epochs", "train.steps: null, train.epochs: 3", "train.batch_size: 2"),
    ],
)
def test_the_baseline_of_a_variant_has_its_equal_length(readable: Path, match: str, a: str, b: str) -> None:
    (readable / "longer.yaml").write_text(WITH_TEACHER.replace("steps: 10, batch_size: 4", "epochs: 60, batch_size: 2"))
    study = plan(f"base: r.yaml\nbudget: {{match: {match}}}\nseeds: [0]\nvariants: {{a: {{{a}}}, b: {{{b}}}}}\n")
    assert labels(study) == ["teacher/0", "baseline of a/0", "a/0", "baseline of b/0", "b/0"]
    assert study.baselines["baseline of b"].id == baseline_of(study.variants["b"]).id


def test_a_budget_that_nothing_states_is_refused(readable: Path) -> None:
    assert refused(MATCHED) == [
        "s.yaml:2:10: budget.match: epochs, but a has train.steps 10; give train.epochs",
    ]


def test_a_variant_with_a_length_of_its_own_contradicts_the_budget(readable: Path) -> None:
    text = MATCHED.replace("epochs", "steps").replace("b: {", "b: {train.steps: 11, ")
    assert refused(text) == [
        "s.yaml:6:7: variants.b.train.steps: differs from train.steps 10 of a, and budget.match is steps; remove one "
        "of them",
    ]


@pytest.mark.parametrize(
    ("changes", "seeds"),
    [
        ("train: {steps: 3, batch_size: 2}", (0, 1)),  # which replaces the section, the seeds of the recipe with it
        ("train: {steps: 3, batch_size: 2, seeds: [5]}", (5,)),
        ("train.seeds: [4, 6], train.steps: 3", (4, 6)),
        ("train.seeds.0: 8, train.steps: 3", (8,)),
    ],
)
def test_a_variant_has_the_seeds_of_the_study_unless_it_states_its_own(
    readable: Path, changes: str, seeds: tuple[int, ...]
) -> None:
    study = plan(f"base: r.yaml\nseeds: [0, 1]\nvariants: {{a: {{}}, b: {{{changes}}}}}\n")
    assert {name: recipe.train.seeds for name, recipe in study.variants.items()} == {"a": (0, 1), "b": seeds}
    assert study.baselines["baseline of b"].train.seeds == seeds


def test_a_variant_may_have_the_name_of_a_baseline_or_a_teacher(readable: Path) -> None:
    text = """\
base: r.yaml
seeds: [0]
variants:
  a: {}
  baseline of a: {distill.kl.weight: 2}
  b: {train.steps: 9}
"""
    study = plan(text)
    labels = [run.label for run in study.runs()]
    assert len(set(labels)) == len(labels)
    (named,) = [name for name, recipe in study.baselines.items() if name.startswith("baseline of a")]
    assert named == f"baseline of a {study.baselines[named].id}"
    assert study.recipes["baseline of a"].distill["kl"].weight == 2
    assert f"{named}/0" in labels


@settings(max_examples=30, deadline=None)
@given(text=st.text(st.sampled_from("ab:{}[] \n-0_/.\"'%&*!"), max_size=60))
def test_any_text_is_a_study_or_lines(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("any") / "s.yaml"
    file.write_text(text)
    mistakes = []
    try:
        read_study(file, runs=Path("runs"))
    except RecipeError as error:
        mistakes = error.mistakes
    assert all(line.isprintable() and str(file) in line for line in mistakes)
