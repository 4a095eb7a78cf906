"""SentEval's files: where they are, on this machine or on the Hub, and how their lines are read.

Training and `evaluate` share this. The Hub's copy is the archive that the paper's authors publish, in SentEval's own layout.
"""

import logging
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from simcse_lit.config.schema import SentEvalConfig
from simcse_lit.errors import UserError
from simcse_lit.text.hub import download

log = logging.getLogger(__name__)

ARCHIVE = "hf://datasets/princeton-nlp/datasets-for-simcse/senteval.tar"
HOW = (
    "Set SIMCSE_DATA (or senteval.dir) to a folder that holds SentEval's files, or let them be fetched with\n"
    "senteval.from_hub=true; docs/how-to/offline.md says how to get them."
)


class NoSentEval(UserError):
    """SentEval's files are nowhere: no folder is named, and the Hub is not asked or has not answered."""


@dataclass(frozen=True)
class SentEval:
    """The folder that holds STS/, SICK/, MR/ and so on.

    Args:
        config: the group `senteval` of `conf/`.
    """

    config: SentEvalConfig

    @cached_property
    def root(self) -> Path:
        """The folder; the Hub's archive is fetched and unpacked on first use.

        Raises:
            UserError: the folder that is named holds none of SentEval's.
            NoSentEval: none is named, and the Hub is not asked or has not answered.
        """
        if self.config.dir is not None:
            given = Path(self.config.dir).expanduser()
            root = _layout(given)
            if root is None:
                raise UserError(
                    f"senteval.dir: {given}: holds neither STS/ nor SentEval/STS/, nor any other of SentEval's folders.\n"
                    "Name SentEval's data/downstream folder (docs/how-to/offline.md says how to get it), or set it to null."
                )
            return root
        if not self.config.from_hub:
            raise NoSentEval(f"SentEval's files are not on this machine, and senteval.from_hub=false.\n{HOW}")
        return self._fetched()

    def _fetched(self) -> Path:
        """The Hub's archive, unpacked once into the cache; a half-unpacked one is never left there."""
        try:
            (archive,) = download(ARCHIVE, None, key="senteval.from_hub")
        except UserError as error:
            raise NoSentEval(f"{error}\n{HOW}") from error
        cache = Path(self.config.cache_dir).expanduser()
        folder = cache / f"senteval-{archive.parent.name[:12]}"  # of the Hub's cache: the folder is named by the commit
        try:
            if not folder.is_dir():
                cache.mkdir(parents=True, exist_ok=True)
                partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=cache))
                try:
                    with tarfile.open(archive) as tar:
                        tar.extractall(partial, filter="data")
                    _take_place(partial, folder)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
        except (OSError, tarfile.TarError) as error:
            raise UserError(f"senteval.cache_dir={cache}: {ARCHIVE} cannot be unpacked there: {error}.") from error
        root = _layout(folder)
        if root is None:
            raise UserError(f"senteval.from_hub: {ARCHIVE}, unpacked to {folder}, holds no STS/.\n{HOW}")
        return root

    def file(self, name: str) -> Path:
        """A file of the layout.

        Raises:
            UserError: it is not there; the message says where it was looked for and how to get it.
        """
        path = self.root / name
        if not path.is_file():
            raise UserError(f"senteval.dir: {path}: there is no such file.\n{HOW}")
        return path

    def lines(self, name: str, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
        """(number, text) of each line, without its line end.

        Raises:
            UserError: no such file, or not in that encoding.
        """
        path = self.file(name)
        with path.open(encoding=encoding, newline="\n") as file:
            try:
                for number, line in enumerate(file, start=1):
                    yield number, line.rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: not {encoding.upper()}: {error.reason} at byte {error.start}.") from error

    def rows(self, name: str, encoding: str = "utf-8") -> Iterator[tuple[int, list[str]]]:
        """(number, fields) of each line of a file whose fields are divided by tabs, without quoting."""
        for number, line in self.lines(name, encoding):
            yield number, line.split("\t")


def normalised(sentence: str) -> str:
    """As SentEval reads a sentence: whitespace folded, and a full stop for an empty one."""
    return " ".join(sentence.split()) or "."


def _take_place(partial: Path, folder: Path) -> None:
    """Name an unpacked archive as it is looked for, unless another process was first, whose archive is the same."""
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _layout(given: Path) -> Path | None:
    folders = ("STS", "SICK", "MR", "CR", "SUBJ", "MPQA", "SST", "TREC", "MRPC")
    for root in (given / "SentEval", given):
        if any((root / name).is_dir() for name in folders):
            return root
    return None
