"""Nothing of a command line is dropped: each word ends as carried, kept aside, plain or named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from tests.existing.test_samples import DATA, EXPECTED
from wizard.existing.argv import read_argv
from wizard.existing.guest import Fate, Left
from wizard.existing.qemu.options import read_options
from wizard.existing.words import Command, Word, read_commands


def command_of(name: str) -> Command:
    (command,) = read_commands((DATA / name).read_bytes(), name).commands
    return command


def command(*words: str) -> Command:
    """A command line of some words."""
    return Command(program=Word(text="qemu-system-aarch64", source="x", number=0), words=tuple(Word(text=word, source="x") for word in words))


def named(vm: Command, what: str) -> list[Left]:
    return [left for left in read_argv(vm, "x").left if what in left.text or what in left.name]


def _with_a_key(vm: Command) -> Iterator[tuple[str, Command]]:
    """The command line with a key more in each of its options in turn."""
    for option in read_options(vm.words)[0]:
        if not option.keys or not option.keys[0].name or option.value is None:
            continue
        value = option.value.text
        more = value.rstrip().removesuffix("}") + ',"zzz":"7"}' if option.json else value + ",zzz=7"
        yield option.name, replace(vm, words=tuple(replace(word, text=more, holes=()) if word is option.value else word for word in vm.words))


@pytest.mark.parametrize("name", EXPECTED)
def test_an_unknown_key_in_any_option_is_named(name: str) -> None:
    for option, changed in _with_a_key(command_of(name)):
        assert any(left.fate in (Fate.UNKNOWN, Fate.KEPT, Fate.LOST) for left in named(changed, "zzz")), option
        if option in ("device", "object", "machine", "numa", "m", "smp", "name", "netdev", "drive", "chardev", "mon"):
            # What QEMU tells of itself is judged: it does not take it.
            assert any(left.fate is Fate.UNKNOWN for left in named(changed, "zzz")), option


@pytest.mark.parametrize("name", EXPECTED)
def test_an_unknown_word_anywhere_is_named(name: str) -> None:
    vm = command_of(name)
    starts = [at for at, word in enumerate(vm.words) if word.text.startswith("-")]
    for at in (*starts, len(vm.words)):
        for words in (["-zzz"], ["-zzz", "7"], ["--zzz", "7"]):
            new = tuple(Word(text=word, source=name) for word in words)
            found = named(replace(vm, words=(*vm.words[:at], *new, *vm.words[at:])), "zzz")
            assert [left.fate for left in found] == [Fate.UNKNOWN]
            assert "invalid option" in found[0].said
    for driver in ("zzz", "zzz,bus=pcie.0", '{"driver":"zzz"}'):
        found = named(replace(vm, words=(*vm.words, Word(text="-device", source=name), Word(text=driver, source=name))), "zzz")
        assert any(left.fate is Fate.UNKNOWN and "'zzz' is not a valid device model name" in left.said for left in found)


@pytest.mark.parametrize(
    ("words", "fate", "said"),
    [
        (["-device", "pxb-pcie,id=p,bus_nr=many"], Fate.UNKNOWN, "many is no value that bus_nr= can have"),
        (["-device", "pcie-root-port,id=p,addr=x1"], Fate.UNKNOWN, "x1 is no value that addr= can have"),
        (["-m", "lots"], Fate.UNKNOWN, "lots is no value that size= can have"),
        (["-device", "vfio-pci,host=10000:01:00.0"], Fate.UNKNOWN, "10000:01:00.0 is no value that host= can have"),
        (["-device", "vfio-pci,host=0000:01:00.0,host=0000:02:00.0"], Fate.LOST, "host= stands twice, and QEMU takes the last: 0000:02:00.0"),
        (["-device", "arm-smmuv3,primary-bus=p,smmuv3Dev=on"], Fate.UNKNOWN, "Property 'arm-smmuv3.smmuv3Dev' not found"),
        (["-device", '{"driver":"pxb-pcie","id":"p","id":"q"}'], Fate.UNKNOWN, "this is no JSON: the key id stands twice"),
        (["-device", '{"driver":"pxb-pcie"'], Fate.UNKNOWN, "this is no JSON: a comma or a closing brace is missing"),
        (["-device"], Fate.UNKNOWN, "requires an argument"),
        (["-object", "iommufdd,id=a"], Fate.UNKNOWN, "Parameter 'qom-type' does not accept value 'iommufdd'"),
        (["-machine", "virt,highmem-mmio-sizes=1T"], Fate.UNKNOWN, "Property 'virt-11.1-machine.highmem-mmio-sizes' not found"),
        (["-accel", "kvm,dirty-ring-size=4096"], Fate.LOST, "an export writes -accel kvm alone"),
        (["-numa", "node,mem=1024"], Fate.UNKNOWN, "Parameter -numa node,mem is not supported by this machine type"),
        (
            ["-m", "1G", "-machine", "virt,memory-backend=m", "-object", "memory-backend-ram,id=m,size=2G"],
            Fate.UNKNOWN, "Machine memory size does not match the size of the memory backend",
        ),
        (["-snapshot"], Fate.LOST, "writes go to temporary files"),
        (["-device", "usb-kbd,bus=usb.0"], Fate.KEPT, ""),
        (["-kernel", "/boot/vmlinuz"], Fate.KEPT, ""),
        (["/srv/disk.img"], Fate.KEPT, ""),
    ],
)  # fmt: skip
def test_what_is_wrong_or_kept_is_said_in_qemus_words(words: list[str], fate: Fate, said: str) -> None:
    found = [left for left in read_argv(command(*words), "x").left if left.fate is fate]
    assert any(said in left.said for left in found), found


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("ssidSize", "ssidsize"), ("ssid-size", "ssidsize"), ("primary_bus", "primary-bus"), ("acel", "accel"), ("cmd_qv", "cmdqv")],
)
def test_the_word_that_was_meant_is_offered(wrong: str, right: str) -> None:
    found = [left.meant for left in read_argv(command("-device", f"arm-smmuv3,{wrong}=1"), "x").left if left.fate is Fate.UNKNOWN]
    assert found == [right]


@pytest.mark.parametrize(("version", "fate"), [("11.1.9", Fate.UNKNOWN), ("12.0.0", Fate.KEPT), (None, Fate.UNKNOWN)])
def test_a_newer_qemu_may_have_newer_words(version: str | None, fate: Fate) -> None:
    """Its log says which it was; the table says nothing of it then."""
    found = read_argv(replace(command("-device", "arm-smmuv3,primary-bus=pcie.0,zzz=on"), version=version), "x").left
    assert [left.fate for left in found if "zzz" in left.text] == [fate]


def test_what_hangs_on_a_descriptor_goes_with_it() -> None:
    """An export with the card and without its network would not start."""
    found = {left.name: left.fate for left in read_argv(command_of("osprey.log"), "x").left}
    assert found["-netdev"] is found["-device virtio-net-pci"] is Fate.LOST
    assert found["-S"] is Fate.PLAIN


def test_without_m_the_backend_is_the_memory() -> None:
    vm = read_argv(command("-machine", "virt,memory-backend=m", "-object", "memory-backend-ram,id=m,size=2G"), "x")
    assert vm.memory.size == 2 << 30
    assert any("maxmem/slots too huge" in left.said for left in vm.left)
