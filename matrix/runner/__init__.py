"""Starts servers and proxies, runs every driver's program through them, and writes the table."""
