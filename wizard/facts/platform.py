"""What a tree says of the host around its PCI functions: SMMUs, groups, NUMA nodes, kernel, ACPI tables, identity."""

from __future__ import annotations

import os
import posixpath
import re
import zlib
from collections.abc import Iterable

from wizard.facts.model import Group, Identity, IommuDevice, Kernel, Node
from wizard.facts.pseudonym import host_pseudonym, key_of, machine_pseudonym
from wizard.facts.scope import Scope
from wizard.facts.tree import Folder, Tree

TABLES = ("IORT", "MCFG", "APIC")  # APIC is the MADT
"""What is kept of ACPI, by signature."""
_PAGE_SHIFT = {"CONFIG_ARM64_4K_PAGES": 4096, "CONFIG_ARM64_16K_PAGES": 16384, "CONFIG_ARM64_64K_PAGES": 65536}
_CONFIG_PLACES = (("boot/config-", ""), ("usr/lib/modules/", "/config"), ("lib/modules/", "/config"))
_NUMBERS = ("product_uuid", "product_serial", "board_serial")  # of this machine alone: blades of one chassis share that one's
_COMMAND_LINE = 16384  # characters; COMMAND_LINE_SIZE is 2048 on arm64
_LIST_LIMIT = 65536
_CONFIG_LIMIT = 4 << 20  # bytes; 300 KB is usual
# How a kernel's own configuration is told from part of one: conf_write() of scripts/kconfig/confdata.c writes both lines at its head, one
# line for each option that can be seen (3,000 on a small x86 kernel, more on arm64), and since Linux 5.3 the end of each menu. "Kernel
# hacking" is the last menu that holds anything which matters here.
_HEADS = re.compile(rb"^# (?:Automatically generated file; DO NOT EDIT\.|Linux/\w+ .*Kernel Configuration)$", re.MULTILINE)
_HEAD = 400  # bytes
_OPTION_LINES = re.compile(rb"^(?:CONFIG_\w+=|# CONFIG_\w+ is not set$)", re.MULTILINE)
_LEAST_OPTIONS = 1000
_MENU_END, _LAST_MENU_END = b"\n# end of ", b"\n# end of Kernel hacking"
_KCONFIG = re.compile(
    r"CONFIG_(?:\w*(?:IOMMU|SMMU|VFIO|CMDQV)\w*|PCI|PCI_\w+|PCIE(?:AER|PORTBUS)|HOTPLUG_PCI\w*|KVM|\w+_PAGES|PAGE_SHIFT|ARM64_VA_BITS|HUGETLBFS|HUGETLB_PAGE"
    r"|ACPI|ACPI_(?:IORT|NUMA|HMAT)|CMA|CMA_\w+|DMA_CMA|DMA_SHARED_BUFFER|NUMA|DRIVER_PROBE\w*)"
)
# Of the modules that come and go, those that have a say in assigning devices.
_MODULES = re.compile(r"vfio|iommu|virtio_iommu|arm_smmu|kvm|mdev|nvgrace|nvidia|tegra241|mlx5_vfio|hisi_acc|pds_vfio|shpchp|pciehp")
_PARAMETERS = (
    "vfio_iommu_type1.allow_unsafe_interrupts",
    "iommufd.allow_unsafe_interrupts",
    "vfio_pci.ids",
    "vfio_pci.disable_idle_d3",
    "vfio.enable_unsafe_noiommu_mode",
    "arm_smmu_v3.disable_bypass",
    "arm_smmu_v3.disable_msipolling",
    "kvm.mode",
)


def read_iommus(tree: Tree) -> tuple[IommuDevice, ...]:
    """Every entry of /sys/class/iommu with what it serves, sorted by name."""
    found = []
    for name in tree.names("sys/class/iommu"):
        base = tree.link(f"sys/class/iommu/{name}") or f"sys/class/iommu/{name}"
        device = tree.link(f"{base}/device")
        driver = tree.target(f"{device}/driver") if device else None
        found.append(
            IommuDevice(
                name=name,
                device=posixpath.basename(device) if device else None,
                driver=posixpath.basename(driver) if driver else None,
                members=tuple(tree.names(f"{base}/devices")),
            )
        )
    return tuple(found)


