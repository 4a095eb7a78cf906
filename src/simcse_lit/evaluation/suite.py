"""From the entries of `conf/tasks/` to tasks: what training is validated and tested on, and what `evaluate` scores."""

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from simcse_lit.config.extension import build
from simcse_lit.config.schema import TrainConfig
from simcse_lit.errors import UserError
from simcse_lit.evaluation.senteval import NoSentEval, SentEval
from simcse_lit.evaluation.sts import STSTask, bundled
from simcse_lit.evaluation.task import Task
from simcse_lit.families import PAPER, Family

log = logging.getLogger(__name__)

BUNDLED_DEV = "Pairs-dev"


@dataclass(frozen=True)
class Suite:
    """What a training run is validated and tested on.

    Args:
        dev: model selection; STS-B's development set, or bundled pairs.
        test: the seven sets of Table 5 unless others were chosen, or bundled pairs; empty if nothing is tested.
        origin: where those of the paper's families came from, for people.
    """

    dev: STSTask
    test: Sequence[Task]
    origin: str

    @property
    def families(self) -> dict[str, Family]:
        """The family of each task, by its name."""
        return {task.name: task.family for task in (self.dev, *self.test)}


def maker(name: str, entry: Mapping[str, Any]) -> partial[Task]:
    """What makes the task of one entry of `conf/tasks/` from SentEval's files and its name; no data are read.

    Args:
        name: its key.
        entry: `_target_` and arguments.

    Raises:
        UserError: there is no such function, or it does not take these arguments.
    """
    key = f"tasks.{name}"
    # Called by `make_task`, since Hydra would turn `files` into a configuration.
    make: partial[Task] = build({**entry, "_partial_": True}, key)
    try:
        inspect.signature(make.func).bind(None, name, **make.keywords)
    except TypeError as error:
        raise UserError(f"{key}: {entry['_target_']}: {error}. conf/tasks/ has examples.") from error
    return make


def make_task(name: str, entry: Mapping[str, Any], files: SentEval | None) -> Task:
    """The task of one entry of `conf/tasks/`.

    Args:
        name: its key.
        entry: `_target_` and arguments.
        files: SentEval's files.

    Raises:
        UserError: as `maker`; its data are missing or malformed, or what is made is no task.
    """
    task = maker(name, entry)(files, name)
    lacking = [part for part in ("name", "family", "in_average", "sentences", "score") if not hasattr(task, part)]
    if lacking:
        raise UserError(
            f"tasks.{name}: {type(task).__name__} is no task, since it has no {lacking[0]} (docs/extending/task.md)."
        )
    if not isinstance(task.family, Family):
        raise UserError(
            f"tasks.{name}: {type(task).__name__}.family is {task.family!r}, and must be STS or TRANSFER of "
            "simcse_lit.families,\nor a Family of your own, which names its metric."
        )
    return task


def scored_task(name: str, entry: Mapping[str, Any], files: SentEval | None) -> Task:
    """The task of one entry, which encoders are to be scored on.

    Raises:
        UserError: as `make_task`, or no encoder could have a score on it.
    """
    task = make_task(name, entry, files)
    if isinstance(task, STSTask):
        task.check()
    return task


