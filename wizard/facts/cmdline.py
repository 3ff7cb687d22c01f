"""The kernel's command line, turned round: what the program reads stays, of everything else only the form.

Administrators, installers and cloud images put whatever they like on it: passwords, keys, names of servers, volumes and pools. Nobody
can list all of these, so what may stay is listed instead:

- an option of ``KEPT`` with a value of its form stays whole; each names its reader;
- an option of ``NAMES`` keeps its name, a word of ``FLAGS`` stays, any other name or word becomes ``redacted``;
- of a value that is not kept, UUIDs, MAC and IP addresses and the names that this host is known by become their pseudonyms, words of
  ``WORDS``, net masks, kernel names of disks and interfaces stay, and every other piece becomes ``redacted``. That has no digits behind it:
  a short password could be guessed from them by whoever knows the machine-id.

Sources of the names: Documentation/admin-guide/kernel-parameters.txt (Linux 6.18), dracut.cmdline(7), kernel-command-line(7) of systemd.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

import msgspec

from wizard.base.pattern import later

MARK = "redacted"


class Kept(msgspec.Struct, frozen=True):
    """An option whose value may be told."""

    form: str  # of the whole value, a regular expression
    reader: str  # who reads it: a finding's code, or "diff" for who compares two hosts by eye


_BOOL = r"[01]|[yYnN]|yes|no|on|off|true|false"
_SIZE = r"\d{1,12}[KMGTkmgt]?"
_LIST = r"(?:[a-z_]{1,20},)*\d{1,5}(?:-\d{1,5})?(?::\d{1,5}/\d{1,5})?(?:,\d{1,5}(?:-\d{1,5})?)*"
_IDS = r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}(?:[,:][0-9A-Fa-f]{4}:[0-9A-Fa-f]{4})*"
_ADDRESSES = r"(?:[0-9a-f]{1,8}:)?[0-9a-f]{1,2}:[0-9a-f]{1,2}\.[0-7]"
_VFIO_MODULES = r"(?:vfio|vfio[-_]pci|vfio[-_]iommu[-_]type1|iommufd)(?:,(?:vfio|vfio[-_]pci|vfio[-_]iommu[-_]type1|iommufd))*"
_PCI = (
    r"(?:off|noats|nomsi|noaer|noari|noacpi|nommconf|nodomains|nocrs|use_crs|assign-busses|big_root_window|realloc(?:=on|=off)?"
    r"|pcie_bus_(?:tune_off|safe|perf|peer2peer)|(?:hpbussize|hpiosize|hpmemsize|hpmmiosize|hpmmioprefsize)=\d{1,8}[KMG]?"
    rf"|disable_acs_redir={_ADDRESSES}(?:;{_ADDRESSES})*|(?:config_acs)=[01x]{{1,7}}@{_ADDRESSES}(?:;{_ADDRESSES})*)"
)

KEPT: dict[str, Kept] = {
    "iommu.passthrough": Kept(rf"{_BOOL}|[yYtT]\w{{0,4}}", "iommu-passthrough"),
    "iommu": Kept("pt|nopt|on|off|force|noforce|soft", "iommu-passthrough"),
    "hugepagesz": Kept(_SIZE, "hugepage-size-unknown"),
    "arm-smmu.disable_bypass": Kept(_BOOL, "smmuv2-option"),
    "iommu.strict": Kept(_BOOL, "diff"),
    "iommu.forcedac": Kept(_BOOL, "diff"),
    "arm_smmu_v3.disable_bypass": Kept(_BOOL, "diff"),
    "arm_smmu_v3.disable_msipolling": Kept(_BOOL, "diff"),
    "vfio-pci.ids": Kept(_IDS, "diff"),
    "vfio-pci.disable_idle_d3": Kept(_BOOL, "diff"),
    "vfio-pci.enable_sriov": Kept(_BOOL, "diff"),
    "vfio.enable_unsafe_noiommu_mode": Kept(_BOOL, "diff"),
    "vfio_iommu_type1.allow_unsafe_interrupts": Kept(_BOOL, "diff"),
    "iommufd.allow_unsafe_interrupts": Kept(_BOOL, "diff"),
    "kvm-arm.mode": Kept("none|nvhe|protected|nested", "diff"),
    "rd.driver.pre": Kept(_VFIO_MODULES, "diff"),
    "pci": Kept(rf"{_PCI}(?:,{_PCI})*", "diff"),
    "pcie_ports": Kept("native|compat|dpc-native", "diff"),
    "pcie_aspm": Kept("off|force", "diff"),
    "pcie_acs_override": Kept(rf"(?:downstream|multifunction|id:{_IDS})(?:,(?:downstream|multifunction))?", "diff"),
    "acpi": Kept("on|off|force|noirq|rsdt|strict|nocmcff", "diff"),
    "default_hugepagesz": Kept(_SIZE, "diff"),
    "hugepages": Kept(r"\d{1,12}|\d{1,4}:\d{1,12}(?:,\d{1,4}:\d{1,12})*", "diff"),
    "transparent_hugepage": Kept("always|madvise|never", "diff"),
    "mem": Kept(_SIZE, "diff"),
    "cma": Kept(rf"{_SIZE}(?:@{_SIZE}(?:-{_SIZE})?)?", "diff"),
    "numa": Kept("off|on|noacpi", "diff"),
    "numa_balancing": Kept("enable|disable", "diff"),
    "isolcpus": Kept(_LIST, "diff"),
    "nohz_full": Kept(_LIST, "diff"),
    "rcu_nocbs": Kept(_LIST, "diff"),
    "irqaffinity": Kept(_LIST, "diff"),
    "maxcpus": Kept(r"\d{1,5}", "diff"),
    "nr_cpus": Kept(r"\d{1,5}", "diff"),
    "loglevel": Kept(r"\d{1,2}", "diff"),
    "log_buf_len": Kept(_SIZE, "diff"),
    "console": Kept(r"(?:tty[A-Za-z]{0,4}|hvc)\d{0,3}(?:,\d{3,7}[neo]?\d{0,2}r?)?", "diff"),
    "earlycon": Kept(r"(?:pl011|uart|uart8250|sbsa|qcom_geni|hvc)(?:,mmio(?:16|32)?|,io)?(?:,0x[0-9a-fA-F]{1,16})?(?:,\d{3,7}[neo]?\d?)?", "diff"),
}
"""Options whose values stay, where they have the form, and who reads them. The kernel takes - and _ in a name as one."""

FLAGS = frozenset(
    (
        *("quiet", "splash", "rhgb", "debug", "ro", "rw", "single", "emergency", "rescue", "nomodeset", "nokaslr", "nosmp", "nosmt"),
        *("noirqbalance", "rootwait", "nofb", "noresume", "noefi", "nopku", "nohlt", "nohz", "nolapic", "nospectre_v2"),
        *("nospec_store_bypass_disable", "nowatchdog", "initcall_debug", "ignore_loglevel", "early_printk", "earlycon", "keep_bootcon", "kvm"),
        *("vfio", "threadirqs", "skew_tick", "fsck.repair", "systemd.debug-shell", "rd.break", "rd.shell", "rd.debug", "rd.neednet", "rd.luks"),
        *("rd.lvm", "rd.md", "rd.multipath", "rd.auto", "--"),
    )
)
"""Words without a value that stay."""

NAMES = frozenset(
    (
        *("root", "rootfstype", "rootflags", "rootdelay", "resume", "resume_offset", "init", "initrd", "BOOT_IMAGE", "BOOTIF", "bootif", "bootdev"),
        *("ip", "ifname", "bond", "bridge", "team", "vlan", "nameserver", "peerdns", "netroot", "nfsroot", "nfsaddrs", "cifsroot", "nbdroot"),
        *("biosdevname", "net.ifnames", "hostname", "systemd.hostname", "domain", "rd.peerdns", "rd.neednet", "rd.net.timeout.carrier", "rd.znet"),
        *("rd.luks", "rd.luks.uuid", "rd.luks.name", "rd.luks.key", "rd.luks.options", "luks.uuid", "luks.name", "luks.key", "luks.options"),
        *("rd.lvm", "rd.lvm.lv", "rd.lvm.vg", "rd.lvm.snapshot", "rd.md", "rd.md.uuid", "rd.dm", "rd.multipath", "rd.auto", "cryptdevice"),
        *("cryptkey", "rd.iscsi.initiator", "rd.iscsi.username", "rd.iscsi.password", "rd.iscsi.in.username", "rd.iscsi.in.password"),
        *("rd.iscsi.firmware", "rd.iscsi.target.name", "rd.iscsi.target.ip", "rd.iscsi.target.port", "rd.iscsi.ibft", "rd.iscsi.waitnet"),
        *("rd.iscsi.param", "rd.nvmf.hostnqn", "rd.nvmf.hostid", "rd.nvmf.discover", "rd.nvmf.nonbft", "nvme_core.hostnqn"),
        *("nvme_core.default_ps_max_latency_us", "nvme_core.multipath", "rd.fcoe", "fcoe", "rd.zfs", "zfs", "bootfs", "spl_hostid"),
        *("rd.driver.blacklist", "rd.driver.post", "rd.modules", "rd.vconsole.keymap", "rd.vconsole.font", "vconsole.keymap", "vconsole.font"),
        *("rd.locale.LANG", "locale.LANG", "LANG", "rd.timeout", "rd.retry", "rd.shell", "rd.break", "rd.debug", "rd.emergency", "inst.ks"),
        *("inst.repo", "inst.stage2", "inst.rootpw", "inst.sshd", "inst.vnc", "inst.vncpassword", "inst.proxy", "inst.noverifyssl", "inst.text"),
        *("ks", "ks.sendmac", "url", "auto", "priority", "preseed/url", "ds", "cloud-config-url", "network-config", "ignition.config.url"),
        *("ignition.platform.id", "ignition.firstboot", "coreos.inst.install_dev", "coreos.inst.ignition_url", "talos.platform", "talos.config"),
        *("systemd.unit", "systemd.mask", "systemd.wants", "systemd.log_level", "systemd.log_target", "systemd.set_credential"),
        *("systemd.set_credential_binary", "systemd.import_credentials", "systemd.machine_id", "systemd.setenv"),
        *("systemd.unified_cgroup_hierarchy", "systemd.journald.forward_to_console", "systemd.show_status", "systemd.firstboot"),
        *("systemd.default_timeout_start_sec", "systemd.crash_reboot", "systemd.verity", "systemd.gpt_auto", "udev.log_level", "rd.udev.log_level"),
        *("modules-load", "module_blacklist", "modprobe.blacklist", "initcall_blacklist", "module.sig_enforce", "netconsole", "crashkernel"),
        *("audit", "selinux", "enforcing", "apparmor", "security", "lsm", "lockdown", "ima_policy", "ima_appraise", "evm", "fips", "mitigations"),
        *("panic", "panic_on_oops", "oops", "softlockup_panic", "hung_task_panic", "nmi_watchdog", "watchdog", "watchdog_thresh", "printk.time"),
        *("printk.devkmsg", "printk.always_kmsg_dump", "dyndbg", "trace_event", "ftrace", "trace_buf_size", "efi", "efi_pstore.pstore_disable"),
        *("pstore.backend", "video", "fbcon", "vga", "drm.edid_firmware", "pcie_port_pm", "pnp.debug", "reboot", "clocksource", "tsc", "highres"),
        *("nohz", "cpuidle.off", "cpufreq.default_governor", "cpufreq.off", "intel_iommu", "amd_iommu", "intel_idle.max_cstate"),
        *("processor.max_cstate", "idle", "smt", "kpti", "rodata", "stack_guard_gap", "slub_debug", "slab_nomerge", "init_on_alloc"),
        *("init_on_free", "page_poison", "page_alloc.shuffle", "swiotlb", "coherent_pool", "memmap", "memblock", "vmalloc", "movablecore"),
        *("kernelcore", "movable_node", "memory_hotplug.memmap_on_memory", "hugetlb_cma", "hugetlb_free_vmemmap", "transparent_hugepage_shmem"),
        *("cgroup_disable", "cgroup_enable", "cgroup.memory", "cgroup_no_v1", "swapaccount", "psi", "zswap.enabled", "zswap.compressor"),
        *("elevator", "scsi_mod.use_blk_mq", "libata.force", "usbcore.autosuspend", "usbcore.quirks", "usb-storage.quirks"),
        *("workqueue.power_efficient", "rcutree.kthread_prio", "rcupdate.rcu_expedited", "kvm.nx_huge_pages", "kvm-arm.vgic_v4_enable"),
        *("kvm-arm.vgic_v3_group0_trap", "kvm-arm.wfe_trap_policy", "arm64.nosve", "arm64.nomte", "arm64.nopauth", "earlyprintk"),
        *("no_console_suspend", "consoleblank", "keep_bootcon", "rootwait", "raid", "md", "dm-mod.create", "ramdisk_size"),
        *KEPT,
    )
)
"""Options whose names stay; what they are set to does not, but for ``KEPT``."""

WORDS = frozenset(
    (
        *("dev", "disk", "mapper", "by-uuid", "by-id", "by-label", "by-partuuid", "by-partlabel", "by-path", "md", "zvol", "UUID", "PARTUUID"),
        *("LABEL", "PARTLABEL", "ID", "uuid", "luks", "LUKS", "ZFS", "zfs", "nfs", "nfs4", "iscsi", "fcoe", "nbd", "nvme", "http", "https", "ftp"),
        *("tftp", "tcp", "rdma", "fc", "file", "cdrom", "hd", "none", "off", "on", "any", "dhcp", "dhcp6", "auto6", "ibft", "link6", "both"),
        *("static", "either6", "bootif", "nocloud", "nocloud-net", "ext4", "xfs", "btrfs", "vfat", "squashfs", "overlay", "tmpfs", "ro", "rw"),
        *("rootfs",),
    )
)
"""Pieces of any value that stay: the words that say what kind of thing follows."""

INTERFACE = later(
    r"(?:lo|(?:eth|wlan|wwan|ib|usb|bond|team|br|virbr|vlan|tun|tap|veth|docker|dummy|sit|gre|macvtap|macvlan|vnet|vxlan|lxcbr|lxdbr|cni|flannel|ovs-system)\d{0,4}"
    r"|(?:en|ib|sl|wl|ww)(?:x[0-9a-f]{12}|(?:[A-Za-z]{1,2}\d{1,5}){1,8}))(?:np\d{1,3})?(?:v\d{1,4})?(?:\.\d{1,4})?"
)
"""Names of interfaces that the kernel or udev gives (systemd.net-naming-scheme(7)): they tell the place of a card and no more."""

_DISK = later(
    r"(?:(?:sd|vd|xvd|hd|dasd)[a-z]{1,3}|nvme\d{1,3}(?:c\d{1,3})?n\d{1,3}p?|mmcblk\d{1,2}p?|md|dm-|loop|sr|ram|nbd|zd|bcache)\d{0,4}p?\d{0,4}"
)
_FORMS = later(
    "|".join(
        (
            r"(?<![0-9A-Fa-f])(?P<uuid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})(?![0-9A-Fa-f])",
            r"(?<![0-9A-Za-z])(?P<octets>[0-9A-Fa-f]{2}(?P<sep>[:-])[0-9A-Fa-f]{2}(?:(?P=sep)[0-9A-Fa-f]{2}){4,18})(?![0-9A-Za-z])",
            r"\[(?P<ip6>[0-9A-Fa-f:.]{2,45})\]",
            r"(?<![\w:.])(?P<bare6>(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4})(?![\w:.])",
            r"(?<![\w.])(?P<ip>(?:\d{1,3}\.){3}\d{1,3})(?!\w|\.\d)",
        )
    )
)
_PIECE = later(r"[^\s/:=,;@|\[\](){}?&'\"+!#$%*<>~^`\\]+")
_WORD = later(r'(?:[^\s"]|"[^"]*(?:"|\Z))+')  # next_arg() of lib/cmdline.c: white space ends a word, but between double quotes
# print_kernel_cmdline() and print_unknown_bootoptions() of init/main.c, the latter from v5.14; drivers repeat single options in other words
_ECHO = later(r"(?i)((?:\bcommand[ _-]?line(?: parameters)?|\bbootargs)\s*(?:is\b)?\s*[:=]?\s*)(\S.*)", re.DOTALL)
_ECHOED = later(r'(?s)"(.*)"(, will be passed to user space\.?)?\s*\Z')

Give = Callable[[str, str], str]
"""(kind of form: uuid, octets, ip; the text) -> its pseudonym."""
Whole = Callable[[str], str]
"""A piece -> the pseudonym of the name of this host that it is, else ``MARK``."""


def words_of(line: str) -> Iterator[tuple[str, str | None]]:
    """(name, value or None) of each word, without the quotes around it."""
    for match in _WORD.finditer(line):
        name, equals, value = match[0].replace('"', "").partition("=")
        yield name, value if equals else None


def told(line: str, give: Give, whole: Whole) -> str:
    """A command line that can be given away: the white space, what may stay, and pseudonyms or ``redacted`` for all else."""

    def one(match: re.Match[str]) -> str:
        word = match[0]
        name, equals, value = word.replace('"', "").partition("=")
        canonical = name.replace("_", "-")
        if not equals:
            return word if name in FLAGS else whole(name)
        known = canonical in _NAMES
        kept = _KEPT.get(canonical)
        if kept is not None and kept.fullmatch(value):
            return word
        if known and _SWITCH.fullmatch(value):
            return word
        return f"{name if known else whole(name)}={_value(value, give, whole)}"

    return _WORD.sub(one, line)


def echo(line: str) -> tuple[str, str, str] | None:
    """(before, what is repeated of the command line, behind) of a line of the log that repeats it, or its unknown parts."""
    match = _ECHO.search(line)
    if match is None:
        return None
    quoted = _ECHOED.fullmatch(match[2])
    if quoted:
        return line[: match.start(2)] + '"', quoted[1], '"' + (quoted[2] or "")
    return line[: match.start(2)], match[2], ""


_NAMES = frozenset(name.replace("_", "-") for name in NAMES)
_KEPT = {name.replace("_", "-"): later(kept.form) for name, kept in KEPT.items()}
_SWITCH = later(_BOOL)


def _value(value: str, give: Give, whole: Whole) -> str:
    """A value that is not kept, piece by piece."""
    parts, at = [], 0
    for match in _FORMS.finditer(value):
        kind = match.lastgroup or ""
        start, end = match.span(kind)
        form = _form(kind, match[kind], give)
        if form is None:
            continue
        parts += [_pieces(value[at : match.start()], whole), value[match.start() : start], form, value[end : match.end()]]
        at = match.end()
    return "".join((*parts, _pieces(value[at:], whole)))


def _form(kind: str, text: str, give: Give) -> str | None:
    if kind in ("ip", "ip6", "bare6"):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return None
        return text if address.is_loopback or address.is_unspecified or _is_mask(address) else give("ip", text)
    return give(kind, text)


def _is_mask(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    inverted = int(address) ^ 0xFFFF_FFFF
    return address.version == 4 and int(address) >> 24 == 0xFF and inverted & (inverted + 1) == 0


def _pieces(text: str, whole: Whole) -> str:
    def one(match: re.Match[str]) -> str:
        core = match[0].strip("-_.")
        if not core or core in WORDS or INTERFACE.fullmatch(core) or _DISK.fullmatch(core):
            return match[0]
        before, after = match[0].split(core, 1)
        return before + whole(core) + after

    return _PIECE.sub(one, text)
