"""Service addresses as routes: what is announced when, and by whom.

speaker      the contract of what speaks BGP, and what it is told
"""
