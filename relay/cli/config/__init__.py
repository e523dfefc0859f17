"""Commands about the site's files: `init`, `check`, `reload`, `explain`, `schema`; one module per command.

`config_in_force` gives commands about keys the running configuration, or the files if there is none.
"""
