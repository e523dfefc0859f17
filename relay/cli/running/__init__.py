"""Commands that talk to the running relay.

connections, kill, bans, limits, serve and upgrade are commands (limits: `doctor --limits`). open_sessions fetches and
prints the open connections for them; impact computes the connections that a candidate policy would end. They reach the
relay through relay.serve.control_client.
"""
