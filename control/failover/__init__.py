"""Service addresses as routes: what is announced when, and by whom.

state        what is announced of an address, and why (pure)
speaker      the contract of what speaks BGP, and what it is told (pure)
failover     joins health, partners, orders and the speaker (herald tells it, remains keeps orders over a restart)
exabgp       through a bridge that ExaBGP runs (bridge)
bird         through a file, BIRD's control socket (birdsocket) and signs of life in the kernel (pulse)
nobody       where something else decides about routes
"""
