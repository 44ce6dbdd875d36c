"""YAML files that people write: read strictly, and with the line of every key at hand.

Plain scalars mean what they mean in YAML 1.2, a key that stands twice is refused, and an error names file and line.
Whatever stands in a file, it is read in a moment: aliases are refused, and size, depth and length of numbers bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ledger_pipeline.core.errors import InputError
from ledger_pipeline.files import read_regular

Place = tuple[int | str, ...]
LARGEST = 1_000_000  # bytes of a file
DEEPEST = 50  # lists and mappings in each other
LONGEST_NUMBER = 100  # characters


_Fastest: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser is ten times as fast


class _Loader(_Fastest):  # type: ignore[misc]
    """YAML 1.2's idea of a plain scalar. YAML 1.1 reads the tickers ON and NO as truth values, 1e-3 as a text, 010 as
    eight, 12:30 as 750 and a date as something that is no JSON.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.rsplit(":")[-1] in ("null", "merge")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in (
    ("bool", r"true|True|false|False", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?((\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf)|\.nan", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def read_yaml(path: Path, shape: str) -> tuple[Mapping[str, Any], yaml.Node]:
    """The mapping in a file, and its tree; InputError naming file and line when it is none. `shape` says in a sentence
    what it should be.
    """
    try:
        text = read_regular(path, LARGEST).decode("utf-8-sig")
        _check_size(text, path)
        tree = yaml.compose(text, Loader=_Loader)
        _check_keys(tree, path)
        values = _Loader("").construct_document(tree) if tree else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{shown(path)}{line}: {getattr(error, 'problem', None) or 'not readable as YAML'}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{shown(path)} is not UTF-8 text.") from None
    if tree is None or not isinstance(values, Mapping):
        raise InputError(f"{shown(path)}: {shape}.")
    return values, tree


def _check_size(text: str, path: Path) -> None:
    """Refuse aliases, what is nested too deep, and numbers too long to be meant, before anything is built of them."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = f"{shown(path)}, line {event.start_mark.line + 1 if event.start_mark else 0}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InputError(f"{line}: anchors and aliases are not read; write the value out.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise InputError(f"{line}: it is nested more than {DEEPEST} deep.")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and event.implicit[0] and _is_long_number(event.value):
            raise InputError(f"{line}: a number of {len(event.value):,} digits; at most {LONGEST_NUMBER} are read.")


def _is_long_number(text: str) -> bool:
    return len(text) > LONGEST_NUMBER and not text.strip("+-.0123456789_eE")


def _check_keys(node: Any, path: Path) -> None:
    """Refuse keys that stand twice or are no text."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, _ in node.value:
            place = f"{shown(path)}, line {key.start_mark.line + 1}"
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise InputError(f"{place}: the key {key.value!r} is not read as a text; put it in quotes.")
            if key.value in seen:
                raise InputError(f"{place}: the key {key.value!r} stands twice.")
            seen.add(key.value)
    children = (
        [value for _, value in node.value]
        if isinstance(node, yaml.MappingNode)
        else node.value
        if isinstance(node, yaml.SequenceNode)
        else []
    )
    for child in children:
        _check_keys(child, path)


def at(path: Path, tree: yaml.Node, place: Place) -> str:
    """File and line of the key that a place leads to, as far as it leads."""
    node, line = tree, tree.start_mark.line + 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            match = [(key, value) for key, value in node.value if key.value == str(part)]
            if not match:
                break
            line, node = match[0][0].start_mark.line + 1, match[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return f"{shown(path)}, line {line}"


def shown(path: Path) -> str:
    """A path as errors name it: the file and the directories that say what it is."""
    return "/".join(
        path.parts[-3:] if path.parent.name in ("experiments", "indicators", "deployments") else path.parts[-2:]
    )
