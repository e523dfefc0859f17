"""The policy files: from YAML entries to a compiled policy.

Read in this order: `policy_models` (shape of an entry), `validation` (valid entries and faults), `rule_targets` (what
`to` means), `merge` (all files together), `policy_tests` (`expect`), `compiler` (all of it, also as a program).
"""
