"""relay/net/zerotier."""
