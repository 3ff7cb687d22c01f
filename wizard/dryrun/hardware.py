"""The SMMUs of a layout: registers and kernel features, as they were read, or as the plan needs them where nobody did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from wizard.arch.idr import ADDRESS_BITS, IDR0, IDR1, IDR3, IDR5
from wizard.dryrun.layout import SmmuLayout
from wizard.dryrun.rests import Fact, Guess
from wizard.host.known import Source
from wizard.host.model import Function, Host, Smmu
from wizard.nesting.kernel import Kernel
from wizard.plan.model import Plan, PortPlan, VmPlan
from wizard.smmu.ids import Ids
from wizard.smmu.support import masked_bits


def candidates(vm: VmPlan, host: Host) -> Iterator[tuple[PortPlan, Function]]:
    """Functions that may be plugged into the VM's free ports, as far as the host has them."""
    for port in vm.ports:
        for address in port.candidates:
            if port.hotplug and (function := host.functions.get(address)) is not None:
                yield port, function


def smmu_layout(host: Host, smmu: Smmu, plan: Plan, assumptions: list[str], guesses: list[Guess]) -> SmmuLayout:
    """An SMMU as the simulation has it; what nobody measured is appended to ``assumptions``, and fact by fact to ``guesses``."""
    if smmu.registers is not None:
        words = smmu.registers.words
        ids = Ids(idr0=words[0], idr1=words[1], idr3=words[3], idr5=words[5], aidr=smmu.registers.aidr)
        if smmu.registers.assumed:
            assumptions.append(f"The ID registers of {smmu.name} are assumed, not read.")
        if masked := masked_bits(ids):
            names = ", ".join(f"{found.register}.{found.field}={found.value:#x}" for found in masked)
            assumptions.append(f"{smmu.name} has what the simulated SMMU does not model, taken as absent or as the largest that it does: {names}.")
    else:
        ids = _guessed(smmu, plan, assumptions)

    def known(name: str, otherwise: bool, rests_on: bool | None = None) -> bool:
        """``otherwise`` counts where nobody knows, ``rests_on`` where nobody measured: the plan would not be one without it."""
        value = smmu.known(name)
        if value.known and value.source is not Source.ASSUMED:
            return value.is_true
        given = rests_on if rests_on is not None else value.is_true if value.known else otherwise
        against = f", although {value.note or 'what is assumed'} speaks against it" if value.known and value.is_true != given else ""
        guesses.append(Guess(_KERNEL[name], f"{name} {'yes' if given else 'no'}", smmu.name))
        assumptions.append(f"{smmu.name}: {name} is taken as {'yes' if given else 'no'}{against}; nobody measured it.")
        return given

    accelerated = [function for function in _accelerated(plan, host) if function.smmu == smmu.name]
    nests = True if accelerated else None
    # Without CANWBS the plan rests on S2FWB.
    needs_fwb = smmu.registers is None and any(function.known("canwbs").value is False for function in accelerated)
    fwb = known("s2fwb", needs_fwb, True if needs_fwb else None)
    if fwb and smmu.registers is None:
        ids = replace(ids, idr3=IDR3(ids.idr3).replace(FWB=1).value)
    kernel = Kernel(
        nesting=known("nesting", True, nests),
        s2fwb=fwb and bool(IDR3(ids.idr3).FWB),
        force_sync=known("cmdq_force_sync", False, not nests if nests else None),
        ats=known("ats", bool(IDR0(ids.idr0).ATS)) and bool(IDR0(ids.idr0).ATS),
        cmdqv=known("cmdqv", any(v.cmdqv.resolved for vm in plan.vms for v in vm.vsmmus if v.smmu == smmu.name)),
        page_size=host.page_size or 4096,
        release=host.facts.kernel.release,
    )
    guesses += _of_registers(smmu, ids)
    if kernel.checks_fields is None:
        guesses.append(Guess(Fact.RELEASE, "a kernel before 7.3"))
    if accelerated and kernel.checks_fields is None:
        which = f"The kernel {kernel.release} may be older or newer than" if kernel.release else "The kernel's release was not recorded; it may be"
        assumptions.append(f"{which} Linux 7.3, which checks a guest's commands field by field; they are taken as checked by opcode alone.")
    return SmmuLayout(smmu.name, ids, kernel, ats_measured=smmu.known("ats").measured)


_KERNEL = {
    "nesting": Fact.NESTING, "s2fwb": Fact.S2FWB, "cmdq_force_sync": Fact.FORCE_SYNC, "ats": Fact.ATS, "cmdqv": Fact.CMDQV,
}  # fmt: skip


def _of_registers(smmu: Smmu, ids: Ids) -> Iterator[Guess]:
    """Of registers that nobody read, the fields that the kernel's log does not have either."""
    if smmu.registers is not None and not smmu.registers.assumed:
        return
    features = ids.features
    for name, fact, shown in (
        ("oas", Fact.OAS, f"OAS {features.oas}"),
        ("ssidsize", Fact.SSIDSIZE, f"SSIDSIZE {features.ssidsize}"),
        ("ril", Fact.RIL, f"ril {'yes' if features.ril else 'no'}"),
    ):
        if not smmu.known(name).measured:
            yield Guess(fact, shown, smmu.name)


def _accelerated(plan: Plan, host: Host) -> Iterator[Function]:
    """Functions that are behind a vSMMU, or may be plugged there."""
    for vm in plan.vms:
        for device in vm.devices:
            function = host.functions.get(device.host) or host.functions.get(device.pf or "")
            if device.vsmmu is not None and function is not None:
                yield function
        buses = {vsmmu.bus for vsmmu in vm.vsmmus if vsmmu.smmu is not None}
        yield from (candidate for port, candidate in candidates(vm, host) if port.bus in buses)


def _guessed(smmu: Smmu, plan: Plan, assumptions: list[str]) -> Ids:
    """Registers of an SMMU that nobody read: what the log says, and for the rest what the plan rests on."""
    planned = [v for vm in plan.vms for v in vm.vsmmus if v.smmu == smmu.name]
    assumptions.append(f"The ID registers of {smmu.name} were not recorded; what the kernel's log leaves open is taken as the plan needs it.")

    def most(name: str) -> int:
        return max((prop.resolved or 0 for v in planned for n, prop in v.properties() if n == name), default=0)

    def value(name: str, otherwise: int) -> int:
        known = smmu.known(name)
        return int(known.value) if known.known and not isinstance(known.value, str) and known.value is not None else otherwise

    oas = value("oas", most("oas") or 44)
    code = next((code for code, bits in ADDRESS_BITS.items() if bits == oas), 5)
    return Ids(
        idr0=IDR0.build(
            S1P=1, S2P=1, TTF=2, COHACC=1, HYP=1, ATS=value("ats", most("ats")), ASID16=1, VMID16=1, TTENDIAN=0, ST_LEVEL=1, CD2L=1,
            STALL_MODEL=0 if smmu.known("stalls").is_true else 1,
        ).value,
        idr1=IDR1.build(SIDSIZE=value("sidsize", 32), SSIDSIZE=value("ssidsize", most("ssidsize")), CMDQS=19, EVENTQS=19, PRIQS=19).value,
        idr3=IDR3.build(RIL=value("ril", most("ril")), FWB=value("s2fwb", 0)).value,
        idr5=IDR5.build(OAS=code, GRAN4K=1, GRAN16K=1, GRAN64K=1).value,
    )  # fmt: skip
