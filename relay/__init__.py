"""A jump relay for OpenSSH clients: direct-tcpip to allow-listed hosts, nothing else, every forward on record."""

__version__ = "0.1.0"
