#!/bin/bash
# VM numa: 2 assigned, mode accel, for QEMU 11.1; made by smmu-wizard for a host without a name
#
# Run the preparation script first (smmu-wizard export … --format prepare). More QEMU options may follow the script's name:
# `./script -serial mon:stdio` for a console.
set -eu

# shellcheck disable=SC2054 # the commas are QEMU's
args=(
  -name guest=numa,debug-threads=on
  -uuid 8f27c938-cfce-55ad-9fea-93e34939bd23
  -machine virt-11.1,gic-version=3,pflash0=pflash0,pflash1=pflash1
  -accel kvm
  -cpu host
  -smp cpus=5
  -m size=2048M
  -nodefaults
  -no-user-config
  -display none
  # UEFI: code, then the VM's own variables
  -blockdev driver=file,node-name=pflash0-storage,filename=/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd,read-only=on
  -blockdev driver=raw,node-name=pflash0,file=pflash0-storage,read-only=on
  -blockdev driver=file,node-name=pflash1-storage,filename=/var/lib/smmu-wizard/numa_VARS.fd,read-only=off
  -blockdev driver=raw,node-name=pflash1,file=pflash1-storage,read-only=off
  # guest node 0
  -object memory-backend-memfd,id=mem0,size=1073741824,hugetlb=on,hugetlbsize=2097152,prealloc=on
  # guest node 1
  -object memory-backend-memfd,id=mem1,size=1073741824,hugetlb=on,hugetlbsize=2097152,prealloc=on
  -numa node,nodeid=0,cpus=0,cpus=2-3,memdev=mem0
  -numa node,nodeid=1,cpus=1,cpus=4,memdev=mem1
  -numa node,nodeid=2
  # one for the VM: its vSMMUs share the guest's stage 2
  -object iommufd,id=iommufd0
  # host smmu3.0x000000000c000000
  -device pxb-pcie,id=pcie.1,bus=pcie.0,addr=0x1,bus_nr=8
  # host smmu3.0x000000000c020000
  -device pxb-pcie,id=pcie.2,bus=pcie.0,addr=0x2,bus_nr=16
  -device arm-smmuv3,id=smmuv3.1,primary-bus=pcie.1,accel=on,ats=off,ril=on,ssidsize=0,oas=44,cmdqv=off
  -device arm-smmuv3,id=smmuv3.2,primary-bus=pcie.2,accel=on,ats=off,ril=on,ssidsize=0,oas=44,cmdqv=off
  -device pcie-root-port,id=pcie.1.port1,bus=pcie.1,addr=0x0,chassis=1,port=0
  -device pcie-root-port,id=pcie.2.port1,bus=pcie.2,addr=0x0,chassis=2,port=0
  # 0000:14:00.0 Red Hat, Inc. QEMU NVM Express Controller, group 3; expected at guest 0000:09:00.0, StreamID 0x900
  -device vfio-pci,host=0000:14:00.0,id=dev0,bus=pcie.1.port1,addr=0x0,iommufd=iommufd0
  # 0000:41:00.0 Intel Corporation 82574L Gigabit Network Connection, group 7; expected at guest 0000:11:00.0, StreamID 0x1100
  -device vfio-pci,host=0000:41:00.0,id=dev1,bus=pcie.2.port1,addr=0x0,iommufd=iommufd0
  -object acpi-generic-initiator,id=gi0,pci-dev=dev1,node=2
)
exec qemu-system-aarch64 "${args[@]}" "$@"
