"""VMs of others, mended in their own text: the errors of the samples go, nothing else comes, and no other character changes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from tests.tools.hosts import host, plan
from tests.tools.libvirt import native
from tests.tools.requests import SETS
from tests.tools.samples import ASSUMED, DATA, ROWS
from wizard.base.errors import WizardError
from wizard.base.finding import Severity
from wizard.existing.load import Opened
from wizard.existing.load import open_text as opened
from wizard.export import libvirt_xml
from wizard.mend import Mended, mend
from wizard.mend.guests import GUEST_MENDS
from wizard.plan.planner import make_plan
from wizard.plan.request import Request

# Of the samples: which errors of expected.tsv are mended, and what the lines that change look like then.
MENDED = {
    "xml/wren.xml": ["pciBus='1' accel='on'", "pciBus='2' accel='on'"],
    "xml/smew.xml": ["<address type='pci' domain='0x0000' bus='0x00' slot='0x03' function='0x0'/>"],
    "xml/dunlin.xml": ["<address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/>"],
    "xml/knot.xml": ["<target busNr='8'>"],
    "xml/sora.xml": ["<hard_limit unit='MiB'>3073</hard_limit>"],
    "xml/curlew.xml": ["ats='on' ril='off' ssidsize='20' oas='48'"],
    "qemu/buzzard.sh": [f"primary-bus=pcie.{number},accel=on,ril=on,ats=off,oas=44,ssidsize=0" for number in (1, 2)],
    "qemu/goshawk.sh": ["virtio-net-pci,netdev=n0,bus=pcie.0,mac=52:54:00:5a:10:33,addr=0x4"],
    "qemu/shikra.sh": ["id=pxb2,bus=pcie.0,addr=2,bus_nr=16"],
    "qemu/saker.sh": ["accel=on,oas=44,ats=off,cmdqv=off,ril=on,ssidsize=0 "],
    "qemu/secretary.sh": ["id=dev1.2,bus=pcie.2", "bus=dev1.2,rombar=0,id=dev1,"],
    "qemu/gannet.sh": ["smmuv3.1,accel=on,ats=on,ril=off,ssidsize=20,oas=48", "smmuv3.2,accel=on,ats=on,ril=off,ssidsize=20,oas=48"],
}
# What no rule mends: a descriptor names no function.
LEFT = {"qemu/hen.log"}


def mended(name: str, text: str, on: str) -> Mended:
    def permit(request: Request) -> Request:
        return replace(request, vms=tuple(replace(vm, assume_accel=on in ASSUMED) for vm in request.vms))

    return mend(host(on), {name: text}, opened, permit)


def findings(name: str, text: str, on: str) -> set[tuple[str, str]]:
    (vm,) = opened(name, text)
    plan = make_plan(host(on), Request(vms=(replace(vm.request, assume_accel=on in ASSUMED),)))
    return {(finding.code, finding.subject) for finding in (*vm.findings, *plan.findings) if finding.severity is not Severity.INFO}


def changed(old: str, new: str) -> list[str]:
    return [line[2:] for line in difflib.ndiff(old.splitlines(), new.splitlines()) if line.startswith("+ ")]


@pytest.mark.parametrize("name", sorted(ROWS))
def test_samples(name: str) -> None:
    on, data = ROWS[name]["host"], (DATA / name).read_bytes()
    if b"\0" in data:
        return  # a process's own words: there is no file to mend, and it is fine
    text = data.decode()
    before, result = findings(name, text, on), mended(name, text, on)
    new = result.texts[name]
    if name not in MENDED:
        assert new == text
        assert bool(result.left) is (name in LEFT)
        return
    assert result.left == (), name
    assert {change.finding.code for change in result.changes} <= {code for code, _ in before}
    after = findings(name, new, on)
    assert after <= before
    assert not {code for code, _ in after} & {change.finding.code for change in result.changes}
    lines = changed(text, new)
    assert all(any(wanted in line for line in lines) for wanted in MENDED[name]), lines
    # A line of a mend may be a copy of one that was there (a second <iommu>, with its model and end).
    assert len(lines) <= len(MENDED[name]) + 2 * (name == "xml/wren.xml"), lines
    assert mended(name, new, on).changes == ()


def test_every_mistake_of_the_samples_is_mended_or_said_to_be_somebodys() -> None:
    wrong = {name for name, row in ROWS.items() if not row["must appear"].startswith("fine")}
    assert wrong <= set(MENDED) | LEFT


# A VM that is fine, broken in one place: the mend gives that place back, or the value that is wanted.
BROKEN = [
    ("qemu/kestrel.sh", "chassis-twice", "chassis=2", "chassis=1", None),
    ("qemu/kestrel.sh", "chassis-range", "chassis=2", "chassis=256", None),
    ("qemu/kestrel.sh", "bus-number-twice", "bus_nr=0x20", "bus_nr=0x10", "bus_nr=8,"),
    ("qemu/kestrel.sh", "no-msi-doorbell", "gic-version=3", "gic-version=3,its=off", "gic-version=3,its=on"),
    ("qemu/kestrel.sh", "gic-impossible", "gic-version=3", "gic-version=4", None),
    ("qemu/kestrel.sh", "vfio-without-iommufd", "14:00.0,bus=rp1,iommufd=iommufd0", "14:00.0,bus=rp1", "14:00.0,bus=rp1,iommufd=iommufd0"),
    ("xml/tern.xml", "chassis-twice", "chassis='4'", "chassis='3'", None),
    ("xml/tern.xml", "property-exceeds-host", "oas='44'", "oas='48'", None),
    ("xml/tern.xml", "bus-range", "busNr='32'", "busNr='17'", "busNr='8'"),
    ("xml/tern.xml", "no-acpi", "    <acpi/>\n", "", "    <acpi/>\n"),
    ("xml/tern.xml", "import-unknown-word", " ssidsize='0'", " ssidSize='0'", None),
    ("xml/tern.xml", "vfio-without-iommufd", "  <iommufd enabled='yes'/>\n", "", "<driver iommufd='yes'/>"),
    ("xml/tern.xml", "two-vsmmus-on-one-bus", "pciBus='2'", "pciBus='1'", None),
    ("xml/tern.xml", "import-bus-missing", "pciBus='2'", "pciBus='9'", None),
    ("qemu/kestrel.sh", "two-vsmmus-on-one-bus", "primary-bus=pcie.2", "primary-bus=pcie.1", None),
    ("qemu/shikra.sh", "id-reserved", "id=f1,", "id=type,", "id=type.2,"),
    ("qemu/shikra.sh", "id-grammar", "id=f1,", "id=1f,", "id=id1f.2,"),
    ("qemu/secretary.sh", "mmio-window-small", ",highmem-mmio-size=4T", "", "ras=on,highmem-mmio-size="),
]  # fmt: skip


@pytest.mark.parametrize(("name", "code", "right", "wrong", "wanted"), BROKEN, ids=[f"{row[0][:8]}-{row[1]}" for row in BROKEN])
def test_broken_in_one_place(name: str, code: str, right: str, wrong: str, wanted: object) -> None:
    on = ROWS[name]["host"]
    text = (DATA / name).read_text()
    assert right in text
    broken = text.replace(right, wrong, 1)
    before = findings(name, broken, on)
    assert code in {one for one, _ in before}
    result = mended(name, broken, on)
    new = result.texts[name]
    assert result.left == ()
    assert findings(name, new, on) <= before - {one for one in before if one[0] == code}
    if wanted is None:
        assert len(changed(broken, new)) <= 2
        assert sorted(changed(text, new)) == sorted(line for line in changed(text, new) if not re.search(r"--|\.\.", line))
    else:
        assert str(wanted).strip() in "\n".join(changed(broken, new))


def test_a_command_line_without_iommufd_gets_one() -> None:
    """Once, in front of the first function, and each function behind a vSMMU names it."""
    text = (DATA / "qemu/kestrel.sh").read_text()
    broken = text.replace("    -object iommufd,id=iommufd0 \\\n", "").replace(",iommufd=iommufd0", "")
    assert "iommufd" not in broken
    new = mended("qemu/kestrel.sh", broken, ROWS["qemu/kestrel.sh"]["host"]).texts["qemu/kestrel.sh"]
    assert new.count("-object iommufd,id=iommufd0 -device vfio-pci,host=14:00.0") == 1
    assert new.count(",iommufd=iommufd0") == 2
    assert new.count("-object") == 1


def test_what_acceleration_brings_is_said_with_the_mend() -> None:
    """A misspelt accel had hidden that auto depends on the host: the mend is made, and says so."""
    text = (DATA / "qemu/shikra.sh").read_text().replace("bus_nr=10", "bus_nr=16")
    broken = text.replace("primary-bus=pxb2,accel=on", "primary-bus=pxb2,acel=on").replace("primary-bus=pxb1,accel=on", "primary-bus=pxb1,acel=on")
    result = mended("qemu/shikra.sh", broken, ROWS["qemu/shikra.sh"]["host"])
    assert result.texts["qemu/shikra.sh"] == text, result.left
    assert "then warned of: auto-depends-on-host" in result.changes[0].does


def test_a_free_port_of_a_domain_is_mended_too() -> None:
    made = plan(replace(SETS["hot-plug"], name="free")).vms[0]
    right = libvirt_xml(made)
    chassis = [port.chassis for port in made.ports]
    assert len(chassis) > 1
    wrong = right.replace(f'chassis="{chassis[1]}"', f'chassis="{chassis[0]}"')
    assert wrong != right
    result = mend(host(), {"free.xml": wrong}, opened)
    assert result.texts["free.xml"] == right, result.left


def test_which_bus_is_meant_is_not_guessed() -> None:
    """Both vSMMUs on a bus that is none: two expanders are left over for them."""
    text = (DATA / "xml/tern.xml").read_text()
    broken = text.replace("pciBus='1'", "pciBus='8'").replace("pciBus='2'", "pciBus='9'")
    result = mended("xml/tern.xml", broken, ROWS["xml/tern.xml"]["host"])
    assert result.texts["xml/tern.xml"] == broken
    assert any("not to be seen" in one.because for one in result.left)


def test_bytes_around_a_mend_stay() -> None:
    """A mark of the encoding, line ends of Windows, blanks, comments and text beyond ASCII."""
    text = (DATA / "xml/curlew.xml").read_text()
    odd = "\ufeff<!-- Grüße ♥ -->\n" + text.replace("\n", "\r\n").replace("<iommu ", "<!-- ssidSize='1' -->\r\n    <iommu ", 1)
    new = mended("xml/curlew.xml", odd, "gb200").texts["xml/curlew.xml"]
    assert new == odd.replace("ril='off' ssidSize=", "ril='off' ssidsize=")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text.replace("oas=48", 'oas="$OAS"').replace("IMG=", "OAS=48\nIMG="), "written in one piece|it is written"),
        (lambda text: text.replace("oas=48", 'oas=4"8"'), "written in one piece"),
    ],
)
def test_what_is_written_in_no_one_place_is_left(change: Callable[[str], str], why: str) -> None:
    """A variable that is set above may serve other things too; a word in pieces has no place."""
    text = change((DATA / "qemu/buzzard.sh").read_text())
    result = mended("qemu/buzzard.sh", text, ROWS["qemu/buzzard.sh"]["host"])
    if result.left:
        assert any(re.search(why, one.because) for one in result.left)
        assert result.texts["qemu/buzzard.sh"] == text
    else:
        assert "OAS=44" in result.texts["qemu/buzzard.sh"]


def test_a_profile_and_a_domain_are_mended_together(tmp_path: Path) -> None:
    """Each by its own writer; what they have in common is somebody's to decide."""
    domain = (DATA / "xml/tern.xml").read_text().replace("oas='44'", "oas='48'")
    script = (DATA / "qemu/buzzard.sh").read_text()
    result = mend(host(ROWS["xml/tern.xml"]["host"]), {"a.xml": domain, "b.sh": script}, opened)
    assert {one.finding.code for one in result.left} == {"function-in-two-vms", "memory-over-host"}
    assert "oas='48'" not in result.texts["a.xml"]
    assert "oas=48" not in result.texts["b.sh"]


