"""docs/settings.md says what the models say, and its examples and defaults are accepted by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, create_model

from proxmox_swarm.settings import schema
from proxmox_swarm.settings.includes import read_yaml
from proxmox_swarm.settings.parse import SECTIONS as TOP_LEVEL
from proxmox_swarm.settings.reference import SECTIONS, accepted, markdown
from proxmox_swarm.settings.schema_types import Keys
from proxmox_swarm.settings.translate import alias

FIELDS = [
    pytest.param(model, name, id=f"{path}.{alias(model, name)}")
    for path, model in SECTIONS
    for name in model.model_fields
    if not (model is schema.Node and name in schema.Pool.model_fields)
]


def test_the_page_is_what_the_models_give(repository: Path) -> None:
    page = (repository / "docs" / "settings.md").read_text()
    assert page == markdown(), "run: python -m proxmox_swarm.settings.reference > docs/settings.md"


def test_every_model_and_every_top_level_key_is_on_the_page() -> None:
    assert {model for _, model in SECTIONS} == {getattr(schema, name) for name in schema.__all__}
    assert {path.split(".")[0] for path, _ in SECTIONS} | {"include", "secrets"} == set(TOP_LEVEL)
    assert "`swarm:include`" in markdown()
    assert "`swarm:secrets`" in markdown()


def one_field(model: type[Keys], name: str) -> type[Keys]:
    """A model with this field alone, to validate one value as the whole model would."""
    info = model.model_fields[name]
    return create_model("OneField", __base__=Keys, **{name: (info.annotation, info)})  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_the_example_is_accepted(model: type[Keys], name: str, tmp_path: Path) -> None:
    info = model.model_fields[name]
    extra = accepted(info)
    assert info.description
    assert extra["accepted"]
    example = extra["example"]
    if "…" in example:
        assert name in ("sha512", "keys", "image", "host_key")  # too long for a table
        return
    (tmp_path / "example.yaml").write_text(f"{alias(model, name)}: {example}\n")
    written: Any = read_yaml(tmp_path / "example.yaml")
    one_field(model, name).model_validate(written)


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_the_default_is_accepted_or_explained(model: type[Keys], name: str) -> None:
    info = model.model_fields[name]
    if info.is_required():
        return
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None:
        assert accepted(info)["otherwise"]
    elif model is not schema.Deadlines:  # held in seconds, written with a unit
        one_field(model, name).model_validate({alias(model, name): value})


def test_defaults_of_deadlines_are_what_the_page_says() -> None:
    said = {name: accepted(info)["otherwise"] for name, info in schema.Deadlines.model_fields.items()}
    assert schema.Deadlines.model_validate(said) == schema.Deadlines()


def test_null_is_never_a_way_to_write_a_default() -> None:
    for _, model in SECTIONS:
        for info in model.model_fields.values():
            assert type(None) not in get_args(info.annotation)
    with pytest.raises(ValueError, match="int_type"):
        TypeAdapter(schema.Network).validate_python({"subnet": "10.0.0.0/24", "vlan": None})
