"""What of an option is not in the model: kept aside, lost, plain, or not known; nothing is dropped without one of these."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from wizard.existing.guest import Device, Fate, Function, Left
from wizard.existing.qemu import grammar
from wizard.existing.qemu.backends import Backends, image_of
from wizard.existing.qemu.options import Key, Option, known_keys, unknown_key, unresolved
from wizard.existing.words import Command

# What every export writes or does by itself, or what only says how QEMU talks to whoever started it.
_PLAIN = frozenset(
    (
        *("nodefaults", "no-user-config", "display", "enable-kvm", "accel", "msg", "pidfile", "daemonize", "name", "only-migratable", "no-shutdown"),
        *("machine", "m", "smp"),
    )
)
_SAID = {
    "S": "the VM waits until it is told to go on (cont)", "incoming": "the VM waited for a migration", "loadvm": "the VM started from a saved state",
    "add-fd": "a descriptor of the process that ran", "snapshot": "writes go to temporary files",
}  # fmt: skip
_TYPES: dict[str, type] = {
    **dict.fromkeys(("accel", "multifunction", "bypass_iommu"), bool),
    **dict.fromkeys(("ats", "ril", "oas", "ssidsize", "cmdqv", "stage", "primary-bus", "bus", "id", "host", "sysfsdev", "iommufd", "addr"), str),
    **dict.fromkeys(("bus_nr", "numa_node", "chassis", "port", "rombar"), int),
}
"""JSON types of what a topology is made of, as QAPI has them: oas and ssidsize are enumerations, so they are texts (sources: qemu-command-line)."""
_MERGED = frozenset({"machine", "name", "m", "smp", "overcommit", "run-with"})
"""Options that QEMU merges when they stand several times: one key of them can go aside by itself."""
_PLAIN_ENVIRONMENT = frozenset(
    ("LC_ALL", "PATH", "HOME", "USER", "LOGNAME", "LANG", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR", "QEMU_AUDIO_DRV")
)
_DESCRIPTORS = {"fd": "tap", "fds": "tap", "vhostfd": "vhost-net", "vhostfds": "vhost-net"}


def of_functions(devices: Sequence[Device]) -> Iterator[Left]:
    """Functions that are known by a descriptor alone, and models that no export writes."""
    for device in devices:
        if isinstance(device, Function) and device.host is None and device.descriptor is not None:
            where = device.place("descriptor")
            if where is not None:
                said = "a descriptor of the process that ran names no function"
                yield Left(fate=Fate.UNRESOLVED, where=where, name="fd", text=f"fd={device.descriptor}", of=device.id, said=said)
        if isinstance(device, Function) and device.driver != "vfio-pci" and device.where is not None:
            said = "exports write vfio-pci, which can also be unplugged"
            yield Left(fate=Fate.LOST, where=device.where, name=device.driver, text=device.driver, of=device.id, said=said)


def of_option(option: Option, device: Device | None, kept: bool, backends: Backends, judged: bool) -> Iterator[Left]:
    """What is not in the model of one option: unknown keys first, then what the values do not say, then what goes aside."""
    known = grammar.properties(option.get("driver") or "") if option.name == "device" else known_keys(option)
    if not judged:
        known = None
    elif option.name == "device":
        yield from _driver(option, known)
    elif option.name == "object":
        known = grammar.keys("object", option.get("qom-type"))
        yield from _kind(option, "qom-type")
    elif option.name == "netdev":
        yield from _kind(option, "type")
    unknown = [key for key in option.keys if known is not None and key.name and key.name.partition(".")[0] not in known and key.name not in known]
    for key in unknown:
        key.taken = True
        yield unknown_key(option, key, known or frozenset(), _refused(option, key))
    for key in option.keys:
        found = unresolved(option, key)
        if found is not None:
            yield found
    for key in option.keys:
        if key.bad and not key.taken:
            key.taken = True
            said = f"{key.text} is no value that {key.name}= can have" if key.name != "sysfsdev" else f"{key.text} is no PCI function"
            yield Left(fate=Fate.UNKNOWN, where=option.place(key), name=f"-{option.name} {key.name}", text=f"{key.name}={key.text}", said=said)
    if option.json and option.name == "device" and judged:
        yield from _types(option)
    if option.name == "device" and device is not None and not kept:
        yield from _properties(option, device)
    elif option.taken:
        yield from _taken(option, backends)
    elif option.keys and not option.open and not kept:
        return
    elif option.name in _SAID and not (option.name == "S" and _libvirt(backends)):
        yield Left(fate=Fate.LOST, where=option.where(), name=f"-{option.name}", text=option.text, said=_SAID[option.name])
    elif option.name in _PLAIN and not _more(option):
        yield Left(fate=Fate.PLAIN, where=option.where(), name=f"-{option.name}", text=option.text)
    else:
        yield from _aside(option, device, backends)


def _types(option: Option) -> Iterator[Left]:
    """Values of a JSON -device of another type than the property's: QEMU turns no text into a number or a switch there."""
    for key in option.keys:
        wanted = _TYPES.get(key.name)
        if wanted is None or type(key.raw) is wanted or (key.name == "addr" and isinstance(key.raw, int)):
            continue
        words = {
            bool: f"Invalid parameter type for '{key.name}', expected: boolean",
            str: f"Invalid parameter type for '{key.name}', expected: string",
        }
        said = f"QEMU {grammar.grammar().version} says: {words.get(wanted, f'{key.name} expects a number')}"
        yield Left(fate=Fate.UNKNOWN, where=option.place(key), name=f"{key.name}={key.text}", text=f"{key.name}={key.text}", said=said)


