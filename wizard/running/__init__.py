"""VMs that run, seen from outside: readers of /proc, sysfs, QEMU's monitor and the logs, and what they prove. Nothing is changed here."""
