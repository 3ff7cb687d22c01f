"""Saving under fire: killed at any moment, disk full, no permission, two at once. The old file or the new one, never half."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT, skip_loudly
from tests.tools.processes import LIMIT, ending
from wizard.base.files import write_atomic

OLD, NEW = "old line\n" * 40_000, "the new line\n" * 40_000
# Saves over and over, each time ended at the next moment: before and after every call that Python makes into C, which is where the
# system calls are. A child of its own for each, so that a kill costs no start of an interpreter.
SAVER = """
import os, signal, sys
from pathlib import Path
from wizard.base.files import write_all
number, directory = signal.Signals(int(sys.argv[1])), Path(sys.argv[2])
old, new = "old line\\n" * 40_000, "the new line\\n" * 40_000
files = directory / "a.toml", directory / "b.toml"
moment = whole = torn = 0
while True:
    for file in files:
        file.write_text(old)
    moment += 1
    child = os.fork()
    if child == 0:
        left = moment
        def watch(frame, event, argument):
            global left
            if event.startswith("c_"):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), number)
        try:
            sys.setprofile(watch)
            write_all({file: new for file in files}, force=True)
            sys.setprofile(None)
        except KeyboardInterrupt:
            os._exit(130)
        os._exit(0 if left > 0 else 1)  # 1: it was told to end, and did not
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    names = {path.name for path in directory.iterdir()}
    texts = {file.read_text() for file in files}
    assert texts <= {old, new}, f"moment {moment}: bytes of neither"
    if number == signal.SIGKILL:
        write_all({files[0]: new}, force=True)
        names = {path.name for path in directory.iterdir()}
    assert names == {"a.toml", "b.toml"}, f"moment {moment}: {names}"
    torn += len(texts) == 2
    if status == 0:
        break
    assert status == (-9 if number == signal.SIGKILL else 130), f"moment {moment}: status {status}"
