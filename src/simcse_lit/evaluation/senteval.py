"""Finds SentEval's files on this machine or on the Hub, and reads their lines. `sts.py` and `transfer.py` parse the lines.

The copy on the Hub is the archive that the paper's authors publish. It has SentEval's layout.
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
    "Set SIMCSE_DATA (or senteval.dir) to a folder that holds SentEval's files, or download them with\n"
    "senteval.from_hub=true. See docs/how-to/offline.md."
)


class NoSentEval(UserError):
    """SentEval's files were not found: no folder is named, and the Hub is not used or did not answer."""


@dataclass(frozen=True)
class SentEval:
    """The folder that holds `STS/`, `SICK/`, `MR/` and so on.

    Args:
        config: the group `senteval` of `conf/`.
    """

    config: SentEvalConfig

    @cached_property
    def root(self) -> Path:
        """The folder. Without a local one, the first use downloads and unpacks the archive of the Hub.

        Raises:
            UserError: the named folder holds none of SentEval's folders.
            NoSentEval: no folder is named, and the Hub is not used or did not answer.
        """
        if self.config.dir is not None:
            given = Path(self.config.dir).expanduser()
            root = _layout(given)
            if root is None:
                raise UserError(
                    f"senteval.dir: {given}: holds neither STS/ nor SentEval/STS/, nor any other of SentEval's folders.\n"
                    "Set it to SentEval's data/downstream folder (see docs/how-to/offline.md), or to null."
                )
            return root
        if not self.config.from_hub:
            raise NoSentEval(f"SentEval's files are not on this machine, and senteval.from_hub=false.\n{HOW}")
        return self._fetched()

    def _fetched(self) -> Path:
        """Download the archive of the Hub and unpack it into the cache, once. A partly unpacked archive is removed."""
        try:
            (archive,) = download(ARCHIVE, None, key="senteval.from_hub")
        except UserError as error:
            raise NoSentEval(f"{error}\n{HOW}") from error
        cache = Path(self.config.cache_dir).expanduser()
        folder = cache / f"senteval-{archive.parent.name[:12]}"  # the Hub's cache names the folder by the commit
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
        """Return the path of a file.

        Args:
            name: the path below `root`.

        Raises:
            UserError: the file does not exist; the message says how to get it.
        """
        path = self.root / name
        if not path.is_file():
            raise UserError(f"senteval.dir: {path}: there is no such file.\n{HOW}")
        return path

    def lines(self, name: str, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
        """Yield the number, from 1, and the text of each line, without its line end.

        Args:
            name: the path below `root`.
            encoding: of the file.

        Raises:
            UserError: there is no such file, or it has another encoding.
        """
        path = self.file(name)
        with path.open(encoding=encoding, newline="\n") as file:
            try:
                for number, line in enumerate(file, start=1):
                    yield number, line.rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: not {encoding.upper()}: {error.reason} at byte {error.start}.") from error

    def rows(self, name: str, encoding: str = "utf-8") -> Iterator[tuple[int, list[str]]]:
        """Yield the number and the fields of each line. Fields are separated by tabs, without quoting."""
        for number, line in self.lines(name, encoding):
            yield number, line.split("\t")


def normalised(sentence: str) -> str:
    """Normalise a sentence as SentEval does: collapse whitespace, and turn an empty sentence into a full stop."""
    return " ".join(sentence.split()) or "."


def _take_place(partial: Path, folder: Path) -> None:
    """Rename an unpacked archive to its final name, unless another process has already done so."""
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
