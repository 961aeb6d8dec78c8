"""Calls shared with partner relays over Redis.

record       what stands in Redis and in the journal: a call with its deed, and a node's lease
ownership    which of two records of a call holds, and who lives; its theory stands on top
replicator   this node among its partners: joins the registry with what follows
outbound     what it writes, and writes again; graves remembers what has ended
inbound      what becomes of a record that was read; inbox is where calls wait to be made of records
partners     what is known of another node's keyspace
traffic      where packets come to, by the bitmaps of hearing; when silence of a port means anything
takeover     which calls become this node's own without a command
store        the contract of what carries records between nodes
redis        carries them
"""
