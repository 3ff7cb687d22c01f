"""VMs that exist already: libvirt domains, QEMU command lines and KubeVirt documents as requests, and what a request can't carry."""
