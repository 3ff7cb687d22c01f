"""From a message to its cause: what QEMU, libvirt, kernels, firmware and guests print, as data, and what it means on a host.

    reading    lines out of text, files, journals and pastes, bounded
    matcher    the messages in a line; ``messages`` declares them by who says them
    events     an SMMU's event records, out of a log or as raw words
    order      which message is the first cause, and which follow from it
    judge      which cause holds on a host, and which are ruled out
    report     all of it together; ``text`` says it for people

Nothing here judges by itself: causes are findings of ``wizard.host`` and ``wizard.plan``. Without a host nothing of those rooms is loaded.
"""