def load_suite(config: TrainConfig, chosen_on: str | None = None) -> Suite:
    """The development task and the test tasks of a training run; bundled pairs where SentEval's files are nowhere.

    Args:
        config: the configuration.
        chosen_on: name of the development task of a run that is continued. It stays, though SentEval's files may have come
            since.

    Raises:
        UserError: a folder is given and a set is missing from it or malformed, the development task is no STS task, or that
            of a continued run is no longer here.
    """
    files = SentEval(config.senteval)
    ((name, entry),) = config.dev.items()
    tests = config.tasks if config.evaluation.test else {}
    origin, reason = "SentEval's files", None
    try:
        dev = scored_task(name, entry, files)
    except NoSentEval as error:
        dev, reason = bundled(None, BUNDLED_DEV, half="dev"), error
        origin = origin if tests else "bundled pairs"
    test: dict[str, Task] = {}
    for name, entry in tests.items():
        try:
            test[name] = scored_task(name, entry, files)
        except NoSentEval as error:
            test["Pairs"] = bundled(None, "Pairs", half="test")
            origin, reason = "bundled pairs", error
    if reason:
        why = str(reason).partition("\n")[0]
        log.warning("%s\nScored on bundled sentence pairs instead, not on the paper's STS sets.", why)
    if not isinstance(dev, STSTask):
        raise UserError(f"tasks@dev={name}: the best checkpoint is chosen by Spearman on pairs; choose an STS task.")
    if chosen_on == BUNDLED_DEV:
        dev = bundled(None, BUNDLED_DEV, half="dev")
    elif chosen_on not in (None, dev.name):
        raise UserError(
            f"resume: the run chose its best checkpoint on {chosen_on} so far, whose files are not here now.\n"
            "Put them back: set SIMCSE_DATA or senteval.dir as they were."
        )
    check_tables(list(test.values()))
    return Suite(dev, list(test.values()), origin)


def check_tables(tasks: Sequence[Task]) -> None:
    """Refuse tasks that tables could not tell apart.

    Raises:
        UserError: two have one name, or a name is that of an average; or two families have one name or one average.
    """
    names: set[str] = set()
    by_name, by_average = dict[str, Family](), dict[str, Family]()
    for task in tasks:
        family = task.family
        if task.name in names:
            raise UserError(f"tasks.{task.name}: two tasks have this name. Give one of them another.")
        names.add(task.name)
        if (other := by_name.setdefault(family.name, family)) != family:
            raise UserError(
                f"tasks.{task.name}: its family {family.name} ({family.metric}) differs from that of another task "
                f"({other.metric}).\nTasks of one family have equal ones; give one of the families another name."
            )
        if family.average and (other := by_average.setdefault(family.average, family)) != family:
            raise UserError(
                f"tasks.{task.name}: the families {other.name} and {family.name} both call their average {family.average}.\n"
                "Give one of them another name: Family(average=...)."
            )
    if taken := sorted(names & by_average.keys()):
        raise UserError(f"tasks.{taken[0]}: this is the name of an average. Give the task another.")


@dataclass(frozen=True)
class MissingTask:
    """A task that was asked for and could not be made: its family has no average.

    Args:
        name: its key.
        family: as of `Task`; None if its function does not say.
    """

    name: str
    family: Family | None
    in_average: ClassVar[bool] = True


def missing_task(name: str, entry: Mapping[str, Any]) -> MissingTask:
    """An entry's task without its data; its family is that of what its function says it returns."""
    make = maker(name, entry).func
    made = make if inspect.isclass(make) else inspect.signature(make).return_annotation
    family = getattr(made, "family", None)
    return MissingTask(name, family if isinstance(family, Family) else None)


def unique_sentences(tasks: Iterable[Task]) -> list[str]:
    """Every sentence that the tasks need, once, in the order of first use."""
    return list(dict.fromkeys(sentence for task in tasks for sentence in task.sentences()))


def averages(tasks: Sequence[Task | MissingTask], scores: Mapping[str, float]) -> dict[str, float]:
    """Mean score of each family that has more than one task in its average and all of them scored.

    Args:
        tasks: all tasks asked for; a missing one of no known family counts in each.
        scores: score by name, of those that could be scored.

    Returns:
        By the name of the average: "Avg." for STS and "Avg. transfer" for transfer, as the paper's tables 5 and E.1 end,
        then those of other families.
    """
    means = {}
    for family in dict.fromkeys([*PAPER, *(task.family for task in tasks if task.family)]):
        names = [task.name for task in tasks if task.family in (family, None) and task.in_average]
        if family.average and len(names) > 1 and all(name in scores for name in names):
            means[family.average] = sum(scores[name] for name in names) / len(names)
    return means
