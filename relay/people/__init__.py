"""Persons and their keys: adding, importing, listing and revoking keys, and the configuration of clients.

Read in this order: `key_file` (atomic changes below keys/), `key_text` (keys in pasted text), `add`, `revoke`,
`key_import`, `key_listing`, `client_config`, `audit_actor`. Imports `relay.core` and small modules of `relay`; never
`relay.serve`.
"""