def test_every_mend_of_texts_is_tried() -> None:
    tried = {row[1] for row in BROKEN} | {"import-accel-dropped", "memlock-hard-limit", "smmus-joined", "id-twice"}
    assert set(GUEST_MENDS) <= tried


def no_host(text: str) -> str:
    """The domain without what libvirt looks for on this very machine."""
    # A network of a bridge takes /dev/net/tun: another emulated device is in its place, where it is.
    other = r"<rng model='virtio'><backend model='random'>/dev/urandom</backend>\1</rng>"
    text = re.sub(r"<interface .*?(<address [^>]*/>)\s*</interface>", other, text, flags=re.DOTALL)
    return re.sub(r"mode='host-passthrough'( check='none')?", "mode='maximum'", text).replace("type='kvm'", "type='qemu'", 1)


def test_libvirt_makes_of_the_mended_domains_what_is_meant() -> None:
    """Held against libvirt itself: both vSMMUs with accel, the network on pcie.0, each function behind its own."""
    domains, functions = {}, set[str]()
    for name in ("wren", "smew", "dunlin"):
        text = mended(f"xml/{name}.xml", (DATA / f"xml/{name}.xml").read_text(), ROWS[f"xml/{name}.xml"]["host"]).texts[f"xml/{name}.xml"]
        functions |= {function.host for vm in opened("x.xml", text) for function in vm.request.functions}
        domains[name] = no_host(text)
    for name, answer in native(domains, sorted(functions)).items():
        assert not answer.refused, (name, answer.refused)
        said = " ".join(answer.argv)
        assert said.count('"driver":"arm-smmuv3"') == 2
        assert said.count('"accel":true') == 2
        assert "iommu=smmuv3" not in said
        ports = dict(re.findall(r'"id":"(pci\.\d)","bus":"([a-z.0-9]+)"', said))
        behind = re.findall(r'"driver":"vfio-pci".*?"bus":"(pci\.\d)"', said)
        assert [ports[port] for port in behind] == ["pci.1", "pci.2"], (name, said)
        emulated = re.findall(r'"driver":"virtio-rng-pci".*?"bus":"([a-z.0-9]+)"', said)
        assert emulated in ([], ["pcie.0"])


