"""A jump relay for OpenSSH clients: forwards to allowed hosts only, each one recorded in an audit log."""

__version__ = "0.1.0"
