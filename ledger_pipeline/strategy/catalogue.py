"""The catalogue: what the user wrote under strategies/, loaded and checked.

strategies/<name>.py                one strategy a file: a function strategy(ctx, params)
strategies/indicators/<name>.py     one user indicator a file: a function <name>(bars, ...) with BASIS and WARMUP
constants
strategies/experiments/<name>.yaml  one experiment a file; its name is the file's

An error names the file, the line and the key at fault.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ledger_pipeline.errors import InputError, LedgerPipelineError, NotFoundError
from ledger_pipeline.features.indicators import Indicator, user_indicator
from ledger_pipeline.identity import check_id
from ledger_pipeline.strategy.experiment import Experiment, ExperimentSpec, assemble, said
from ledger_pipeline.strategy.preflight import preflight


@dataclass(frozen=True)
class Catalogue:
    """The strategies directory. Nothing is read before it is asked for."""

    root: Path

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
        spec = read_spec(path)
        checked = preflight(self.strategy_path(spec.strategy))
        try:
            return assemble(name, checked, spec, self.indicators())
        except InputError as error:
            raise InputError(f"{_shown(path)}: {error}") from None

    def indicators(self) -> dict[str, Indicator]:
        """The user's indicators by name."""
        return {
            path.stem: load_indicator(path)
            for path in sorted((self.root / "indicators").glob("*.py"))
            if path.stem != "__init__"
        }

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
    """The user indicator in a file: the function named like the file, with the module's BASIS and WARMUP. InputError.
    """
    text = path.read_text(encoding="utf-8")
    try:
        spec = importlib.util.spec_from_file_location(f"ledger_pipeline_user_indicator_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        exec(
            compile(text, str(path), "exec"), module.__dict__
        )  # the user's own code, read once so that text and code agree
    except SyntaxError as error:
        raise InputError(f"{_shown(path)}, line {error.lineno}: {error.msg}.") from None
    except Exception as error:
        raise InputError(f"{_shown(path)} could not be loaded: {type(error).__name__}: {error}.") from None
    function = getattr(module, path.stem, None)
    if not callable(function) or not hasattr(module, "BASIS") or not hasattr(module, "WARMUP"):
        raise InputError(
            f"{_shown(path)} must define a function {path.stem}(bars, ...), BASIS (price, volume or ratio) and "
            "WARMUP (bars)."
        )
    return user_indicator(function, basis=module.BASIS, warmup=module.WARMUP, text=text)


def read_spec(path: Path) -> ExperimentSpec:
    """The checked content of an experiment file; InputError naming file, line and key."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeated(tree, path)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{_shown(path)}{at}: {getattr(error, 'problem', None) or 'not readable as YAML'}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{_shown(path)} is not UTF-8 text.") from None
    if not isinstance(values, Mapping):
        raise InputError(f"{_shown(path)}: an experiment is a mapping with at least the keys strategy and costs.")
    try:
        return ExperimentSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{_shown(path)}, line {_line(tree, first['loc'])}: {f'{key} ' if key else ''}{said(first)}."
        ) from None


def _refuse_repeated(node: Any, path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                raise InputError(f"{_shown(path)}, line {key.start_mark.line + 1}: the key {key.value!r} stands twice.")
            seen.add(key.value)
            _refuse_repeated(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated(value, path)


def _line(node: Any, place: tuple[int | str, ...]) -> int:
    """The line of the node that a pydantic location leads to, as far as it leads."""
    line = node.start_mark.line + 1
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
    return line


def _shown(path: Path) -> str:
    return "/".join(path.parts[-3:] if path.parent.name in ("experiments", "indicators") else path.parts[-2:])
