"""What the proof does not show and rests on: said with it, always. Above all ATS, whose translated traffic no table stops."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.arch.registers import CR0
from wizard.dryrun.layout import FunctionLayout
from wizard.dryrun.world import World
from wizard.nesting import HostSmmu

ASSUMPTIONS = (
    "The hardware, the host's kernel and QEMU do what the specification and their sources say; this is a proof of the plan as modelled.",
    "The host's ITS page is shared by all VMs and isolated by DeviceID: it is the one page that is not the VM's own.",
    "ACS redirects requests on the whole path to the SMMU; peer-to-peer traffic that never reaches it is not covered.",
    "A function is reset when it is given to another VM, and drops its ATC.",
    "Which frames a VM gets is decided when it starts; the proof takes the modelled ones, each given out once.",
)
TRUSTED = (
    "A function that can use ATS is trusted with host physical addresses, since translated traffic passes by stage 2: {}. ats=on asks for it; "
    "ats=off does not forbid it, since QEMU passes EATS of the guest's entry and the kernel follows it."
)
NOT_MEASURED = "Whether {} can use ATS was not measured: counted as if so."
UNCHECKED = (
    "Nothing at {smmu} checks traffic that is marked as translated ({why}): a function that sends it passes by every table, and no root port "
    "was asked whether it stops such requests (ACS Translation Blocking)."
)
ATSCHK_ASSUMED = "That {} checks translated traffic against the stream table (ATSCHK) was not measured: its kernel is taken to use ATS."
BARS_UNKNOWN = "The BARs of {} are not known: what other functions of the VM reach of them, once QEMU maps them, is not covered."


def assumptions(world: World, vm: str, host: HostSmmu) -> tuple[str, ...]:
    """All that the proof of a VM on an SMMU rests on."""
    return (*ASSUMPTIONS, *_of_ats(world, vm, host), *_of_bars(world, vm))


def _of_ats(world: World, vm: str, host: HostSmmu) -> Iterator[str]:
    functions = [function for function in world.layout.functions_of(vm) if function.smmu == host.name]
    if trusted := [function.address for function in functions if may_use_ats(world, function)]:
        yield TRUSTED.format(", ".join(trusted))
    if unknown := [function.address for function in functions if not function.ats_measured]:
        yield NOT_MEASURED.format(", ".join(unknown))
    if not host.smmu.features.ats:
        yield UNCHECKED.format(smmu=host.name, why="IDR0.ATS is 0, and so is CR0.ATSCHK")
    elif not checks_translated(host):
        yield UNCHECKED.format(smmu=host.name, why="CR0.ATSCHK is 0")
    elif not world.layout.smmu(host.name).ats_measured:
        yield ATSCHK_ASSUMED.format(host.name)


def checks_translated(host: HostSmmu) -> bool:
    """CR0.ATSCHK as it is in effect (IHI 0070 3.9.1, 6.3.9)."""
    return bool(CR0(host.smmu.read("CR0ACK")).ATSCHK)


def may_use_ats(world: World, function: FunctionLayout) -> bool:
    """Whether the kernel may turn ATS on at a function when a guest's EATS says so (arm_smmu_ats_supported()); no ``ats`` of QEMU is asked.

    What was not measured, of the function or of its SMMU, counts as a yes.
    """
    if not function.ats_measured:
        return True
    smmu = world.layout.smmu(function.smmu)
    return function.ats and (smmu.kernel.ats or not smmu.ats_measured)


def _of_bars(world: World, vm: str) -> Iterator[str]:
    layout = world.layout
    unknown = [function.address for function in layout.functions_of(vm) if not function.bars_known]
    if unknown and layout.vm(vm).peer_to_peer:
        yield BARS_UNKNOWN.format(", ".join(unknown))
