"""Names as a recipe writes them."""

import pytest
import yaml

from kd.data.words import yaml_word


@pytest.mark.parametrize(
    "text", ["road", "traffic light", "true", "null", "no: e", "a, b", "[x]", "7", "ü", "#1", "a #b"]
)
def test_names_are_words_of_yaml(text):
    assert yaml.safe_load(f"{{1: {yaml_word(text)}}}") == {1: text}
