"""Only regular files are opened, and no more than a stated size is read: everything else is one line at once."""

import os
import socket
import tempfile
from pathlib import Path

import pytest
from private import make_private

from kd.errors import DataError, RecipeError, one_line
from kd.files.reading import check_file, csv_rows, exists, read_bytes, read_text


def refused(path: Path, **how: object) -> str:
    with pytest.raises(DataError) as caught:
        read_text(path, "a class map", DataError, **how)
    line = str(caught.value)
    assert line.startswith(one_line(str(path))[:50])
    return line.removeprefix(f"{path}: ")


def test_text_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"\xef\xbb\xbfsky\r\nroad\rcar\n")
    assert read_text(file, "a list", DataError) == "sky\nroad\ncar\n"
    assert read_bytes(file, "a list", DataError) == b"\xef\xbb\xbfsky\r\nroad\rcar\n"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('"a" ,"b"  \n"c"', [["a", "b"], ["c"]]),
        ('"a; b" ; c ;d \n', [["a; b", " c ", "d "]]),
        ('"say ""a"" ,b",2\n"over\ntwo" ,3 ', [['say "a" ,b', "2"], ["over\ntwo", "3 "]]),
    ],
)
def test_a_space_after_a_closing_quote_is_no_text(text: str, rows: list[list[str]]) -> None:
    assert [row for _, row in csv_rows(text, Path("a.csv"), DataError)] == rows


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
def test_the_environment_is_not_read_as_a_file() -> None:
    assert read_bytes(Path("/proc/self/environ"), "a list", DataError) == b""


def test_what_is_no_regular_file_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    (tmp_path / "link").symlink_to("pipe")
    with tempfile.TemporaryDirectory(prefix="kd") as short, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short}/s")  # the path of a socket has at most 108 characters
        assert refused(Path(short, "s")) == "a special file, not a class map"
    assert refused(tmp_path / "pipe") == refused(tmp_path / "link") == "a pipe, not a class map"
    assert refused(tmp_path) == "a folder, not a class map"
    assert refused(Path("/dev/zero")) == "a device, not a class map"


def test_what_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert refused(tmp_path / "none") == "no such file"
    assert refused(tmp_path / "loop") == "cannot be read (Too many levels of symbolic links)"
    assert refused(Path("a" * 300)) == "a" * 255 + "…: cannot be read (File name too long)"
    assert "null" in refused(Path("a\0b"))
    with pytest.raises(RecipeError, match=r"^none: no such file$"):  # the caller's type of exception
        check_file(Path("none"), "a recipe", RecipeError)


def test_nothing_beyond_the_limit_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    assert read_bytes(file, "a list", DataError, limit=5) == b"12345"
    assert refused(file, limit=4) == "larger than 4 bytes, the limit for a class map"
    os.truncate(file, 1 << 40)  # a hole of a tebibyte
    assert refused(file) == "larger than 256,000 bytes, the limit for a class map"


def test_text_that_is_not_utf_8_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes("sky\nstraße\n".encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_text(file, "a list", DataError)
    assert str(caught.value) == f"{file}:2:5: not UTF-8 text (byte 0xdf); save it as UTF-8"


def test_links_lead_nowhere_outside_the_folder_that_is_read(tmp_path: Path) -> None:
    run_dir, private = tmp_path / "run", tmp_path / "private"
    run_dir.mkdir()
    private.write_text("secret")
    (run_dir / "own").write_text("ours")
    (run_dir / "here").symlink_to("own")
    (run_dir / "out").symlink_to(private)
    (tmp_path / "run2").symlink_to(run_dir)
    assert read_text(run_dir / "here", "a page", DataError, inside=run_dir) == "ours"
    assert read_text(tmp_path / "run2" / "own", "a page", DataError, inside=tmp_path / "run2") == "ours"
    what = f"a link that leads out of {run_dir}; put the file itself there"
    assert refused(run_dir / "out", inside=run_dir) == refused(run_dir / ".." / "private", inside=run_dir) == what


def test_whether_a_name_exists_is_known_except_in_a_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    there = [exists(tmp_path / name, DataError) for name in ("loop", "file", "none", "file/below", "a\0b", "a" * 5_000)]
    assert there == [True, True, False, False, False, False]
    make_private(monkeypatch, tmp_path)
    with pytest.raises(DataError) as caught:
        exists(tmp_path / "none", DataError)
    assert str(caught.value) == f"{tmp_path}/none: cannot be read (Permission denied)"
