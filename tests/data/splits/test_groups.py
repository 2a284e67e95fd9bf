import pytest

from kd.data import Folders
from kd.data.splits.groups import check_group, groups_of
from kd.errors import DataError

NAMES = ["p1_a", "p1_b", "p2_a", "ward/p3_a"]


def test_a_pattern_gives_the_same_group_to_what_it_captures_alike(tmp_path):
    assert groups_of(NAMES, r"(p\d)_", tmp_path) == {"p1_a": "p1", "p1_b": "p1", "p2_a": "p2", "ward/p3_a": "p3"}
    assert groups_of(["a_cam1", "b_cam1"], "_(.*)$", tmp_path) == {"a_cam1": "cam1", "b_cam1": "cam1"}


@pytest.mark.parametrize(
    "text",
    [
        "name,group\np1_a,ann\np1_b.png,ann\np2_a,bob\np3_a,cid\n",
        "\ufeffgroup;age;name\nann;40;p1_a.JPG\nann;41;p1_b\n\nbob;7;p2_a\ncid;3;ward/p3_a\n",
    ],
)
def test_a_file_names_groups_with_or_without_suffix_and_folder(tmp_path, text):
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    assert groups_of(NAMES, "groups.csv", tmp_path) == {"p1_a": "ann", "p1_b": "ann", "p2_a": "bob", "ward/p3_a": "cid"}


def test_names_without_a_group_are_listed(tmp_path):
    with pytest.raises(DataError) as caught:
        groups_of([*NAMES, "odd", "even", "more", "last"], r"(p\d)_", tmp_path)
    assert str(caught.value) == (
        r"Folders: 4 of 8 images have no group by the pattern '(p\d)_': odd, even, more and 1 more; "
        "give every image one"
    )
    (tmp_path / "groups.csv").write_text("name,group\np1_a,ann\np1_b,\np2_a,bob\n")
    with pytest.raises(DataError) as caught:
        groups_of(NAMES, "groups.csv", tmp_path)
    assert str(caught.value) == (
        f"Folders: 2 of 4 images have no group in {tmp_path}/groups.csv: p1_b, ward/p3_a; give every image one"
    )


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (r"p\d", r"group 'p\d' has 0 groups in parentheses, but needs one, which is the same for images that belong "),
        (r"(p)(\d)", r"group '(p)(\d)' has 2 groups in parentheses, but needs one, "),
        (r"(p", "group '(p' is not a regular expression (missing ), unterminated subpattern at position 0)"),
        ("../x.csv", "group '../x.csv' leads out of root; give a path inside root"),
        ("(" + "a" * 300 + ")", "group has 302 characters; a pattern has at most 200"),
    ],
)
def test_what_is_no_group(group, message):
    with pytest.raises(ValueError, match=r".") as caught:
        check_group(group)
    assert str(caught.value).startswith(f"Folders: {message}")


def test_a_file_without_the_columns(tmp_path):
    (tmp_path / "groups.csv").write_text("image,group\np1_a,ann\n")
    with pytest.raises(DataError) as caught:
        groups_of(NAMES, "groups.csv", tmp_path)
    assert str(caught.value) == f"{tmp_path}/groups.csv: no column name; its first line must be name,group"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('p1_a,ann\np1_b,"bob\np2_a,cid\n', "3: not CSV: unexpected end of data"),
        ('p1_a,ann\np1_b,"bob\n' + "p2_a,cid\n" * 20_000, "3: not CSV: field larger than field limit (131072)"),
        ('p1_a,"ann\np1_b,"bob"\n', "2: not CSV: ',' expected after '\"'"),
        ('p1_a,"ann" lee\n', "2: not CSV: ',' expected after '\"'"),
    ],
    ids=["to the end", "over the limit", "to the next", "before the end"],
)
def test_a_quote_that_is_not_closed_at_the_end_of_a_cell_is_named_with_its_line(tmp_path, rows, message):
    (tmp_path / "groups.csv").write_text(f"name,group\n{rows}")
    with pytest.raises(DataError) as caught:
        groups_of(NAMES, "groups.csv", tmp_path)
    assert str(caught.value) == f"{tmp_path}/groups.csv:{message}; close the quotes at the end of the cell"


