"""Builds the module, the data and the tasks of a run from a checked configuration."""

import logging
import re
from dataclasses import asdict
from typing import NamedTuple, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from simcse_lit.config.checks.positives import views_are_alike
from simcse_lit.config.extension import build as build_node
from simcse_lit.config.roles import ROLES, has_role, optional_places
from simcse_lit.config.schema import DataConfig, TrainConfig
from simcse_lit.data.datamodule import SimCSEDataModule
from simcse_lit.encoder.adapter import Adapter, add_adapter, build_adapter, record
from simcse_lit.encoder.backbone import check_fit, load_backbone, reinit_layers, untie_head
from simcse_lit.encoder.denoising import Denoising
from simcse_lit.encoder.encoder import SentenceEncoder, second_encoder
from simcse_lit.encoder.head import Head, head
from simcse_lit.encoder.kinds import counts_from
from simcse_lit.encoder.pooling import Pooler, make_pooler
from simcse_lit.errors import UserError
from simcse_lit.evaluation.analyses import make_analyses
from simcse_lit.evaluation.suite import Suite, load_suite
from simcse_lit.objective.step import Vocabulary
from simcse_lit.objective.term import Objective, Term, Weight
from simcse_lit.training.beside import Beside, build_beside
from simcse_lit.training.chunking import chunking
from simcse_lit.training.module import SimCSEModule
from simcse_lit.training.optimisation import lr_scale, optimisation
from simcse_lit.training.scoring import Scorer
from simcse_lit.views.encoded import EncodedViews
from simcse_lit.views.view import resolve, set_up

log = logging.getLogger(__name__)


class Built(NamedTuple):
    """The module to train and its data: `module, data = build(config)`."""

    module: SimCSEModule
    data: SimCSEDataModule

    @property
    def suite(self) -> Suite:
        """On what it is scored."""
        return self.module.scorer.suite


def build(config: TrainConfig, chosen_on: str | None = None) -> Built:
    """Build encoder, data and module. Nothing is tokenised yet.

    Args:
        config: the configuration.
        chosen_on: development task of a resumed run (`evaluation/suite.py`).

    Raises:
        UserError: the optimiser, the adapter, the model, the text or the test sets cannot be used.
    """
    optimiser = optimisation(config.optimizer)
    objective = build_objective(config)
    beside = build_beside(config.loss.beside, sharded="fsdp" in str(config.trainer.strategy).lower())
    for name, term in objective.terms.items():
        for absent in sorted(set(cast(Term, term).encoders) - beside.keys()):
            key = f"+loss.beside.{absent}"
            raise UserError(
                f"loss.terms.{name}: needs the encoder loss.beside.{absent}, which is not configured. Add a frozen one:\n"
                f"{key}._target_=simcse_lit.methods.frozen.Frozen {key}.checkpoint=FOLDER\n"
                f"or a moving average of the trained one:\n"
                f"{key}._target_=simcse_lit.training.beside.Momentum {key}.decay=0.995"
            )
    views = resolve(config.data, config.augmentation.makers)
    adapter = build_adapter(config.adapter)
    suite = load_suite(config, chosen_on)
    pooler, projection = make_pooler(config.pooler), head(config.projection)
    scorer = Scorer(suite, make_analyses(config.analyses))
    backbone, tokenizer = load_backbone(config.model, mlm="mlm_head" in objective.needs)
    optional = optional_places(config.data)
    encoded = EncodedViews(
        views, tokenizer, config.data.max_length, counted=config.data.template_in_length, optional=optional
    )
    pooler.set_up(encoded.behind_mask)
    check_fit(config, pooler, backbone, tokenizer, encoded.longest)
    reinit_layers(backbone, config.model.reinit_layers, config.seed)
    if not config.loss.mlm_tied:
        untie_head(backbone)
    set_up(views, tokenizer, config.model, encoded.longest)
    encoder = _encoder(config, backbone, pooler, projection, adapter)
    encoder.denoising = _denoising(config.data, encoded, backbone)
    for name, one in beside.items():
        _set_up(name, one, encoder, tokenizer)
        if one.tokenizer is not None:
            encoded.others[name] = _encoded_for(name, one.tokenizer, config)
    data = SimCSEDataModule(
        config.data,
        tokenizer,
        dev=scorer.dev_sentences,
        test=scorer.test_sentences,
        token_budget=config.evaluation.token_budget,
        seed=config.seed,
        views=encoded,
        needs=objective.needs,
    )
    second = second_encoder(encoder) if config.loss.encoders == 2 else None
    for each in (encoder, second):
        if each is not None:
            each.compile_backbone(config.trainer.compile)
    on_cpu = config.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    vocabulary = Vocabulary(len(tokenizer), tokenizer.mask_token_id, tuple(tokenizer.all_special_ids))
    objective.setup(encoder.hidden, vocabulary, {name: one.encoder.hidden for name, one in beside.items()})
    module = SimCSEModule(
        encoder,
        objective,
        chunking=chunking(config.trainer, encoder, on_cpu=on_cpu),
        optimisation=optimiser,
        scorer=scorer,
        made_of={
            "model": asdict(config.model),
            "adapter": record(config.adapter),
            "chosen_on": suite.chosen_on,
            **encoded.prompts.record(),
        },
        seed=config.seed,
        roles=tuple(view.role for view in views),
        fixed_dropout=config.loss.fixed_dropout,
        second_encoder=second,
        beside=beside,
        makers={number: view.on_device for number, view in enumerate(views) if view.on_device},
    )
    return Built(module, data)


