"""What the facts of a host mean."""
