"""Commands about persons and keys: `add_key`, `import_keys`, `list_keys`, `revoke_key`, `client_config`.

`key_change` has what the first, second and fourth share. The work itself is in `relay.people`.
"""