print(moment, torn)
"""


def wizard(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wizard", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        cwd=cwd,
    )


def two_sentences(done: subprocess.CompletedProcess[str], status: int) -> None:
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    what, fix = done.stderr.strip().splitlines()[-2:]  # behind the findings of a plan
    assert what.startswith("smmu-wizard: "), done.stderr
    assert what.endswith("."), done.stderr
    assert fix.endswith("."), done.stderr


def plan(*words: str | Path) -> tuple[str | Path, ...]:
    return ("--demo", "plan", "--vm", "web=0000:14:00.0", "--vm", "db=0000:41:00.0", *words)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_ended_at_any_moment_a_file_is_the_old_or_the_new_one(tmp_path: Path, number: signal.Signals) -> None:
    """And no temporary file is left: not of an interrupt, and not of a kill once the next file is written."""
    words = [sys.executable, "-c", SAVER, str(int(number)), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=PROJECT, timeout=2 * LIMIT)
    assert done.returncode == 0, done.stderr
    moments, torn = map(int, done.stdout.split())
    assert moments > 20
    assert torn > 0  # else none fell between the two files, and nothing was shown


def test_two_writers_of_one_profile_leave_one_whole_profile(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "wizard", "--demo", "plan", "-o", str(tmp_path), "--force"]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(ending(subprocess.Popen([*words, "--vm", f"web={function}"], cwd=PROJECT, stderr=subprocess.DEVNULL)))
            for function in ("0000:14:00.0", "0000:41:00.0") * 3
        ]
        assert {writer.wait(LIMIT) for writer in writers} == {0}
    assert [path.name for path in tmp_path.iterdir()] == ["web.toml"]
    assert wizard("--demo", "check", tmp_path / "web.toml").returncode == 0


def test_existing_files_stay_unless_forced_and_keep_their_mode(tmp_path: Path) -> None:
    kept = tmp_path / "db.toml"
    kept.write_text("# somebody's edits\n")
    kept.chmod(0o600)
    two_sentences(wizard(*plan("-o", tmp_path)), 2)
    assert kept.read_text() == "# somebody's edits\n"
    assert not (tmp_path / "web.toml").exists()  # all or nothing
    assert wizard(*plan("-o", tmp_path, "--force")).returncode == 0
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def as_root(what: str) -> None:
    if os.geteuid() != 0:
        skip_loudly(what, "run the tests as root")


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    assert stat.S_ISREG(found.st_mode)
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


@pytest.mark.parametrize("through_link", [False, True])
def test_what_root_writes_is_roots_whatever_stood_there(through_link: bool, tmp_path: Path) -> None:
    """No foreign owner, no set-id bit, no permission to write for others; the file that a link led to is not touched."""
    as_root("no file of another user can be saved over")
    mine = tmp_path / "web.toml"
    there = tmp_path / "elsewhere" if through_link else mine
    there.write_text("# mine\n")
    os.chown(there, 1234, 1234)
    there.chmod(0o6775)
    if through_link:
        mine.symlink_to(there)
        os.chown(mine, 1234, 1234, follow_symlinks=False)
    assert wizard(*plan("-o", tmp_path, "--force")).returncode == 0
    assert owner_and_mode(mine) == (0, 0, 0o644)
    assert "# mine" not in mine.read_text()
    if through_link:
        assert there.read_text() == "# mine\n"
        assert owner_and_mode(there) == (1234, 1234, 0o6775)


@pytest.mark.parametrize("there", [None, 0o600, 0o644, 0o777, 0o4755])
def test_raw_snapshots_and_scripts_are_for_nobody_else(there: int | None, tmp_path: Path) -> None:
    """A raw snapshot is private and a script runs, whatever stood in their place; what was narrowed stays narrow."""
    raw, script, plain = tmp_path / "raw.json", tmp_path / "bind.sh", tmp_path / "host.json"
    if there is not None:
        for path in (raw, script, plain):
            path.write_text("")
            path.chmod(there)
    assert wizard("--demo", "record", "--no-redact", "--force", "-o", raw).returncode == 0
    assert wizard("--demo", "prepare", "0000:14:00.0", "--force", "-o", script).returncode == 0
    assert wizard("--demo", "record", "--force", "-o", plain).returncode == 0
    modes = [owner_and_mode(path)[2] for path in (raw, script, plain)]
    assert modes == [0o600, 0o700, 0o600 if there == 0o600 else 0o644]


@pytest.mark.parametrize("place", ["parent", "above", "index", "made"])
def test_a_strangers_link_in_a_shared_directory_leads_root_nowhere(place: str, tmp_path: Path) -> None:
    """As in /tmp: somebody put a link where root is about to write."""
    as_root("nothing of another user's can be put in the way")
    shared, private = tmp_path / "shared", tmp_path / "etc"
    shared.mkdir()
    (private / "below").mkdir(parents=True)
    shared.chmod(0o1777)
    link = shared / "out"
    link.symlink_to(private)
    os.chown(link, 1234, 1234, follow_symlinks=False)
    choices: dict[str, tuple[str | Path, ...]] = {
        "parent": ("--demo", "record", "-o", link / "host.json"),
        "above": ("--demo", "record", "-o", link / "below/host.json"),
        "index": ("baseline", PROJECT / "fixtures/arm64-virt.json", "--index", link / "index.sqlite"),
        "made": plan("-o", link / "new"),
    }
    words = choices[place]
    two_sentences(wizard(*words), 5)
    assert [path.name for path in private.rglob("*")] == ["below"]
    os.chown(link, 0, 0, follow_symlinks=False)  # root's own link is meant
    if place != "index":
        assert wizard(*words).returncode == 0


def test_a_link_of_ones_own_on_the_way_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert wizard("--demo", "record", "-o", tmp_path / "link/../link/host.json").returncode == 0
    assert (tmp_path / "real/host.json").is_file()


KILLED = """
import os, signal, sys
from pathlib import Path
import wizard.base.files as files
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(files.os, sys.argv[2], die)
files.write_all({Path(sys.argv[1], name): "new" for name in ("a", "b", "c")}, force=True)
"""


@pytest.mark.parametrize("moment", ["fchmod", "fsync", "replace", "listdir"])
def test_what_a_killed_writer_leaves_goes_with_the_next_file(moment: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path, moment], check=False, cwd=PROJECT, timeout=LIMIT)
    assert killed.returncode == -signal.SIGKILL
    left = {path.name for path in tmp_path.iterdir()} - {"a", "b"}
    assert bool(left) is (moment != "listdir")
    somebodys = {".smmu-wizard.tmp", ".smmu-wizard.0123456789ab.0.tmp.bak", ".smmu-wizard.0123456789ab.x.tmp"}  # near to our names, and not ours
    for name in somebodys:
        (tmp_path / name).write_text("not ours")
    (tmp_path / ".smmu-wizard.0123456789ab.1.tmp").mkdir()
    write_atomic(tmp_path / "next", "")
    expected = {"a", "b", "next", ".smmu-wizard.0123456789ab.1.tmp"} | somebodys
    assert {path.name for path in tmp_path.iterdir()} == expected


def test_leftovers_of_somebody_else_stay(tmp_path: Path) -> None:
    as_root("there is nobody else")
    foreign = tmp_path / ".smmu-wizard.0123456789ab.0.tmp"
    foreign.write_text("")
    os.chown(foreign, 1234, 1234)
    os.mkfifo(tmp_path / ".smmu-wizard.0123456789ab.lock")  # would be waited for
    write_atomic(tmp_path / "next", "")
    assert foreign.exists()


WAITING = KILLED.replace(
    "os.kill(os.getpid(), signal.SIGKILL)", "print('staged', flush=True); sys.stdin.read(); os.replace = replace; os.replace(*_, **__)"
)


def test_what_a_living_writer_stages_stays(tmp_path: Path) -> None:
    """Two at once in one directory: neither takes the other's files for leftovers."""
    words = [sys.executable, "-c", WAITING.replace("def die", "replace = os.replace\ndef die"), str(tmp_path), "replace"]
    with ending(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "staged\n"
        write_atomic(tmp_path / "mine", "")
        assert len([path for path in tmp_path.iterdir() if path.name.startswith(".smmu-wizard.")]) == 4  # three files and the lock
        writer.communicate("", timeout=LIMIT)
        assert writer.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c", "mine"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 64 KiB, in a mount namespace of whoever uses it."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True, timeout=LIMIT).returncode:
        skip_loudly("no full disk can be made", "run the tests as root, where a tmpfs can be mounted")
    directory = tmp_path / "small"
    directory.mkdir()
    return directory


