"""What the gateway counted, by revision and minute: written by the supervisor, read by anybody, kept for six hours."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mlscale.clock import MINUTE
from mlscale.errors import ProviderFailed
from mlscale.providers.contract import BadOfAll
from mlscale.serving.tally import KEPT_MINUTES, Key, first_over

COUNTS = "counts.sqlite"

LAG = timedelta(seconds=3)
"""The supervisor writes every second; a minute that it has not written to its end is not given, however long ago."""

_BUSY_S = 0.05
"""So long a writer waits for another: it is the gateway's own loop that waits."""

_READER_BUSY_S = 5.0

# A journal that is written ahead lets the supervisor write while somebody reads; what is lost with the power is a
# matter of seconds, and nothing that was whole is damaged.
_MADE = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS answered (
    minute INTEGER, revision TEXT, bucket INTEGER, failed INTEGER, requests INTEGER NOT NULL,
    PRIMARY KEY (minute, revision, bucket, failed)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counted (only INTEGER PRIMARY KEY CHECK (only = 0), until REAL NOT NULL);
"""
_ADD = """
INSERT INTO answered VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET requests = requests + excluded.requests
"""
_UNTIL = "INSERT INTO counted VALUES (0, ?) ON CONFLICT DO UPDATE SET until = excluded.until"
_FORGET = "DELETE FROM answered WHERE minute < ?"

# A minute is given once all of it is written: a supervisor that was killed in it has its successor go on with it.
_READ = """
SELECT minute, revision, sum(requests), sum(failed * requests), sum((bucket >= ?) * requests)
FROM answered
WHERE ? <= minute AND minute < ? AND (minute + 1) * 60 <= (SELECT until FROM counted)
GROUP BY minute, revision ORDER BY minute, revision
"""


class Keeper:
    """Writes what was counted into the folder of a deployment; one at a time does, the supervisor."""

    def __init__(self, home: Path) -> None:
        self._path = home / COUNTS
        self._open: sqlite3.Connection | None = None

    def add(self, counts: Mapping[Key, int], until: datetime) -> None:
        """Add `counts` to what is kept, all or nothing: from now on everything before `until` is in it.

        Raises:
            sqlite3.Error: it can't be written now.
        """
        if self._open is None:
            self._open = _connected(self._path)
        try:
            with self._open as connection:
                connection.executemany(_ADD, [(*key, count) for key, count in counts.items()])
                connection.execute(_FORGET, (int(until.timestamp()) // 60 - KEPT_MINUTES,))
                connection.execute(_UNTIL, (until.timestamp(),))
        except sqlite3.Error:
            # The next time begins with the file that is there then.
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        if self._open is not None:
            self._open.close()
            self._open = None


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S)
    try:
        connection.executescript(_MADE)
    except BaseException:
        connection.close()
        raise
    return connection


def counts(
    home: Path, start: datetime, end: datetime, slow_over_ms: float | None, *, now: datetime
) -> Sequence[BadOfAll]:
    """Return what is kept in `home` of the whole minutes between `start` and `end`, in time order; none if nothing is.

    A time counts as slow if it is over a bound at most 0.55 % away from `slow_over_ms`.

    Raises:
        ProviderFailed: it can't be read.
    """
    path = home / COUNTS
    first, last = -int(-start.timestamp() // 60), int(min(end, now - LAG).timestamp() // 60)
    if not path.exists():
        return ()
    try:
        # Not read-only: after a crash whoever comes first tidies up.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", timeout=_READER_BUSY_S, uri=True)) as connection:
            rows = connection.execute(_READ, (first_over(slow_over_ms or 0.0), first, last)).fetchall()
    except sqlite3.Error as error:
        may_pass = isinstance(error, sqlite3.OperationalError)
        raise ProviderFailed(
            "the counts of the gateway can't be read",
            why=f"{path}: {error}",
            hint="mlscale status" if may_pass else f"delete {path}: counting begins anew",
            retryable=may_pass,
        ) from error
    return tuple(
        BadOfAll(
            revision,
            _time_of(minute),
            _time_of(minute) + MINUTE,
            requests=requests,
            errors=errors,
            slow=None if slow_over_ms is None else slow,
        )
        for minute, revision, requests, errors, slow in rows
    )


def _time_of(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
