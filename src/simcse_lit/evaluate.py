"""Score sentence encoders: STS, transfer, analyses.

Examples:
  simcse-lit evaluate checkpoint=RUN/export
  simcse-lit evaluate checkpoint=A,B tasks=all analyses=all
  simcse-lit evaluate checkpoint=RAW pooler=avg postprocess=whitening
  simcse-lit evaluate compare=A,B
"""

if __name__ == "__main__":
    from simcse_lit.cli.cli import run

    run("evaluate")

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from simcse_lit.config.checks.encode import reads
from simcse_lit.config.extension import build
from simcse_lit.config.resolvers import local_path
from simcse_lit.config.schema import EvaluateConfig, PostprocessConfig
from simcse_lit.encoder.device import find_device
from simcse_lit.encoding.embedding_cache import EmbeddingCache
from simcse_lit.encoding.passes import EncoderPass, encode_into
from simcse_lit.errors import UserError
from simcse_lit.evaluation.analyses import Analysis, make_analyses, measure
from simcse_lit.evaluation.embeddings import Embeddings
from simcse_lit.evaluation.postprocess import Postprocess, fitted
from simcse_lit.evaluation.results import EncoderResult, compare, labels, over_seeds, resample
from simcse_lit.evaluation.senteval import SentEval, normalised
from simcse_lit.evaluation.sts import STSTask
from simcse_lit.evaluation.suite import (
    MissingTask,
    averages,
    check_tables,
    make_task,
    maker,
    missing_task,
    scored_task,
    unique_sentences,
)
from simcse_lit.evaluation.task import Embed, Task, score
from simcse_lit.families import STS
from simcse_lit.formats.loading import LoadedEncoder, check_precision, load_encoder
from simcse_lit.progress import Bar
from simcse_lit.reporting.run import console
from simcse_lit.reporting.run import evaluation_folder as report
from simcse_lit.reporting.run.figures import DRAW, Draw
from simcse_lit.reporting.run.run_folder import make_run_folder, write_provenance
from simcse_lit.text.examples import examples
from simcse_lit.text.sources import open_sources


def main(config: EvaluateConfig) -> float | None:
    """Score every encoder on every available task, and write tables, JSON and figures into the run folder.

    Returns:
        The first encoder's first average, or its score on the first task, for sweepers; None if only analyses were made.

    Raises:
        UserError: an encoder cannot be used or gives a vector that is not finite; or the data of a task are missing, which
            is raised after everything else has been scored and written.
    """
    console.quiet_libraries()
    run_dir = make_run_folder(Path(config.run_dir))
    work = _work(config)
    device = find_device(config.device)
    write_provenance(run_dir, config, device)
    sources = list(dict.fromkeys(config.checkpoint + config.compare))
    for source in sources:  # before encoding; a model of the Hub is checked later
        check_precision(source, local_path(source, "checkpoint"), config.precision)
    found: dict[str, EncoderResult] = {}
    try:
        for source, label in zip(sources, labels(sources), strict=True):
            found[source] = _score(source, label, config, device, work)
    except BaseException:
        if found:  # keep the results of the encoders before it
            report.write(run_dir, config, list(found.values()), work.tasks, None, {}, work.missing, work.drawn)
        raise
    compared = None
    if config.compare:
        first, second = (found[source] for source in config.compare)
        compared = compare(first, second, config.bootstrap.confidence)
    seeds = [found[source] for source in config.checkpoint]
    spread = over_seeds(seeds) if len(seeds) > 1 else {}
    report.write(run_dir, config, list(found.values()), work.tasks, compared, spread, work.missing, work.drawn)
    report.show(run_dir, config, list(found.values()), work.tasks, work.analysed, compared, spread)
    if work.missing:
        raise UserError(report.explain_missing(work.missing))
    return next(iter([*found[sources[0]].averages.values(), *found[sources[0]].scores.values()]), None)


@dataclass
class _Work:
    """Tasks to score, pairs for analyses, the transform of the vectors (`postprocess`), and why tasks are missing."""

    tasks: list[Task] = field(default_factory=list)
    absent: list[MissingTask] = field(default_factory=list)
    analysed: STSTask | None = None
    analyses: list[Analysis] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    postprocess: Postprocess | None = None

    @property
    def drawn(self) -> dict[str, Draw]:
        """The function that draws each analysis with a figure: its own `draw`, or ours."""
        own = {analysis.name: getattr(analysis, "draw", DRAW.get(analysis.name)) for analysis in self.analyses}
        return {name: draw for name, draw in own.items() if draw}


