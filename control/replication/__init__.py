"""Calls shared with partner relays over Redis.

record       what stands in Redis and in the journal: a call with its deed, and a node's lease (pure)
store        the contract of what carries records between nodes
"""
