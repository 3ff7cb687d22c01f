"""The simulated SMMU beside QEMU's own: random tables, a reference walker that can imitate QEMU, and QEMU itself over qtest."""