GROUPS = "sys/kernel/iommu_groups"


def group_names(tree: Tree) -> list[str]:
    """The numbers of all groups as text, in their order."""
    return sorted((name for name in tree.names(GROUPS) if re.fullmatch(r"[0-9]{1,9}", name)), key=int)


def read_groups(tree: Tree, numbers: Iterable[str] | None = None, scope: Scope = Scope.WHOLE) -> tuple[Group, ...]:
    """Every IOMMU group (or those given), by number; without its type in the scope of a table."""
    names = group_names(tree) if numbers is None else numbers
    with tree.folder(GROUPS) as groups:
        return tuple(_group(groups, name, scope) for name in names)


def _group(groups: Folder, name: str, scope: Scope) -> Group:
    with groups.folder(name) as group:
        return Group(
            id=int(name),
            type=group.text("type") if scope is Scope.WHOLE else None,
            devices=tuple(group.names("devices")),
            reserved_regions=group.text("reserved_regions"),
        )


def read_nodes(tree: Tree) -> tuple[Node, ...]:
    """Every NUMA node with its CPUs, memory in bytes and hugepage pools."""
    base = "sys/devices/system/node"
    initiators = expand(tree.text(f"{base}/has_generic_initiator") or "")
    found = []
    for name in tree.names(base):
        if not re.fullmatch(r"node[0-9]{1,9}", name):
            continue
        number = int(name[4:])
        total = re.search(r"MemTotal:\s+(\d{1,15}) kB", tree.text(f"{base}/{name}/meminfo") or "")
        found.append(
            Node(
                id=number,
                cpus=tree.text(f"{base}/{name}/cpulist") or "",
                memory=int(total[1]) << 10 if total else None,
                distance=tree.text(f"{base}/{name}/distance"),
                generic_initiator=number in initiators,
                hugepages=hugepages(tree, f"{base}/{name}/hugepages", "nr_hugepages"),
            )
        )
    return tuple(sorted(found, key=lambda node: node.id))


def hugepages(tree: Tree, base: str, what: str) -> dict[str, int]:
    """Page size in KiB -> number of pages, of one directory hugepages-<size>kB."""
    pools = {}
    for name in tree.names(base):
        if match := re.fullmatch(r"hugepages-([0-9]{1,12})kB", name):
            count = tree.number(f"{base}/{name}/{what}")
            if count is not None and count >= 0:
                pools[match[1]] = count
    return dict(sorted(pools.items(), key=lambda item: int(item[0])))


def expand(cpulist: str) -> set[int]:
    """The numbers of a kernel list: ``0-3,8`` -> {0, 1, 2, 3, 8}."""
    numbers: set[int] = set()
    for first, last in re.findall(r"(?<!\d)(\d{1,6})(?:-(\d{1,6}))?(?!\d)", cpulist[:65536]):
        numbers.update(range(int(first), min(int(last or first) + 1, _LIST_LIMIT)))
        if len(numbers) >= _LIST_LIMIT:
            break
    return numbers


def read_kernel(tree: Tree) -> Kernel:
    """Release, command line, configuration (the lines that matter), module parameters."""
    release, version, machine = _uname(tree)
    config, partial = kernel_config(tree, release)
    page_size = next((size for option, size in _PAGE_SHIFT.items() if config and config.get(option) == "y"), None)
    if page_size is None and config and (shift := config.get("CONFIG_PAGE_SHIFT")):
        page_size = 1 << int(shift) if shift in ("12", "14", "16") else None
    if tree.live:  # the kernel's own word; its configuration may be root's, and it names its architecture since 6.1 only
        page_size, machine = os.sysconf("SC_PAGE_SIZE"), machine or os.uname().machine
    modules = tree.text("proc/modules")
    parameters = {}
    for name in _PARAMETERS:
        module, parameter = name.split(".")
        if (value := tree.text(f"sys/module/{module}/parameters/{parameter}")) is not None:
            parameters[name] = value
    return Kernel(
        release=release,
        version=version,
        machine=machine,
        cmdline=_command_line(tree),
        page_size=page_size,
        config=config,
        config_partial=partial,
        modules=tuple(sorted(line.split()[0] for line in (modules or "").splitlines() if _MODULES.match(line))),
        module_parameters=parameters,
        drivers=tuple(tree.names("sys/bus/pci/drivers")),
    )


