"""SimCSEDataModule: the training corpus, and the sentences of the validation and test tasks.

Every stage is prepared on its own, so that a wrong STS folder shows before a corpus of a million lines is tokenised.
"""

import logging
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from transformers import PreTrainedTokenizerFast

from simcse_lit.config.schema import DataConfig
from simcse_lit.data.collation import EVALUATION_LENGTH, Corpus, SentenceBatches, ViewCollator
from simcse_lit.data.tokenisation import tokenised_corpus
from simcse_lit.evaluation.suite import Suite, unique_sentences
from simcse_lit.evaluation.task import Task

log = logging.getLogger(__name__)


class SimCSEDataModule(pl.LightningDataModule):
    """Batches `{input_ids, attention_mask}` of shape (batch, views, length) for training, and for evaluation batches of
    unique sentences with their `index`.

    Args:
        config: the group `data` of `conf/`.
        tokenizer: the model's.
        suite: the validation and test tasks.
        token_budget: padded tokens of an evaluation batch.
        seed: decides the order of the training examples, and nothing else.
    """

    def __init__(
        self, config: DataConfig, tokenizer: PreTrainedTokenizerFast, suite: Suite, *, token_budget: int, seed: int
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.suite = suite
        self.token_budget = token_budget
        self.seed = seed
        self._corpus: Corpus | None = None

    @property
    def corpus(self) -> Corpus:
        """The tokenised training corpus; made or opened on first use.

        Raises:
            UserError: the text cannot be used.
        """
        if self._corpus is None:
            self._corpus = Corpus(tokenised_corpus(self.config, self.tokenizer))
        return self._corpus

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches in an order that depends on the seed alone."""
        rest = len(self.corpus) % self.config.batch_size
        if rest and not self.config.drop_last:
            log.info(
                "The last batch of an epoch has %d instead of %d examples, so fewer in-batch\n"
                "negatives; data.drop_last=true leaves it out.",
                rest,
                self.config.batch_size,
            )
        return DataLoader(
            self.corpus,
            batch_size=self.config.batch_size,
            # The sampler has the seed to itself: a loader draws from its own generator too, more often without workers.
            sampler=RandomSampler(self.corpus, generator=torch.Generator().manual_seed(self.seed)),
            drop_last=self.config.drop_last,
            generator=torch.Generator(),
            collate_fn=ViewCollator(int(self.tokenizer.pad_token_id)),
            num_workers=self.config.num_workers,
            persistent_workers=self.config.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The unique sentences of the development task."""
        return self._sentences([self.suite.dev])

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The unique sentences of all test tasks."""
        return self._sentences(self.suite.test)

    def _sentences(self, tasks: Sequence[Task]) -> DataLoader[dict[str, Tensor]]:
        length = min(EVALUATION_LENGTH, self.tokenizer.model_max_length)
        batches = SentenceBatches(unique_sentences(tasks), self.tokenizer, max_length=length, token_budget=self.token_budget)
        # A generator of its own: scoring must not move the random state that dropout draws from.
        return DataLoader(batches, batch_size=None, generator=torch.Generator())
