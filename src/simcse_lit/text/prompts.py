"""The prompts of an encoder: templates by name, and the choice of one by the use of a text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simcse_lit.config.roles import PLACE, check_template, places
from simcse_lit.errors import UserError, did_you_mean

# Names of the prompt of a use, as in sentence-transformers.
NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}
ONLY = "default"  # name of an encoder's only prompt


@dataclass(frozen=True)
class Prompts:
    """The templates that an encoder was trained with.

    Args:
        templates: templates by name; each has `{text}` once.
        default: name of the template for texts without a particular use; None for none.
    """

    templates: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None

    def of(self, use: str) -> str | None:
        """Return the template for a use (`text`, `query` or `document`); None for none."""
        name = next((name for name in NAMES.get(use, ()) if name in self.templates), self.default)
        template = self.templates.get(name) if name else None
        return None if template == PLACE else template

    def chosen(self, asked: str | None) -> "Prompts":
        """Return the prompts when the user asks for one, which then serves every use.

        Args:
            asked: name of a prompt, or a text with `{text}`; None keeps the prompts.

        Raises:
            UserError: there is no prompt of this name.
        """
        if asked is None:
            return self
        if asked not in self.templates and not places(asked):
            known, near = ", ".join(self.templates) or "none", did_you_mean(asked, self.templates)
            raise UserError(
                f"prompt={asked}: the model has no prompt of this name. Its prompts: {known}.{near}\n"
                f"To give a text instead, mark the place of the input with {PLACE}: prompt='query: {PLACE}'"
            )
        text = self.templates.get(asked, asked)
        check_template(text, "prompt")
        return Prompts({ONLY: text}, ONLY)

    def record(self) -> dict[str, Any]:
        """Return what an export and a checkpoint store; empty without templates."""
        return {"prompts": {"templates": dict(self.templates), "default": self.default}} if self.templates else {}


def of_views(anchor: str | None, positive: str | None) -> Prompts:
    """Return the prompts of an encoder that was trained with these templates of anchors and positives.

    If they differ, anchors are queries and positives are documents.
    """
    if anchor == positive:
        return Prompts({ONLY: anchor}, ONLY) if anchor else Prompts()
    return Prompts({"query": anchor or PLACE, "document": positive or PLACE}, "query")


def recorded_prompts(section: Mapping[str, Any]) -> Prompts:
    """Return the prompts that an export or a checkpoint records.

    Raises:
        ValueError: they do not have the form of `Prompts.record`.
    """
    kept = section.get("prompts")
    if kept is None:
        return Prompts()
    if not isinstance(kept, Mapping) or not isinstance(kept.get("templates"), Mapping):
        raise ValueError("its prompts are not templates by name")
    for name, template in kept["templates"].items():
        if not isinstance(template, str) or places(template) != 1:
            raise ValueError(f"its prompt {name} does not have {PLACE} exactly once")
    return Prompts(dict(kept["templates"]), kept.get("default"))
