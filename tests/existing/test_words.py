"""Sources of every kind -> words: what is understood, what is said with its place, and what bounds there are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wizard.base.errors import InputError
from wizard.existing.guest import Fate
from wizard.existing.words import Commands, kind_of, read_commands

QEMU = "qemu-system-aarch64"


def read(text: str, name: str = "x.sh") -> Commands:
    return read_commands(text.encode(errors="surrogateescape"), name)


def words(text: str, name: str = "x.sh") -> list[str]:
    (command,) = read(text, name).commands
    return [word.text for word in command.words]


def said(text: str, name: str = "x.sh") -> list[str]:
    return [f"{left.where.line}: {left.name}: {left.said}" for left in read(text, name).left]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"sudo -E {QEMU} -M virt", ["-M", "virt"]),
        (f"sudo nice -n 5 taskset -c 0-3 numactl --membind=1 {QEMU} -M virt -m 1G", ["-M", "virt", "-m", "1G"]),
        (f"exec env -i LC_ALL=C setpriv --reuid=qemu prlimit --memlock=unlimited:unlimited {QEMU} -M virt", ["-M", "virt"]),
        (f"{QEMU} -M virt > /tmp/log 2>&1 < /dev/null &\nwait", ["-M", "virt"]),
        (f"{QEMU} -M virt 3<>/dev/vfio/devices/vfio0 | tee log", ["-M", "virt"]),
        (f"cmd='{QEMU} -M virt'\ncmd=\"$cmd -m 2G\"\n$cmd -smp 2", ["-M", "virt", "-m", "2G", "-smp", "2"]),
        (f"eval '{QEMU} -M \"virt\"' -m 2G", ["-M", "virt", "-m", "2G"]),
        (f"su -c '{QEMU} -M virt -name \"a b\"' qemu", ["-M", "virt", "-name", "a b"]),
        (f'screen -dmS vm bash -c "{QEMU} -M virt -nographic"', ["-M", "virt", "-nographic"]),
        (f"start() {{\n  local mem=2G\n  {QEMU} -M virt -m $mem\n}}\nstart", ["-M", "virt", "-m", "2G"]),
        (f"set -- -M virt -m 1G\n{QEMU} \"$@\"", ["-M", "virt", "-m", "1G"]),
        (f"QEMU=/opt/bin/{QEMU}; \"$QEMU\" -M virt", ["-M", "virt"]),
        (f"{QEMU} --version | head -1\n{QEMU} -device help\nwhich {QEMU}\npkill {QEMU}\n{QEMU} -M virt", ["-M", "virt"]),
        (f"MEM=${{1:-4G}}\n: ${{CPUS:=2}}\n{QEMU} -M virt -m $MEM -smp $CPUS", ["-M", "virt", "-m", "4G", "-smp", "2"]),
        (f"cat > note <<'EOF'\n{QEMU} -M q35\nEOF\n{QEMU} -M virt", ["-M", "virt"]),
        (f"{QEMU} -M virt \\\r\n  -m 2G\r\n", ["-M", "virt", "-m", "2G"]),
        ("/usr/libexec/qemu-kvm -M virt", ["-M", "virt"]),
        (f"case $1 in\nstart)\n  {QEMU} -M virt ;;\nesac", ["-M", "virt"]),
    ],
)  # fmt: skip
def test_a_command_is_found_and_its_words_are_taken(script: str, expected: list[str]) -> None:
    assert words(script) == expected


def test_what_stands_around_the_program_is_kept() -> None:
    (command,) = read(f"ulimit -l unlimited\nA=1 sudo -u qemu taskset -c 0-3 {QEMU} -M virt").commands
    assert [word.text for word in command.before] == ["sudo", "-u", "qemu", "taskset", "-c", "0-3"]
    assert (command.user, command.memlock) == ("qemu", -1)
    assert [(name, value.text) for name, value in command.environment] == [("A", "1")]


@pytest.mark.parametrize(
    ("script", "what"),
    [
        (f"{QEMU} -M virt \\ \n  -device vfio-pci,host=1:0.0\n", "1: \\ : a space after the backslash"),
        (
            f"{QEMU} -M virt \\\n  # the card \\\n  -device vfio-pci,host=01:00.0\n",
            "3: -device vfio-pci,host=01:00.0: the command that begins in line 1 ends before this line",
        ),
        (f"{QEMU} -M virt -m '4G\n -smp 2\n", "1: '4G: a quote that begins here never ends ('); it is taken to end with its line"),
        (f"if [ -e /x ]; then A+=(-device nvme); fi\nA=(1)\nif x; then A+=(-device e1000); fi\n{QEMU} -M virt \"${{A[@]}}\"",
         "3: A+=-device e1000: this stands in an if; what it adds is left out"),
        (f"if kvm-ok; then {QEMU} -M virt -enable-kvm; fi", f"1: {QEMU}: this command stands in an if; it is read as if it was run"),
        (f". /etc/vm.conf\n{QEMU} -M virt -m $MEM", "1: . /etc/vm.conf: this file is not read; what it sets is not known"),
        (f"{QEMU} -M virt -device {{driver,x}}", "1: {driver,x}: bash makes several words of unquoted braces"),
        (f"cat <<A\nx\nA\n{QEMU} -M virt", "1: <<A: here-documents are not read: what this one holds is passed over"),
        (f"MEM=${{1:-4G}}\n{QEMU} -M virt -m $MEM", "1: ${1:-4G}: 1 is not set here, so what stands behind :- is taken"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_said_with_its_place(script: str, what: str) -> None:
    assert any(one.startswith(what) for one in said(script))


def test_a_quote_that_never_ends_leaves_the_rest_to_be_read() -> None:
    assert words(f"{QEMU} -M virt \\\n -name 'web \\\n -m 2G \\\n -smp 2\n") == ["-M", "virt", "-name", "web", "-m", "2G", "-smp", "2"]


@pytest.mark.parametrize("expression", ["$MEM", "${MEM}", "$(nproc)", "`nproc`", "$((1 + 1))", "${A%x}", "$1", "${!A}"])
def test_an_unresolved_value_is_a_hole_with_its_place_and_never_empty(expression: str) -> None:
    (command,) = read(f"A=x\n{QEMU} -M virt -m {expression}.M").commands
    word = command.words[-1]
    assert word.text == f"{expression}.M"
    assert [(hole.expression, hole.where.line) for hole in word.holes] == [(expression, 2)]


def test_nothing_is_run(tmp_path: Path) -> None:
    script = f"$(touch {tmp_path}/a)\n`touch {tmp_path}/b`\ntouch {tmp_path}/c\n{QEMU} -M virt -name $(touch {tmp_path}/d) | touch {tmp_path}/e"
    read(script)
    assert list(tmp_path.iterdir()) == []


# -- units -----------------------------------------------------------------------------------------------------------------


UNIT = f"""[Unit]
Description=%n
[Service]
User=qemu
LimitMEMLOCK=64G
Environment=MEM=4G "SMP=2 -S"
ExecStart=@/usr/bin/{QEMU} vm-%i -M virt -name %i-%% \\
  # a remark between
  -m ${{MEM}} -smp $SMP -append "a b" -device 'nvme' -k %H
