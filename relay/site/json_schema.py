"""JSON Schema of a site's YAML files, from the models that validate them."""

import json
from functools import cache
from typing import Any

from pydantic import BaseModel

from relay.site.network_models import NetworkFile
from relay.site.policy.policy_models import PolicyFile
from relay.site.settings_models import SettingsFile

# document: path of its schema, relative to the site (`relayctl init` writes the first two)
DIRECTORY = "schemas"
FILES = {
    "relay": f"{DIRECTORY}/relay.schema.json",  # of relay.yaml
    "policy": f"{DIRECTORY}/policy.schema.json",  # of policies/*.yaml
    "network": f"{DIRECTORY}/network.schema.json",  # of network.yaml
}
_MODELS: dict[str, type[BaseModel]] = {"relay": SettingsFile, "policy": PolicyFile, "network": NetworkFile}


def schema(which: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `relay`, `policy` or `network`: see FILES."""
    made: dict[str, Any] = _cleaned(_MODELS[which].model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


@cache
def text(which: str) -> str:
    """The schema as the text of its file."""
    return json.dumps(schema(which), indent=2, ensure_ascii=False) + "\n"


def hint(which: str) -> str:
    """The first line of a document, which tells an editor the path of its schema."""
    return f"# yaml-language-server: $schema={'../' if which == 'policy' else ''}{FILES[which]}\n"


def _cleaned(node: Any) -> Any:
    """The schema without pydantic's titles and defaults (parsed values, not YAML), and without null."""
    if isinstance(node, list):
        return [_cleaned(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "anyOf" in node:
        choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
        node = {**{key: value for key, value in node.items() if key != "anyOf"}}
        node |= choices[0] | node if len(choices) == 1 else {"anyOf": choices}
    kept = {}
    for key, value in node.items():
        if key == "properties":  # below it, keys are names of properties, not keywords
            kept[key] = {name: _cleaned(item) for name, item in value.items()}
        elif key not in ("title", "default"):
            kept[key] = value if key in ("examples", "enum", "const") else _cleaned(value)
    return kept
