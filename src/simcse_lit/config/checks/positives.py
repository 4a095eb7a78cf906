"""Checks of the views of a training example: their columns, their positives, their templates and their encoders."""

from collections.abc import Sequence

from simcse_lit.config import options
from simcse_lit.config.resolvers import suffixes
from simcse_lit.config.roles import ROLES, check_template, has_role, views_of
from simcse_lit.config.schema import DataConfig, TrainConfig, ViewConfig
from simcse_lit.errors import UserError, did_you_mean

OF_RATE = ("crop", "word_deletion", "mlm", "token_repetition", "word_repetition")
OURS = ("none", "delete_one_word", "synonym", *OF_RATE)  # files of conf/augmentation/
NLI_LABELS = ("entailment", "neutral", "contradiction")


def views_are_alike(config: TrainConfig) -> bool:
    """Return whether all views of an example are one text in one encoder, so that only dropout makes them differ."""
    views = views_of(config.data, config.augmentation.makers)
    one_text = all((view.column, view.template, view.makers) == (views[0].column, views[0].template, []) for view in views)
    other_text = config.augmentation.name != "none" or config.data.next_sentences is not None
    if config.data.views is None and len(config.data.columns) > 1:
        return False  # with [set,set] each view is another text of the list
    return len(views) > 1 and one_text and not other_text and config.loss.encoders == 1


def check_views(config: TrainConfig) -> None:
    """Check that columns, positives and encoders fit the loss and each other.

    Raises:
        UserError: they do not.
    """
    _check_templates(config.data)
    _check_columns(config)
    _check_extras(config.data)
    if config.data.views is not None:
        _check_listed(config, config.data.views)
    for column in config.data.optional or ():
        roles = {view.role for view in views_of(config.data) if view.column == column}
        if roles != {"hard_negative"}:
            raise UserError(f"data.optional=[{column}]: only a column of hard negatives may have empty cells.")
    if config.augmentation.name in OURS:
        _check_augmentation(config)
    _check_positives(config)
    _check_encoders(config)
    _check_makers(config)


def _check_columns(config: TrainConfig) -> None:
    loss, columns, labels = config.loss, config.data.columns, config.data.nli_labels
    files = config.data.train_file if isinstance(config.data.train_file, list) else [config.data.train_file]
    if not files or not all(isinstance(file, str) and file for file in files):
        raise UserError(f"data.train_file={config.data.train_file}: must be a path, or a list of paths.")
    text_files = [suffixes(file)[0] == ".txt" for file in files]
    short = config.data.views is None
    if short and loss.name == "unsup" and len(columns) != 1:
        raise UserError(
            f"loss=unsup data.columns=[{','.join(columns)}]: unsupervised training reads one column, since a sentence "
            "is its own positive.\nName one column (data.columns=[sent0]), or train on pairs with loss=sup."
        )
    if short and loss.name == "sup" and len(columns) < 2:
        raise UserError(
            f"loss=sup data.columns=[{','.join(columns)}]: needs two columns (anchor, positive) or more (hard negatives).\n"
            "Use e.g. data.columns=[sent0,sent1,hard_neg], or loss=unsup for plain sentences."
        )
    if loss.hard_negative_weight != 0 and not has_role(config.data, "hard_negative"):
        raise UserError(
            f"loss.hard_negative_weight={loss.hard_negative_weight}: there are no hard negatives in "
            f"data.columns=[{','.join(columns)}].\nSet it to 0, or add a third column."
        )
    if short and loss.name == "sup" and any(text_files):
        raise UserError(
            "loss=sup data.train_file: a .txt file holds one sentence a line, so it has no positives.\n"
            "Use a csv, tsv, jsonl or parquet file of pairs or triplets, or loss=unsup. The file name gives the\n"
            "format: a table separated by tabs ends in .tsv"
        )
    if config.data.next_sentences is not None and not all(text_files):
        raise UserError("data.next_sentences: needs .txt files with a sentence a line and a blank line between documents.")
    if labels != ["all"] and (not set(labels) <= set(NLI_LABELS) or len(set(labels)) != len(labels) or not labels):
        raise UserError(
            f"data.nli_labels=[{','.join(labels)}]: must be different labels out of {', '.join(NLI_LABELS)}, or [all] "
            "for pairs."
        )


