"""The elements of a JSON file are found in its text as a parser finds them, and damage is one line."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kd.errors import DataError
from kd.prepare.formats.checked_json import Elements, Record

TEXTS = st.text(st.sampled_from('ab"\\{}[],: \u00e9\u20ac\n'), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
MAPPINGS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=3)


def elements(file, content, keys=("images", "marks")):
    """The elements of a file, each parsed by Python."""
    text = content if isinstance(content, bytes) else content.encode()
    file.write_bytes(text)
    found = {}
    for element in Elements(file, keys):
        assert element.number == len(found.setdefault(element.key, []))
        found[element.key].append(json.loads(text[element.start : element.end]))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MAPPINGS, MAPPINGS, st.dictionaries(TEXTS, VALUES, max_size=3), st.booleans(), st.sampled_from([None, 1]))
def test_elements_are_those_of_a_parser(tmp_path, images, marks, others, ascii_only, indent):
    content = {**others, "images": images, "info": others, "marks": marks}
    text = json.dumps(content, ensure_ascii=ascii_only, indent=indent)
    expected = {key: values for key, values in (("images", images), ("marks", marks)) if values}
    assert elements(tmp_path / "a.json", text) == expected
    assert elements(tmp_path / "a.json", json.dumps(images, indent=indent), ("",)) == ({"": images} if images else {})


@pytest.mark.parametrize("keys", [("images",), ("",)])
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, keys):
    whole = [{"a": ["]", '"\\'], "b": {}}, {}]
    text = json.dumps({"x": [], "images": whole} if keys[0] else whole)
    for end in range(len(text)):
        with pytest.raises(DataError, match=r"a\.json: not valid JSON \(cut off or damaged at byte [\d,]+\); export"):
            elements(tmp_path / "a.json", text[:end], keys)
    assert elements(tmp_path / "a.json", text, keys) == {keys[0]: whole}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"images": [{}, 7], "marks": []}', "images[1]: no mapping"),
        ('{"images": [[{}]], "marks": []}', "images[0]: no mapping"),
        ('{"images": [{}, null, {}], "marks": []}', "images[1]: no mapping"),
        ('{"images": {"marks": [{}]}}', "images: missing"),
        ('{"images": [], "info": {"marks": [{}]}}', "marks: missing"),
        ('{"images": [], "marks": []} {', "not valid JSON (cut off or damaged at byte 27)"),
        ("7", "not valid JSON (cut off or damaged at byte 0)"),
    ],
)
def test_what_is_no_list_of_mappings_is_refused(tmp_path, text, what):
    with pytest.raises(DataError) as refused:
        elements(tmp_path / "a.json", text)
    separator = "" if what[0] == "[" else ": "
    assert str(refused.value) == f"{tmp_path}/a.json{separator}{what}; export it again"


@pytest.mark.parametrize(("start", "repeated"), [('{"images": [{"a": "', r"\""), ("", "["), ('{"images": [', '{"":')])
def test_hostile_text_takes_time_in_proportion_to_its_length(tmp_path, start, repeated):
    began = time.process_time()
    with pytest.raises(DataError):
        elements(tmp_path / "a.json", start + 10**5 * repeated)
    assert time.process_time() - began < 10  # seconds; a tenth, but a minute or more if every quote were tried


class _Image(Record):
    id: int


def test_an_element_of_another_kind_is_named_by_its_place(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [{"id": 1}, {"id": "x"}]}')
    found = Elements(tmp_path / "a.json", ("images",))
    first, second = found
    assert found.parse(first, _Image).id == 1
    with pytest.raises(DataError, match=r"a\.json: images\[1\]: id: 'x' is not a valid integer; export it again$"):
        found.parse(second, _Image)
