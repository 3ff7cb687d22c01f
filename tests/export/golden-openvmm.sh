#!/bin/bash
# VM db1: 2 assigned, mode accel, for OpenVMM; made by smmu-wizard for QEMU Virtual Machine
# host digest sha256:c358ea86427d1fed4af19cb629a5a60ee213c4934462dabdeec3998df6e2ea46
#
# VM db1 has to go without this in OpenVMM: functions that come later (the free ports pcie.1.port2: 'VFIO devices must be specified at VM creation time').
# VM db1 is planned for OpenVMM by its documents and its source of August 2026; no OpenVMM was run here.
# NOT RUN: written after microsoft/openvmm 1488a37 (2026-08-21). `openvmm --help` of the one you have decides.
# Its UEFI is not AAVMF but mu_msvm: name its MSVM.fd for AARCH64 in the variable. Guest addresses are predictions.
# Run the preparation script first (smmu-wizard export … --format prepare).
set -eu
: "${OPENVMM_UEFI_FIRMWARE:?name the MSVM.fd of mu_msvm for AARCH64 in this variable}"

# shellcheck disable=SC2054 # the commas are OpenVMM's
args=(
  --hypervisor kvm
  --processors 3
  --numa 'size=512M,host_numa_node=0,vps=[0-1]'
  --numa 'size=512M,vps=[2]'
  --numa 'size=0,vps=[]'
  --no-vmbus --no-hv
  --com1 console
  --gic-msi its
  # one for the VM: its vSMMUs share the guest's stage 2
  --iommu id=iommufd0
  --pcie-root-complex pcie.0,start_bus=0,end_bus=7
  # host smmu3.0x000000000c000000, 1 function
  --pcie-root-complex pcie.1,start_bus=8,end_bus=15
  --smmu rc=pcie.1,accel,oas=44
  # host smmu3.0x000000000c020000, 1 function
  --pcie-root-complex pcie.2,start_bus=16,end_bus=255
  --smmu rc=pcie.2,accel,oas=44
  --pcie-root-port pcie.1:pcie.1.port1,addr=0
  --pcie-root-port pcie.1:pcie.1.port2,addr=1,hotplug
  --pcie-root-port pcie.2:pcie.2.port1,addr=0
  # 0000:14:00.0 Red Hat, Inc. QEMU NVM Express Controller, group 3
  --vfio host=0000:14:00.0,port=pcie.1.port1,iommu=iommufd0
  --pcie-generic-initiator port=pcie.1.port1,node=2
  # 0000:41:00.0 Intel Corporation 82574L Gigabit Network Connection, group 7
  --vfio host=0000:41:00.0,port=pcie.2.port1,iommu=iommufd0
  --pcie-root-port pcie.0:disk0-port,addr=3
  --virtio-blk 'file:/d 1,ro,pcie_port=disk0-port'
  --pcie-root-port pcie.0:net0-port,addr=4
  --virtio-net pcie_port=net0-port:tap:tap0
  --pcie-root-port pcie.0:net1-port,addr=5
  --virtio-net pcie_port=net1-port:consomme
  --uefi --uefi-firmware "$OPENVMM_UEFI_FIRMWARE"
)
exec openvmm "${args[@]}" "$@"