def _denoising(data: DataConfig, encoded: EncodedViews, backbone: PreTrainedModel) -> Denoising | None:
    """Return how the vector of the bare template is subtracted; None for not at all.

    Raises:
        UserError: the templates of the views have different numbers of tokens, or the backbone takes no position ids.
    """
    if data.template_denoising == "never":
        return None
    if encoded.around is None:
        raise UserError(
            f"data.template_denoising={data.template_denoising}: needs templates with the same number of tokens before the "
            "sentence, and\nafter it, in each view. Change data.template, or set data.template_denoising=never."
        )
    counts_from(backbone)
    return Denoising(*encoded.around, "always" if data.template_denoising == "always" else "training")


def _set_up(name: str, one: Beside, encoder: SentenceEncoder, tokenizer: PreTrainedTokenizerFast) -> None:
    """Set up an encoder of `loss.beside`.

    Raises:
        UserError: it cannot be; the message names its keys, and not those of the commands that load encoders too.
    """
    try:
        one.setup(encoder, tokenizer)
    except UserError as error:
        key = f"loss.beside.{name}"
        text = re.sub(r"(?<![\w.])checkpoint(?=[:=])", f"{key}.checkpoint", str(error).removeprefix("loss.beside: "))
        raise UserError(text if text.startswith(key) else f"{key}: {text}") from error


def _encoded_for(name: str, tokenizer: PreTrainedTokenizerFast, config: TrainConfig) -> EncodedViews:
    """Return the views of an example for an encoder of `loss.beside` with another tokenizer.

    Raises:
        UserError: the encoder takes fewer tokens than a sentence may have, or its tokenizer lacks a token of a template.
    """
    views, data = resolve(config.data, config.augmentation.makers), config.data
    for maker in (maker for view in views for maker in view.changes):
        maker.setup(tokenizer)
    optional = optional_places(data)
    found = EncodedViews(views, tokenizer, data.max_length, counted=data.template_in_length, optional=optional, name=name)
    if found.longest > tokenizer.model_max_length:
        raise UserError(
            f"data.max_length={data.max_length}: loss.beside.{name} takes {tokenizer.model_max_length} tokens at most."
        )
    return found


def build_objective(config: TrainConfig) -> Objective:
    """Build the objective of `loss.terms`, without terms whose weight is 0.

    Raises:
        UserError: a term cannot be built, or needs something that the run does not have.
    """
    terms: dict[str, Term] = {}
    weights: dict[str, Weight] = {}
    for name, node in config.loss.terms.items():
        key = f"loss.terms.{name}"
        if node is None:
            continue
        if not isinstance(node, dict):
            raise UserError(f"{key}={node}: must be a group with a _target_, or null to remove the term.")
        settings = dict(node)
        weight, scale = settings.pop("weight", 1.0), lr_scale(settings, key)
        if weight == 0:
            continue
        term = build_node(settings, key)
        if not isinstance(term, Term):
            raise UserError(f"{key}._target_={node['_target_']}: is not a subclass of simcse_lit.objective.term.Term.")
        for role in ROLES:
            if role in term.needs and not has_role(config.data, role):
                raise UserError(f"{key}: needs {role.replace('_', ' ')}s, but {_shown_views(config.data)} has none.")
        for column in ("scores", "labels"):
            if column in term.needs and getattr(config.data, column) is None:
                raise UserError(f"{key}: needs {column}. Name their column in data.train_file: data.{column}=COLUMN")
        if "kept_head" in term.needs:
            _check_kept(head(config.projection), key)
        term.lr_scale = scale
        terms[name] = term
        weights[name] = build_node(weight, f"{key}.weight") if isinstance(weight, dict) else weight
        if not isinstance(weights[name], (int, float)) and not callable(weights[name]):
            raise UserError(f"{key}.weight={weight}: must be a number, or a function of step and steps, by _target_.")
    return Objective(terms, weights)


def _check_kept(projection: Head, key: str) -> None:
    if projection.target is not None and projection.when == "training":
        raise UserError(
            f"projection={projection.name}: is left out at evaluation, but {key} trains the numbers that come out of it.\n"
            "Use projection=mlp, which is kept, or projection=none."
        )


def _shown_views(data: DataConfig) -> str:
    if data.views is None:
        return f"data.columns=[{','.join(data.columns)}]"
    return f"data.views, {', '.join(view.role for view in data.views)},"


def _encoder(
    config: TrainConfig, backbone: PreTrainedModel, pooler: Pooler, projection: Head, adapter: Adapter | None
) -> SentenceEncoder:
    encoder = SentenceEncoder(backbone, pooler, projection)
    add_adapter(encoder.backbone, adapter)
    if views_are_alike(config) and not encoder.has_dropout:
        log.warning(
            "Every dropout is 0, so the two views of a sentence are the same vector and training has\n"
            "no noise to learn from (Table 3, p = 0). Set model.dropout=0.1, or adapter.dropout."
        )
    return encoder
