"""The curves of a run."""

import pytest
from manifests import list_anew

from kd.runs import latest, read_metrics


def test_a_torn_last_line_of_metrics_is_left_out(tmp_path):
    assert read_metrics(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]


DAMAGED = (b"", b'{"step": 2, "loss', b"\x00\xff\xfe", b"[2]", b"7", b'{"loss": 1}', b'{"step": "2"}', b'{"step": 2}}')


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_line_of_metrics_is_named_and_left_out(tmp_path, damaged):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1}\n' + damaged + b'\n{"step": 3}\n')
    with pytest.warns(UserWarning, match="metrics") as caught:
        assert read_metrics(tmp_path) == [{"step": 1}, {"step": 3}]
    (warning,) = caught
    assert str(warning.message) == f"{file}:2: not a line of metrics (the file is damaged); line skipped"


def test_the_latest_numbers_are_found_from_the_end(tmp_path):
    assert latest(tmp_path) == (0, None)
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 4, "val/miou": 0.5}\n{"step": 8, "val/miou": 0.25}\n{"step": 9, "lr": 1}\n{"step": 10')
    assert latest(tmp_path) == (9, 0.25)
    file.write_text('{"step": 3, "lr": 1}\n')
    assert latest(tmp_path) == (3, None)


def test_an_undefined_score_is_kept(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 4, "val/miou": NaN}\n')
    assert str(read_metrics(tmp_path)) == "[{'step': 4, 'val/miou': nan}]"


def test_missing_curves_of_a_finished_run_are_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 4, "lr": 1}\n')
    (tmp_path / "result.json").write_text('{"id": "0123abcd", "seed": 0}')
    list_anew(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: missing; mv .*; its curves are left out"):
        assert read_metrics(tmp_path) == []
