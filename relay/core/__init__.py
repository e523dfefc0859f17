"""The pure core: values in, values out. No I/O, no clock, no randomness, no logging, no third party.

Read in this order:

- `policy/`: targets, rules and the decision about a forward
- `keys/`: public keys, authorized_keys and the keyring
- `audit/`: events, the hash chain, checkpoints and the verifier
- `settings`, `network_plan`: the values of relay.yaml and network.yaml
- `escape`, `ids`, `human_units`, `token_bucket`, `histogram`, `prometheus_text`: small values that every process uses

The core may import `relay.errors` and the standard library without its I/O modules (an import contract). `keys` imports
`policy.model`, `policy.target` and `policy.time_conditions`; `policy.policy` imports `keys`. `audit` imports neither
the rest of `policy` nor `keys`.
"""
