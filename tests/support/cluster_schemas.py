"""What the makers of clouds say of their own requests, as JSON schemas that know no other key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def google_instance_schema() -> dict[str, Any]:
    """Compute Engine's `Instance`, from the discovery document that Google's client library ships."""
    import googleapiclient

    folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    schemas = json.loads((folder / "compute.v1.json").read_text())["schemas"]
    return {"$ref": "#/definitions/Instance", "definitions": {name: _discovered(schemas[name]) for name in schemas}}


def _discovered(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of a discovery document in the words of JSON Schema."""
    if "$ref" in schema:
        return {"$ref": f"#/definitions/{schema['$ref']}"}
    if schema["type"] == "any":
        return {}
    types = ["string", "integer"] if schema.get("format") in ("int64", "uint64") else schema["type"]
    found: dict[str, Any] = {"type": types}
    if "enum" in schema:
        found["enum"] = schema["enum"]
    if schema["type"] == "object":
        found["properties"] = {name: _discovered(inner) for name, inner in schema.get("properties", {}).items()}
        others = schema.get("additionalProperties")
        found["additionalProperties"] = _discovered(others) if others else False
    if "items" in schema:
        found["items"] = _discovered(schema["items"])
    return found


def kuberay_schema(folder: Path, kind: str) -> dict[str, Any]:
    """A custom resource of KubeRay, from its definition; unknown fields are refused, as by `kubectl apply`."""
    text = (folder / f"ray.io_{kind.lower()}s.yaml").read_text()  # a megabyte: seconds for the loader in Python
    definition = yaml.load(text, Loader=yaml.CSafeLoader)
    (version,) = [version for version in definition["spec"]["versions"] if version["name"] == "v1"]
    schema: dict[str, Any] = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # checked by Kubernetes, not by the definition
    return schema


def closed(schema: Any) -> Any:
    """The same schema without room for keys that it does not name."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    is_open = "additionalProperties" in found or found.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not is_open:
        found["additionalProperties"] = False
    return found
