"""Widgets that draw by the line."""
