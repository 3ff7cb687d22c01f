"""The command line: a thin face over the same steps that the wizard takes."""
