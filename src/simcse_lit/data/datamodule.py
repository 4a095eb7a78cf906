"""SimCSEDataModule: the training corpus, and the sentences of the validation and test tasks.

Each stage is prepared separately, so that a wrong STS folder is reported before a corpus of a million lines is tokenised.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytorch_lightning as pl
import torch
from datasets import Dataset, DatasetInfo
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.roles import has_role
from simcse_lit.config.schema import DataConfig
from simcse_lit.data.collation import EVALUATION_LENGTH, SentenceBatches, ViewCollator
from simcse_lit.data.held_out import MaskedBatches, held_out_rows
from simcse_lit.data.order import RankBatches
from simcse_lit.data.streaming import StreamedBatches
from simcse_lit.data.tokenisation import places, summary_of, tokenised_corpus
from simcse_lit.data.what_was_read import check
from simcse_lit.data.with_rows import WithRows
from simcse_lit.distributed import world
from simcse_lit.errors import UserError
from simcse_lit.text.corpus import Corpus, EpochOrder
from simcse_lit.text.prompts import Prompts
from simcse_lit.views.changing import ChangingCorpus
from simcse_lit.views.documents import NextSentenceCorpus
from simcse_lit.views.encoded import IDS, EncodedViews

log = logging.getLogger(__name__)


class SimCSEDataModule(pl.LightningDataModule):
    """Serves batches for training and scoring.

    A training batch is `{input_ids, attention_mask}`, each (batch, views, length), and sometimes `extras` (`collation.py`).
    A batch to score has unique sentences, (batch, length), and their places, `index`. With `data.held_out`, a batch of
    validation has masked sentences, (batch, length), and `labels` (`held_out.py`).

    Args:
        config: group `data` of `conf/`.
        tokenizer: the model's tokenizer.
        dev: unique sentences of validation.
        test: unique sentences of testing.
        token_budget: padded tokens of an evaluation batch.
        seed: decides the order of the training examples and their augmentation, and nothing else.
        views: views of a training example, with their makers set up.
        needs: needs of the loss terms; `rows` and `hashes` are provided here.
    """

    def __init__(
        self,
        config: DataConfig,
        tokenizer: PreTrainedTokenizerFast,
        *,
        dev: Sequence[str],
        test: Sequence[str],
        token_budget: int,
        seed: int,
        views: EncodedViews,
        needs: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self._dev, self._test = dev, test
        self.token_budget = token_budget
        self.seed = seed
        self.done = 0  # batches that a resumed run has already seen
        self._views, self._needs = views, needs
        self._corpus: Corpus | None = None
        self._held_out: pa.ListArray | None = None  # token ids of the held-out rows
        self._summary: dict[str, Any] | None = None

    @property
    def prompts(self) -> Prompts:
        """The templates of anchors and positives, as prompts of the encoder."""
        return self._views.prompts

    @property
    def corpus(self) -> Corpus:
        """The tokenised training corpus, made or opened on first use.

        Raises:
            UserError: the text cannot be used.
        """
        if self._corpus is None:
            self.prepare_corpus()
        assert self._corpus is not None
        return self._corpus

    def prepare_data(self) -> None:
        """Make the corpus before a Trainer trains on it. Lightning calls this in one process of a machine."""
        if self.trainer and self.trainer.state.fn == "fit" and self._corpus is None:
            self.prepare_corpus()

    def setup(self, stage: str) -> None:
        """See that something can be learnt from the corpus, before training.

        Raises:
            UserError: the text cannot be used, or nothing can be learnt from it.
        """
        if stage == "fit" and not self.config.streaming:
            self.summary()

    def prepare_corpus(self) -> dict[str, Any] | None:
        """Make the tokenised corpus, or find it in the cache; one process of a machine does it for all.

        For a stream, only check that it can be opened.

        Returns:
            The arguments of `open_corpus` for the other processes; None for a stream.

        Raises:
            UserError: the text cannot be used.
        """
        if self.config.streaming:
            StreamedBatches(self.config, self._views, seed=self.seed)
            return None
        self._use(tokenised_corpus(self.config, self._views))
        return {"name": Path(self.corpus.dataset.cache_files[0]["filename"]).name, "digests": self.digests()}

    def open_corpus(self, name: str, digests: dict[str, str]) -> None:
        """Open the tokenised corpus that another process of this machine has prepared, without reading its files."""
        path = Path(self.config.cache_dir).expanduser() / name
        self._use(Dataset.from_file(str(path), info=DatasetInfo(download_checksums=digests)))

    def _use(self, dataset: Dataset) -> None:
        if self.config.held_out:
            trained = len(dataset) - held_out_rows(len(dataset), self.config.held_out)
            self._held_out = dataset.with_format("arrow")[trained:][f"{IDS}{self._views.places[0]}"].combine_chunks()
            dataset = dataset.select(range(trained))
        if self._views.made:
            self._corpus = ChangingCorpus(dataset, self.seed, self._views)
        elif self.config.next_sentences:
            self._corpus = NextSentenceCorpus(dataset, self.seed, self._views.places[1], self._views.all_ids)
        else:
            self._corpus = Corpus(dataset, self.seed)

    def summary(self) -> dict[str, Any]:
        """Return what was read (`what_was_read.py`), the smallest batch, and how many texts the augmentation left unchanged.

        Raises:
            UserError: nothing can be learnt from the corpus, or it does not fill a batch.
        """
        if self._summary is not None:
            return self._summary
        read, examples = summary_of(self.corpus.dataset), len(self.corpus)
        contrasted = has_role(self.config, "positive")
        check(read, examples, contrasted=contrasted)
        if self.config.drop_last and examples < self.config.batch_size:
            raise UserError(
                f"data.drop_last: {examples} examples do not fill one batch of {self.config.batch_size}.\n"
                "Lower data.batch_size, or set data.drop_last=false."
            )
        rest = self._batches().rest
        found = {**asdict(read), "examples": examples, "shortest_batch": rest or self.config.batch_size}
        if self._held_out is not None:
            found["held_out"] = len(self._held_out)
        if rest == 1 and contrasted and not has_role(self.config, "hard_negative"):
            log.warning(
                "The last batch of an epoch has one example and no in-batch negatives, so its loss is 0.\n"
                "Leave it out with data.drop_last=true."
            )
        if isinstance(self.corpus, ChangingCorpus):
            found["unchanged"], found["compared"] = self.corpus.unchanged()
            if found["unchanged"] == found["compared"] and len(self.config.columns) == 1:
                log.warning("The augmentation changes no text, so anchor and positive are always the same.")
        self._summary = found
        return found

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file of the corpus, by the user's name of the file; empty for a stream."""
        return {} if self.config.streaming else dict(self.corpus.dataset.info.download_checksums)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores of the corpus; empty for a stream.

        These are the digests of its files, its length, and the number of examples in an epoch's last batch if that is not
        full.
        """
        if self.config.streaming:
            return {}
        batches = RankBatches(
            self.corpus.order, self.config.batch_size, drop_last=self.config.drop_last, rank=0, processes=world()[1], done=0
        )
        return {"files": self.digests(), "examples": len(self.corpus), "rest": batches.rest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a run resumes with the corpus that it started with; called if the checkpoint has one.

        Raises:
            UserError: the corpus differs; or another number of processes would change an epoch's last batch.
        """
        now = self.state_dict()
        state_dict = {**now, **state_dict}  # version 0.1 stored no rest
        if now == state_dict:
            return
        if {**state_dict, "rest": now["rest"]} == now:
            raise UserError(
                f"trainer.devices: the last batch of an epoch had {state_dict['rest']} examples when the run started, but "
                f"would have {now['rest']} with {world()[1]} processes.\n"
                "Resume with as many devices as the run started with."
            )
        before, after = state_dict["files"], now["files"]
        changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        raise UserError(
            f"data.train_file: the run started with another corpus: {state_dict['examples']:,} examples then, "
            f"{now['examples']:,} now.\nChanged: {', '.join(changed) or 'how this version reads the files'}.\n"
            "Restore the old corpus (files of the Hub: data.revision=COMMIT), or start a new run in another\n"
            "folder: hydra.run.dir=DIR."
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return this process's part of the training batches, from where a resumed run stopped (`order.py`)."""
        if self.config.streaming:
            rank, processes = world()
            share = {"rank": rank, "processes": processes, "done": self.done}
            stream = StreamedBatches(self.config, self._views, seed=self.seed, needs=self._needs, **share)
            return self._loader(stream, batch_size=None)
        batches = self._batches()
        if batches.rest and has_role(self.config, "positive"):
            log.info(
                "The last batch of an epoch has %d instead of %d examples, so fewer in-batch\n"
                "negatives. Leave it out with data.drop_last=true.",
                batches.rest,
                self.config.batch_size,
            )
        places = (0, 1) if self.config.next_sentences else self._views.places
        collate = ViewCollator(
            int(self.tokenizer.pad_token_id),
            places,
            hashes="hashes" in self._needs,
            empty=self._views.empty,
            others=self._views.pad_ids,
        )
        corpus = WithRows(self.corpus) if "rows" in self._needs else self.corpus
        return self._loader(corpus, batch_sampler=batches, collate_fn=collate)

    def _batches(self) -> RankBatches:
        rank, processes = world()
        size, drop_last = self.config.batch_size, self.config.drop_last
        return RankBatches(self.corpus.order, size, drop_last=drop_last, rank=rank, processes=processes, done=self.done)

    def _loader(self, dataset: Any, **batches: Any) -> DataLoader[Any]:
        changes = isinstance(self._corpus, (ChangingCorpus, NextSentenceCorpus))  # in each epoch
        return DataLoader(
            dataset,
            **batches,
            generator=torch.Generator(),  # so that a loader does not draw from training's random state
            num_workers=self.config.num_workers,
            persistent_workers=self.config.num_workers > 0 and not changes,  # a worker keeps the epoch in which it started
            pin_memory=torch.cuda.is_available(),
        )

    def rows_of(self, batch: int) -> list[int] | None:
        """Return the rows of the tokenised corpus in a batch of the current epoch, over all processes; None for a stream."""
        if self.config.streaming:
            return None
        order = EpochOrder(len(self.corpus), self.seed, self.trainer.current_epoch if self.trainer else 0).permutation()
        size = self.config.batch_size
        return [self.corpus.row(int(example)) for example in order[batch * size : (batch + 1) * size]]

    def places_of(self, rows: Sequence[int]) -> list[tuple[str, int]] | None:
        """Return file and line of rows of the tokenised corpus; None if the files have changed since it was made."""
        return places(self.corpus.dataset, rows, self.config, self._views)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return batches of the sentences of validation, or of the held-out rows with masked tokens."""
        if not self.config.held_out:
            return self._sentences(self._dev)
        if self._held_out is None:
            self.prepare_corpus()
        assert self._held_out is not None
        return _scored(MaskedBatches(self._held_out, self.tokenizer, token_budget=self.token_budget))

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return batches of the sentences of testing."""
        return self._sentences(self._test)

    def _sentences(self, sentences: Sequence[str]) -> DataLoader[dict[str, Tensor]]:
        length = min(EVALUATION_LENGTH, self.tokenizer.model_max_length)
        template = self._views.anchor_template
        batches = SentenceBatches(
            sentences, self.tokenizer, max_length=length, token_budget=self.token_budget, template=template
        )
        return _scored(batches)


def _scored(batches: SentenceBatches | MaskedBatches) -> DataLoader[dict[str, Tensor]]:
    """Return a loader of this process's part of some batches to score."""
    # A separate generator: scoring must not change the random state that dropout uses.
    return DataLoader(batches, batch_size=None, sampler=dealt(len(batches), *world()), generator=torch.Generator())


def dealt(batches: int, rank: int, processes: int) -> list[int]:
    """Return the batches that a process scores: every W-th one; some are scored twice so that all have equally many.

    A process without a batch would end the run, and one that waits for the others can encode as well.
    """
    rounds = -(-batches // processes)
    return [(rank + turn * processes) % batches for turn in range(rounds)]