def _work(config: EvaluateConfig) -> _Work:
    """Make every task whose data are available.

    Raises:
        UserError: something that the configuration names cannot be made, no task has its data, or the analyses are asked of
            a task without scored pairs.
    """
    work, files = _Work(), SentEval(config.senteval)
    if config.postprocess.transform:
        work.postprocess = build(config.postprocess.transform, "postprocess.transform")
        if not callable(work.postprocess):
            target = config.postprocess.transform["_target_"]
            raise UserError(
                f"postprocess.transform._target_={target}: makes an object without __call__, so it cannot transform vectors."
            )
    analysed = config.analysed if config.analyses else {}
    for name, entry in {**config.tasks, **analysed}.items():
        maker(name, entry)  # raises for a mistake in the configuration
    for name, entry in config.tasks.items():
        try:
            work.tasks.append(scored_task(name, entry, files))
        except UserError as error:
            work.missing[name] = str(error)
            work.absent.append(missing_task(name, entry))
    check_tables(work.tasks)
    for name, entry in analysed.items():
        try:
            pairs = make_task(name, entry, files)
        except UserError as error:
            work.missing["analyses"] = f"{error}\nAnalyse other pairs: tasks@analysed=OPTION, e.g. tasks@analysed=samples."
            continue
        if not isinstance(pairs, STSTask):
            raise UserError(f"tasks@analysed={name}: analyses need scored sentence pairs. Choose an STS task.")
        work.analysed = pairs
        work.analyses = make_analyses(config.analyses, report.FILES)
    if not work.tasks and work.analysed is None:
        raise UserError(report.explain_missing(work.missing))
    return work


def _score(source: str, label: str, config: EvaluateConfig, device: torch.device, work: _Work) -> EncoderResult:
    """Load one encoder, encode every unique sentence once, and score it on everything."""
    loaded = load_encoder(source, **reads(config))
    loaded.encoder.to(device)
    report.announce(label, loaded, config)
    needed = [*work.tasks, *([work.analysed] if work.analysed else [])]
    corpus = _fitting_sentences(config.postprocess)
    sentences = list(dict.fromkeys([*unique_sentences(needed), *corpus]))
    embeddings, encoding = _encode(loaded, sentences, config)
    encoding["sentences_in_tasks"] = sum(1 for task in needed for _ in task.sentences())
    report.say_encoded(encoding, device)
    seen_by = _moving(work.postprocess, embeddings, corpus)
    results = {}
    with Bar(work.tasks, desc="Scoring", unit=" tasks") as bar:
        for task in bar:
            bar.set_postfix_str(task.name)
            results[task.name] = score(task, seen_by(task))
        bar.set_postfix_str("intervals")
        resampled = resample(results, config.bootstrap)
    pairs = work.analysed
    measured = {analysis.name: measure(analysis, pairs, seen_by(pairs)) for analysis in work.analyses if pairs}
    return EncoderResult(
        label,
        report.describe(loaded, config),
        encoding,
        results,
        resampled,
        averages([*work.tasks, *work.absent], {name: result.score for name, result in results.items()}),
        [task.name for task in work.tasks if task.family == STS and task.in_average],
        measured,
    )


def _encode(loaded: LoadedEncoder, sentences: Sequence[str], config: EvaluateConfig) -> tuple[Embeddings, dict[str, Any]]:
    """Return the vectors of all sentences, from the cache if it has them, and statistics of the encoding."""
    max_length = min(config.max_length, loaded.max_length)
    embeddings = Embeddings(sentences)
    cache = None
    places: Sequence[int] = range(len(sentences))
    if config.embedding_cache is not None:
        folder = Path(config.embedding_cache).expanduser()
        cache = EmbeddingCache(folder, loaded, max_length=max_length, precision=config.precision)
        places = cache.fill(embeddings, sentences)
    done = EncoderPass(0, 0, 0.0)
    if places:
        new = [sentences[place] for place in places]
        done = encode_into(
            embeddings,
            loaded.encoder,
            loaded.tokenizer,
            new,
            places,
            template=loaded.template(),
            max_length=max_length,
            token_budget=config.token_budget,
            precision=config.precision,
            progress="Encoding",
        )
        vectors_NH = embeddings(new)  # raises for a vector that is not finite
        if cache is not None:
            cache.put(new, vectors_NH)
    return embeddings, {
        "unique_sentences": len(sentences),
        "from_cache": len(sentences) - len(places),
        "tokens": done.tokens,
        "seconds": round(done.seconds, 3),
        "sentences_per_second": round(done.sentences_per_second, 1),
    }


def _fitting_sentences(config: PostprocessConfig) -> list[str]:
    """Return the unique sentences of `postprocess.fit_on`, all columns together; none if that key is null.

    Raises:
        UserError: the file cannot be read, has a bad row, or holds no sentences.
    """
    if config.fit_on is None:
        return []
    sources = open_sources(config.fit_on, None, key="postprocess.fit_on")
    rows = examples(sources, config.columns, "error")
    sentences = list(dict.fromkeys(normalised(text) for row in rows for text in row.fields))
    if not sentences:
        raise UserError(f"postprocess.fit_on: {config.fit_on}: holds no sentences to fit on.")
    return sentences


def _moving(process: Postprocess | None, embeddings: Embeddings, corpus: Sequence[str]) -> Callable[[Task], Embed]:
    """Return for each task its look-up of vectors: unchanged, or transformed by a fit on the corpus or on the task."""

    def moved(task: Task) -> Embed:
        if process is None:
            return embeddings
        transform = fitted(process, embeddings(corpus or list(task.sentences())))
        return lambda sentences: transform(embeddings(sentences))

    return moved
