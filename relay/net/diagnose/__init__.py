"""Diagnosis: what is observed of a zone, what is wrong with it, and which command cures it. For commands only.

Two questions are answered here:

- `net status`: `observe` takes an `observation`; `diagnosis` applies small rules to it in sequence (`case` has their
  input and output, then `route_rules`, `gateway_rules`, `reach_rules`, `zerotier_join`); `remedies` has the commands.
- `net verify`: `path_check` reports one leg after another; `zone_probe` sends the packets, `path_verdict` interprets
  the answers, `zerotier_membership` adds the overlay's view, and `guard_check` checks what `net apply` makes.

May import every other folder of relay.net; nothing but the command line may import it.
"""