def on_small_disk(directory: Path, command: str) -> subprocess.CompletedProcess[str]:
    script = f'mount -t tmpfs -o size=64k none "{directory}" && cd "{PROJECT}" && {command}'
    return subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=LIMIT)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(small_disk: Path) -> None:
    command = (
        f'printf old > "{small_disk}/host.json"; '
        f'"{sys.executable}" -m wizard --replay fixtures/kunpeng-920.json record -o "{small_disk}/host.json" --force; '
        f'echo "status $?"; ls -A "{small_disk}"; cat "{small_disk}/host.json"'
    )
    done = on_small_disk(small_disk, command)
    assert done.stdout == "status 5\nhost.json\nold", done
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_leaves_none_of_several_profiles(small_disk: Path) -> None:
    fill = f'dd if=/dev/zero of="{small_disk}/fill" bs=1k count=60 2>/dev/null'
    words = " ".join(f"--vm vm{number}={function}" for number, function in enumerate(("0000:14:00.0", "0000:41:00.0")))
    command = f'{fill}; "{sys.executable}" -m wizard --demo plan {words} -o "{small_disk}"; echo "status $?"; ls -A "{small_disk}"'
    assert on_small_disk(small_disk, command).stdout == "status 5\nfill\n"


@pytest.mark.parametrize("name", ["sub/dir/host.json", ".", "/dev/null", "/proc/host.json", "x" * 300, "/dev/full"])
def test_what_can_not_be_written_is_said(name: str, tmp_path: Path) -> None:
    two = wizard("--demo", "export", "nothing.toml", "--format", "qemu", "-o", name, cwd=tmp_path)
    assert two.returncode == 3  # the profile is looked at first
    done = wizard("--demo", "prepare", "0000:14:00.0", "--force", "-o", name, cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_read_only_directory_is_said(tmp_path: Path) -> None:
    directory = tmp_path / "locked"
    directory.mkdir(mode=0o555)
    words = [sys.executable, "-m", "wizard", *map(str, plan("-o", directory))]
    if os.geteuid() == 0:  # root's own permission is as wide as the world: be somebody else
        words = ["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps=-all", *words]
        for parent in (tmp_path, *tmp_path.parents):
            if parent != Path("/tmp") and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run(words, capture_output=True, text=True, cwd=PROJECT, check=False, timeout=LIMIT)
    if "Permission denied" in done.stderr and "can't be written" not in done.stderr:
        skip_loudly("another user can't run this interpreter", "put the environment where nobody may read it")
    assert done.returncode == 5, done.stderr
    assert not list(directory.iterdir())