"""


def test_a_unit() -> None:
    (command,) = read(UNIT, "vm@a-b.service").commands
    assert [word.text for word in command.words] == [
        "-M", "virt", "-name", "a-b-%", "-m", "4G", "-smp", "2", "-S", "-append", "a b", "-device", "nvme", "-k", "%H",
    ]  # fmt: skip
    assert (command.user, command.memlock) == ("qemu", 64 << 30)
    assert [hole.expression for word in command.words for hole in word.holes] == ["%H"]


def test_a_template_without_an_instance_keeps_its_specifier() -> None:
    (command,) = read(UNIT, "vm@.service").commands
    name = command.words[3]
    assert name.text == "%i-%"
    assert name.holes[0].because == "systemd fills it in when the unit starts"


# -- other sources ---------------------------------------------------------------------------------------------------------


def test_ps_has_no_quotes() -> None:
    line = (
        f'root 4711 1 99 10:01 ? 00:10:00 /usr/bin/{QEMU} -name guest=my vm,x=on -M virt -device {{"driver":"vfio-pci", "host":"0000:01:00.0"}} -m 1G'
    )
    found = read(f"UID PID PPID C STIME TTY TIME CMD\n{line}\n", "ps.txt")
    assert found.kind == "ps"
    assert [word.text for word in found.commands[0].words] == [
        "-name", "guest=my vm,x=on", "-M", "virt", "-device", '{"driver":"vfio-pci", "host":"0000:01:00.0"}', "-m", "1G",
    ]  # fmt: skip


def test_readconfig_is_merged_in_its_place() -> None:
    text = (
        '# QEMU config file\n[machine]\n  type = "virt"\n[device "rp"]\n  driver = "pcie-root-port"\n  bus = "pcie.0"\n[name]\n guest = "a,b"\nwhat\n'
    )
    script = f"{QEMU} -nodefaults -readconfig vm.cfg -S"
    (command,) = read_commands(script.encode(), "x.sh", opened={"vm.cfg": text.encode()}.get).commands
    expected = ["-nodefaults", "-machine", "type=virt", "-device", "id=rp,driver=pcie-root-port,bus=pcie.0", "-name", "guest=a,,b", "-S"]
    assert [word.text for word in command.words] == expected
    assert command.words[4].where(17, 31).show() == "vm.cfg, line 5"
    assert [(left.where.line, left.name) for left in command.left] == [(9, "what")]
    (unread,) = read(script).commands
    assert [(left.fate, left.text) for left in unread.left] == [(Fate.UNRESOLVED, "-readconfig vm.cfg")]
    (alone,) = read(text, "vm.cfg").commands
    assert [word.text for word in alone.words] == expected[1:-1]


def test_words_of_a_json_array_and_of_proc_are_the_same() -> None:
    expected = ["-M", "virt", "-name", 'a "b"\n', ""]
    assert words(json.dumps([QEMU, *expected]), "vm.json") == expected
    (command,) = read_commands("\0".join([QEMU, *expected, ""]).encode(), "/proc/7/cmdline").commands
    assert [word.text for word in command.words] == expected
    assert command.words[1].where().show() == "/proc/7/cmdline, word 2"


def test_the_last_start_of_a_log_counts() -> None:
    start = "2026-10-30 07:12:44.120+0000: starting up libvirt version: 12.8.0, qemu version: {}, kernel: 7.2, hostname: x\nLC_ALL=C \\\n"
    log = (
        start.format("11.0.1")
        + f"{QEMU} \\\n-name one\nsomething 'odd\n"
        + start.format("11.1.2 (Debian)")
        + f"{QEMU} \\\n-name \\\n'two'\nshutting down\n"
    )
    found = read(log, "vm.log")
    assert [[word.text for word in command.words] for command in found.commands] == [["-name", "two"]]
    assert found.commands[0].version == "11.1.2"
    assert found.commands[0].words[1].where().line == 10
    assert found.left[0].fate is Fate.PLAIN


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"<domain type='kvm'/>", None), (b"version = 1\nname = 'x'\n", None), (b"", None), (b"\0\0\0", None), (b"hello", None),
        (b"#!/bin/sh\nqemu-system-x86_64 -M q35\n", "shell"), (b"\xff\xfe\0\0qemux", None), (b"kvm\0-M\0virt\0", "nul"),
    ],
)  # fmt: skip
def test_kinds(data: bytes, kind: str | None) -> None:
    assert kind_of(data) == kind


# -- bounds ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        (f"{QEMU} -M virt " + "-S " * 3_000_000).encode(),
        (f"{QEMU}\0" + "-S\0" * 2_000_000).encode(),
        f"nothing\n{'x' * 1000}\n".encode() * 110_000,
    ],
    ids=["larger than any", "two million words", "100 MB"],
)
def test_what_is_too_large_is_refused_by_a_sentence(data: bytes) -> None:
    with pytest.raises(InputError, match=r"is larger than|has more than|has no command line"):
        read_commands(data, "big")


@pytest.mark.parametrize(
    "script",
    [
        "a=xxxxxxxxxxxxxxxx\n" + "a=$a$a\n" * 60, "a=(1)\n" + 'a=("${a[@]}" "${a[@]}")\n' * 60, "a=" + '"$(' * 100_000, "a=" + "${b:-" * 100_000,
        "a=" + "'" * 200_001, "a=" + '"' * 200_001, "a=(" * 50_000, "((" * 100_000, "`" * 100_001, "a=$'" * 50_000, "<<A " * 20_000, "if " * 100_000,
        f"bash -c '{QEMU} -M virt' " * 2000,
    ],
)  # fmt: skip
def test_what_is_nested_or_doubled_ends(script: str) -> None:
    """With a command behind it on a line of its own: it is found, or it is said why not."""
    try:
        found = read_commands(f"{script}\n{QEMU} -M virt\n".encode(), "x.sh").commands
    except InputError as error:
        found = ()
        said = error.what
    assert found or said.startswith("x.sh")
