# ---- what the kernel and other programs may say when a step fails, and what it means: the messages of docs/messages.md ----
# This part is generated: scripts/docs-findings writes it.

meaning() { # LINE: in short, nothing where it is not known
    case $1 in
        *'Cannot bind to PF with SR-IOV enabled'*)
            printf '    %s\n' \
                'means: vfio-pci does not take a PF that has VFs.' \
                'may be: The function is a PF that has VFs.' \
                '  fix: Remove the VFs first (echo 0 > sriov_numvfs), or give the VFs instead of the PF.';;
        *'exists in vfio-pci device denylist, driver probing disallowed.'*)
            printf '    %s\n' \
                'means: vfio-pci refuses this kind of device.' \
                "may be: It is on the list of devices that can't be isolated (QAT)." \
                '  fix: Give VFs of it; disable_denylist=1 gives the protection up.';;
        *'nvgrace_gpu_vfio_pci: probe of '*' failed with error '*)
            printf '    %s\n' \
                "means: The Grace GPU's driver did not take it." \
                'may be: A Grace GPU needs nvgrace_gpu_vfio_pci on the host, not vfio-pci.' \
                '  fix: Bind it to nvgrace_gpu_vfio_pci; its NUMA nodes and the MMIO window have to be there too.' \
                'may be: The function has no IOMMU group: no SMMU that the kernel uses is above it.' \
                "  fix: Switch the SMMU on in the firmware's setup; \`smmu-wizard show FUNCTION\` says what the firmware puts above it.";;
        *'Device is currently in use, task "'*'" ('*') blocked until device is released'*)
            printf '    %s\n' \
                'means: Somebody unbinds or removes the function while a process has it open.' \
                'may be: A VM still has it.' \
                '  fix: Unplug it from the VM, or stop the VM.';;
        *vfio*'probe with driver'*'failed with error '*-22 | *vfio*': probe of'*'failed with error '*-22)
            printf '    %s\n' \
                'means: The driver did not take it.' \
                'may be: The function has no IOMMU group: no SMMU that the kernel uses is above it.' \
                "  fix: Switch the SMMU on in the firmware's setup; \`smmu-wizard show FUNCTION\` says what the firmware puts above it." \
                'may be: The device does not answer: it fell off the bus, lost power, or its slot is off.' \
                "  fix: Look at the link of the port above it (\`lspci -vv\`); remove and rescan it, or power-cycle the host.";;
        *vfio*'probe with driver'*'failed with error '*-16 | *vfio*': probe of'*'failed with error '*-16)
            printf '    %s\n' \
                'means: The driver did not take it.' \
                'may be: It is a PF that has VFs: vfio-pci takes it only without.' \
                '  fix: Remove the VFs, or give them instead.' \
                'may be: Something else holds the function.' \
                '  fix: See who has it; unbind it first.' \
                'may be: The device does not answer: it fell off the bus, lost power, or its slot is off.' \
                "  fix: Look at the link of the port above it (\`lspci -vv\`); remove and rescan it, or power-cycle the host.";;
        *vfio*'probe with driver'*'failed with error '*-1 | *vfio*': probe of'*'failed with error '*-1)
            printf '    %s\n' \
                'means: The driver did not take it.' \
                'may be: VFIO refuses it, since interrupts are not isolated.' \
                '  fix: Use a host with a GIC ITS. allow_unsafe_interrupts=1 gives isolation up.' \
                'may be: The device does not answer: it fell off the bus, lost power, or its slot is off.' \
                "  fix: Look at the link of the port above it (\`lspci -vv\`); remove and rescan it, or power-cycle the host.";;
        *vfio*'probe with driver'*'failed with error '* | *vfio*': probe of'*'failed with error '*)
            printf '    %s\n' \
                'means: The driver did not take it.' \
                'may be: The device does not answer: it fell off the bus, lost power, or its slot is off.' \
                "  fix: Look at the link of the port above it (\`lspci -vv\`); remove and rescan it, or power-cycle the host.";;
        *'Failed to add to iommu group '*)
            printf '    %s\n' \
                'means: The kernel could not put it into an IOMMU group.' \
                'may be: Its default domain could not be attached: without a group VFIO refuses it (-22), and its own driver does no translated DMA.' \
                '  fix: Look at the lines of its SMMU just before it; update kernel and firmware.';;
        *'Relaying device request to user'* | *'No device request channel registered'*)
            printf '    %s\n' \
                'means: Somebody waits for it, which a VM still has.' \
                'may be: The function is being unbound or removed while a process has it open; the one who asked waits until it is let go.' \
                '  fix: Unplug it from its VM (device_del), or stop the VM.';;
        *'Unable to change power state'* | *'device inaccessible'* | *'config space inaccessible'*)
            printf '    %s\n' \
                'means: It did not wake up.' \
                'may be: Its configuration space answers nothing: the device is gone from the bus, has no power, or its slot is off. A VM that has it sees all ones.' \
                "  fix: Look at the link of the port above it (\`lspci -vv\`); remove and rescan it, or power-cycle the host; keep it from D3 with echo on > /sys/bus/pci/devices/FUNCTION/power/control.";;
        *'not ready'*'giving up'*)
            printf '    %s\n' \
                'means: It did not come back from a reset.' \
                "may be: VFIO resets a function whenever a VM opens or leaves it; one that does not come back can't be used until it has new power." \
                '  fix: Try another of its reset_method entries in /sys/bus/pci/devices/FUNCTION, update its firmware, and power-cycle the host.';;
        *'NVRM: Attempting to remove device '*' with non-zero usage count!'* | *'Attempting to remove minor device '*' with non-zero usage count'*)
            printf '    %s\n' \
                'means: The GPU is unbound while a process has it open: the unbind waits for ever.' \
                'may be: nvidia-persistenced, DCGM or a job has the GPU open.' \
                '  fix: End them before the unbind; reboot if it hangs already.';;
        *'not enough MMIO resources for SR-IOV'* | *"can't enable "*' VFs (bus '*' out of range of'* | *'SR-IOV: IOV BARS not allocated'*)
            printf '    %s\n' \
                "means: VFs can't be made: no room for their BARs or bus numbers." \
                'may be: The firmware left no room below the port.' \
                "  fix: Switch SR-IOV on in the firmware's setup; boot with pci=realloc (or pci=assign-busses).";;
        *'driver does not support SR-IOV configuration via sysfs'* | *' VFs already enabled. Disable before enabling '*' VFs'* | *'no driver bound to device; cannot configure SR-IOV'* | *'Cannot modify SR-IOV while VFs are assigned'*)
            printf '    %s\n' \
                'means: sriov_numvfs could not be written.' \
                'may be: The PF has no driver that makes VFs, or has some already.' \
                '  fix: Bind the PF to its own driver; write 0 first.';;
        *'modprobe: FATAL: Module '*' not found in directory '* | *'modprobe: FATAL: Module '*' not found.'* | *'modprobe: module '*' not found in modules.dep'* | *'modprobe: FATAL: Module '*' not found'*)
            printf '    %s\n' \
                'means: The running kernel has no such module.' \
                'may be: It is built in, left out of this kernel, or in another package (linux-modules-extra); or the kernel was updated and the host not booted.' \
                "  fix: Look for it in /lib/modules/\$(uname -r) and in modules.builtin; boot the kernel that is installed.";;
        *"modprobe: ERROR: could not insert '"*"'"*'Key was rejected by service' | *"modprobe: can't load module "*' ('*')'*'Key was rejected by service')
            printf '    %s\n' \
                'means: The kernel did not take the module.' \
                'may be: Secure Boot, or lockdown, takes only modules with a signature that this kernel knows.' \
                "  fix: Sign the module, or use the distribution's own.";;
        *"modprobe: ERROR: could not insert '"*"'"*'Operation not permitted' | *"modprobe: can't load module "*' ('*')'*'Operation not permitted')
            printf '    %s\n' \
                'means: The kernel did not take the module.' \
                'may be: Secure Boot, or lockdown, takes only modules with a signature that this kernel knows.' \
                "  fix: Sign the module, or use the distribution's own." \
                "may be: It takes root's rights." \
                '  fix: Run it as root; in a container load it on the host.';;
        *"modprobe: ERROR: could not insert '"*"'"*'Exec format error' | *"modprobe: can't load module "*' ('*')'*'Exec format error')
            printf '    %s\n' \
                'means: The kernel did not take the module.' \
                'may be: The module is of another kernel.' \
                '  fix: Boot the kernel that it was built for; run depmod.';;
        *"modprobe: ERROR: could not insert '"*"'"*'No such file or directory' | *"modprobe: can't load module "*' ('*')'*'No such file or directory')
            printf '    %s\n' \
                'means: The kernel did not take the module.' \
                'may be: The module is of another kernel.' \
                '  fix: Boot the kernel that it was built for; run depmod.';;
        *"modprobe: ERROR: could not insert '"*"'"*'Invalid argument' | *"modprobe: can't load module "*' ('*')'*'Invalid argument')
            printf '    %s\n' \
                'means: The kernel did not take the module.' \
                'may be: The module is of another kernel.' \
                '  fix: Boot the kernel that it was built for; run depmod.';;
        *"modprobe: ERROR: could not insert '"*"'"*'No such device' | *"modprobe: can't load module "*' ('*')'*'No such device')
            printf '    %s\n' \
                'means: The kernel did not take the module.' \
                'may be: There is no such hardware for it.' \
                "  fix: See the kernel's log.";;
        *"modprobe: ERROR: could not insert '"*"'"*'Permission denied' | *"modprobe: can't load module "*' ('*')'*'Permission denied')
            printf '    %s\n' \
                'means: The kernel did not take the module.' \
                "may be: It takes root's rights." \
                '  fix: Run it as root; in a container load it on the host.';;
        *"modprobe: ERROR: could not insert '"*"'"* | *"modprobe: can't load module "*' ('*')'*)
            printf '    %s\n' \
                'means: The kernel did not take the module.' \
                'may be: Secure Boot, or lockdown, takes only modules with a signature that this kernel knows.' \
                "  fix: Sign the module, or use the distribution's own." \
                'may be: The module is of another kernel.' \
                '  fix: Boot the kernel that it was built for; run depmod.' \
                'may be: There is no such hardware for it.' \
                "  fix: See the kernel's log.";;
        *'printf: write error: '*'No such device')
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                'may be: bind: the driver did not take the function; unbind: it is not on that driver; driver_override was not set.' \
                "  fix: Set driver_override first; the kernel's log says why a driver did not take it.";;
        *'printf: write error: '*'Invalid argument')
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                'may be: bind: the driver did not take the function; unbind: it is not on that driver; driver_override was not set.' \
                "  fix: Set driver_override first; the kernel's log says why a driver did not take it.";;
        *'printf: write error: '*'Device or resource busy')
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                'may be: The function, or a VF of it, is in use: by a VM, or by a driver.' \
                '  fix: Stop its user; write 0 to sriov_numvfs before another number.';;
        *'printf: write error: '*'No such file or directory')
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                'may be: The driver that the function is on makes no VFs, or it is on none; for a bind: there is no such device.' \
                '  fix: Bind the PF to its own driver first.';;
        *'printf: write error: '*'File exists')
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                'may be: The id was written already (new_id).' \
                '  fix: Nothing to do; use driver_override instead of new_id.';;
        *'printf: write error: '*'Permission denied')
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                "may be: It takes root's rights." \
                "  fix: Write as root: \`echo X | sudo tee FILE\`.";;
        *'printf: write error: '*'Operation not permitted')
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                "may be: It takes root's rights." \
                "  fix: Write as root: \`echo X | sudo tee FILE\`.";;
        *'printf: write error: '*'Numerical result out of range')
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                'may be: There are not so many VFs, or no room for them.' \
                "  fix: See sriov_totalvfs and the kernel's log.";;
        *'printf: write error: '*'Cannot allocate memory')
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                'may be: There are not so many VFs, or no room for them.' \
                "  fix: See sriov_totalvfs and the kernel's log.";;
        *'printf: write error: '*'No space left on device')
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                'may be: There are not so many VFs, or no room for them.' \
                "  fix: See sriov_totalvfs and the kernel's log.";;
        *'printf: write error: '*'Inappropriate ioctl for device')
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                'may be: There are not so many VFs, or no room for them.' \
                "  fix: See sriov_totalvfs and the kernel's log.";;
        *'printf: write error: '*)
            printf '    %s\n' \
                'means: The kernel refused what was written to /sys: a bind, an unbind, an id, a number of VFs.' \
                'may be: bind: the driver did not take the function; unbind: it is not on that driver; driver_override was not set.' \
                "  fix: Set driver_override first; the kernel's log says why a driver did not take it." \
                'may be: The function, or a VF of it, is in use: by a VM, or by a driver.' \
                '  fix: Stop its user; write 0 to sriov_numvfs before another number.' \
                'may be: The driver that the function is on makes no VFs, or it is on none; for a bind: there is no such device.' \
                '  fix: Bind the PF to its own driver first.';;
    esac
}
