"""The index is a cache and is believed as one: damaged or tampered with it is made anew, somebody else's is left alone."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fleet.hosts import bound, write
from tests.tools.cache import skip_loudly
from wizard.base.errors import OutputError
from wizard.base.places import own
from wizard.fleet.gather import Fleet, find, gather
from wizard.fleet.index import Index, Spare

# A view that answers for ever, and others that answer with anything.
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS program FROM n WHERE i < 0"
TAMPERED = {
    "stamp is a number": "UPDATE files SET stamp = 7",
    "stamp is bytes": "UPDATE files SET stamp = x'00ff'",
    "entry is text": "UPDATE files SET entry = 'text'",
    "entry is a number": "UPDATE files SET entry = 1.5",
    "entry is empty": "UPDATE files SET entry = x''",
    "entry is another's": "UPDATE files SET entry = (SELECT entry FROM files ORDER BY path DESC LIMIT 1)",
    "entry is cut": "UPDATE files SET entry = substr(entry, 1, 40)",
    "entry is huge": "UPDATE files SET entry = zeroblob(20000000)",
    "program is a number": "UPDATE made_by SET program = 1",
    "program is gone": "DELETE FROM made_by",
    "a view for made_by": f"DROP TABLE made_by; CREATE VIEW made_by AS {ENDLESS}",
    "a view for files": f"DROP TABLE files; CREATE VIEW files AS SELECT 'a' AS path, 'b' AS stamp, program AS entry, '' AS sum FROM ({ENDLESS})",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM made_by; END",
    "another column": "ALTER TABLE files ADD COLUMN more TEXT",
    "another table": "CREATE TABLE more (a)",
    "no table": "DROP TABLE files",
    "a table of one column": "DROP TABLE files; CREATE TABLE files (path TEXT)",
}


@pytest.fixture
def hosts(tmp_path: Path) -> list[str]:
    (tmp_path / "hosts").mkdir()
    write(tmp_path / "hosts", {f"h{n}": bound(f"h{n}") for n in range(4)})
    return find([str(tmp_path / "hosts")])


def holds(path: Path, hosts: list[str], whole: Fleet) -> None:
    """It answers as without an index, and the next time from the index."""
    assert gather(hosts, index=path) == whole
    index = Index(path)
    assert list(index.known(hosts)) == hosts
    index.close()


@pytest.mark.parametrize("how", TAMPERED)
def test_an_index_that_was_tampered_with_is_made_anew(how: str, tmp_path: Path, hosts: list[str]) -> None:
    path = tmp_path / "index.sqlite"
    whole = gather(hosts, index=path)
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(TAMPERED[how])
    holds(path, hosts, whole)


@pytest.mark.parametrize("offset", [0, 16, 40, 68, 100, 4096, 8192, 9000])
def test_a_damaged_page_is_no_error_of_ours(offset: int, tmp_path: Path, hosts: list[str]) -> None:
    """Bytes of the header, the schema and the rows, overwritten by a failing disk. The magic itself gone, it is somebody's file."""
    path = tmp_path / "index.sqlite"
    whole = gather(hosts, index=path)
    data = bytearray(path.read_bytes())
    data[offset : offset + 24] = b"\xa5" * 24
    path.write_bytes(data)
    if offset in (0, 68):
        with pytest.raises(OutputError):
            Index(path)
        assert path.read_bytes() == data
        path.unlink()
    holds(path, hosts, whole)


def test_what_a_killed_writer_left_beside_a_damaged_one_goes_with_it(tmp_path: Path, hosts: list[str]) -> None:
    path, journal = tmp_path / "index.sqlite", tmp_path / "index.sqlite-journal"
    whole = gather(hosts, index=path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("PRAGMA cache_spill = 1")
        database.execute("UPDATE files SET stamp = 'x' || stamp")
        kept = journal.read_bytes()
        database.execute("ROLLBACK")
    path.write_bytes(path.read_bytes()[:4096])
    journal.write_bytes(kept)
    holds(path, hosts, whole)
    assert not journal.exists()


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "shared directory", "somebody's", "somebody's directory"])
def test_an_index_that_is_not_only_ones_own_is_refused(kind: str, tmp_path: Path, hosts: list[str]) -> None:
    """Nobody else decides what is read as a host's summary, or which file root opens for writing."""
    if os.geteuid() != 0 and kind.startswith("somebody"):
        skip_loudly("there is nobody else", "run the tests as root")
    directory = tmp_path / "place"
    directory.mkdir(mode=0o700)
    path, precious = directory / "index.sqlite", tmp_path / "precious"
    precious.write_text("precious")
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "hard link":
        path.hardlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "shared directory":
        directory.chmod(0o1777)
    elif kind == "somebody's":
        path.write_bytes(b"")
        os.chown(path, 1234, 1234)
    else:
        os.chown(directory, 1234, 1234)
    with pytest.raises(OutputError, match=r"index\.sqlite"):
        Index(path)
    said: list[str] = []
    assert gather(hosts, index=Spare(path, said.append)).files == 4
    assert len(said) == 1
    assert precious.read_text() == "precious"
    assert kind not in ("shared directory", "somebody's directory") or not path.exists()


def test_under_sudo_nothing_of_roots_is_left_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sudo may keep HOME and XDG variables; root's own places are root's."""
    if os.geteuid() != 0:
        skip_loudly("sudo can't be played", "run the tests as root")
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 1234, 1234)
    monkeypatch.setenv("HOME", str(home))
    for variable, default in (("XDG_CACHE_HOME", ".cache"), ("XDG_STATE_HOME", ".local/state"), ("XDG_CONFIG_HOME", ".config")):
        for value in ("", str(home / default)):
            monkeypatch.setenv(variable, value)
            assert not own(variable, default).is_relative_to(home)
        monkeypatch.setenv(variable, str(tmp_path / "roots"))
        assert own(variable, default) == tmp_path / "roots/smmu-wizard"
