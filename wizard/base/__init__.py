"""What every other room stands on: addresses, findings, exit codes, files and text."""
