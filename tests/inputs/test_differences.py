"""Two records of inputs, compared in words."""

import json

import pytest

from kd.errors import StorageError
from kd.files.checked import seal
from kd.inputs import (
    InputFile,
    Inputs,
    SplitInputs,
    TeacherInputs,
    differences,
    differing_files,
    read_inputs,
    write_inputs,
)

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def files(kind, *digests, first=0):
    return tuple(InputFile(f"{kind}/{i}.png", 10, (1, 1, i), digest) for i, digest in enumerate(digests, first))


def split(images=(A, B), labels=(A, B), **changed):
    content = {"images": files("images", *images), "labels": files("masks", *labels), "samples": len(images)}
    return SplitInputs(**(content | changed))


def inputs(train=None, **changed):
    splits = {"train": train or split(), "val": split()}
    return Inputs(**({"revision": 3, "classes": ("sky", "road"), "splits": splits} | changed))


def image(number, digest, size=10):
    return InputFile(f"images/{number}.png", size, (1, 1, number), digest)


UNREAD = split(images=(A, None))
CASES = {
    "nothing": (inputs(), inputs(), ""),
    "the stamps": (inputs(), inputs(split(images=(A, B), labels=(A, B))), ""),
    "a label": (inputs(), inputs(split(labels=(A, C))),
                "1 of 2 train labels changed, first masks/1.png (bbbbbbbb, now cccccccc)"),
    "images and labels": (inputs(), inputs(split((B, A), (C, C))),
                          "2 of 2 train labels changed, first masks/0.png (aaaaaaaa, now cccccccc), "
                          "2 of 2 train images changed, first images/0.png (aaaaaaaa, now bbbbbbbb)"),
    "an image that was read": (inputs(UNREAD), inputs(split(images=(C, None))),
                               "1 of 2 train images changed, first images/0.png (aaaaaaaa, now cccccccc)"),
    "an image that was not read": (inputs(UNREAD), inputs(split(images=(A, C))), ""),
    "the size of one that was not read": (
        inputs(UNREAD), inputs(split().model_copy(update={"images": (image(0, A), image(1, None, 9))})),
        "1 of 2 train images changed, first images/1.png (10 bytes, now 9)"),
    "an added image": (inputs(), inputs(split((A, B, C), (A, B, C))), "1 train image was added, first images/2.png"),
    "removed images": (inputs(split((A, B, C), (A, B, C))), inputs(split((A,), (A,))),
                       "2 train images were removed, first images/1.png"),
    "the order": (inputs(), inputs(split().model_copy(update={"images": split().images[::-1]})),
                  "the train images are in another order, from images/1.png on"),
    "images without labels": (
        inputs(),
        inputs(splits=inputs().splits | {"unlabelled": split()}),
        "unlabelled images are read now and were not",
    ),
    "no images without labels": (
        inputs(splits=inputs().splits | {"unlabelled": split()}),
        inputs(),
        "unlabelled images were read and are not read now",
    ),
    "a missing mask": (inputs(), inputs(split(labels=(A,))), "1 train label was removed, first masks/1.png"),
    "samples without files": (
        inputs(SplitInputs(names=("a", "b"), samples=2)), inputs(SplitInputs(names=("a", "c"), samples=2)),
        "1 train image was added, first c, 1 train image was removed, first b"),
    "samples without names": (inputs(SplitInputs(samples=2)), inputs(SplitInputs(samples=5)),
                              "train had 2 images and has 5"),
    "a file that holds samples": (
        inputs(SplitInputs(names=("a", "b"), samples=2, labels=files("shards", A, B))),
        inputs(SplitInputs(names=("a", "b"), samples=2, labels=files("shards", A, C))),
        "1 of 2 train files changed, first shards/1.png (bbbbbbbb, now cccccccc)"),
    "a further file that holds samples": (
        inputs(SplitInputs(samples=2, labels=files("shards", A))),
        inputs(SplitInputs(samples=2, labels=files("shards", A, B))), "1 train file was added, first shards/1.png"),
    "a dataset that lists its files now": (
        inputs(SplitInputs(names=("images/0.png", "images/1.png"), samples=2)), inputs(split()), ""),
    "the classes": (inputs(), inputs(classes=("road", "sky")), "the classes were sky, road and are road, sky"),
    "the teacher": (inputs(teacher=TeacherInputs(run="t-1/seed0", sha256=A)),
                    inputs(teacher=TeacherInputs(run="t-1/seed0", sha256=B)),
                    "the teacher has other weights (aaaaaaaa, now bbbbbbbb)"),
    "the place of the teacher": (inputs(teacher=TeacherInputs(run="t-1/seed0", sha256=A)),
                                 inputs(teacher=TeacherInputs(run="u-2/seed0", sha256=A)), ""),
    "the revision": (inputs(), inputs(revision=4),
                     "kd computes results in another way now (revision 3, now 4; see CHANGELOG.md)"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "now", "words"), CASES.values(), ids=CASES)
