"""Data from YAML text, and the messages for hostile and odd files."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_text import ALONE, read

from kd.errors import RecipeError
from kd.recipe import read_recipe, yaml12


def test_scalars_follow_yaml_1_2(folder: Path) -> None:
    args = (
        "a: 1e-4, b: on, c: no, d: 1:30, e: 010, f: 0o17, g: 0x1F, h: .5, i: ~, j: 2001-01-01, k: TRUE, l: '1', m: 1_0"
    )
    assert read(ALONE.replace("{lr: 0.01}", f"{{{args}}}")).optimizer.args == {
        "a": 0.0001, "b": "on", "c": "no", "d": "1:30", "e": 10, "f": 15, "g": 31, "h": 0.5, "i": None,
        "j": "2001-01-01", "k": True, "l": "1", "m": "1_0",
    }  # fmt: skip


def _hostile() -> dict[str, bytes]:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    files = {
        "alias bomb": bomb,
        "merge bomb": "a: &a {x: 1}\n" + "".join(f"k{i}: {{<<: [*a, *a]}}\n" for i in range(500)),
        "alias": "a: &x 1\nb: *x\n",
        "anchor": "student: &x {use: a.B}\n",
        "self alias": "a: &a [*a]\n",
        "unknown alias": "a: *b\n",
        "tag python": "a: !!python/object/apply:os.system [ls]\n",
        "tag python name": "a: !!python/name:os.system\n",
        "tag new": "a: !!python/object/new:os.system [ls]\n",
        "tag str": "a: !!str 1\n",
        "tag local": "a: !x 1\n",
        "tag bare": "a: ! 1\n",
        "tag verbatim": "a: !<tag:yaml.org,2002:int> 1\n",
        "tag directive": "%TAG ! tag:x,2000:\n---\na: 1\n",
        "tag set": "a: !!set {b}\n",
        "tag binary": "a: !!binary aGVsbG8=\n",
        "bad directive": "%YAML 9.9\n---\na: 1\n",
        "bad directive number": "%YAML 1.99999999999999999999999\n---\na: 1\n",
        "brackets": "[" * 30_000,
        "open brackets": "a: " + "[" * 30_000 + "]" * 30_000,
        "braces": "{" * 30_000,
        "nested mapping": "".join(" " * i + f"k{i}:\n" for i in range(300)),
        "nested sequence": "- " * 20_000,
        "question marks": "? " * 20_000,
        "complex keys": "? [a, b]\n: c\n",
        "mapping key": "{a: b}: c\n",
        "depth 33": "a: " + "[" * 32 + "]" * 32,
        "events": "a: [" + "1," * 30_000 + "]",
        "many keys": "".join(f"k{i}: 1\n" for i in range(15_000)),
        "long scalar": "a: " + "x" * 5_000,
        "long key": "x" * 5_000 + ": 1",
        "long quoted": "a: '" + "x" * 200_000 + "'",
        "long block": "a: |\n" + "  x\n" * 50_000,
        "huge int": "a: " + "9" * 4_000,
        "huge hex": "a: 0x" + "f" * 4_000,
        "huge float": "a: 1e" + "9" * 4_000,
        "big file": "# " + "x" * 300_000,
        "comment lines": "#\n" * 120_000,
        "tabs": "\t\t\ta: 1\n\tb: 2\n",
        "tab indent": "a:\n\tb: 1\n",
        "nul": "a: \0b\n",
        "nul escape": 'a: "\\0"\n',
        "escape": 'a: "\\e[31m"\n',
        "surrogate": 'a: "\\ud800"\n',
        "big escape": 'a: "\\U00110000"\n',
        "bad escape": 'a: "\\xzz"\n',
        "unknown escape": 'a: "\\q"\n',
        "bell": "a: \x07\n",
        "delete": "a: \x7f\n",
        "unclosed quote": "a: 'b\n",
        "unclosed double": 'a: "b\n' * 3,
        "only colon": ":\n",
        "only dash": "-\n",
        "at": "@a: 1\n",
        "backtick": "`a: 1\n",
        "percent": "%\n",
        "documents": "---\n" * 5_000,
        "two documents": "a: 1\n---\nb: 1\n",
        "bad indent": "a: 1\n  b: 2\n",
        "null": "null\n",
        "number": "3\n",
        "text": "hello\n",
        "list": "[1, 2]\n",
        "control in key": '"a\\x1b": 1\n',
    }  # fmt: skip
    raw = {
        "empty": b"",
        "latin 1": "a: \xe9\n".encode("latin-1"),
        "utf-16": "student: 1\n".encode("utf-16"),
        "utf-16 without mark": "student: 1\n".encode("utf-16-le"),
        "utf-32": "student: 1\n".encode("utf-32"),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        "zip": b"PK\x03\x04" + bytes(1_000),
        "overlong": b"a: \xc0\xaf\n",
        "zeros": bytes(10_000),
        "gzip": b"\x1f\x8b\x08\x00" + bytes(20),
    }
    return {name: text.encode() for name, text in files.items()} | raw


HOSTILE = _hostile()


def test_there_are_fifty_hostile_files() -> None:
    assert len(HOSTILE) >= 50


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_lines_and_at_once(folder: Path, name: str) -> None:
    Path("r.yaml").write_bytes(HOSTILE[name])
    start = time.process_time()
    with pytest.raises(RecipeError) as caught:
        read_recipe("r.yaml")
    assert time.process_time() - start < 10  # seconds; 0.3 on an idle machine
    lines = caught.value.mistakes
    assert 1 <= len(lines) <= 51
    assert all(line.isprintable() and len(line) < 500 for line in lines)
    assert all(line.startswith(("r.yaml:", "…")) for line in lines)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("alias bomb", "r.yaml:1:4: anchors and aliases (& and *) are not allowed; write the value out"),
        ("tag python", "r.yaml:1:4: tags (!) are not allowed; write plain values"),
        ("tag directive", "r.yaml:1:1: tags (!) are not allowed; write plain values"),
        ("brackets", "r.yaml:1:33: nested deeper than 32 levels"),
        ("events", "r.yaml:1:39995: more than 20,000 YAML events; a recipe is a page of text"),
        ("long scalar", "r.yaml:1:4: a value longer than 4,096 characters"),
        ("big file", "r.yaml: larger than 256,000 bytes, the limit for a recipe"),
        ("nul", "r.yaml:1:4: a control character; a recipe is plain text"),
        ("nul escape", "r.yaml:1:4: a control character in a value; write plain text"),
        ("surrogate", "r.yaml:1:4: a control character in a value; write plain text"),
        ("latin 1", "r.yaml:1:4: not UTF-8 text (byte 0xe9); save it as UTF-8"),
        ("png", "r.yaml:1:1: not UTF-8 text (byte 0x89); save it as UTF-8"),
    ],
)
def test_the_message_gives_place_and_reason(folder: Path, name: str, line: str) -> None:
    Path("r.yaml").write_bytes(HOSTILE[name])
    with pytest.raises(RecipeError) as caught:
        read_recipe("r.yaml")
    assert caught.value.mistakes == [line]


def test_an_unreadable_file_is_one_line(folder: Path) -> None:
    Path("folder.yaml").mkdir()
    for path, line in (
        ("folder.yaml", "folder.yaml: a folder, not a recipe"),
        ("/dev/zero", "/dev/zero: a device, not a recipe"),
        ("none.yaml", "none.yaml: no such file, here or among the shipped recipes"),
        ("../none.yaml", "../none.yaml: no such file"),
        ("a" * 300, "a" * 255 + "…: cannot be read (File name too long)"),
        ("a\0b", "a\\x00b: "),
        ("", ".: a folder, not a recipe"),
    ):
        with pytest.raises(RecipeError) as caught:
            read_recipe(path)
        [mistake] = caught.value.mistakes
        assert mistake.startswith(line), path


def test_a_byte_order_mark_is_not_part_of_the_text(folder: Path) -> None:
    Path("r.yaml").write_bytes(b"\xef\xbb\xbf" + ALONE.encode())
    assert read_recipe("r.yaml") == read(ALONE, name="s.yaml")


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.just("\n"), max_size=12)
    | st.sampled_from(
        ["1e-4", "on", "no", "0o7", "~", "", "1:30", "2001-01-01", "<<", "=", "- a", "a: b", ".inf", "10%"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc1e.- ", max_size=4) | st.integers(0, 255), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(PLAIN)
@settings(max_examples=200)
def test_dumped_data_reads_back(data: object) -> None:
    root = yaml12.compose(yaml12.dump({"x": data}), "d.yaml")
    assert yaml12.plain(root)[::2] == ({"x": data}, [])
