"""The prompts of an encoder: templates by name, and which one a text has that is encoded for some use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simcse_lit.config.roles import PLACE, check_template
from simcse_lit.errors import UserError, did_you_mean

# Names under which models keep the prompt of a use, as sentence-transformers looks for them.
NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}
ONLY = "default"  # the name of an encoder's only prompt


@dataclass(frozen=True)
class Prompts:
    """The templates that an encoder was made with.

    Args:
        templates: by name; each holds `{text}` once.
        default: the name of that of a text of no particular use; None for none.
    """

    templates: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None

    def of(self, use: str) -> str | None:
        """The template of a `text`, or of a text that is a `query` or a searched `document`; None for none."""
        name = next((name for name in NAMES.get(use, ()) if name in self.templates), self.default)
        template = self.templates.get(name) if name else None
        return None if template == PLACE else template

    def chosen(self, asked: str | None) -> "Prompts":
        """Those of a user who asks for one: a name, or a text with `{text}`; it is then that of every use.

        Raises:
            UserError: there is no prompt of this name.
        """
        if asked is None:
            return self
        if asked not in self.templates and PLACE not in asked:
            known, near = ", ".join(self.templates) or "none", did_you_mean(asked, self.templates)
            raise UserError(
                f"prompt={asked}: the model has no prompt of this name; it has: {known}.{near}\n"
                f"A text of your own holds {PLACE}, where each text goes: prompt='query: {PLACE}'"
            )
        text = self.templates.get(asked, asked)
        check_template(text, "prompt")
        return Prompts({ONLY: text}, ONLY)

    def record(self) -> dict[str, Any]:
        """What an export and a checkpoint keep; nothing without templates."""
        return {"prompts": {"templates": dict(self.templates), "default": self.default}} if self.templates else {}


def of_views(anchor: str | None, positive: str | None) -> Prompts:
    """The prompts of an encoder that was trained with these templates of its anchors and positives.

    Anchors are queries and positives are documents where they differ.
    """
    if anchor == positive:
        return Prompts({ONLY: anchor}, ONLY) if anchor else Prompts()
    return Prompts({"query": anchor or PLACE, "document": positive or PLACE}, "query")


def recorded_prompts(section: Mapping[str, Any]) -> Prompts:
    """The prompts that an export or a checkpoint records.

    Raises:
        ValueError: they are not what `Prompts.record` makes.
    """
    kept = section.get("prompts")
    if kept is None:
        return Prompts()
    if not isinstance(kept, Mapping) or not isinstance(kept.get("templates"), Mapping):
        raise ValueError("its prompts are no templates by name")
    for name, template in kept["templates"].items():
        if not isinstance(template, str) or template.count(PLACE) != 1:
            raise ValueError(f"its prompt {name} does not hold {PLACE} once")
    return Prompts(dict(kept["templates"]), kept.get("default"))
