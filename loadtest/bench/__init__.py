"""Proxies side by side, by the CPU they use as well as by the clock."""
