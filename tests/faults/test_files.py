"""Saving under fire: killed at any moment, disk full, no permission, two at once. The old file or the new one, never half."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tools.cache import PROJECT, skip_loudly

OLD, NEW = "old line\n" * 40_000, "the new line\n" * 40_000
SAVER = """
import os, sys
from pathlib import Path
from wizard.base.files import write_all
old, new = "old line\\n" * 40_000, "the new line\\n" * 40_000
first, second = Path(sys.argv[1], "a.toml"), Path(sys.argv[1], "b.toml")
print("ready", flush=True)
while True:
    write_all({first: new, second: new}, force=True)
    write_all({first: old, second: old}, force=True)
"""


def wizard(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wizard", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
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


def test_killed_at_any_moment_a_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(OLD)
    seen = set()
    moments = random.Random(8)
    for _ in range(25):
        saver = subprocess.Popen([sys.executable, "-c", SAVER, tmp_path], stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        assert saver.stdout is not None
        assert saver.stdout.readline() == "ready\n"
        time.sleep(moments.random() * 0.05)
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        saver.stdout.close()
        for name in ("a.toml", "b.toml"):
            text = (tmp_path / name).read_text()
            assert text in (OLD, NEW), f"{len(text)} bytes of neither"
            seen.add(text)
    assert seen == {OLD, NEW}  # else no kill fell between two saves, and nothing was shown
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"a.toml", "b.toml"}


def test_interrupted_saves_leave_no_temporary_file(tmp_path: Path) -> None:
    program = SAVER.replace("while True:", "try:\n  while True:", 1) + "except KeyboardInterrupt:\n    sys.exit(130)\n"
    moments = random.Random(9)
    for _ in range(25):
        saver = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        assert saver.stdout is not None
        assert saver.stdout.readline() == "ready\n"
        time.sleep(0.01 + moments.random() * 0.05)
        saver.send_signal(signal.SIGINT)
        assert saver.wait() == 130
        saver.stdout.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"a.toml", "b.toml"}


def test_two_writers_of_one_profile_leave_one_whole_profile(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "wizard", "--demo", "plan", "-o", str(tmp_path), "--force"]
    writers = [
        subprocess.Popen([*words, "--vm", f"web={function}"], cwd=PROJECT, stderr=subprocess.DEVNULL)
        for function in ("0000:14:00.0", "0000:41:00.0") * 3
    ]
    assert {writer.wait() for writer in writers} == {0}
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


def test_root_saving_over_a_users_file_leaves_it_to_the_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        skip_loudly("no file of another user can be saved over", "run the tests as root")
    mine = tmp_path / "web.toml"
    mine.write_text("# mine\n")
    os.chown(mine, 1234, 1234)
    mine.chmod(0o664)
    assert wizard(*plan("-o", tmp_path, "--force")).returncode == 0
    after = mine.stat()
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (1234, 1234, 0o664)
    assert "# mine" not in mine.read_text()


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 64 KiB, in a mount namespace of whoever uses it."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        skip_loudly("no full disk can be made", "run the tests as root, where a tmpfs can be mounted")
    directory = tmp_path / "small"
    directory.mkdir()
    return directory


def on_small_disk(directory: Path, command: str) -> subprocess.CompletedProcess[str]:
    script = f'mount -t tmpfs -o size=64k none "{directory}" && cd "{PROJECT}" && {command}'
    return subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=120)


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
    done = subprocess.run(words, capture_output=True, text=True, cwd=PROJECT, check=False)
    if "Permission denied" in done.stderr and "can't be written" not in done.stderr:
        skip_loudly("another user can't run this interpreter", "put the environment where nobody may read it")
    assert done.returncode == 5, done.stderr
    assert not list(directory.iterdir())