def test_an_image_in_two_groups_is_refused(tmp_path):
    rows = "name,group\np1_a.png,ann\np1_a,ann\np1_b,ann\np1_a,\np2_a,bob\nward/p3_a,cid\n"
    (tmp_path / "groups.csv").write_text(rows)
    assert groups_of(NAMES, "groups.csv", tmp_path)["p1_a"] == "ann"
    (tmp_path / "groups.csv").write_text(f"{rows}p1_a.jpg,bob\n")
    with pytest.raises(DataError) as caught:
        groups_of(NAMES, "groups.csv", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/groups.csv:8: p1_a is in group 'bob', but in group 'ann' by line 2; remove one of the two"
    )


def test_a_row_without_a_name_or_a_group_is_passed_over(tmp_path):
    (tmp_path / "groups.csv").write_text("name,group\na,ann\n,bob\n,cem\nb,\nb,bob\n")
    assert groups_of(["a", "b"], "groups.csv", tmp_path) == {"a": "ann", "b": "bob"}


@pytest.mark.parametrize("lists", [None, "{split}.txt"])
def test_a_file_of_groups_is_no_link_out_of_the_root(tmp_path, lists):
    from PIL import Image

    root = tmp_path / "data"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
        for name in ("a", "b"):
            Image.new("L", (4, 4), 1).save(root / kind / f"{name}.png")
    (root / "train.txt").write_text("a\n")
    (root / "val.txt").write_text("b\n")
    (tmp_path / "secret.csv").write_text("name,group\na,1\nb,2\n")
    (root / "g.csv").symlink_to("../secret.csv")
    how = {"classes": ["x", "y"], "group": "g.csv", "lists": lists, "val": None if lists else "50%"}
    with pytest.raises(DataError) as caught:
        Folders(str(root), "train", **how)
    assert str(caught.value) == f"{root}/g.csv: a link that leads out of {root}; put the file itself there"
    assert len(Folders(str(root), "train", **how, follow_links=True)) == 1


def test_folders_keep_patients_together(tmp_path):
    from PIL import Image

    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for patient in range(6):
            for slice_ in range(3):
                Image.new("L", (4, 4), patient % 2).save(tmp_path / kind / f"p{patient}_{slice_}.png")

    def patients(split, **how):
        data = Folders(str(tmp_path), split, classes=["a", "b"], group=r"(p\d)_", **how)
        return {name.rpartition("/")[2][:2] for name in data.names}

    assert not patients("train", val="20%") & patients("val", val="20%")
    held_out = [patients("val", folds=3, fold=fold) for fold in range(3)]
    assert [len(part) for part in held_out] == [2, 2, 2]
    assert set.union(*held_out) == {f"p{number}" for number in range(6)}
    assert patients("train", folds=3, fold=0) == held_out[1] | held_out[2]


def test_lists_that_divide_a_group_are_refused(tmp_path):
    from PIL import Image

    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for name in ("p1_a", "p1_b", "p2_a", "p2_b", "p3_a"):
            Image.new("L", (4, 4), 1).save(tmp_path / kind / f"{name}.png")
    (tmp_path / "train.txt").write_text("p1_a\np2_a\np3_a\n")
    (tmp_path / "val.txt").write_text("p1_b\np2_b\n")

    def opened(split):
        return Folders(str(tmp_path), split, classes=["a", "b"], lists="{split}.txt", group=r"(p\d)_")

    with pytest.raises(DataError) as caught:
        opened("train")
    assert str(caught.value) == (
        "Folders: 2 groups have images in train and in val, first 'p1'; move them to one of the two"
    )
    (tmp_path / "train.txt").write_text("p1_a\np1_b\np3_a\n")
    (tmp_path / "val.txt").write_text("p2_a\np2_b\n")
    assert (len(opened("train")), len(opened("val"))) == (3, 2)