def test_what_differs_in_words(before, now, words):
    assert differences(before, now) == words


def test_the_digest_is_that_of_the_content():
    renamed = split().model_copy(update={"images": files("elsewhere", A, B)})
    assert inputs(renamed).digest == inputs().digest
    assert len({inputs().digest, inputs(split((A, C))).digest, inputs(classes=("a", "b")).digest}) == 3


def test_the_number_of_files_that_differ():
    assert differing_files(split(), split()) == 0
    assert differing_files(split(), split((A, C), (A, B))) == 1
    assert differing_files(split(), split((A, B, C), (A, B, C))) == 2
    assert differing_files(UNREAD, split()) == 0
    assert differing_files(SplitInputs(names=("a",), samples=1), SplitInputs(names=("b",), samples=1)) == 2


@pytest.mark.parametrize("name", ["../../x.py", "/etc/x.py", "a/../../x.py", "a\\x.py", ""])
def test_a_copy_outside_the_run_directory_is_refused(tmp_path, name):
    """A run directory may be a stranger's."""
    for code in (
        {"/r/nets.py": {name: {"copy": "x.py", "sha256": A}}},
        {"/r/nets.py": {"x.py": {"copy": name, "sha256": A}}},
    ):
        write_inputs(tmp_path, inputs().model_copy(update={"code": {}}))
        file = tmp_path / "inputs.json"
        content = json.loads(file.read_text()) | {"code": code}
        del content["sha256"]
        file.write_bytes(seal(content))
        with pytest.raises(StorageError, match=r"inputs\.json: code\."):
            read_inputs(tmp_path)


def test_a_damaged_record_is_one_line(tmp_path):
    for text in ("{", "[]", '{"format": 2}', "null"):
        (tmp_path / "inputs.json").write_text(text)
        with pytest.raises(StorageError, match=r"inputs\.json: .*; mv .*, then the same kd run, trains it again$"):
            read_inputs(tmp_path)


def test_every_changed_byte_of_a_record_is_noticed(tmp_path):
    """No manifest proves the file while a run is unfinished, and another digest would be a valid one."""
    write_inputs(tmp_path, inputs(split()))
    file = tmp_path / "inputs.json"
    data = file.read_bytes()
    seal_starts = data.index(b'"sha256": "', len(data) - 100)
    for place in (*range(0, seal_starts, 9), *range(seal_starts, len(data) - 1)):  # all of the seal
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(StorageError, match=r"inputs\.json: "):
            read_inputs(tmp_path)


def test_a_record_of_kd_0_5_has_no_seal_and_is_read(tmp_path):
    write_inputs(tmp_path, inputs())
    file = tmp_path / "inputs.json"
    content = json.loads(file.read_text())
    for key in ("sha256", "id", "seed"):
        del content[key]
    file.write_text(json.dumps(content))
    assert read_inputs(tmp_path) == inputs()


def test_a_record_of_another_run_is_refused(tmp_path):
    run_dir = tmp_path / "x-0123abcd/seed1"
    write_inputs(run_dir, inputs(id="0123abcd", seed=1))
    assert read_inputs(run_dir) == inputs(id="0123abcd", seed=1)
    write_inputs(run_dir, inputs(id="0123abcd", seed=2))
    with pytest.raises(StorageError) as caught:
        read_inputs(run_dir)
    assert str(caught.value) == (
        f"{run_dir / 'inputs.json'}: is of run 0123abcd, seed 2, but its folder is of 0123abcd, seed 1; put it back, "
        f"or mv {run_dir} {run_dir}-damaged, then the same kd run, trains it again"
    )


def test_a_record_without_the_images_that_are_scored_is_refused(tmp_path):
    write_inputs(tmp_path, inputs().model_copy(update={"splits": {"val": split()}}))
    with pytest.raises(StorageError, match=r"inputs\.json: splits: has val, and not train and val; mv "):
        read_inputs(tmp_path)
