"""Deployments: which policy or promoted run trades which book, when, and within which guardrails.

strategies/deployments/<name>.yaml  written by `promote`, or by hand for a policy
strategies/policies/<name>.json     a policy without a deployment file is one of its own name, on the default book

A deployment's name tags its orders and lots, so several share one account without touching each other's shares. With
`capital` it has cash of its own, which begins at that amount; without, it has the cash that no other deployment of the
book has.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from ledger_pipeline.core.amounts import decimal_text
from ledger_pipeline.core.errors import InputError, NotFoundError
from ledger_pipeline.core.identity import ID_PATTERN, check_id, hash_json
from ledger_pipeline.files import location, write_file
from ledger_pipeline.strategy.yaml_files import at, read_yaml
from ledger_pipeline.trading.planning.policy import Guardrails, Limit, Policy, Schedule, load_policy
from ledger_pipeline.trading.session_context import DEFAULT_BOOK, book_url

if TYPE_CHECKING:
    from ledger_pipeline.project import Project

Mode = Literal["exchange", "paper", "live"]


def _camel(item: Any) -> Any:
    """Keys of the parts that a policy has too: snake_case here, camelCase there."""
    return {to_camel(str(key)): value for key, value in item.items()} if isinstance(item, Mapping) else item


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lineage(_Part):
    """The snapshot that the promoted run was made on."""

    id: str
    hash: str


class Chosen(_Part):
    """The sweep that the promoted run was a candidate of: its id and hash, the candidate's number, how many there were,
    and how many candidates of the strategy had ever been evaluated on the snapshot; against_gates: why it was promoted
    although a gate was not met; walk_forward: whether it is the stitched run of one.
    """

    sweep: str
    sweep_hash: str
    candidate: int
    candidates: int
    trials: int
    against_gates: str | None = None
    walk_forward: bool = False


class Promoted(_Part):
    """What was promoted, by hash: anything else under the same name is refused until it is promoted again. hash: of the
    rest of this, so that an edit of it is found.
    """

    run: str
    by: str
    reason: str
    at: str
    experiment_hash: str
    source_hash: str
    params_hash: str
    tier: Annotated[int, Field(ge=1, le=2)]
    engine: int
    seed: int
    snapshot: Lineage
    chosen_from: Chosen | None = None
    hash: str | None = None


class Deployment(_Part):
    """One deployment; exactly one of `policy` and `experiment` (with `promoted`) names what decides.

    book: id, path or s3:// URL; a file without one means `local`, whatever the environment says, and None, for a policy
    that has no file, the default book. mode: exchange, paper or live; None for
    what the book belongs to, the local exchange for a new one. schedule: None for that of the
    policy. guardrails: of a strategy; a policy has its own. feed: of bars and last trades. max_jump: a new close that
    is further from the one before is not traded on (0.25: 25 %).
    """

    name: str
    policy: str | None = None
    experiment: str | None = None
    promoted: Promoted | None = None
    book: str | None = None
    mode: Mode | None = None
    capital: Limit | None = None
    schedule: Annotated[Schedule | None, BeforeValidator(_camel)] = None
    guardrails: Annotated[Guardrails, BeforeValidator(_camel)] = Guardrails()
    feed: Literal["sip", "iex"] = "iex"
    max_jump: Annotated[float, Field(gt=0)] = 0.25

    @model_validator(mode="after")
    def _one(self) -> Deployment:
        if (self.policy is None) == (self.experiment is None):
            raise ValueError("give either `policy` or `experiment`")
        if (self.experiment is None) != (self.promoted is None):
            raise ValueError("an experiment is deployed by `ledger-pipeline promote RUN`, which writes `promoted`")
        if self.policy is not None and self.guardrails != Guardrails():
            raise ValueError("the guardrails of a policy stand in its own file")
        return self

    @property
    def pinned(self) -> Promoted:
        """The run that a deployed experiment was promoted from, and what it was made with."""
        assert self.promoted is not None, "a policy was not promoted"
        return self.promoted

    @property
    def what(self) -> str:
        """What decides, in two words."""
        return f"policy {self.policy}" if self.policy else f"experiment {self.experiment}"

    def to_yaml(self) -> str:
        """The file of this deployment: what is not a default."""
        fields = self.model_dump(mode="json", exclude={"name", "guardrails", "schedule"}, exclude_defaults=True)
        if self.capital is not None:
            fields["capital"] = decimal_text(self.capital)
        for part in ("schedule", "guardrails"):
            value = getattr(self, part)
            changed = {} if value is None else value.model_dump(mode="json", exclude_defaults=True)
            if changed or (part == "schedule" and value is not None):
                fields[part] = changed
        return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)


def pinned_hash(promoted: Promoted) -> str:
    """The hash of what was promoted, by whom and why."""
    return hash_json(promoted.model_dump(mode="json", exclude={"hash"}))


def deployments_of(project: Project) -> Path:
    """The directory of deployment files."""
    return project.strategies / "deployments"


def deployment_names(project: Project) -> list[str]:
    """All that can be deployed by name: deployment files, and policies without one; sorted."""
    files = [*_files(project), *(project.strategies / "policies").glob("*.json")]
    return sorted({path.stem for path in files if _is_name(path.stem)})


def scheduled_names(project: Project) -> list[str]:
    """What the schedules trade: deployment files, and no policy that merely lies there; sorted."""
    return [path.stem for path in _files(project)]


def _files(project: Project) -> list[Path]:
    """The deployment files, by name; a file whose name cannot be a deployment's is none."""
    return sorted(path for path in deployments_of(project).glob("*.yaml") if _is_name(path.stem))


