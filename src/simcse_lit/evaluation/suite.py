"""Builds the tasks of `conf/tasks/` for training and for `evaluate`. `sts.py` and `transfer.py` hold the kinds of tasks."""

import inspect
import logging
import textwrap
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
from simcse_lit.families import HELD_OUT, PAPER, Family

log = logging.getLogger(__name__)

BUNDLED_DEV = "Pairs-dev"


@dataclass(frozen=True)
class Suite:
    """The tasks of a training run.

    Args:
        dev: chooses the best checkpoint: STS-B's development set, or bundled pairs. None: held-out text does (`HELD_OUT`).
        test: by default the seven sets of Table 5, or bundled pairs; empty if nothing is tested.
        origin: where the sets came from, for messages.
    """

    dev: STSTask | None
    test: Sequence[Task]
    origin: str

    @property
    def dev_families(self) -> dict[str, Family]:
        """The family of each score of a validation, by its name. The first selects the best checkpoint."""
        return HELD_OUT if self.dev is None else {self.dev.name: self.dev.family}

    @property
    def logged(self) -> dict[str, str]:
        """The name under which each score of a validation is logged, by its name."""
        return {name: "val/sts" if self.dev else f"val/{family.name}" for name, family in self.dev_families.items()}

    @property
    def families(self) -> dict[str, Family]:
        """The family of each score, by its name."""
        return self.dev_families | {task.name: task.family for task in self.test}

    @property
    def chosen_on(self) -> str:
        """Name of the score that selects the best checkpoint."""
        return next(iter(self.dev_families))


def maker(name: str, entry: Mapping[str, Any]) -> partial[Task]:
    """Find the function that makes the task of an entry of `conf/tasks/`. It reads no data.

    Args:
        name: key of the entry.
        entry: `_target_` and arguments.

    Returns:
        The function with its arguments. Call it with SentEval's files and the name.

    Raises:
        UserError: there is no such function, or it does not accept these arguments.
    """
    key = f"tasks.{name}"
    # A partial: `make_task` passes `files`, which Hydra would turn into a configuration.
    make: partial[Task] = build({**entry, "_partial_": True}, key)
    try:
        inspect.signature(make.func).bind(None, name, **make.keywords)
    except TypeError as error:
        raise UserError(f"{key}: {entry['_target_']}: {error}. conf/tasks/ has examples.") from error
    return make


def make_task(name: str, entry: Mapping[str, Any], files: SentEval | None) -> Task:
    """Make the task of an entry of `conf/tasks/`.

    Args:
        name: key of the entry.
        entry: `_target_` and arguments.
        files: SentEval's files.

    Raises:
        UserError: the entry is wrong, its data are missing or malformed, or the object is not a task.
    """
    task = maker(name, entry)(files, name)
    lacking = [part for part in ("name", "family", "in_average", "sentences", "score") if not hasattr(task, part)]
    if lacking:
        raise UserError(
            f"tasks.{name}: {type(task).__name__} is not a task: it has no {lacking[0]} (docs/extending/task.md)."
        )
    if not isinstance(task.family, Family):
        raise UserError(
            f"tasks.{name}: {type(task).__name__}.family is {task.family!r}. It must be STS or TRANSFER of "
            "simcse_lit.families,\nor your own Family, which names its metric."
        )
    return task


def scored_task(name: str, entry: Mapping[str, Any], files: SentEval | None) -> Task:
    """Make a task and check that an encoder can have a score on it.

    Args:
        name: key of the entry.
        entry: `_target_` and arguments.
        files: SentEval's files.

    Raises:
        UserError: the task cannot be made, or its gold scores are all equal.
    """
    task = make_task(name, entry, files)
    if isinstance(task, STSTask):
        task.check()
    return task