def test_opened_is_what_check_opens() -> None:
    for name in ("xml/tern.xml", "qemu/kestrel.sh"):
        (vm,) = opened(name, (DATA / name).read_text())
        assert isinstance(vm, Opened)
        assert vm.guest is not None


PIECES = [
    "oas=99",
    "bus_nr=-1",
    "''",
    '"',
    "<",
    "&amp;",
    "\\",
    "$X",
    "9" * 19,
    "id=",
    "<address/>",
    "iommufd=",
    "é",
    "\r\n",
    " -device ",
    "{",
    "}",
    ",,",
]


@pytest.mark.parametrize("seed", range(4))
def test_no_broken_text_breaks_the_mending(seed: int) -> None:
    """Pieces taken out, put in, lines exchanged: a text is mended, left, or refused with a sentence; never an internal error, never made worse."""
    random = Random(seed)
    hosts = {row["host"]: host(row["host"]) for row in ROWS.values()}
    texts = {name: data.decode() for name in ROWS if b"\0" not in (data := (DATA / name).read_bytes())}
    for _ in range(40):
        name = random.choice(sorted(texts))
        text = broken(texts[name], random)
        try:
            result = mend(hosts[ROWS[name]["host"]], {name: text}, opened)
        except WizardError:
            continue
        if not result.changes:
            assert result.texts[name] == text


def broken(text: str, random: Random) -> str:
    for _ in range(random.randint(1, 3)):
        at, how = random.randrange(len(text)), random.random()
        if how < 0.4:
            text = text[:at] + text[at + random.randint(1, 30) :]
        elif how < 0.7:
            text = text[:at] + random.choice(PIECES) + text[at:]
        else:
            lines = text.split("\n")
            one, other = random.randrange(len(lines)), random.randrange(len(lines))
            lines[one], lines[other] = lines[other], lines[one]
            text = "\n".join(lines)
    return text
