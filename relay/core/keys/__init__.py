"""Public keys: which keys are accepted, and what each may be used for.

Read in this order: `public_key` (key blobs and fingerprints), `authorized_keys_options` (options of a line),
`authorized_keys` (lines, and the checks of a key's options), `keyring` (all accepted and revoked keys).
"""
