"""The catalogue: what the user wrote under strategies/, loaded and checked.

strategies/<name>.py                one strategy a file: a function strategy(ctx, params)
strategies/indicators/<name>.py     one user indicator a file: a function <name>(bars, ...), constants BASIS, WARMUP
strategies/experiments/<name>.yaml  one experiment a file; its name is the file's

A file whose name starts with '_' is none of these. An error names the file, the line and the key at fault.
"""

from __future__ import annotations

import re
import traceback
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ledger_pipeline.errors import InputError, LedgerPipelineError, NotFoundError, RefusedError
from ledger_pipeline.features.indicators import Indicator, user_indicator
from ledger_pipeline.identity import check_id
from ledger_pipeline.strategy.experiment import (
    Experiment,
    ExperimentSpec,
    SpecError,
    assemble,
    first_error,
    key_of,
)
from ledger_pipeline.strategy.preflight import preflight

Place = tuple[int | str, ...]


@dataclass(frozen=True)
class Catalogue:
    """The strategies directory. Nothing is read before it is asked for."""

    root: Path = Path("strategies")

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).expanduser())

    def strategy_names(self) -> list[str]:
        """Names of the strategy files, sorted."""
        return sorted(path.stem for path in self.root.glob("*.py") if not path.name.startswith("_"))

    def experiment_names(self) -> list[str]:
        """Names of the experiment files, sorted."""
        return sorted(path.stem for path in (self.root / "experiments").glob("*.yaml"))

    def strategy_path(self, name: str) -> Path:
        """The file of a strategy; NotFoundError listing what there is."""
        check_id("strategy", name)
        path = self.root / f"{name}.py"
        if not path.is_file():
            raise NotFoundError(
                f"there is no strategy {name!r} in {self.root} (there are: "
                f"{', '.join(self.strategy_names()) or 'none'})."
            )
        return path

    def experiment(self, name: str) -> Experiment:
        """Load one experiment. Raises NotFoundError, InputError naming file, line and key, or RefusedError for a tier 3
        strategy.
        """
        check_id("experiment", name)
        path = self.root / "experiments" / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(self.experiment_names()) or "none"
            raise NotFoundError(f"there is no experiment {name!r} in {path.parent} (there are: {known}).")
        spec, tree = read_spec(path)
        try:
            source = self.strategy_path(spec.strategy)
        except (InputError, NotFoundError) as error:
            raise type(error)(f"{_at(path, tree, ('strategy',))}: {error}") from None
        checked = preflight(source)
        named = {str(feature.get("indicator")) for feature in spec.features.values()}
        try:
            return assemble(name, checked, spec, self.indicators(named))
        except SpecError as error:
            raise InputError(f"{_at(path, tree, error.place)}: {error}") from None
        except RefusedError as error:
            raise RefusedError(f"{_shown(source)}: {error}") from None

    def indicator_names(self) -> list[str]:
        """Names of the user's indicator files, sorted."""
        return sorted(path.stem for path in (self.root / "indicators").glob("*.py") if not path.name.startswith("_"))

    def indicators(self, only: Iterable[str] | None = None) -> dict[str, Indicator]:
        """The user's indicators by name: all, or those named in `only`, so that a faulty one stops only its users."""
        names = self.indicator_names()
        wanted = names if only is None else [name for name in names if name in set(only)]
        return {name: load_indicator(self.root / "indicators" / f"{name}.py") for name in wanted}

    def experiments(self) -> tuple[dict[str, Experiment], dict[str, LedgerPipelineError]]:
        """All experiments that load, by name, and the errors of those that do not."""
        loaded: dict[str, Experiment] = {}
        failed: dict[str, LedgerPipelineError] = {}
        for name in self.experiment_names():
            try:
                loaded[name] = self.experiment(name)
            except LedgerPipelineError as error:
                failed[name] = error
        return loaded, failed


def load_indicator(path: Path) -> Indicator:
    """The user indicator in a file: the function named like it, with the module's BASIS and WARMUP. InputError."""
    module = types.ModuleType(f"ledger_pipeline_user_indicator_{path.stem}")
    module.__file__ = str(path)
    try:
        text = path.read_text(encoding="utf-8")
        # the user's own code, executed from the text that is hashed
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    except UnicodeDecodeError:
        raise InputError(f"{_shown(path)} is not UTF-8 text.") from None
    except SyntaxError as error:
        raise InputError(f"{_shown(path)}, line {error.lineno}: {error.msg}.") from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f", line {lines[-1]}," if lines else ""
        raise InputError(f"{_shown(path)}{line} could not be loaded: {type(error).__name__}: {error}.") from None
    function = getattr(module, path.stem, None)
    if not isinstance(function, types.FunctionType) or not hasattr(module, "BASIS") or not hasattr(module, "WARMUP"):
        raise InputError(
            f"{_shown(path)} must define a function {path.stem}(bars, ...), BASIS (price, volume or ratio) and "
            "WARMUP (bars)."
        )
    try:
        return user_indicator(function, basis=module.BASIS, warmup=module.WARMUP, text=text)
    except InputError as error:
        raise InputError(f"{_shown(path)}: {error}") from None


class _Loader(yaml.SafeLoader):
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


def read_spec(path: Path) -> tuple[ExperimentSpec, yaml.Node]:
    """The checked content of an experiment file, and its tree; InputError naming file, line and key."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        tree = yaml.compose(text, Loader=_Loader)
        _check_keys(tree, path, [])
        values = yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{_shown(path)}{at}: {getattr(error, 'problem', None) or 'not readable as YAML'}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{_shown(path)} is not UTF-8 text.") from None
    if not isinstance(values, Mapping):
        raise InputError(f"{_shown(path)}: an experiment is a mapping with at least the keys strategy and costs.")
    try:
        return ExperimentSpec.model_validate(values), tree
    except ValidationError as error:
        place, message = first_error(error)
        raise InputError(f"{_at(path, tree, place)}: {key_of(place)} {message}.") from None


def _check_keys(node: Any, path: Path, above: list[Any]) -> None:
    """Refuse keys that stand twice or are no text, and a node that holds itself."""
    if any(node is one for one in above):
        raise InputError(f"{_shown(path)}, line {node.start_mark.line + 1}: the alias leads back to where it stands.")
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, _ in node.value:
            at = f"{_shown(path)}, line {key.start_mark.line + 1}"
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise InputError(f"{at}: the key {key.value!r} is not read as a text; put it in quotes.")
            if key.value in seen:
                raise InputError(f"{at}: the key {key.value!r} stands twice.")
            seen.add(key.value)
    children = (
        [value for _, value in node.value]
        if isinstance(node, yaml.MappingNode)
        else node.value
        if isinstance(node, yaml.SequenceNode)
        else []
    )
    for child in children:
        _check_keys(child, path, [*above, node])


def _at(path: Path, tree: yaml.Node, place: Place) -> str:
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
    return f"{_shown(path)}, line {line}"


def _shown(path: Path) -> str:
    return "/".join(path.parts[-3:] if path.parent.name in ("experiments", "indicators") else path.parts[-2:])
