"""Every reader under fire: mutated seeds by Hypothesis in CI, millions of them by ``scripts/fuzz``."""
