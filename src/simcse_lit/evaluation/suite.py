"""From the entries of `conf/tasks/` to tasks: what training is validated and tested on, and what `evaluate` scores."""

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from simcse_lit.config.as_typed import literal
from simcse_lit.config.schema import TrainConfig
from simcse_lit.errors import UserError
from simcse_lit.evaluation.senteval import NoSentEval, SentEval
from simcse_lit.evaluation.sts import STSTask, bundled
from simcse_lit.evaluation.task import Task

log = logging.getLogger(__name__)

BUNDLED_DEV = "Pairs-dev"


@dataclass(frozen=True)
class Suite:
    """What a training run is validated and tested on.

    Args:
        dev: model selection; STS-B's development set, or bundled pairs.
        test: the seven sets of Table 5 unless others were chosen, or bundled pairs; empty if nothing is tested.
        origin: where they came from, for people.
    """

    dev: STSTask
    test: Sequence[Task]
    origin: str


def make_task(name: str, entry: Mapping[str, Any], files: SentEval | None) -> Task:
    """The task of one entry of `conf/tasks/`.

    Args:
        name: its key.
        entry: `_target_` and arguments.
        files: SentEval's files.

    Raises:
        UserError: its data are missing or malformed, or the entry has a wrong argument.
    """
    try:
        # Called here, since Hydra would turn `files` into a configuration.
        make = instantiate({**literal(entry), "_partial_": True})
        task: Task = make(files, name)
    except InstantiationException as error:
        raise UserError(f"tasks.{name}: {str(error.__cause__ or error).splitlines()[0]}") from error
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise UserError(f"tasks.{name}: {error}. conf/tasks/ has examples.") from error
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
    try:
        test = [scored_task(name, entry, files) for name, entry in tests.items()]
    except NoSentEval as error:
        test, origin, reason = [bundled(None, "Pairs", half="test")], "bundled pairs", error
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
    return Suite(dev, test, origin)


@dataclass(frozen=True)
class MissingTask:
    """A task that was asked for and could not be made: its family has no average.

    Args:
        name: its key.
        family: as of `Task`; None if its function does not say.
    """

    name: str
    family: str | None
    in_average: ClassVar[bool] = True


def missing_task(name: str, entry: Mapping[str, Any]) -> MissingTask:
    """An entry's task without its data; its family is that of what its function says it returns."""
    try:
        make = instantiate({"_target_": entry["_target_"], "_partial_": True}).func
    except InstantiationException:
        return MissingTask(name, None)
    made = make if inspect.isclass(make) else inspect.signature(make).return_annotation
    family = getattr(made, "family", None)
    return MissingTask(name, family if isinstance(family, str) else None)


def unique_sentences(tasks: Iterable[Task]) -> list[str]:
    """Every sentence that the tasks need, once, in the order of first use."""
    return list(dict.fromkeys(sentence for task in tasks for sentence in task.sentences()))


def averages(tasks: Sequence[Task | MissingTask], scores: Mapping[str, float]) -> dict[str, float]:
    """Mean score of each family that has more than one task in its average and all of them scored.

    Args:
        tasks: all tasks asked for; a missing one of no known family counts in each.
        scores: score by name, of those that could be scored.

    Returns:
        "Avg." for STS, "Avg. transfer" for transfer, as the paper's tables 5 and E.1 end.
    """
    means = {}
    for family, label in (("sts", "Avg."), ("transfer", "Avg. transfer")):
        names = [task.name for task in tasks if task.family in (family, None) and task.in_average]
        if len(names) > 1 and all(name in scores for name in names):
            means[label] = sum(scores[name] for name in names) / len(names)
    return means
