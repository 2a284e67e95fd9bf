"""The one reader of kd's own JSON."""

import pytest
from pydantic import BaseModel

from kd.errors import StorageError
from kd.files.checked import STRICT, Count, read_checked, read_sealed, seal


class Inner(BaseModel):
    model_config = STRICT
    share: float


class Content(BaseModel):
    model_config = STRICT
    name: str
    steps: Count
    inner: dict[str, Inner] = {}


WRONG = {
    "": "not valid JSON (EOF while parsing a value at line 1 column 0)",
    "[]": "[] is not an object",
    "null": "null is not an object",
    '{"name": "a"}': "steps: missing",
    '{"name": "a", "steps": 1, "step": 2}': "step: unknown key",
    '{"name": 1, "steps": 1}': "name: 1 is not a valid string",
    '{"name": "a", "steps": "1"}': "steps: '1' is not a valid integer",
    '{"name": "a", "steps": true}': "steps: true is not a valid integer",
    '{"name": "a", "steps": 1.0}': "steps: 1.0 is not a valid integer",
    '{"name": "a", "steps": null}': "steps: null is not a valid integer",
    '{"name": "a", "steps": -1}': "steps: -1 is not greater than or equal to 0",
    '{"name": "a", "steps": 9007199254740993}': "steps: 9007199254740993 is not less than or equal to 9007199254740992",
    '{"name": "a", "steps": 1, "inner": {"b": {"share": NaN}}}': "inner.b.share: nan is not a finite number",
    '{"name": "a", "steps": 1, "inner": {"b": {"share": 1e999}}}': "inner.b.share: inf is not a finite number",
    '{"name": "a", "steps": 1, "inner": {"b": 3}}': "inner.b: 3 is not an object",
    '{"name": "a", "steps": 1, "inner": {"a\\nb": 3}}': "inner.a\\nb: 3 is not an object",
    "[" * 100_000: "not valid JSON (recursion limit exceeded at line 1 column 202)",
    '{"name": "a", "steps": 1' + 10_000 * "0" + "}": "not valid JSON (number out of range at line 1 column 4325)",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:60])
def test_a_wrong_value_is_one_line_with_file_and_key(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(StorageError) as caught:
        read_checked(file, Content)
    assert str(caught.value) == f"{file}: {WRONG[text]}"
    assert caught.value.exit_status == 6


def test_right_values_are_read(tmp_path):
    (tmp_path / "a.json").write_text('{"name": "größe", "steps": 3, "inner": {"b": {"share": 1}}}')
    assert read_checked(tmp_path / "a.json", Content) == Content(name="größe", steps=3, inner={"b": Inner(share=1.0)})


class Sealed(BaseModel):
    model_config = STRICT
    name: str
    sha256: str


def test_no_byte_of_a_sealed_file_can_change_unnoticed(tmp_path):
    file = tmp_path / "a.json"
    text = seal({"name": "größe"})
    file.write_bytes(text)
    assert read_sealed(file, Sealed).name == "größe"
    for place in range(len(text)):
        for changed in (text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :], text[:place], text[place + 1 :]):
            file.write_bytes(changed)
            with pytest.raises(StorageError, match=r"a\.json: (cut or changed|changed after kd wrote it) \("):
                read_sealed(file, Sealed)
