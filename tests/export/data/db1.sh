#!/bin/bash
# VM db1: 3 assigned, mode accel, for QEMU 11.1; made by smmu-wizard for a host without a name
# the database's $HOME
#
# Run the preparation script first (smmu-wizard export … --format prepare). More QEMU options may follow the script's name:
# `./script -serial mon:stdio` for a console.
set -eu

# shellcheck disable=SC2054 # the commas are QEMU's
args=(
  -name guest=db1,debug-threads=on
  -uuid bc9e9d42-33fd-5fae-b817-0ead0be3dc6b
  -machine virt-11.1,gic-version=3,pflash0=pflash0,pflash1=pflash1
  -accel kvm
  -cpu host
  -smp cpus=2
  -m size=1024M
  -nodefaults
  -no-user-config
  -display none
  # UEFI: code, then the VM's own variables
  -blockdev driver=file,node-name=pflash0-storage,filename=/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd,read-only=on
  -blockdev driver=raw,node-name=pflash0,file=pflash0-storage,read-only=on
  -blockdev driver=file,node-name=pflash1-storage,filename=/var/lib/smmu-wizard/db1_VARS.fd,read-only=off
  -blockdev driver=raw,node-name=pflash1,file=pflash1-storage,read-only=off
  # one for the VM: its vSMMUs share the guest's stage 2
  -object iommufd,id=iommufd0
  # host smmu3.0x000000000c000000
  -device pxb-pcie,id=pcie.1,bus=pcie.0,addr=0x1,bus_nr=8
  # host smmu3.0x000000000c020000
  -device pxb-pcie,id=pcie.2,bus=pcie.0,addr=0x2,bus_nr=16
  -device arm-smmuv3,id=smmuv3.1,primary-bus=pcie.1,accel=on,ats=off,ril=on,ssidsize=0,oas=44,cmdqv=off
  -device arm-smmuv3,id=smmuv3.2,primary-bus=pcie.2,accel=on,ats=off,ril=on,ssidsize=0,oas=44,cmdqv=off
  -device pcie-root-port,id=pcie.1.port1,bus=pcie.1,addr=0x0,chassis=1,port=0
  -device pcie-root-port,id=pcie.1.port2,bus=pcie.1,addr=0x1,chassis=2,port=1
  -device pcie-root-port,id=pcie.2.port1,bus=pcie.2,addr=0x0,chassis=3,port=0
  # 0000:14:00.0 Red Hat, Inc. QEMU NVM Express Controller, group 3; expected at guest 0000:09:00.0, StreamID 0x900
  -device vfio-pci,host=0000:14:00.0,id=dev0,bus=pcie.1.port1,addr=0x0,iommufd=iommufd0
  # 0000:11:10.0 Intel Corporation 82576 Virtual Function, group 13; expected at guest 0000:0a:00.0, StreamID 0xa00
  -device vfio-pci,host=0000:11:10.0,id=dev1,bus=pcie.1.port2,addr=0x0,iommufd=iommufd0
  # 0000:41:00.0 Intel Corporation 82574L Gigabit Network Connection, group 7; expected at guest 0000:11:00.0, StreamID 0x1100
  -device vfio-pci,host=0000:41:00.0,id=dev2,bus=pcie.2.port1,addr=0x0,iommufd=iommufd0
  -blockdev driver=file,node-name=disk0-storage,filename=/d,,1,read-only=off
  -blockdev driver=raw,node-name=disk0,file=disk0-storage,read-only=off
  -device virtio-blk-pci,id=disk0,bus=pcie.0,addr=0x3,drive=disk0
  -netdev user,id=netdev0
  -device virtio-net-pci,id=net0,bus=pcie.0,addr=0x4,netdev=netdev0,mac=52:54:00:6f:54:46,romfile=
  -netdev tap,id=netdev1,ifname=tap0,script=no,downscript=no
  -device virtio-net-pci,id=net1,bus=pcie.0,addr=0x5,netdev=netdev1,mac=52:54:00:cb:a4:94,romfile=
)
exec qemu-system-aarch64 "${args[@]}" "$@"
