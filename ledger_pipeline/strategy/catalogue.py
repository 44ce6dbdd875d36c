"""The catalogue: what the user wrote under strategies/, loaded and checked.

strategies/<name>.py                one strategy a file: a function strategy(ctx, params)
strategies/indicators/<name>.py     one user indicator a file: a function <name>(bars, ...), constants BASIS, WARMUP
strategies/experiments/<name>.yaml  one experiment a file; its name is the file's

A file whose name starts with '_' is none of these. An error names the file, the line and the key at fault.
"""

from __future__ import annotations

import ast
import traceback
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ledger_pipeline.core.errors import InputError, LedgerPipelineError, NotFoundError, RefusedError
from ledger_pipeline.core.identity import check_id
from ledger_pipeline.features.indicators import Indicator, user_indicator
from ledger_pipeline.strategy.experiment import (
    Experiment,
    SpecError,
    assemble,
    first_error,
    key_of,
)
from ledger_pipeline.strategy.experiment_spec import ExperimentSpec
from ledger_pipeline.strategy.preflight import preflight
from ledger_pipeline.strategy.references import UndefinedParam, referring, resolved
from ledger_pipeline.strategy.source import StrategySource, normalise, source_hash
from ledger_pipeline.strategy.yaml_files import at, read_yaml, shown


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
        spec, tree, written = read_spec(path)
        try:
            source = self.strategy_path(spec.strategy)
        except (InputError, NotFoundError) as error:
            raise type(error)(f"{at(path, tree, ('strategy',))}: {error}") from None
        checked = preflight(source)
        named = {str(feature.get("indicator")) for feature in spec.features.values()}
        try:
            return assemble(name, checked, spec, self.indicators(named), written)
        except SpecError as error:
            raise InputError(f"{at(path, tree, error.place)}: {error}") from None
        except RefusedError as error:
            raise RefusedError(f"{shown(source)}: {error}") from None

    def indicator_names(self) -> list[str]:
        """Names of the user's indicator files, sorted."""
        return sorted(path.stem for path in (self.root / "indicators").glob("*.py") if not path.name.startswith("_"))

    def indicators(self, only: Iterable[str] | None = None) -> dict[str, Indicator]:
        """The user's indicators by name: all, or those named in `only`, so that a faulty one stops only its users."""
        names = self.indicator_names()
        selected = names if only is None else [name for name in names if name in set(only)]
        return {name: load_indicator(self.root / "indicators" / f"{name}.py") for name in selected}

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
        text = normalise(path.read_text(encoding="utf-8"))
        if not any(isinstance(node, ast.FunctionDef) and node.name == path.stem for node in ast.parse(text).body):
            raise _no_indicator(path)
        preflight(StrategySource(text, path.stem, source_hash(text)), inputs=0).require()
        # the user's own code, executed from the text that is hashed
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    except UnicodeDecodeError:
        raise InputError(f"{shown(path)} is not UTF-8 text.") from None
    except LedgerPipelineError as error:
        reason = str(error)
        raise type(error)(reason if reason.startswith(shown(path)) else f"{shown(path)}: {reason}") from None
    except SyntaxError as error:
        raise InputError(f"{shown(path)}, line {error.lineno}: {error.msg}.") from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f", line {lines[-1]}," if lines else ""
        raise InputError(f"{shown(path)}{line} could not be loaded: {type(error).__name__}: {error}.") from None
    function = getattr(module, path.stem, None)
    if not isinstance(function, types.FunctionType) or not hasattr(module, "BASIS") or not hasattr(module, "WARMUP"):
        raise _no_indicator(path)
    try:
        return user_indicator(function, basis=module.BASIS, warmup=module.WARMUP, text=text)
    except InputError as error:
        raise InputError(f"{shown(path)}: {error}") from None


def _no_indicator(path: Path) -> InputError:
    return InputError(
        f"{shown(path)} must define a function {path.stem}(bars, ...), BASIS (price, volume or ratio) and "
        "WARMUP (bars)."
    )


def read_spec(path: Path) -> tuple[ExperimentSpec, yaml.Node, dict[str, Any]]:
    """The checked content of an experiment file, its tree, and its fields that refer to params as they are written;
    InputError naming file, line and key.
    """
    values, tree = read_yaml(path, "an experiment is a mapping with at least the keys strategy and costs")
    try:
        written = referring(values)
        return ExperimentSpec.model_validate(dict(values) | resolved(written, values.get("params"))), tree, written
    except ValidationError as error:
        place, message = first_error(error)
        raise InputError(f"{at(path, tree, place)}: {key_of(place)} {message}.") from None
    except UndefinedParam as error:
        raise InputError(f"{at(path, tree, error.place)}: {key_of(error.place)}: {error}.") from None
