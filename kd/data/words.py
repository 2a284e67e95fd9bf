"""Names as a recipe writes them."""

import json
import re


def yaml_word(text: str) -> str:
    """Text as a scalar in a YAML list or mapping, in quotes if it needs them."""
    plain = re.fullmatch(r"[^\W\d]([\w ./-]*[\w.])?", text) and text.lower() not in ("true", "false", "null")
    return text if plain else json.dumps(text, ensure_ascii=False)