def _command_line(tree: Tree) -> str | None:
    text = tree.text("proc/cmdline")
    return None if text is None else text[:_COMMAND_LINE]


def _uname(tree: Tree) -> tuple[str, str, str]:
    words = (tree.text("uname") or tree.text("sos_commands/kernel/uname_-a") or "").split()
    proc = tree.text("proc/version") or ""
    match = re.match(r"Linux version (\S+) .*?(#\d.*)", proc, re.DOTALL)
    release = match[1] if match else (words[2] if len(words) > 2 else "")
    machine = next((word for word in words if word in ("aarch64", "arm64", "x86_64")), "") or (tree.text("proc/sys/kernel/arch") or "")
    return release, match[2] if match else "", machine


def kernel_config(tree: Tree, release: str) -> tuple[dict[str, str] | None, bool]:
    """(CONFIG_X -> value of the options that matter, whether more may be missing than the file says).

    "n" is "is not set". None when there is no file, or none that can be read. A whole file (``_is_whole``) leaves out what depends on
    something that is off; part of one proves nothing by its silence.
    """
    for path in ("proc/config.gz", "kernel-config", *(f"{place}{release}{end}" for place, end in _CONFIG_PLACES if release)):
        data = tree.data(path)
        if not data:
            continue
        cut = False
        if path.endswith(".gz"):
            unpacker = zlib.decompressobj(wbits=31)
            try:
                data = unpacker.decompress(data, _CONFIG_LIMIT)
            except zlib.error as error:
                tree.unread["/" + path] = f"no gzip: {error}"
                continue
            cut = not unpacker.eof
        text = data.decode(errors="backslashreplace")
        config = {name: value.strip('"') for name, value in re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE)}
        config |= dict.fromkeys(re.findall(r"^# (CONFIG_\w+) is not set$", text, re.MULTILINE), "n")
        partial = cut or not _is_whole(data)
        return {name: value for name, value in sorted(config.items()) if _KCONFIG.fullmatch(name)}, partial
    return None, False


def _is_whole(data: bytes) -> bool:
    """Whether these bytes are all of a kernel's own configuration: its head, as many options as a real one has, and its last menu.

    A report that was cleaned, a file that was cut and a list of chosen options can each have the head.
    """
    ended = _MENU_END not in data or _LAST_MENU_END in data
    return ended and _HEADS.search(data[:_HEAD]) is not None and sum(1 for _ in _OPTION_LINES.finditer(data)) >= _LEAST_OPTIONS


def has_device_tree(tree: Tree) -> bool | None:
    """Whether the kernel shows a device tree in use; ACPI hosts have none, or an empty one."""
    firmware = tree.names("sys/firmware")
    return None if not firmware else "compatible" in tree.names("sys/firmware/devicetree/base")


def read_acpi(tree: Tree) -> dict[str, str]:
    """Whole ACPI tables by signature, as hex; the tree's own ``acpi/`` serves where /sys could not be copied."""
    tables = {}
    for signature in TABLES:
        data = tree.data(f"sys/firmware/acpi/tables/{signature}") or tree.data(f"acpi/{signature}.bin")
        if data:
            tables[signature] = data.hex()
            tree.unread.pop(f"/sys/firmware/acpi/tables/{signature}", None)
    return tables


def read_identity(tree: Tree) -> Identity:
    """Vendor, product and firmware out of DMI, and the host's pseudonym where its machine-id is there."""
    base = "sys/class/dmi/id"
    directory = tree.link(base) or base

    def text(name: str) -> str | None:
        return tree.text(f"{directory}/{name}") or None

    firmware = " ".join(part for name in ("bios_vendor", "bios_version", "bios_date") if (part := text(name)))
    key = key_of(tree)
    numbers = [tree.text(f"{directory}/{name}") for name in _NUMBERS] if key else []
    return Identity(
        host=host_pseudonym(key) if key else None,
        machine=machine_pseudonym(key, filter(None, numbers)) if key else None,
        vendor=text("sys_vendor"),
        product=text("product_name"),
        board=text("board_name"),
        firmware=firmware or None,
    )
