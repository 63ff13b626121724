import json

from search.spec import Spec


def test_every_field_is_documented():
    def walk(node, path):
        for name, field in node.get("properties", {}).items():
            described = "description" in field or "$ref" in field
            assert described, f"{path}.{name} has no description"

    schema = Spec.model_json_schema()
    walk(schema, "Spec")
    for name, definition in schema["$defs"].items():
        walk(definition, name)
        assert definition.get("description"), name


def test_a_spec_survives_the_way_through_json():
    spec = Spec.model_validate({"space": {"methods": ["rps"], "lr": {"low": 0.1, "high": 1}}, "disk_budget": "2GB"})
    assert Spec.model_validate(json.loads(spec.model_dump_json())) == spec