def _is_name(stem: str) -> bool:
    return ID_PATTERN.fullmatch(stem) is not None and "--" not in stem


def check_name(name: str) -> str:
    """`name` if a deployment may be called so, else InputError: '--' parts the names of decisions."""
    if "--" in check_id("deployment", name):
        raise InputError(
            f"the deployment name {name!r} holds '--', which parts the names of decisions; choose another."
        )
    return name


def find_deployment(project: Project, name: str, book: str | None = None) -> Deployment:
    """The deployment of a name; `book` stands in where a policy has no deployment file.

    NotFoundError listing what there is; InputError naming file, line and key.
    """
    check_name(name)
    path = deployments_of(project) / f"{name}.yaml"
    if path.is_file():
        return read_deployment(path)
    if (project.strategies / "policies" / f"{name}.json").is_file():
        return Deployment(name=name, policy=name, book=book)
    known = ", ".join(deployment_names(project)) or "none"
    raise NotFoundError(
        f"there is no deployment or policy {name!r} in {project.strategies} (there are: {known}); write "
        f"strategies/policies/{name}.json, or promote a run."
    )


def books_of(project: Project) -> dict[str, Deployment | None]:
    """The books that are traded, by id, each with a deployment of it: those of deployment files, and the default one
    when it is there. A file that is not sound hides no other book.
    """
    books: dict[str, Deployment | None] = {}
    for path in _files(project):
        with suppress(InputError):
            deployment = read_deployment(path)
            books.setdefault(book_id(project, deployment.book), deployment)
    default = book_id(project, None)
    if default not in books and (project.books / default).is_dir():
        books[default] = None
    return books


def book_id(project: Project, book: str | None) -> str:
    """The id of a book that is given as an id, a path or a URL."""
    return book_url(project, book).rstrip("/").rpartition("/")[2]


def read_deployment(path: Path) -> Deployment:
    """The deployment of a file; InputError naming file, line and key."""
    document, tree = read_yaml(path, "a deployment is a mapping with the key policy, or experiment and promoted")
    try:
        return Deployment.model_validate({"book": DEFAULT_BOOK, **document, "name": path.stem})
    except ValidationError as error:
        first = next((one for one in error.errors() if one["type"] == "extra_forbidden"), error.errors()[0])
        place = tuple(part for part in first["loc"])
        key = ".".join(map(str, place)) or "it"
        if first["type"] == "extra_forbidden":
            reason = f"is no known key; the keys are {', '.join(Deployment.model_fields)}"
        else:
            reason = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input ")
        raise InputError(f"{at(path, tree, place)}: {key} {reason.rstrip('.')}.") from None


def write_deployment(project: Project, deployment: Deployment) -> Path:
    """Write the file of a deployment, whole or not at all, and return its path."""
    path = deployments_of(project) / f"{check_name(deployment.name)}.yaml"
    write_file(location(path), deployment.to_yaml().encode())
    return path


@functools.lru_cache(maxsize=64)
def _policy(path: Path, stamp: tuple[int, int]) -> Policy:
    return load_policy(path)


def policy_of(project: Project, deployment: Deployment) -> Policy:
    """The policy that a deployment works; InputError and NotFoundError as `load_policy`."""
    path = project.strategies / "policies" / f"{check_id('policy', deployment.policy or '')}.json"
    try:
        status = path.stat()
    except OSError:
        return load_policy(path)
    return _policy(path, (status.st_mtime_ns, status.st_size))


def schedule_of(project: Project, deployment: Deployment) -> Schedule:
    """When a deployment decides."""
    if deployment.schedule is not None:
        return deployment.schedule
    return policy_of(project, deployment).schedule if deployment.policy else Schedule()


def describe(project: Project, name: str) -> dict[str, Any]:
    """A deployment in JSON: what decides, by hash, for which book, and when; scheduled: whether the schedules trade it.
    `hash` is over all that decides.
    """
    deployment = find_deployment(project, name)
    policy = policy_of(project, deployment) if deployment.policy else None
    decides = policy.hash if policy else deployment.pinned.experiment_hash
    schedule = schedule_of(project, deployment).model_dump(mode="json")
    return {
        "name": name,
        "what": deployment.what,
        "book": deployment.book or book_id(project, None),
        "mode": deployment.mode or "the book's own",
        "capital": None if deployment.capital is None else decimal_text(deployment.capital),
        "schedule": schedule,
        "scheduled": name in scheduled_names(project),
        "decides": decides,
        "promoted": None if deployment.promoted is None else deployment.promoted.model_dump(mode="json"),
        "hash": hash_json([decides, schedule, deployment.to_yaml()]),
    }


def capitals(project: Project, deployment: Deployment) -> dict[str, Decimal]:
    """The other deployments on the same book that have capital of their own, by name.

    InputError when one of the files cannot be read, or when two deployments of the book have none of their own: whose
    the cash is could not be told.
    """
    amounts: dict[str, Decimal] = {}
    url = book_url(project, deployment.book)
    for path in _files(project):
        other = read_deployment(path)
        if other.name == deployment.name or book_url(project, other.book) != url:
            continue
        if other.capital is None and deployment.capital is None:
            raise InputError(
                f"the deployments {other.name!r} and {deployment.name!r} trade one book and neither has capital of its "
                "own, so nobody can tell whose cash it is: give one of them `capital`, or another book."
            )
        if other.capital is not None:
            amounts[other.name] = other.capital
    return amounts
