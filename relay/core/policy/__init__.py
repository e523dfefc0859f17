"""The policy: the decision whether a person may reach a target.

Read in this order: `model` (the values), `target` (parses what a client requests), `inventory` (targets to
destinations), `forbidden_addresses` (refused regardless of rules), `time_conditions` and `rule_index` (which rules
match), `policy` (the decision itself).

Not on the path of a forward: `snapshot` (a policy as lines for another process), `explain` (advice for
administrators), `reachable_targets` (what a person may reach), `probe_addresses` (sample addresses of zones),
`site_item` (items of a site for a review).
"""
