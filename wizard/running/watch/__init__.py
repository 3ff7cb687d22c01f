"""VMs and their functions as they change: the kernel's log, QEMU's events and logs, and what /proc and sysfs show, merged.

records.py      one thing that happened, and counts of them
sources.py      where it is read from: /dev/kmsg, a log that grows and rotates, QMP events
events.py       event records of SMMUs: whose they are, and where their address lies in the VM
states.py       VMs and functions between two looks
watching.py     all of it, in order, with its bounds
prometheus.py   the same as a textfile for node_exporter
"""