def _check_templates(data: DataConfig) -> None:
    if data.views is not None and data.template is not None:
        raise UserError(
            "data.template data.views: with data.views each view has its template. Add template: TEXT to a view."
        )
    views = max(2, len(data.columns))
    if isinstance(data.template, list) and len(data.template) != views:
        raise UserError(f"data.template: has {len(data.template)} entries for {views} views. Give each view a text or null.")
    given = data.template if isinstance(data.template, list) else [data.template]
    listed = [(f"data.views.{number}.template", view.template) for number, view in enumerate(data.views or ())]
    for key, template in [*(("data.template", each) for each in given), *listed]:
        if template is not None:
            check_template(template, key)
    if data.template_in_length and not any(template for _, template in listed) and not any(given):
        raise UserError("data.template_in_length=true: there is no template to count. Set data.template=TEXT.")
    if data.template_denoising != "never" and not all(view.template for view in views_of(data)):
        raise UserError(
            f"data.template_denoising={data.template_denoising}: each view needs a template. Set data.template=TEXT, or "
            "data.template_denoising=never."
        )


def _check_extras(data: DataConfig) -> None:
    for key, column in (("scores", data.scores), ("labels", data.labels)):
        if column is None:
            continue
        if column in data.columns:
            raise UserError(f"data.{key}={column}: is already a text column (data.columns). Name the column of the {key}.")
        files = data.train_file if isinstance(data.train_file, list) else [data.train_file]
        if any(suffixes(file)[0] == ".txt" for file in files):
            raise UserError(f"data.{key}={column}: a .txt file has no columns. Use a csv, tsv, jsonl or parquet file.")


def _check_listed(config: TrainConfig, views: Sequence[ViewConfig]) -> None:
    columns, roles = config.data.columns, [view.role for view in views]
    for number, view in enumerate(views):
        if view.column not in columns:
            raise UserError(
                f"data.views.{number}.column={view.column}: is not in data.columns=[{','.join(columns)}]."
                f"{did_you_mean(view.column, columns)}\nList every column that a view reads in data.columns."
            )
        if view.role not in ROLES:
            raise UserError(
                f"data.views.{number}.role={view.role}: not one of {', '.join(ROLES)}.{did_you_mean(view.role, ROLES)}"
            )
    contrastive = config.loss.terms.get("contrastive") or {"weight": 0}
    if roles.count("anchor") != 1 or ("positive" not in roles and contrastive.get("weight") != 0):
        raise UserError(
            f"data.views: {roles.count('anchor')} anchors and {roles.count('positive')} positives.\n"
            "An example needs exactly one view with role: anchor and at least one with role: positive."
        )
    unread = [column for column in columns if column not in {view.column for view in views}]
    if unread or len(set(columns)) < len(columns):
        reason = f"no view reads {unread[0]}" if unread else "a column is named twice"
        named = dict.fromkeys(view.column for view in views)
        raise UserError(f"data.columns=[{','.join(columns)}]: {reason}. Write data.columns=[{','.join(named)}]")
    if config.augmentation.name != "none":
        raise UserError(
            f"data.views augmentation={config.augmentation.name}: with data.views each view has its makers.\n"
            "Use augmentation=none, and add makers: [...] to a view."
        )
    if config.data.next_sentences is not None:
        raise UserError(
            "data.views data.next_sentences: the positive is either a view or a next sentence. Set one of the two to null."
        )
    if config.loss.encoders == 2 and roles[0] != "anchor":
        raise UserError(
            "loss.encoders=2: the first encoder encodes the first view of data.views. Make the anchor the first view."
        )


