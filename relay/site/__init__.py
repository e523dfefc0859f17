"""The site: relay.yaml, policies/, keys/ and network.yaml, from files to the values of `relay.core`.

Read in this order: `locate` (the site and its state directory), `files` (bounded reads), `yaml/` (documents with line
numbers, scalar values), `field_types`, `settings_models` and `network_models` (shape of the files), `policy/` (merge,
validate, compile, test), `key_files` (keys/), `network_file`, `times`.

For commands: `lint` (check), `diff` (files against the running configuration), `explain_target`, `site_items`, `init`,
`json_schema`, `systemd_units`.

Imports `relay.core`, PyYAML and pydantic. A serving process may import only `locate`, `key_files` and `diff`, which use
the standard library alone; the compile child of the supervisor runs `policy.compiler`.
"""