def _more(option: Option) -> bool:
    """Whether an option that is otherwise plain says more than every export does."""
    if option.name == "display":
        return option.value is None or option.value.text != "none"
    if option.name in ("msg", "pidfile", "daemonize", "only-migratable"):
        return False
    return bool(option.open)


def _libvirt(backends: Backends) -> bool:
    return "masterKey0" in backends.objects


def _aside(option: Option, device: Device | None, backends: Backends) -> Iterator[Left]:
    """An option that goes aside as it stands; of a device the place that QEMU gave it is added, so that it stays there."""
    open_ = option.open
    if option.name == "accel" and len(open_) < len(option.keys):
        # Of several -accel the first that works counts, alone; kernel-irqchip is the machine's too.
        for key in open_:
            irqchip = key.name == "kernel-irqchip"
            fate, said = (Fate.KEPT, "") if irqchip else (Fate.LOST, "an export writes -accel kvm alone")
            text = f"-machine {key.name}={key.text}" if irqchip else f"{key.name}={key.text}"
            yield Left(fate=fate, where=option.place(key), name=f"-accel {key.name}", text=text, said=said)
        return
    if option.name in _MERGED and len(open_) < len(option.keys):
        for key in open_:
            text = f"{option.spelled} {shlex.quote(key.name + '=' + key.text.replace(',', ',,'))}"
            yield Left(fate=Fate.KEPT, where=option.place(key), name=f"-{option.name} {key.name}", text=text)
        return
    if option.name == "cpu" and option.value is not None and option.value.text == "host":
        yield Left(fate=Fate.PLAIN, where=option.where(), name="-cpu", text=option.text)
        return
    if (option.name == "object" and option.get("id") == "masterKey0") or (option.name == "S" and _libvirt(backends)):
        # libvirt's own: the key of a directory that goes with the process, and a start that it ends itself.
        yield Left(fate=Fate.PLAIN, where=option.where(), name=f"-{option.name}", text=option.text)
        return
    backend = backends.netdevs.get(option.get("netdev") or "") if option.name == "device" else option if option.name == "netdev" else None
    lost = [key for key in backend.keys if key.name in _DESCRIPTORS] if backend is not None else []
    for key in lost if option.name == "netdev" else ():
        said = f"a descriptor of the process that ran ({_DESCRIPTORS[key.name]})"
        yield Left(fate=Fate.LOST, where=key.word.where(key.start, key.end), name=f"-netdev {key.name}", text=f"{key.name}={key.text}", said=said)
    fate = Fate.LOST if lost else Fate.KEPT
    whose = "its network's" if option.name == "device" else "its"
    said = f"{whose} descriptors were those of the process that ran" if lost else ""
    yield Left(fate=fate, where=option.where(), name=_name(option), text=_with_place(option, device), of=None, said=said)


def _name(option: Option) -> str:
    driver = option.get("driver") if option.name == "device" else option.get("qom-type") if option.name == "object" else None
    more = ", ".join(key.name for key in option.open if key.name != "model") if option.name in ("cpu", "smp", "numa") else driver
    return f"-{option.name} {more}" if more else f"-{option.name}"


