"""The commands below `relayctl audit`.

commands holds the group with search, tail and show; options turns their options into a query; table, text and live_view
print. report, verify and archive hold the other commands. Imports of relay.store and relay.review stay inside the
functions of slow commands, so that `--help` is instant.
"""
