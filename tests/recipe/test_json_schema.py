"""The JSON Schema, and the docs' table of keys that is made from it."""

import json
import re
from pathlib import Path
from typing import Any

from recipe_text import ALONE, read

from kd.recipe import json_schema
from kd.recipe.shipped.recipes import shipped_recipes


def test_the_schema_beside_the_recipes_is_up_to_date() -> None:
    beside = shipped_recipes() / "recipe.schema.json"
    assert json.loads(beside.read_text()) == json_schema(), f"kd schema > {beside}"


def test_the_json_schema_describes_every_key() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["student", "data", "supervised", "optimizer", "train"]
    for section in (schema, *schema["$defs"].values()):
        assert section["additionalProperties"] is False
        for key, field in section["properties"].items():
            described = field | schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
            assert described["description"].endswith("."), key
    assert schema["$defs"]["TrainConfig"]["properties"]["precision"]["enum"] == ["auto", "bf16", "fp32"]
    assert json.loads(json.dumps(schema)) == schema


COMPONENTS = ("Loss", "Adapter", "Schedule", "Transform", "Metric")


def _values(field: dict[str, Any]) -> str:
    """The values of a key, in words, from its JSON Schema."""
    if field.get("title") == "Use":
        return "text"  # the schema proposes names; `kd components` lists them
    if "anyOf" in field:
        return " or ".join(_values(option) for option in field["anyOf"] if option.get("type") != "null")
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        return "a component" if field["$ref"].endswith(COMPONENTS) else "a section"
    if "prefixItems" in field:
        return f"two of: {_values(field['prefixItems'][0])}"
    if "pattern" in field:
        return "a share (`5%`)"
    if field["type"] == "array":
        return f"a list of: {_values(field['items'])}"
    bounds = [("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")]
    limits = [f" {sign} {field[name]:g}" for name, sign in bounds if name in field and field[name] < 2**31]
    words = {"boolean": "`true`, `false`", "object": "a mapping", "string": "text"}
    return words.get(field["type"], field["type"]) + ",".join(limits)


def _rows() -> list[str]:
    """The rows of the table in docs/recipes.md: key, meaning, values, default; all from the schema."""
    schema = json_schema()
    rows: list[str] = []

    def walk(section: dict[str, Any], path: str) -> None:
        for key, field in section["properties"].items():
            reference = json.dumps(field)
            inner = [name for name in schema["$defs"] if f'/{name}"' in reference and name not in COMPONENTS]
            described = field | (schema["$defs"][inner[0]] if "description" not in field else {})
            values = "terms by name" if path + key == "distill" else _values(field)
            default = "required" if key in section.get("required", []) else f"`{json.dumps(field.get('default', {}))}`"
            rows.append(f"| `{path}{key}` | {described['description']} | {values} | {default} |")
            if inner:
                walk(schema["$defs"][inner[0]], f"{path}{key}." if key != "distill" else "distill.<term>.")

    walk(schema, "")
    return rows


def test_the_docs_have_every_key_with_meaning_range_and_default() -> None:
    lines = (Path(__file__).parents[2] / "docs/recipes.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("| `")] == _rows()


def test_the_recipe_in_the_docs_is_right(folder: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/recipes.md").read_text()
    [example] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    Path("teacher.yaml").write_text(ALONE)
    assert list(read(example).distill) == ["kl", "cwd"]
