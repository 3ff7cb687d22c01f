"""What is said of a VM that exists beside the rules of every plan: what was not understood, not carried, or goes wrong before a plan is made."""

from __future__ import annotations

from wizard.plan.codes import ERROR, INFO, WARNING, plan_code

UNKNOWN_WORD = plan_code(
    "import-unknown-word", ERROR,
    what="{subject}, {where}: {word} is not known{meant}.",
    why="{why}",
    fix="{fix}",
)  # fmt: skip
REFUSED = plan_code(
    "import-refused", ERROR,
    what="{subject}, {where}: QEMU does not start with {word}.",
    why="{said}",
    fix="Correct the command line; a plan's export (`smmu-wizard export … --format qemu`) has the order that works, and one iommufd.",
)  # fmt: skip
UNRESOLVED = plan_code(
    "import-value-missing", WARNING,
    what="{subject}, {where}: what {word} comes to is not in the input{said}.",
    why="It may be anything, also a device or an option that changes what was checked.",
    fix="Give the command as it runs (/proc/PID/cmdline, --running), or write the value in.",
)  # fmt: skip
KEPT = plan_code(
    "import-kept-aside", INFO,
    what="{subject}: a profile has no word for {count}, kept as {are}: {parts}.",
    why="The export of the same kind gives them back as they were; nothing of them was checked, and other formats leave them out.",
    fix="Nothing to do, where they have nothing to do with the functions.",
)  # fmt: skip
NOT_CARRIED = plan_code(
    "not-carried", WARNING,
    what="{subject}, {where}: {word} is not carried into a profile: {said}.",
    why="An export would make a VM without it.",
    fix="Keep the original beside the profile, or set it by hand where the VM needs it.",
)  # fmt: skip
IMPLIED = plan_code(
    "import-filled-in", INFO,
    what="{subject}: what is not written was filled in as {program} fills it in: {parts}.",
    why="Another version may place it otherwise, and what is added later moves it.",
    fix="Write it, or take the profile, which has every number.",
)  # fmt: skip
NO_FUNCTION = plan_code(
    "import-function-unknown", ERROR,
    what="{subject}, {where}: {id} names no function of the host{said}.",
    why="libvirt and other launchers open the function and pass a descriptor; the address is not on the command line.",
    fix="Give the domain (virsh dumpxml NAME), or look with --running at the process as root.",
)  # fmt: skip
ACCEL_DROPPED = plan_code(
    "import-accel-dropped", ERROR,
    what="{subject}, {where}: accel is written on an SMMU without pciBus.",
    why="libvirt makes -machine iommu=smmuv3 of it and drops accel and every property in silence: an emulated SMMU, behind which no function works.",
    fix="Write pciBus with the index of the expander that its functions are on.",
)  # fmt: skip
RELATIVE = plan_code(
    "import-relative-path", WARNING,
    what="{subject}, {where}: {path} is relative, and taken as {taken}.",
    why="QEMU looks for it in the directory that it is started in, which the input does not say.",
    fix="Write the whole path where that is another.",
)  # fmt: skip
HARD_LIMIT = plan_code(
    "memlock-hard-limit", ERROR,
    what="{subject}, {where}: hard_limit is {limit}, and the VM's memory is {memory}.",
    why="All of it is pinned for the functions, and QEMU needs some beside it: libvirt sets the limit of locked memory to hard_limit, and the VM "
    "does not start, or is killed.",
    fix="Take hard_limit out, or write more than the memory with what QEMU needs itself.",
)  # fmt: skip
MEMLOCK_LIMIT = plan_code(
    "memlock-limit-small", ERROR,
    what="{subject}, {where}: the limit of locked memory is {limit}, and the VM's memory is {memory}.",
    why="All of it is pinned for the functions: 'vfio_container_dma_map(…) = -12', unless the process may exceed the limit (CAP_IPC_LOCK).",
    fix="Raise LimitMEMLOCK or the limits of the user.",
)  # fmt: skip
NO_KVM = plan_code(
    "import-without-kvm", ERROR,
    what="{subject}, {where}: the VM does not run with KVM.",
    why="'SMMUv3 accel=on requires KVM with kernel-irqchip=on support'.",
    fix="Write -accel kvm, or <domain type='kvm'>.",
)  # fmt: skip
NOT_ARM = plan_code(
    "import-architecture", ERROR,
    what="{subject}, {where}: the VM is for {arch}.",
    why="The program knows arm64 hosts and QEMU's machine virt; nothing of other machines was checked.",
    fix="Name a VM of an arm64 host.",
)  # fmt: skip
NO_BUS = plan_code(
    "import-bus-missing", ERROR,
    what="{subject}, {where}: {id} is on {bus}, {because}.",
    why="{why}",
    fix="Write the id or index of {wanted}.",
)  # fmt: skip
BAD_VALUE = plan_code(
    "import-value", ERROR,
    what="{subject}, {where}: {name} is {value}.",
    why="It has to be {allowed}.",
    fix="Write {allowed}.",
)  # fmt: skip
PLACE_UNKNOWN = plan_code(
    "import-place-unknown", WARNING,
    what="{subject}, {where}: where {program} puts {id} is not known.",
    why="It may land behind an accelerated vSMMU, or take a bus number from a port; the check did not see it.",
    fix="Give it an address.",
)  # fmt: skip
