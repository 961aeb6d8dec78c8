"""Redis, which carries the records of calls between nodes (control.replication.store).

store      both sides joined: what a node's replicator speaks to
link       one connection, with a limit of time for each exchange
side       what both sides have in common: they connect for ever, and say how they stand
backlog    what waits to be written: by key, the last value
writer     the writing side: each few milliseconds one transaction
reader     the reading side: notifications, the values behind them, leases
compare    a walk through all of a keyspace
"""
