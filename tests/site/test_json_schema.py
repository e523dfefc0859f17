"""The JSON Schema of the documents, for editors."""

import json
from pathlib import Path
from typing import Any

import pytest

from relay.site import json_schema, network_models, settings_models
from relay.site.policy import policy_models
from relay.site.yaml import yaml_document

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize("which", ["relay", "policy", "network"])
def test_checkout_has_the_current_schema(which: str) -> None:
    """The schema files of this checkout are what the models say now (`relayctl schema` writes them)."""
    assert (CHECKOUT / json_schema.FILES[which]).read_text() == json_schema.text(which)


@pytest.mark.parametrize("name", ["relay.yaml", "policies/example.yaml", "network.yaml"])
def test_documents_name_their_schema(name: str) -> None:
    """The first line of a document leads an editor to the schema beside it."""
    first = (CHECKOUT / name).read_text().splitlines()[0]
    assert ((CHECKOUT / name).parent / first.partition("$schema=")[2]).is_file()


def test_rule_schema() -> None:
    """The schema has the words of the files, forbids others, and takes one value or a list."""
    rule = json_schema.schema("policy")["$defs"]["RuleEntry"]
    assert set(rule["properties"]) == {
        "name", "allow", "deny", "except", "to", "ports", "from", "until", "days", "hours"
    }  # fmt: skip
    assert rule["additionalProperties"] is False
    assert rule["required"] == ["name", "to"]
    one, many = rule["properties"]["to"]["anyOf"]
    assert (one["type"], many["type"]) == ("string", "array")


def _nodes(node: Any) -> list[Any]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return [node, *(found for child in children for found in _nodes(child))]


@pytest.mark.parametrize("which", ["relay", "policy", "network"])
def test_no_null_and_no_defaults(which: str) -> None:
    """Null is nowhere offered, and no default is shown in another form than it is typed."""
    nodes = [node for node in _nodes(json_schema.schema(which)) if isinstance(node, dict)]
    assert not [node for node in nodes if node.get("type") == "null" or "default" in node]


def test_every_example_is_valid() -> None:
    """What a fault proposes as an example is itself accepted."""
    for name, model in (
        *policy_models.ENTRIES.items(),
        *settings_models.ENTRIES.items(),
        *network_models.ENTRIES.items(),
    ):
        for field, info in model.model_fields.items():
            for example in info.examples or ():
                text = json.dumps({info.alias or field: example})
                value = yaml_document.load(name, text.encode()).data
                assert isinstance(value, dict)
                model.__pydantic_validator__.validate_assignment(
                    model.model_construct(), field, value[info.alias or field]
                )
