"""Files under the stack's settings, and settings as Pulumi hands them over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxmox_swarm.settings import SettingsError, from_pulumi_config, load, read_stack_file
from proxmox_swarm.settings.includes import expand, merge, read_yaml, with_includes


def included(config: dict[str, Any], base: Path, **env: str) -> dict[str, object]:
    return with_includes(config, project="swarm", stack="lab", base=base, env=env)


def refused(config: dict[str, Any], base: Path, **env: str) -> str:
    with pytest.raises(SettingsError) as caught:
        included(config, base, **env)
    return str(caught.value)


def test_the_stack_wins_then_the_later_file(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("a: {x: 1, y: 1, z: 1}\nlist: [1, 2]\n")
    (tmp_path / "two.yaml").write_text("a: {y: 2, z: 2}\nb: 2\n")
    config = {"include": ["one.yaml", "two.yaml"], "a": {"z": 3}, "list": [3]}
    assert included(config, tmp_path) == {"a": {"x": 1, "y": 2, "z": 3}, "b": 2, "list": [3]}


def test_merge_leaves_both_sides_as_they_were() -> None:
    under, over = {"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}}
    assert merge(under, over) == {"a": {"b": {"c": 1, "d": 2}}}
    assert (under, over) == ({"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}})


def test_variables_as_in_a_shell() -> None:
    assert expand("${A:-.lab}/${B}", {"B": "b"}) == ".lab/b"
    assert expand("${A:-.lab}", {"A": ""}) == ".lab"
    assert expand("${A}", {"A": "/x"}) == "/x"
    with pytest.raises(KeyError):
        expand("${A}", {})


def test_a_missing_file_says_how_it_comes_to_be(tmp_path: Path) -> None:
    text = refused({"include": ["${PROXMOX_SWARM_LAB:-.lab}/settings.yaml"]}, tmp_path)
    assert text.startswith("swarm:include[0] = ")
    assert f"there is no file {tmp_path}/.lab/settings.yaml" in text
    assert "`make up`" in text
    assert "`lab up`" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: 1\na: 2\n", "line 2 is not YAML: the key a is there twice"),
        ("a: [1\n", "is not YAML"),
        ("- 1\n", "holds no mapping"),
        ("", "holds no mapping"),
        ("1: 2\n", "the key 1 is not text"),
        ("a: &x [*x]\n", "settings"),
        ("include: [b.yaml]\n", "has an include of its own"),
        ("a: !!python/object/apply:os.system [x]\n", "is not YAML"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    if words == "settings":
        # A value that holds itself parses; it must be refused as a setting, not lead to endless recursion.
        with pytest.raises(SettingsError, match="swarm:a: no such key"):
            load({"include": ["settings.yaml"]}, project="swarm", stack="lab", base=tmp_path, env={})
        return
    text = refused({"include": ["settings.yaml"]}, tmp_path)
    assert str(file) in text
    assert words in text


def test_unreadable_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin1.yaml").write_bytes(b"a: \xe9\n")
    assert "not UTF-8 text" in refused({"include": ["latin1.yaml"]}, tmp_path)
    assert "cannot be read" in refused({"include": ["."]}, tmp_path)
    assert "NOPE has no value" in refused({"include": ["${NOPE}/x"]}, tmp_path)
    assert "not a path" in refused({"include": [5]}, tmp_path)
    assert "not a list" in refused({"include": "settings.yaml"}, tmp_path)
    assert "2 problems" in refused({"include": ["a.yaml", "b.yaml"]}, tmp_path)


def test_files_are_read_as_pulumi_reads_stack_files(tmp_path: Path) -> None:
    # Measured with `pulumi preview` 3.259.0: base-60 numbers and the words yes and no are text, 010 is octal.
    file = tmp_path / "settings.yaml"
    file.write_text(
        "{a: 22:22, b: no, c: 010, d: 29.10, e: true, f: ~, g: 1e3, h: 02:42:10:11:12:13, i: 2024-01-02, j: 0x1F}\n"
    )
    assert read_yaml(file) == {
        "a": "22:22",
        "b": "no",
        "c": 8,
        "d": 29.1,
        "e": True,
        "f": None,
        "g": 1000.0,
        "h": "02:42:10:11:12:13",
        "i": "2024-01-02",
        "j": 31,
    }


def test_settings_as_pulumi_hands_them_over(repository: Path) -> None:
    written = read_stack_file(repository / "Pulumi.prod.yaml", "swarm")
    handed = {f"swarm:{key}": json.dumps(value, sort_keys=True) for key, value in written.items()}
    handed |= {"pulumi:tags": "{}", "other:nodes": "{}", "swarm:secrets": "{}"}
    config = from_pulumi_config(handed, "swarm")
    assert config == {**written, "secrets": {}}

    def settings(raw: dict[str, Any]) -> object:
        return load(raw, project="swarm", stack="prod", base=repository, env={})

    assert settings(config) == settings(written)


def test_scalars_and_damaged_json_stay_text() -> None:
    assert from_pulumi_config({"swarm:nodes": "5", "swarm:os": "{oops"}, "swarm") == {"nodes": "5", "os": "{oops"}


def test_a_file_without_config_is_no_stack_file(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.x.yaml").write_text("config: 5\n")
    with pytest.raises(ValueError, match=r"not a stack's settings file"):
        read_stack_file(tmp_path / "Pulumi.x.yaml", "swarm")
    (tmp_path / "Pulumi.y.yaml").write_text("encryptionsalt: v1\n")
    assert read_stack_file(tmp_path / "Pulumi.y.yaml", "swarm") == {}