def _check_augmentation(config: TrainConfig) -> None:
    name, rate = config.augmentation.name, config.augmentation.rate
    synonyms, model = config.augmentation.synonyms, config.augmentation.model
    if name in OF_RATE:
        if rate is None or not 0 < rate < 1:
            raise UserError(f"augmentation.rate={rate}: must be a share of the words or tokens, greater than 0 and below 1.")
    elif rate is not None:
        raise UserError(
            f"augmentation.rate={rate}: augmentation={name} has no rate.\n"
            f"Use augmentation={', '.join(OF_RATE[:-1])} or {OF_RATE[-1]}."
        )
    if name == "synonym":
        if not synonyms:
            raise UserError("augmentation.synonyms: has no value. Give a file with lines word<TAB>synonym[<TAB>synonym...].")
    elif synonyms is not None:
        raise UserError(f"augmentation.synonyms={synonyms}: only augmentation=synonym reads it.")
    if model is not None and name != "mlm":
        raise UserError(f"augmentation.model={model}: only augmentation=mlm reads it.")
    if name == "mlm" and any(view.template for view in views_of(config.data) if view.role == "positive"):
        raise UserError("augmentation=mlm data.template: mlm would replace words of the template too. Use only one of them.")
    if name == "mlm" and model is None and not config.model.pretrained:
        raise UserError(
            "augmentation=mlm model.pretrained=false: a backbone with random weights cannot predict words.\n"
            "Give a trained masked language model with the same tokenizer: augmentation.model=HUB_ID_OR_FOLDER."
        )


def _check_positives(config: TrainConfig) -> None:
    augmentation, data = config.augmentation.name, config.data
    for key, chosen in (
        (f"augmentation={augmentation}", augmentation != "none"),
        (f"data.next_sentences={data.next_sentences}", data.next_sentences is not None),
    ):
        if chosen and data.views is None and len(config.data.columns) != 1:
            raise UserError(f"{key}: loss={config.loss.name} reads its positives from the file. Use loss=unsup.")
    if data.next_sentences is None:
        return
    if data.next_sentences < 1:
        raise UserError(f"data.next_sentences={data.next_sentences}: must be 1 or more, or null.")
    if augmentation != "none":
        raise UserError(f"data.next_sentences augmentation={augmentation}: both define the positive. Use only one of them.")
    if data.streaming:
        raise UserError(
            "data.next_sentences data=stream: a stream is shuffled row by row, so it has no next sentences. Use data=file."
        )


def _check_encoders(config: TrainConfig) -> None:
    loss = config.loss
    if loss.encoders not in (1, 2):
        raise UserError(f"loss.encoders={loss.encoders}: must be 1, or 2 for a second encoder for positives and negatives.")
    if loss.encoders == 2 and loss.mlm_weight:
        raise UserError(
            "loss.encoders=2 loss.mlm_weight: the MLM objective trains one encoder. Set one of the two to its default."
        )
    if not loss.mlm_tied and not loss.mlm_weight:
        raise UserError(
            "loss.mlm_tied=false: without the MLM objective there is no MLM head.\n"
            "Add loss.mlm_weight=0.1, or remove loss.mlm_tied."
        )
    if loss.fixed_dropout and not views_are_alike(config):
        raise UserError(
            "loss.fixed_dropout=true: both views must be the same text in the same encoder.\n"
            "Use loss=unsup augmentation=none data.next_sentences=null loss.encoders=1."
        )


def _check_makers(config: TrainConfig) -> None:
    name, makers = config.augmentation.name, config.augmentation.makers
    if name == "none" and makers:
        raise UserError("augmentation.makers: need a name for reports. Add augmentation.name=NAME.")
    if name != "none" and not makers:
        known = options("augmentation")
        raise UserError(
            f"augmentation.name={name}: has no augmentation.makers, so it changes nothing.{did_you_mean(name, known)}\n"
            f"Choose one of {', '.join(known)} as augmentation=NAME, which sets the makers."
        )
