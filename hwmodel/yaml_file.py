"""Reading YAML from users: strict, with the file and the key in every message.

Safe loading only; a key given twice, a key nobody knows and a value of the wrong kind are each one sentence. A key
that nobody knows is answered with the nearest ones that are known.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"  # of the key <<, https://yaml.org/type/merge.html: own keys win over merged ones


class _UniqueKeys(yaml.SafeLoader):
    """Safe loader that refuses a key given twice."""


def _mapping_without_repeats(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if isinstance(key, str) and key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        if isinstance(key, str):
            seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ValueError: the file is missing, is no YAML, or holds no mapping.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a readable YAML file: {_reason(error)}") from None
    try:
        data = yaml.load(content, Loader=_UniqueKeys)  # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "no YAML"
        raise ValueError(f"{path}{where} must be YAML: {problem}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold a mapping of keys, not {type(data).__name__}")
    return data


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def check_keys(data: Mapping[str, Any], known: Collection[str], required: Collection[str], where: str) -> None:
    """Refuse unknown and missing keys.

    Args:
        where: file and section, for the message.

    Raises:
        ValueError: with the nearest known key.
    """
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), list(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
            raise ValueError(f"{where}: key {key!r} is not known{hint}")
    missing = [key for key in required if key not in data]
    if missing:
        raise ValueError(f"{where}: key {missing[0]!r} must be given")


def text(value: object) -> str:
    """A value that must be text, and not blank.

    Raises:
        ValueError: it is not; the message says what it must be, for a sentence that names file and key.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError("text")
    return value


def take(data: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str, default: Any = None) -> Any:
    """``data[key]`` of the kind asked for, or ``default`` where the key is absent.

    Raises:
        ValueError: another kind. A bool is no int.
    """
    if key not in data:
        return default
    value = data[key]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(k.__name__ for k in kinds)
        raise ValueError(f"{where}: key {key!r} must be {wanted}, not {value!r}")
    return value
