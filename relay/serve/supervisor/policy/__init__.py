"""How the site's files become the running configuration, and how workers receive it.

Read `running_config` first: the policy, settings and keys that are enforced now, and their copy in STATE/applied. Then
`rollout`: reload, key changes, and the messages to workers. Other folders import `rollout`, and of `running_config` the
value `CompiledSite`.
"""