def load_suite(config: TrainConfig, chosen_on: str | None = None) -> Suite:
    """Load the development task and the test tasks of a training run; without SentEval's files, bundled pairs.

    Args:
        config: the configuration of the run.
        chosen_on: name of the development task of a run that is resumed. It is used again, even if SentEval's files have
            become available since.

    Raises:
        UserError: a set is missing or malformed, the development task is not an STS task, or the development set of a
            resumed run is no longer available.
    """
    files = SentEval(config.senteval)
    tests = config.tasks if config.evaluation.test else {}
    makers = {str(task.get("_target_")).rpartition(".")[2] for task in tests.values()}
    origin, reason = "bundled pairs" if makers == {bundled.__name__} else "SentEval's files", None
    dev: STSTask | None = None
    for name, entry in config.dev.items():  # none if held-out text selects the best checkpoint
        try:
            made = scored_task(name, entry, files)
        except NoSentEval as error:
            made, reason = bundled(None, BUNDLED_DEV, half="dev"), error
            origin = origin if tests else "bundled pairs"
        if not isinstance(made, STSTask):
            raise UserError(f"tasks@dev={name}: the best checkpoint is chosen by Spearman on pairs. Choose an STS task.")
        dev = made
    test: dict[str, Task] = {}
    for name, entry in tests.items():
        try:
            test[name] = scored_task(name, entry, files)
        except NoSentEval as error:
            test["Pairs"] = bundled(None, "Pairs", half="test")
            origin, reason = "bundled pairs", error
    if reason:
        why = textwrap.fill(str(reason).partition("\n")[0], 80, break_long_words=False, break_on_hyphens=False)
        log.warning("%s\nScored on bundled sentence pairs, not on the paper's STS sets.", why)
    if chosen_on == BUNDLED_DEV:
        dev = bundled(None, BUNDLED_DEV, half="dev")
    suite = Suite(dev, list(test.values()), origin)
    if chosen_on not in (None, suite.chosen_on):
        raise UserError(
            f"resume: the run has chosen its best checkpoint on {chosen_on}, whose files were not found.\n"
            "Set SIMCSE_DATA or senteval.dir as they were."
        )
    check_tables(suite.test)
    return suite


def check_tables(tasks: Sequence[Task]) -> None:
    """Check that the names of tasks, families and averages are unique, since tables are keyed by them.

    Raises:
        UserError: two tasks share a name, a task has the name of an average, or two different families share a name or an
            average.
    """
    names: set[str] = set()
    by_name, by_average = dict[str, Family](), dict[str, Family]()
    for task in tasks:
        family = task.family
        if task.name in names:
            raise UserError(f"tasks.{task.name}: two tasks have this name. Rename one of them.")
        names.add(task.name)
        if (other := by_name.setdefault(family.name, family)) != family:
            raise UserError(
                f"tasks.{task.name}: its family {family.name} ({family.metric}) differs from that of another task "
                f"({other.metric}).\nTasks of one family need equal Family objects. Rename one of the families."
            )
        if family.average and (other := by_average.setdefault(family.average, family)) != family:
            raise UserError(
                f"tasks.{task.name}: the families {other.name} and {family.name} both call their average {family.average}.\n"
                "Rename one of them: Family(average=...)."
            )
    if taken := sorted(names & by_average.keys()):
        raise UserError(f"tasks.{taken[0]}: this is the name of an average. Rename the task.")


@dataclass(frozen=True)
class MissingTask:
    """A requested task that could not be made. Its family therefore has no average.

    Args:
        name: key of the entry.
        family: family of the task; None if its function does not declare it.
    """

    name: str
    family: Family | None
    in_average: ClassVar[bool] = True


def missing_task(name: str, entry: Mapping[str, Any]) -> MissingTask:
    """Describe an entry whose data are missing. The family is read from the return annotation of its function."""
    make = maker(name, entry).func
    made = make if inspect.isclass(make) else inspect.signature(make).return_annotation
    family = getattr(made, "family", None)
    return MissingTask(name, family if isinstance(family, Family) else None)


def unique_sentences(tasks: Iterable[Task]) -> list[str]:
    """List every sentence that the tasks need, once, in the order of first use."""
    return list(dict.fromkeys(sentence for task in tasks for sentence in task.sentences()))


def averages(tasks: Sequence[Task | MissingTask], scores: Mapping[str, float]) -> dict[str, float]:
    """Compute the mean score of each family with more than one task in its average, if all of these have a score.

    Args:
        tasks: all requested tasks. A missing task whose family is unknown counts in every family.
        scores: scores of the tasks that could be scored, by name.

    Returns:
        Averages by name: "Avg." for STS (Table 5), "Avg. transfer" for transfer (Table E.1), then those of other families.
    """
    means = {}
    for family in dict.fromkeys([*PAPER, *(task.family for task in tasks if task.family)]):
        names = [task.name for task in tasks if task.family in (family, None) and task.in_average]
        if family.average and len(names) > 1 and all(name in scores for name in names):
            means[family.average] = sum(scores[name] for name in names) / len(names)
    return means
