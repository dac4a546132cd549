"""Kinds of plugins, found by file, entry point or settings, and what their source says, without importing them."""
