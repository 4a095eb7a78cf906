"""Files behind URLs of any scheme of fsspec: patterns, local copies, and messages. The Hub has its cache: `hub.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from fsspec.callbacks import TqdmCallback
from fsspec.core import url_to_fs

from simcse_lit.config.resolvers import file_name
from simcse_lit.errors import UserError
from simcse_lit.progress import Bar


def expanded(location: str, *, key: str) -> list[str]:
    """Return the sorted URLs that a URL stands for: `*` matches any part of a name, `**` any folders.

    Raises:
        UserError: there is no such file, it cannot be reached, or a package is missing.
    """
    with explained(location, key):
        files, path = url_to_fs(location)
        if "*" not in path:
            files.info(path)  # raises an error if there is no such file
            return [location]
        chained = location.split("::")[1:]
        found = ["::".join([files.unstrip_protocol(name), *chained]) for name in sorted(files.glob(path))]
        if not found:
            raise FileNotFoundError
        return found


@cache
def fetched(location: str, *, key: str) -> Path:
    """Return a local copy of a file, made once and removed when the process ends.

    Raises:
        UserError: there is no such file, it cannot be reached, or a package is missing.
    """
    with explained(location, key):
        files, path = url_to_fs(location)
        copy = Path(mkdtemp(dir=_copies().name), file_name(location))
        bar = {"desc": "Fetching", "unit": "B", "unit_scale": True}
        files.get_file(path, str(copy), callback=TqdmCallback(tqdm_kwargs=bar, tqdm_cls=Bar))
        return copy


@cache
def _copies() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="simcse-lit-")


@contextmanager
def explained(location: str, key: str) -> Iterator[None]:
    """Turn errors of a file system into a `UserError` that names the location and the key."""
    try:
        yield
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None) or error.name
        raise UserError(f"{key}: {location}: {error}.\nInstall the missing package: pip install {missing}") from error
    except FileNotFoundError as error:
        why = f" ({reason(error.__cause__)})" if error.__cause__ else ""
        raise UserError(f"{key}: {location}: there is no such file{why}.") from error
    except Exception as error:  # every file system raises other classes
        raise UserError(f"{key}: {location}: cannot be read: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, or its class if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]
