"""Probes: packets sent through one interface to find something out. For commands only.

`ping` sends one echo with ping(8), `path_mtu` finds the largest packet that passes, `ssh_banner` connects to an SSH
port. May import `kernel` and `system_commands`; may be imported by `diagnose` and the command line.
"""
