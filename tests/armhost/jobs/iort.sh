# The host's first boot: that it works, and the IORT as its kernel has it (what run.sh --canwbs starts from).
set -e
cat /sys/firmware/acpi/tables/IORT > /out/IORT.bin
echo "Linux $(uname -r), $(qemu-system-aarch64 --version | head -n 1)"
