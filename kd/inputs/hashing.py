"""The files that a dataset lists now as a record has them: what their stamps do not show is hashed."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from kd.files.fingerprint import Stamp, is_settled, sha256
from kd.inputs.record import InputFile

THREADS = 4  # that read files; hashing runs outside Python's lock
_PART = 32  # files that a thread hashes before it asks for more


class Listed(NamedTuple):
    """A file that a dataset lists now."""

    name: str  # relative to the dataset's root
    path: str
    stamp: Stamp | None  # None: there is no such file


class Rows(NamedTuple):
    """Files as far as they are known without reading them."""

    files: Sequence[Listed]
    rows: list[InputFile]
    unknown: list[int]  # the places of those that are to be hashed

    def hashed(self, each: Callable[[], None]) -> tuple[InputFile, ...]:
        """The files as they are recorded.

        Args:
            each: called for each file that is hashed; may raise to stop.

        Raises:
            OSError: a file cannot be read.
        """

        def digests_of(places: Sequence[int]) -> list[str]:
            return [sha256(self.files[place].path) for place in places]

        parts = [self.unknown[start : start + _PART] for start in range(0, len(self.unknown), _PART)]
        with ThreadPoolExecutor(THREADS) as pool:
            for places, digests in zip(parts, pool.map(digests_of, parts), strict=True):
                for place, digest in zip(places, digests, strict=True):
                    self.rows[place] = self.rows[place]._replace(sha256=digest)
                    each()
        return tuple(self.rows)


def rows_of(files: Sequence[Listed], known: Iterable[InputFile] = (), *, all_files: bool = True) -> Rows:
    """Files with the hashes that have been recorded, where their stamps are the same.

    Args:
        files: as the dataset lists them.
        known: what has been recorded.
        all_files: whether every file is to be hashed; else only those whose hash was recorded.
    """
    by_name = {file.name: file for file in known}
    rows: list[InputFile] = []
    unknown: list[int] = []
    for listed in files:
        now, before = listed.stamp, by_name.get(listed.name)
        if now is None:
            rows.append(InputFile(listed.name, -1, None, None))
            continue
        short = (now.mtime, now.ctime, now.inode)
        if before is not None and before.sha256 and (before.size, before.stamp) == (now.size, short):
            rows.append(before)
            continue
        if all_files or (before is not None and before.sha256):
            unknown.append(len(rows))
        rows.append(InputFile(listed.name, now.size, short if is_settled(now) else None, None))
    return Rows(files, rows, unknown)
