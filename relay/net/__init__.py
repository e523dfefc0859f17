"""The network the relay stands in, as the kernel tells it: interfaces, routes, and the guard of every dial.

`netlink` asks and parses, `interfaces` and `routes` give values. Standard library only: serving processes
import this, and the guard runs once for every forward.
"""
