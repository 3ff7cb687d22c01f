"""Everything of a command line that is no device: name, machine, memory, processors, NUMA nodes, firmware, monitor."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from wizard.existing.guest import Fate, Firmware, Left, Machine, Memory, Node, Where
from wizard.existing.qemu import values
from wizard.existing.qemu.backends import Backends, image_of
from wizard.existing.qemu.options import Key, Option

T = TypeVar("T")
_MIB = 1 << 20
_DEFAULT = 128 * _MIB  # memory without -m


class Values:
    """The keys of several options of one name, merged as QEMU does it: the last counts."""

    def __init__(self, options: Sequence[Option]) -> None:
        self.options = options
        self.places: dict[str, Where] = {}

    def take(self, key: str, of: Callable[[str], T | None], name: str | None = None) -> T | None:
        """The value of a key, where it can be read; earlier ones of it are overruled and taken with it."""
        found = [(option, one) for option in self.options for one in option.keys if one.name == key]
        if not found:
            return None
        option, last = found[-1]
        value = of(last.text)
        if value is None:
            last.bad = not last.holes
            return None
        for _, one in found:
            one.taken = one.taken or not one.holes
        self.places[name or key.replace("-", "_")] = option.where(key)
        return value


class Parts(msgspec.Struct, kw_only=True):
    """What was found."""

    name: str | None = None
    uuid: str | None = None
    machine: Machine
    memory: Memory
    cpus: int | None = None
    nodes: tuple[Node, ...] | None = None
    firmware: Firmware | None = None
    qmp: str | None = None
    user: str | None = None
    iommufds: tuple[str, ...] = ()
    places: dict[str, Where]
    left: list[Left]


class Reader:
    """One command line's options, read one kind after the other."""

    def __init__(self, options: Sequence[Option], backends: Backends) -> None:
        self._options, self._backends = options, backends
        self._left: list[Left] = []
        self._places: dict[str, Where] = {}
        self._used: set[str] = set()  # memory backends
        self._backed: list[Memory] = []

    def _of(self, *names: str) -> list[Option]:
        return [option for option in self._options if option.name in names]

    def _text(self, *names: str) -> tuple[str | None, Option | None]:
        """The last of the options that have one text."""
        found = [option for option in self._of(*names) if option.keys]
        for option in found:
            option.taken = not option.keys[0].holes
            option.keys[0].taken = True
        return (found[-1].keys[0].text, found[-1]) if found else (None, None)

    def _refused(self, where: Where, text: str, said: str, meant: str | None = None) -> None:
        self._left.append(Left(fate=Fate.UNKNOWN, where=where, name=text.partition("=")[0], text=text, said=f"QEMU says: {said}", meant=meant))

    def read(self) -> Parts:
        """All of it."""
        names = Values(self._of("name"))
        name = names.take("guest", str, "name")
        names.take("debug-threads", values.switch)
        self._places |= names.places
        uuid, option = self._text("uuid")
        if option is not None:
            self._places["uuid"] = option.where()
        machine, machines = self._machine()
        nodes = self._nodes()
        memory = self._memory(machines)
        return Parts(
            name=name, uuid=uuid, machine=machine, memory=memory, cpus=self._cpus(), nodes=nodes, firmware=self._firmware(machines),
            qmp=self._qmp(), user=self._user(), iommufds=tuple(self._iommufds()), places=self._places, left=self._left,
        )  # fmt: skip

    # -- machine ------------------------------------------------------------------------------------------------------

    def _machine(self) -> tuple[Machine, Values]:
        found = Values(self._of("machine"))
        type_ = found.take("type", str)
        gic = found.take("gic-version", str, "gic")
        its = found.take("its", values.switch)
        # msi= and its= are one thing to virt, and msi= decides in either order.
        msi = found.take("msi", lambda text: text if text in ("its", "auto", "off", "gicv2m") else None)
        acpi = found.take("acpi", lambda text: True if text == "auto" else values.switch(text))
        iommu = found.take("iommu", str)
        window = found.take("highmem-mmio-size", values.size, "mmio_window")
        for name in ("usb", "dump-guest-core"):
            if any(values.switch(option.get(name) or "") is False for option in found.options):
                found.take(name, values.switch)  # what libvirt writes, and QEMU does anyway
        where = found.options[-1].where() if found.options else None
        machine = Machine(
            where=where, places=found.places, type=type_, arch=None, gic=gic, its=(msi in ("its", "auto")) if msi else its is not False,
            acpi=acpi is not False, kvm=self._kvm(found), iommu=None if iommu == "none" else iommu, mmio_window=window,
        )  # fmt: skip
        return machine, found

    def _kvm(self, machine: Values) -> bool | None:
        # The first accelerator that works is taken: kvm:tcg is KVM where there is one.
        named = [option for option in self._of("accel") if option.get("accel")]
        machine_accel = machine.take("accel", str)
        if self._of("enable-kvm"):
            for option in self._of("enable-kvm"):
                option.taken = True
            return True
        first = named[0].get("accel") if named else machine_accel
        for option in named:
            option.take("accel")
        return None if first is None else "kvm" in first.split(":")

    # -- memory, processors, nodes ------------------------------------------------------------------------------------

    def _memory(self, machine: Values) -> Memory:
        found = Values(self._of("m"))
        size = found.take("size", lambda text: values.size(text, "M"))
        # An explicit backend for all of it.
        backend = machine.take("memory-backend", str)
        if backend is not None:
            backed, _ = self._backend(backend)
            self._backed.append(backed)
            at = backed.place("size") or machine.places["memory_backend"]
            if size is None and not found.options and backed.size is not None:
                # virt takes the memory to come from -m's default, less than there is: a difference below zero.
                if backed.size > _DEFAULT:
                    self._refused(at, f"memory-backend={backend}", "maxmem/slots too huge (a memory-backend needs -m with its size beside it)")
                size = backed.size
            elif backed.size is not None and size is not None and backed.size != size:
                self._refused(at, f"size={backed.size}", "Machine memory size does not match the size of the memory backend")
        path, option = self._text("mem-path")
        for one in self._of("mem-prealloc"):
            one.taken = path is not None
        if option is not None:
            found.places["path"] = option.where()
        locked = Values(self._of("overcommit"))
        lock = locked.take("mem-lock", lambda text: {"on-fault": True}.get(text, values.switch(text)))
        pages = {one.hugepages for one in self._backed}
        paths = [one.path for one in self._backed if one.path] + ([path] if path else [])
        if size is None:
            size = _DEFAULT if not found.options else None
        where = found.options[-1].where() if found.options else None
        return Memory(
            where=where, places=found.places | locked.places, implied=frozenset() if found.options else frozenset({"size"}), size=size,
            hugepages=pages.pop() if len(pages) == 1 else None, path=paths[0] if paths else None, locked=bool(lock),
        )  # fmt: skip

    def _backend(self, id: str) -> tuple[Memory, int | None]:
        """A memory backend, and the host node that it is bound to."""
        option = self._backends.objects.get(id)
        if option is None or not (option.get("qom-type") or "").startswith("memory-backend-"):
            return Memory(), None
        self._used.add(id)
        found = Values([option])
        for key in ("qom-type", "id"):
            found.take(key, str)
        size = found.take("size", values.size)
        huge = found.take("hugetlb", values.switch)
        pages = found.take("hugetlbsize", values.size, "hugepages")
        path = found.take("mem-path", str, "path")
        found.take("prealloc", values.switch)
        found.take("share", values.switch)
        host = None
        nodes = values.numbers(option.all("host-nodes")) if not isinstance((option.find("host-nodes") or _NONE).raw, list) else self._listed(option)
        if nodes is not None and len(nodes) == 1:
            host = nodes[0]
            found.take("policy", str)
        option.taken = not option.open
        return Memory(where=option.where(), places=found.places, size=size, hugepages=pages if pages or not huge else 2 * _MIB, path=path), host

    def _listed(self, option: Option) -> tuple[int, ...] | None:
        key = option.find("host-nodes")
        if key is None or not all(isinstance(one, int) and not isinstance(one, bool) for one in key.raw):
            return None
        key.taken = True
        return tuple(key.raw)

    def _cpus(self) -> int | None:
        found = Values(self._of("smp"))
        if not found.options:
            return None
        self._places |= {"cpus": found.options[-1].where()}
        count = found.take("cpus", values.number)
        parts = ("drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads")
        shape = {name: one for name in parts if (one := next((values.number(v) for o in found.options if (v := o.get(name))), None)) is not None}
        product = 1
        for one in shape.values():
            product *= one
        return count if count is not None else product

    def _nodes(self) -> tuple[Node, ...] | None:
        made: list[Node] = []
        for option in self._of("numa"):
            if option.get("type") != "node":
                continue
            option.take("type")
            found = Values([option])
            id = found.take("nodeid", values.number, "id")
            memdev = found.take("memdev", str)
            mem = found.take("mem", lambda text: values.size(text, "M"), "memory")
            cpus = values.numbers(option.all("cpus"))
            if mem is not None:
                self._refused(
                    option.where("mem"), f"mem={option.get('mem')}", "Parameter -numa node,mem is not supported by this machine type", "memdev"
                )
            backed, host = self._backend(memdev) if memdev is not None else (Memory(size=mem or 0), None)
            if memdev is not None:
                self._backed.append(backed)
            places = found.places | ({"memory": backed.where} if backed.where is not None else {})
            made.append(
                Node(
                    where=option.where(), places=places, implied=frozenset() if id is not None else frozenset({"id"}),
                    id=id if id is not None else len(made), memory=backed.size or 0, cpus=cpus or (), host_node=host,
                )
            )  # fmt: skip
            option.taken = not option.open
        return tuple(made) or None

    # -- firmware -----------------------------------------------------------------------------------------------------

    def _firmware(self, machine: Values) -> Firmware | None:
        flashes: dict[int, tuple[str, str, Where]] = {}
        for unit in (0, 1):
            node = machine.take(f"pflash{unit}", str)
            image = self._backends.image(node) if node is not None else None
            if image is not None:
                for one in image.options:
                    one.taken = True
                    one.take("discard")  # of a flash there is nothing to discard
                flashes[unit] = (image.path, image.format, image.options[-1].where("filename"))
        free = iter(range(2))
        for option in self._of("drive"):
            if option.get("if") != "pflash":
                continue
            image = image_of(option, self._backends)
            given = values.number(option.get("index") or option.get("unit") or "")
            place = given if given is not None else next((unit for unit in free if unit not in flashes), 2)
            if image is not None and place < 2:
                option.taken = True
                flashes[place] = (image.path, image.format, option.where("file"))
        for option in self._of("pflash"):
            place = next((unit for unit in (0, 1) if unit not in flashes), 2)
            if option.keys and place < 2:
                option.taken = True
                flashes[place] = (option.keys[0].text, "raw", option.where())
        bios, written = self._text("bios")
        in_machine = machine.take("firmware", str)
        if 0 not in flashes and (bios or in_machine):
            where = written.where() if written is not None else machine.places["firmware"]
            return Firmware(where=where, places={"code": where}, code=bios or in_machine or "")
        if 0 not in flashes:
            return None
        code, form, where = flashes[0]
        variables = flashes.get(1)
        places = {"code": where} | ({"vars": variables[2]} if variables else {})
        return Firmware(
            where=where, places=places, code=code, code_format=form, vars=variables[0] if variables else None,
            vars_format=variables[1] if variables else "raw",
        )  # fmt: skip

    # -- the rest -----------------------------------------------------------------------------------------------------

    def _qmp(self) -> str | None:
        monitors = [option.get("chardev") for option in self._of("mon") if option.get("mode") == "control"]
        objects = [one for one in self._backends.objects.values() if one.get("qom-type") == "monitor-qmp"]
        monitors += [one.get("chardev") for one in objects]
        for id in monitors:
            chardev = self._backends.chardevs.get(id or "")
            if chardev is None or chardev.get("backend") != "socket":
                continue
            owners = [one for one in (*self._of("mon"), *objects) if one.get("chardev") == id]
            path = chardev.get("path")
            if path is None and chardev.get("fd") is not None:
                said = "the socket of the monitor is a descriptor of the process that ran"
                self._left.append(Left(fate=Fate.LOST, where=chardev.where("fd"), name="-chardev fd", text=chardev.text, said=said))
            elif path is None:
                continue
            for one in (chardev, *owners):
                one.taken = True
            if path is not None:
                self._places["qmp"] = chardev.where("path")
                return path
        for option in self._of("qmp", "qmp-pretty"):
            text = option.keys[0].text if option.keys else ""
            if text.startswith("unix:"):
                option.taken = option.keys[0].taken = True
                self._places["qmp"] = option.where()
                # A comma in the path is doubled (qemu_chr_parse_compat() of QEMU).
                return re.sub(r"^((?:[^,]|,,)*).*", r"\1", text.removeprefix("unix:")).replace(",,", ",")
        return None

    def _user(self) -> str | None:
        for option in self._of("run-with"):
            if option.find("user"):
                return option.take("user")
        return self._text("runas")[0]

    def _iommufds(self) -> Iterator[str]:
        for id, option in self._backends.objects.items():
            if option.get("qom-type") != "iommufd":
                continue
            for key in ("qom-type", "id", "fd"):
                option.take(key)
            option.taken = not option.open
            if option.find("fd") is not None:
                said = "it was opened by whoever started the VM, and only the number of the descriptor is there"
                text = f"fd={option.get('fd')}"
                self._left.append(Left(fate=Fate.PLAIN, where=option.where("fd"), name="-object iommufd fd", text=text, said=said))
            yield id


_NONE = Key.__new__(Key)
_NONE.raw = None