def _with_place(option: Option, device: Device | None) -> str:
    if device is None or option.name != "device" or option.value is None or not device.pci:
        return option.text
    more: dict[str, str] = {}
    if option.find("id") is None and device.id is not None:
        more["id"] = device.id
    if option.find("bus") is None and device.bus is not None:
        more["bus"] = device.bus
    if option.find("addr") is None and device.slot is not None:
        more["addr"] = f"{device.slot:#x}.{device.function:#x}" if device.function else f"{device.slot:#x}"
    value = option.value.text
    if option.json:
        value = value.rstrip().removesuffix("}") + "".join(f',"{key}":"{text}"' for key, text in more.items()) + "}"
    else:
        value += "".join(f",{key}={text}" for key, text in more.items())
    return f"{option.spelled} {shlex.quote(value)}"


def _properties(option: Option, device: Device) -> Iterator[Left]:
    for key in option.open:
        where = key.word.where(key.start, key.end, f"-device {option.get('driver')},{key.name}=")
        yield Left(fate=Fate.KEPT, where=where, name=key.name, text=f"{key.name}={key.text}", of=device.id)


def _taken(option: Option, backends: Backends) -> Iterator[Left]:
    """What an image or a network says beside what a profile holds."""
    if option.name not in ("drive", "blockdev"):
        return
    image = image_of(option, backends)
    for extra in image.extras if image is not None else ():
        key = option.find(extra.partition("=")[0])
        if key is not None and not key.taken:
            said = "of an image a profile has the path, the format and whether it is read-only"
            yield Left(fate=Fate.LOST, where=key.word.where(key.start, key.end), name=f"-{option.name} {key.name}", text=extra, said=said)


def _driver(option: Option, known: frozenset[str] | None) -> Iterator[Left]:
    driver = option.find("driver")
    if driver is None:
        said = "QEMU says: Parameter 'driver' is missing"
        yield Left(fate=Fate.UNKNOWN, where=option.where(), name="-device", text=option.text, said=said)
    elif known is None and grammar.driver_of(driver.text) not in grammar.grammar().devices and not driver.holes:
        table = grammar.grammar()
        said = f"QEMU {table.version} for arm64 says: '{driver.text}' is not a valid device model name"
        near = grammar.meant(driver.text, table.devices)
        yield Left(fate=Fate.UNKNOWN, where=option.where("driver"), name=driver.text, text=option.text, said=said, meant=near)


def _kind(option: Option, tag: str) -> Iterator[Left]:
    kind = option.find(tag)
    every = grammar.kinds(option.name)
    if kind is not None and kind.text not in every and not kind.holes:
        said = f"QEMU {grammar.grammar().version} says: Parameter '{tag}' does not accept value '{kind.text}'"
        yield Left(fate=Fate.UNKNOWN, where=option.where(tag), name=kind.text, text=option.text, said=said, meant=grammar.meant(kind.text, every))


def _refused(option: Option, key: Key) -> str:
    match option.name:
        case "device":
            return f"Property '{grammar.driver_of(option.get('driver') or '')}.{key.name}' not found"
        case "object":
            return f"Parameter '{key.name}' is unexpected"
        case "machine":
            type_ = option.get("type") or "virt"
            newest = ".".join(grammar.grammar().version.split(".")[:2])
            return f"Property '{type_ if type_ != 'virt' else f'virt-{newest}'}-machine.{key.name}' not found"
        case _:
            return f"Invalid parameter '{key.name}'"


def around(command: Command) -> Iterator[Left]:
    """What stands in front of the program and changes how it runs."""
    before = [word for word in command.before if word.text not in ("exec", "sudo", "env", "command")]
    if before:
        text = " ".join(shlex.quote(word.text) for word in command.before)
        said = "it stands in front of QEMU, and belongs to how the VM is started"
        yield Left(fate=Fate.LOST, where=before[0].where(), name=command.before[0].text, text=text, said=said)
    for name, value in command.environment:
        if name not in _PLAIN_ENVIRONMENT:
            said = "a variable of QEMU's environment, which no profile holds"
            yield Left(fate=Fate.LOST, where=value.where(), name=name, text=f"{name}={value.text}", said=said)
